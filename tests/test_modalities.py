"""Flow and differences of RGB, from the recipe to labels: what is refused, what a sample is, and a folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from paddlevid import build, modality
from paddlevid.config import dump_section, load_config
from paddlevid.data.flow.method import tvl1_hint
from paddlevid.data.records import Record
from paddlevid.data.transforms import HorizontalFlip
from paddlevid.errors import ConfigError, DataError
from paddlevid.models.backbones import FEATURE_DIMS
from paddlevid.schema import Config

FLOW = (
    "data.modality=flow",
    "data.snippet_length=3",
    "data.mean=[0.5, 0.5]",
    "data.std=[0.226, 0.226]",
    "data.flow={algorithm: dis, bound: 4}",
)
WARPED = (*FLOW, "data.modality=warped_flow")
DIFFERENCE = ("data.modality=rgb_diff", "data.snippet_length=3", "data.mean=[0, 0, 0]", "data.std=[1, 1, 1]")
FRAMES = {FLOW: 4 * 3, WARPED: 4 * 3, DIFFERENCE: 4 * 4}  # of 4 snippets


@pytest.fixture
def load(tiny_recipe: Callable[[str], Path]) -> Callable[..., Config]:
    def load_tiny(*overrides: str, model: str = "tsn") -> Config:
        return load_config(tiny_recipe(model), overrides)

    return load_tiny


@pytest.mark.parametrize(
    ("model", "overrides", "expected"),
    [
        ("tsn", ["data.modality=depth"], "data.modality"),
        ("tsn", ["data.modality=flow"], r"mean \[0.45, 0.45, 0.45\] must have 2 numbers.* usual is \[0.5, 0.5\]"),
        ("tsn", ["data.mean=[0.5, 0.5]"], r"mean \[0.5, 0.5\] must have 3 numbers, one a channel of rgb"),
        ("tsn", ["data.snippet_length=5"], "snippet_length is 1 for modality rgb, not 5"),
        ("tsn", ["data.flow={bound: 10}"], "flow is for modality flow or warped_flow, not for rgb"),
        ("tsn", ["data.format=flow"], "format flow is for modality flow or warped_flow, not for rgb"),
        ("tsn", ["data.frame_template='{axis}_{:05d}.jpg'"], "is one of flow: format: flow"),
        ("tsn", ["model.keep_rgb=true"], "model.keep_rgb is for data.modality rgb_diff, not for rgb"),
        ("tsn", [*FLOW, "train.transforms=[{kind: random_crop}, {kind: color_jitter}]"], "color_jitter is for colours"),
        ("timesformer", DIFFERENCE, "rgb_diff is for tsn and tsm; timesformer takes rgb"),
        ("tsm", [*DIFFERENCE, "model.online=true"], "an online tsm takes rgb"),
        ("tsm", ["model.backbone=vgg16"], "a tsm has no shift for backbone vgg16; a tsn runs on it"),
        ("tsm", ["model.backbone=bn_inception"], "bn_inception has shift_place block only"),
        ("tsn", ["model.backbone=inception_v3"], "data.image_size 32: inception_v3 needs 75 or more"),
        ("tsn", ["model.backbone=vgg16", "train.partial_bn=true"], "train.partial_bn: vgg16 has no batch norms"),
    ],
)
def test_what_does_not_go_together_is_refused(
    load: Callable[..., Config], model: str, overrides: list[str], expected: str
) -> None:
    with pytest.raises(ConfigError, match=expected):
        load(*overrides, model=model)


def test_each_backbone_has_the_shift_places_of_the_model() -> None:
    from paddlevid.models import tsm
    from paddlevid.schema import SHIFT_PLACES

    assert {name: SHIFT_PLACES.get(name, ("blockres", "block")) for name in FEATURE_DIMS} == {
        name: tuple(tsm.SHIFT_PLACES.get(name, ())) for name in FEATURE_DIMS
    }


def test_crops_have_the_scales_of_the_modality(load: Callable[..., Config]) -> None:
    crop = "train.transforms=[{kind: multi_scale_crop}]"
    own = "train.transforms=[{kind: multi_scale_crop, scales: [1, 0.5]}]"
    for overrides, expected in (
        ([crop], (1, 0.875, 0.75, 0.66)),
        ([crop, *FLOW], (1, 0.875, 0.75)),
        ([crop, *DIFFERENCE], (1, 0.875, 0.75)),
        ([own, *FLOW], (1, 0.5)),
    ):
        cfg = load(*overrides)
        assert build.build_transform(cfg.train.transforms[0], cfg.data).scales == expected


@pytest.mark.parametrize("overrides", FRAMES)
def test_samples(load: Callable[..., Config], overrides: tuple[str, ...]) -> None:
    cfg = load(*overrides)
    channels = 3 if overrides is DIFFERENCE else 2
    train, test = build.build_train_dataset(cfg), build.build_eval_dataset(cfg, cfg.test)
    clip = train[0, 3]["frames"]
    assert clip.shape == train.sample_shape == (1, FRAMES[overrides], 32, 32, channels)
    assert np.array_equal(clip, build.build_train_dataset(cfg)[0, 3]["frames"])
    assert test[2]["frames"].shape == test.sample_shape == (3, FRAMES[overrides], 32, 32, channels)
    assert not test[2]["error"]


def test_a_flow_is_that_between_two_frames_of_the_video(load: Callable[..., Config]) -> None:
    cfg = load(*FLOW)
    rgb = load()
    record = build.build_eval_dataset(cfg, cfg.test).records[0]
    with build.build_source(rgb.data).open(record) as reader:
        frames = reader.read(np.arange(reader.num_frames))
    with build.build_source(cfg.data).open(record) as reader:
        assert reader.num_frames == len(frames) - 1
        flows = reader.read(np.array([5, 0]))
    method = modality.build_flow(cfg.data)
    assert np.array_equal(flows, [method.picture(frames[5], frames[6]), method.picture(frames[0], frames[1])])


def test_the_flow_of_a_mirrored_video_is_the_flipped_flow(load: Callable[..., Config]) -> None:
    """To a grey level on average, of frames as they come from a video, with the bound of the reference."""
    cfg = load(*FLOW, "data.flow.bound=20")
    method, flip = modality.build_flow(cfg.data), HorizontalFlip(prob=1.0)
    rng = np.random.default_rng(0)
    for record in build.build_eval_dataset(cfg, cfg.test).records[:2]:  # moves to the left, and to the right
        with build.build_source(load().data).open(record) as reader:
            frames = reader.read(np.arange(reader.num_frames))
        mirrored = flip(frames, rng)
        flows = np.stack([method.picture(a, b) for a, b in zip(frames, frames[1:])])  # noqa: B905, RUF007
        of_mirrored = np.stack([method.picture(a, b) for a, b in zip(mirrored, mirrored[1:])])  # noqa: B905, RUF007
        expected = flip(flows, rng).astype(int)
        assert np.abs(of_mirrored - expected).mean() < 1
        moves = np.abs(expected[..., 0] - 127.5) > 4
        assert moves.sum() > 50
        assert np.abs(of_mirrored - expected)[moves].mean() < 2
        assert np.abs(of_mirrored - frames_mirrored_alone(flows))[moves].mean() > 4


def test_stored_flow_gives_the_samples_of_flow_that_is_computed(
    tiny_recipe: Callable[[str], Path],
    run_tool: Callable[..., tuple[int, str, str]],
    motion_set: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And so does flow that is kept in a cache. What the folder says of its flow has to be what the recipe says."""
    recipe, folder, cache = tiny_recipe("tsn"), tmp_path / "flow", tmp_path / "cache"
    code, _, errors = run_tool(
        "extract_flow", motion_set / "test.txt", "-o", folder, "--algorithm", "dis", "--bound", 4, "--layout", "one"
    )
    assert code == 0, errors
    stored = [
        *FLOW,
        "data.format=flow",
        f"data.root={folder}",
        "data.frame_template='flow_{:05d}.png'",
        f"train.list={folder / 'test.txt'}",
        f"test.list={folder / 'test.txt'}",
    ]
    computed = load_config(recipe, [*FLOW, f"train.list={motion_set / 'test.txt'}"])
    cached = load_config(recipe, [*FLOW, f"train.list={motion_set / 'test.txt'}", "data.flow.cache=" + str(cache)])
    for cfg in (load_config(recipe, stored), cached, cached):
        for index in range(7):
            expected = build.build_train_dataset(computed)[1, index]
            found = build.build_train_dataset(cfg)[1, index]
            assert not found["failures"]
            assert np.array_equal(found["frames"], expected["frames"])
        expected_views = build.build_eval_dataset(computed, computed.test)[2]["frames"]
        assert np.array_equal(build.build_eval_dataset(cfg, cfg.test)[2]["frames"], expected_views)
    assert list(cache.rglob("flow_00001.png"))
    for override, expected in (
        ("data.flow.bound=20", "data.flow.bound is 20.0, but the flow in .* has 4.0: -o data.flow.bound=4.0"),
        ("data.flow.algorithm=farneback", "has dis: -o data.flow.algorithm=dis"),
        ("data.modality=warped_flow", "has flow: -o data.modality=flow"),
        ("data.flow.short_side=100", "has null: -o data.flow.short_side=null"),
    ):
        with pytest.raises(ConfigError, match=expected):
            build.build_train_dataset(load_config(recipe, [*stored, override]))
    with pytest.raises(ConfigError, match=r"-o data.frame_template=flow_\{:05d\}.png"):
        build.build_train_dataset(load_config(recipe, [*stored, "data.frame_template=null"]))
    with pytest.raises(ConfigError, match=r"-o data.frame_start_index=1"):
        build.build_train_dataset(load_config(recipe, [*stored, "data.frame_start_index=0"]))
    # Of an absolute list data.root may be empty; a note is looked for above the folders of flow themselves
    text = (folder / "test.txt").read_text().replace("test/", f"{folder}/test/")
    (tmp_path / "absolute.txt").write_text(text)
    absolute = [*stored, "data.root=''", f"train.list={tmp_path / 'absolute.txt'}", "data.flow.bound=20"]
    with pytest.raises(ConfigError, match=r"has 4\.0: -o data.flow.bound=4\.0"):
        build.build_train_dataset(load_config(recipe, absolute))
    (folder / "flow.json").unlink()
    build.build_train_dataset(load_config(recipe, absolute))
    assert "note: there is no flow.json above" in capsys.readouterr().err
    (folder / "flow.json").write_text(json.dumps({"algorithm": "dis", "bound": "4"}))
    with pytest.raises(DataError, match=r"not a note of flow .*: bound is '4'"):
        build.build_train_dataset(load_config(recipe, absolute))


