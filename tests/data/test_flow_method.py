from __future__ import annotations

import json
import pickle
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from flow_scenes import Texture, as_frame, motion, moving_picture, places

from paddlevid.data.flow.method import ALGORITHMS, FlowMethod, choose_algorithm, decode, encode, tvl1_hint
from paddlevid.data.transforms import HorizontalFlip
from paddlevid.data.video import open_video
from paddlevid.errors import ConfigError, DataError

NO_RANDOMNESS = np.random.default_rng(0)


@pytest.fixture(params=ALGORITHMS)
def algorithm(request: pytest.FixtureRequest) -> str:
    if request.param == "tvl1" and tvl1_hint():
        pytest.skip(tvl1_hint())
    return request.param


def test_pictures_are_those_of_the_reference() -> None:
    flow = np.array([[0, 20], [-20, 30], [-1000, 10], [-10, 0.1], [0.2, -0.2]], np.float32)
    by_hand = [[128, 255], [0, 255], [0, 191], [64, 128], [129, 126]]
    assert encode(flow, 20.0).tolist() == by_hand
    rng = np.random.default_rng(0)
    flow = rng.uniform(-25, 25, (50, 60, 2))
    formula = np.round((np.clip(flow, -20, 20) + 20) * 255 / (2 * 20))
    np.testing.assert_array_equal(encode(flow, 20.0), formula)


@pytest.mark.parametrize("bound", [0.1, 7.0, 15.0, 20.0, 33.3])
def test_what_stands_still_is_128_with_any_bound(bound: float) -> None:
    assert encode(np.zeros((2, 3, 2), np.float32), bound).tolist() == np.full((2, 3, 2), 128).tolist()
    edges = encode(np.array([[-bound, bound]], np.float32), bound)
    assert edges.tolist() == [[0, 255]]


def test_a_decoded_flow_is_at_most_half_a_grey_level_off() -> None:
    flow = np.random.default_rng(0).uniform(-20, 20, (40, 40, 2)).astype(np.float32)
    back = decode(encode(flow, 20.0), 20.0)
    assert back.dtype == np.float32
    assert np.abs(back - flow).max() <= 20 / 255 + 1e-5


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_an_error(value: float) -> None:
    flow = np.zeros((4, 5, 2), np.float32)
    flow[1, 2] = flow[3, 3, 1] = value
    with pytest.raises(DataError, match="2 pixels are not finite"):
        encode(flow, 20.0)


def test_auto_is_the_best_algorithm_there_is() -> None:
    assert choose_algorithm("auto") == ("dis" if tvl1_hint() else "tvl1")
    assert [choose_algorithm(name) for name in ("dis", "farneback")] == ["dis", "farneback"]
    with pytest.raises(ConfigError, match="'brox' must be one of auto, tvl1, dis, farneback"):
        choose_algorithm("brox")


