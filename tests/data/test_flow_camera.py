from __future__ import annotations

import functools

import numpy as np
import pytest
from flow_scenes import CameraScene, Texture, as_frame, camera_scene, motion, moved, places

from paddlevid.data.flow.camera import camera_motion, undo_camera_motion
from paddlevid.data.flow.method import FlowMethod, tvl1_hint

HEIGHT, WIDTH = 192, 256
# How the camera moves, how the object moves over the background, and the radii of the object
SCENES = {
    "pan": ({"shift": (-3.3, -1.7)}, (4.0, -3.0), (35, 40)),
    "pan, zoom and turn": ({"shift": (3.3, 1.7), "zoom": 1.015, "degrees": 0.7}, (-4.0, 3.0), (40, 35)),
    "fast": ({"shift": (15.0, 0.0)}, (3.0, 3.0), (40, 40)),
    "an object of 38 %": ({"shift": (-3.3, 1.7), "zoom": 1.01}, (5.0, 1.0), (90, 66)),
}
STILL = {"still": ({}, (3.0, -2.0), (40, 40)), "still, an object of 38 %": ({}, (3.0, -2.0), (90, 66))}


@functools.cache
def scene_of(kind: str) -> CameraScene:
    values, velocity, radii = {**SCENES, **STILL}[kind]
    return camera_scene(motion(HEIGHT, WIDTH, **values), velocity, radii)


@pytest.mark.parametrize("kind", SCENES)
def test_the_camera_is_found(kind: str) -> None:
    scene = scene_of(kind)
    matrix = camera_motion(scene.first[..., 0], scene.second[..., 0])
    assert matrix is not None
    x, y = moved(motion(HEIGHT, WIDTH, **SCENES[kind][0]), *places(HEIGHT, WIDTH))
    back = np.stack([x, y, np.ones_like(x)], axis=-1) @ matrix.T
    error = np.linalg.norm(back[..., :2] / back[..., 2:] - np.stack(places(HEIGHT, WIDTH), axis=-1), axis=-1)
    assert error.max() < 0.1


@pytest.mark.parametrize("kind", SCENES)
@pytest.mark.parametrize("algorithm", ["tvl1", "dis", "farneback"])
def test_the_background_stands_still_and_the_object_keeps_its_motion(algorithm: str, kind: str) -> None:
    if algorithm == "tvl1" and (tvl1_hint() or kind != "pan"):
        pytest.skip(tvl1_hint() or "TV-L1 takes a second a flow")
    scene, velocity = scene_of(kind), SCENES[kind][1]
    plain = FlowMethod(algorithm).flow(scene.first, scene.second)
    assert np.linalg.norm(plain[scene.is_background], axis=-1).mean() > 3
    flow = FlowMethod(algorithm, warp=True).flow(scene.first, scene.second)
    residual = np.linalg.norm(flow[scene.is_background], axis=-1)
    assert residual.mean() < 0.1
    assert np.percentile(residual, 95) < 0.2
    assert np.percentile(residual, 99) < 0.3
    error = np.linalg.norm(flow[scene.is_object] - velocity, axis=-1)
    assert error.mean() < 0.15
    assert np.percentile(error, 90) < 0.4


@pytest.mark.parametrize("kind", STILL)
def test_a_still_camera_has_the_plain_flow(kind: str) -> None:
    scene = scene_of(kind)
    assert camera_motion(scene.first[..., 0], scene.second[..., 0]) is None
    plain = FlowMethod("dis").flow(scene.first, scene.second)
    np.testing.assert_array_equal(FlowMethod("dis", warp=True).flow(scene.first, scene.second), plain)
    assert np.abs(plain[scene.is_object] - [3.0, -2.0]).mean() < 0.15


def test_what_moves_before_a_plain_wall_is_no_camera() -> None:
    x, y = places(HEIGHT, WIDTH)
    frames = []
    for shift in (0.0, 4.0):
        is_object = np.hypot(x - 100 - shift, y - 90) < 40
        frames.append(as_frame(np.where(is_object, Texture(3)(x - shift, y), 90)))
    assert camera_motion(frames[0][..., 0], frames[1][..., 0]) is None
    flow = FlowMethod("dis", warp=True).flow(*frames)
    assert np.median(flow[80:100, 90:110, 0]) == pytest.approx(4.0, abs=0.2)


def test_a_cut_a_mirror_and_a_picture_upside_down_are_no_camera() -> None:
    grey, other = (as_frame(Texture(seed)(*places(HEIGHT, WIDTH)))[..., 0] for seed in (1, 2))
    for second in (other, grey[:, ::-1], grey[::-1, ::-1], np.zeros_like(grey)):
        assert camera_motion(grey, np.ascontiguousarray(second)) is None
    flat = np.full((HEIGHT, WIDTH), 128, np.uint8)
    assert camera_motion(flat, flat) is None


def test_where_the_second_picture_does_not_reach_the_first_stands() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 255, (2, 40, 60), dtype=np.uint8)
    kept = first.copy()
    # Its point (x, y) is the first one's (x + 7, y - 4)
    undone = undo_camera_motion(first, second, np.array([[1, 0, 7], [0, 1, -4], [0, 0, 1]], np.float64))
    expected = first.copy()
    expected[:36, 7:] = second[4:, :53]
    np.testing.assert_array_equal(undone, expected)
    np.testing.assert_array_equal(first, kept)