def test_flow_of_an_algorithm_that_is_not_here(load: Callable[..., Config], motion_set: Path, tmp_path: Path) -> None:
    """Folders of stored flow are read all the same; what would have to be computed says what to install."""
    if not tvl1_hint():
        pytest.skip("this OpenCV has TV-L1")
    cfg = load(*FLOW, "data.flow={algorithm: tvl1}", "data.format=flow")
    source = build.build_source(cfg.data)
    with pytest.raises(ConfigError, match="pip install opencv-contrib-python-headless"):
        source.open(Record(path=str(motion_set / "test/00000_left.mp4"), name=""))
    (tmp_path / "v").mkdir()
    for axis in "xy":
        cv2.imwrite(str(tmp_path / f"v/flow_{axis}_00001.jpg"), np.full((20, 20), 128, np.uint8))
    with source.open(Record(path=str(tmp_path / "v"), name="", num_frames=1)) as reader:
        assert reader.read(np.zeros(1, np.int64)).shape == (1, 20, 20, 2)
    with pytest.raises(ConfigError, match="pip install opencv-contrib-python-headless"):
        build.build_source(load(*FLOW, "data.flow={algorithm: tvl1}").data)


def test_pictures_that_are_written_anew_have_another_flow(load: Callable[..., Config], tmp_path: Path) -> None:
    """Also from the cache, though their folder looks as it did."""
    folder, rng = tmp_path / "v", np.random.default_rng(0)
    folder.mkdir()
    cfg = load(*FLOW, "data.format=frames", f"data.flow={{algorithm: dis, bound: 4, cache: {tmp_path / 'cache'}}}")
    record = Record(path=str(folder), name="v", num_frames=2)
    flows = []
    for step in (0, 2):
        still = cv2.GaussianBlur(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8), (0, 0), 2)
        for number, shift in ((1, 0), (2, step)):
            path = folder / f"img_{number:05d}.jpg"
            path.write_bytes(cv2.imencode(".jpg", np.roll(still, shift, axis=1))[1].tobytes())
        with build.build_source(cfg.data).open(record) as reader:
            flows.append(reader.read(np.zeros(1, np.int64)))
    assert np.abs(flows[0].astype(int) - 128).max() <= 1
    assert np.abs(flows[1].astype(int) - 128).max() > 30