def test_without_tvl1_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cv2, "optflow", raising=False)
    with pytest.raises(ConfigError, match="pip install opencv-contrib-python-headless; or take dis") as caught:
        choose_algorithm("tvl1")
    assert "\n" not in str(caught.value)
    assert choose_algorithm("auto") == "dis"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"algorithm": "auto"}, "'auto' must be one of tvl1, dis, farneback"),
        ({"bound": 0.0}, "bound 0.0"),
        ({"bound": float("nan")}, "bound nan"),
        ({"short_side": 8}, "short_side 8 must be at least 16"),
    ],
)
def test_values_that_cannot_be(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FlowMethod(**values)  # type: ignore[arg-type]


MOTIONS = {
    "still": {},
    "sub-pixel": {"shift": (0.3, -0.2)},
    "a few pixels": {"shift": (2.5, 1.25)},
    "fast": {"shift": (-6.4, 3.1)},
    "turned": {"degrees": 2.0},
    "zoomed": {"zoom": 1.03},
}


@pytest.mark.parametrize("kind", MOTIONS)
@pytest.mark.parametrize(("height", "width"), [(96, 128), (80, 80)])
def test_known_motions_are_found(algorithm: str, height: int, width: int, kind: str) -> None:
    first, second, truth = moving_picture(height, width, 3, motion(height, width, **MOTIONS[kind]))
    flow = FlowMethod(algorithm).flow(first, second)
    assert (flow.dtype, flow.shape) == (np.float32, (height, width, 2))
    error = np.linalg.norm(flow - truth, axis=-1)
    error = error[~np.isnan(error)]
    # Of 20 pixels, a grey level is 0.16
    assert error.mean() < 0.1
    assert np.percentile(error, 95) < 0.25


@pytest.mark.parametrize(("side", "share"), [(48, 0.1), (64, 0.1), (80, 0.1), (112, 0.06), (180, 0.06), (256, 0.06)])
def test_dis_finds_fast_motion_in_pictures_of_any_size(side: int, share: float) -> None:
    shift = (share * side, -share * side / 2)
    for seed in range(2):
        first, second, truth = moving_picture(side, side, seed, motion(side, side, shift=shift))
        error = np.linalg.norm(FlowMethod("dis").flow(first, second) - truth, axis=-1)
        assert np.nanmean(error) < 0.2


def test_a_still_video_is_128_all_over(algorithm: str) -> None:
    frame = as_frame(Texture(0)(*places(64, 90)))
    # Farneback's has an error of a hundredth of a pixel, which is enough to round 127.5 down
    still = FlowMethod(algorithm).picture(frame, frame.copy())
    assert np.isin(still, [127, 128] if algorithm == "farneback" else [128]).all()
    for grey, later in ((0, 0), (0, 255), (200, 40)):  # nothing to match, and then a flash
        plain, flash = np.full((64, 90, 3), grey, np.uint8), np.full((64, 90, 3), later, np.uint8)
        assert (FlowMethod(algorithm, warp=True).picture(plain, flash) == 128).all()
    brighter = FlowMethod("dis").flow(frame // 2 + 60, frame // 2 + 90)
    assert np.abs(brighter).mean() < 0.1


def mirror_difference(method: FlowMethod, first: np.ndarray, second: np.ndarray) -> float:
    """Grey levels, on average, between the flow of a mirrored video and the flipped flow of the video."""
    flipped = HorizontalFlip(1.0)(method.picture(first, second)[None], NO_RANDOMNESS)[0]
    mirrored = method.picture(first[:, ::-1], second[:, ::-1])
    return float(np.abs(flipped.astype(int) - mirrored.astype(int)).mean())


def test_a_mirrored_video_has_the_flipped_flow(algorithm: str) -> None:
    for seed, values in enumerate(({"shift": (2.2, -1.3)}, {"degrees": 2.0}, {"zoom": 0.97, "shift": (-1, 0)})):
        first, second, _ = moving_picture(80, 96, seed, motion(80, 96, **values))
        assert mirror_difference(FlowMethod(algorithm), first, second) < 0.15


def test_dis_does_not_follow_the_noise_of_compression() -> None:
    texture, (x, y), shift = Texture(0), places(144, 192), (2.2, -1.3)
    frames = []
    for step in (0, 1):
        pale = 128 + 0.1 * (texture(x - step * shift[0], y - step * shift[1]) - 128)
        jpeg = cv2.imencode(".jpg", as_frame(pale), [cv2.IMWRITE_JPEG_QUALITY, 50])[1]
        frames.append(cv2.imdecode(jpeg, cv2.IMREAD_COLOR))
    assert mirror_difference(FlowMethod("dis"), *frames) < 0.3
    error = np.linalg.norm(FlowMethod("dis").flow(*frames) - shift, axis=-1)
    assert error[10:-10, 10:-10].mean() < 0.6


@pytest.mark.parametrize("name", ["archery.avi", "arm_wrestling.mp4", "test_256x340.mp4"])
@pytest.mark.parametrize(
    "kind", ["dis", *(pytest.param(name, marks=pytest.mark.slow) for name in ("tvl1", "farneback"))]
)
def test_a_mirrored_real_clip_has_the_flipped_flow(kind: str, name: str, shared_videos: Path) -> None:
    if kind == "tvl1" and tvl1_hint():
        pytest.skip(tvl1_hint())
    method = FlowMethod(kind)
    with open_video(shared_videos / name) as reader:
        pairs = np.linspace(0, reader.num_frames - 2, 6).astype(int)
        frames = reader.read(np.stack([pairs, pairs + 1], axis=1).reshape(-1))
    scaled = [method.scale(frame) for frame in frames]
    differences = [mirror_difference(method, *pair) for pair in zip(scaled[::2], scaled[1::2], strict=True)]
    assert np.mean(differences) < 1.0


@pytest.mark.parametrize("warp", [False, True])
def test_threads_and_what_was_computed_before_change_nothing(algorithm: str, warp: bool) -> None:
    method = FlowMethod(algorithm, warp=warp)
    rng = np.random.default_rng(0)
    pairs = []
    for height, width in ((64, 96), (17, 40), (100, 80)):
        first, second, _ = moving_picture(height, width, 5, motion(height, width, shift=(1.7, -0.8), degrees=1))
        pairs.append((first, np.clip(second + rng.normal(0, 4, second.shape), 0, 255).astype(np.uint8)))
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        alone = [method.flow(*pair) for pair in pairs]
        cv2.setNumThreads(4)
        answers: list[tuple[int, np.ndarray]] = []

        def work(start: int) -> None:
            for step in range(3):
                index = (start + step) % len(pairs)
                answers.append((index, method.flow(*pairs[index])))

        threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        cv2.setNumThreads(before)
    assert len(answers) == 12
    for index, flow in answers:
        np.testing.assert_array_equal(flow, alone[index])


def test_it_travels_to_other_processes_and_tells_all_that_matters() -> None:
    method = FlowMethod("farneback", bound=15.0, short_side=64, warp=True)
    assert pickle.loads(pickle.dumps(method)) == method
    others = [FlowMethod(), FlowMethod(bound=15.0), FlowMethod(short_side=64), FlowMethod(warp=True), method]
    assert len({json.dumps(other.settings()) for other in others}) == 5
    settings = method.settings()
    assert (settings["algorithm"], settings["bound"], settings["short_side"], settings["warp"]) == (
        "farneback",
        15.0,
        64,
        True,
    )
    assert settings["opencv"] == cv2.__version__


def test_scaled_frames_keep_their_aspect_and_do_not_shimmer() -> None:
    frame = np.zeros((96, 144, 3), np.uint8)
    frame[:, 1::3] = 90  # lines of a pixel
    small = FlowMethod(short_side=32).scale(frame)
    assert small.shape == (32, 48, 3)
    assert (small == 30).all()
    assert FlowMethod(short_side=150).scale(frame).shape == (150, 225, 3)
    assert FlowMethod().scale(frame) is frame


def test_frames_that_have_no_flow_between_them(algorithm: str) -> None:
    with pytest.raises(DataError, match="40x30 and 40x32 pixels: they differ"):
        FlowMethod(algorithm).flow(np.zeros((30, 40, 3), np.uint8), np.zeros((32, 40, 3), np.uint8))
    small = np.zeros((12, 40, 3), np.uint8)
    with pytest.raises(DataError, match="40x12 pixels are too small for optical flow: short_side of at least 16"):
        FlowMethod(algorithm).flow(small, small)
    assert FlowMethod(algorithm, short_side=16).picture(*[FlowMethod(short_side=16).scale(small)] * 2).shape[0] == 16