def test_a_test_with_another_modality_is_told(
    load: Callable[..., Config], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(dump_section(load(*FLOW)))
    modality.warn_of_other_clips(load(*WARPED), tmp_path / "best.pdparams")
    assert not capsys.readouterr().err, "there are no such weights beside it"
    (tmp_path / "best.pdparams").touch()
    modality.warn_of_other_clips(load(*FLOW), tmp_path / "best.pdparams")
    assert not capsys.readouterr().err
    modality.warn_of_other_clips(load(*WARPED, "data.flow.bound=20"), tmp_path / "best.pdparams")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "warning: data.modality is warped_flow",
        "warning: data.flow.bound is 20.0",
    ]


def frames_mirrored_alone(flows: np.ndarray) -> np.ndarray:
    """What a flip that does not know flow makes of it."""
    return flows[:, :, ::-1].astype(int)


@pytest.mark.parametrize(
    ("model", "overrides"),
    [
        ("tsn", FLOW),
        pytest.param("tsm", DIFFERENCE, marks=pytest.mark.slow),
        pytest.param("tsm", WARPED, marks=pytest.mark.slow),
        pytest.param("tsn", (*DIFFERENCE, "model.keep_rgb=true"), marks=pytest.mark.slow),
    ],
    ids=["tsn-flow", "tsm-rgb_diff", "tsm-warped_flow", "tsn-keep_rgb"],
)
def test_from_training_to_labels(
    model: str,
    overrides: tuple[str, ...],
    tiny_recipe: Callable[[str], Path],
    run_main: Callable[..., int],
    run_tool: Callable[..., tuple[int, str, str]],
    motion_set: Path,
    tmp_path: Path,
) -> None:
    """The folder answers to plain videos as the test did."""
    recipe, folder = tiny_recipe(model), tmp_path / "folder"
    options: list[Any] = [part for override in overrides for part in ("--override", override)]
    output = Path(load_config(recipe).output_dir)
    assert run_main("-c", recipe, *options, "--max_iters", "1") == 0
    assert run_main("--test", "-c", recipe, *options, "-w", output / "last.pdparams") == 0
    scores = np.load(output / "test_scores.npz")
    code, _, errors = run_tool("export_model", "-c", recipe, *options, "-p", output / "last.pdparams", "-o", folder)
    assert code == 0, errors

    import paddlevid

    predictor = paddlevid.Predictor(folder)
    for name, expected in zip(scores["names"], scores["scores"], strict=True):
        assert predictor.scores(motion_set / str(name)) == pytest.approx(expected, rel=1e-4, abs=1e-5)
