"""tools/explain.py: a video beside where a model looks, from an exported folder and from a recipe with weights."""

from __future__ import annotations

import functools

import av
import cv2
import numpy as np
import paddle
import pytest

from paddlevid import build
from paddlevid.checkpoint import save_weights
from paddlevid.config import load_config
from paddlevid.data.records import Record
from paddlevid.deploy.explain import explain_video, find_class
from paddlevid.deploy.manifest import ModelFiles, make_manifest, write_manifest
from paddlevid.deploy.overlay import frame_shares, maps_of_class
from paddlevid.errors import ConfigError
from paddlevid.models import RawFrameExplainer, forward_maps


@pytest.fixture
def recipe(tiny_recipe, tmp_path):
    """`recipe("tsm")` -> the recipe's path, its config, a model with random statistics, the file of its weights."""

    def make(name):
        path = tiny_recipe(name)
        cfg = load_config(path)
        paddle.seed(7)
        model = build.build_model(cfg)
        for parameter_name, value in model.state_dict().items():
            if parameter_name.endswith(("_mean", "head.weight")):
                value.set_value(paddle.randn(value.shape))
            elif parameter_name.endswith("_variance"):
                value.set_value(paddle.rand(value.shape) + 0.5)
        model.eval()
        weights = tmp_path / "weights.pdparams"
        save_weights(model, weights)
        return path, cfg, model, weights

    return make


@pytest.fixture
def video(motion_set):
    return next(iter(sorted((motion_set / "test").rglob("*.mp4"))))


@pytest.fixture
def run_explain(run_tool):
    """Run tools/explain.py -> exit code, stdout, stderr."""
    return functools.partial(run_tool, "explain")


def expected_of(cfg, model, video):
    """Logits and maps of the centre of the first clip, from the dynamic graph."""
    views = build.build_views(cfg.data, cfg.test.model_copy(update={"crop": "center"}))
    frames = views(Record(path=str(video), name="video"))[:1]
    with paddle.no_grad():
        logits, maps = forward_maps(model, build.build_normalize(cfg)(paddle.to_tensor(frames)))
    return logits.numpy()[0], maps.numpy()[0]


def frames_of(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(container.streams.video[0])])


@pytest.mark.parametrize("name", ["tsm", "timesformer"])
def test_a_recipe_and_weights_give_video_picture_and_numbers(recipe, run_explain, video, tmp_path, name):
    path, cfg, model, weights = recipe(name)
    output, sheet = tmp_path / "out.mp4", tmp_path / "out.png"
    code, out, err = run_explain("-c", path, "-w", weights, "-i", video, "-o", output, "--png", sheet)
    assert code == 0, err
    logits, maps = expected_of(cfg, model, video)
    best = int(logits.argmax())
    class_names = (video.parent.parent / "classes.txt").read_text().splitlines()
    assert f"top-1 class: {best} {class_names[best]}" in out
    shares = [float(line.split()[4].rstrip("%")) / 100 for line in out.splitlines() if line.startswith("  frame")]
    assert shares == pytest.approx(frame_shares(maps_of_class(maps, best)).tolist(), abs=2e-3)

    numbers = [int(line.split()[1]) for line in out.splitlines() if line.startswith("  frame")]
    shown, original = frames_of(output), frames_of(video)
    assert len(shown) == max(numbers) - min(numbers) + 1
    assert shown.shape[1:] == (320, 640, 3)
    expected = cv2.resize(original[min(numbers)], (320, 320))
    # Below the line with the time the left half is the video
    assert np.abs(shown[0, 40:, :316].astype(int) - expected[40:, :316]).mean() < 6
    assert np.abs(shown[0, 40:, 320:].astype(int) - expected[40:]).mean() > 6
    assert cv2.imread(str(sheet)).shape == (240, 960, 3)


def test_an_exported_folder_says_what_the_model_says(recipe, run_explain, video, tmp_path):
    paddle2onnx = pytest.importorskip("paddle2onnx")
    pytest.importorskip("onnxruntime")
    path, cfg, model, weights = recipe("timesformer")
    raw = RawFrameExplainer(build.build_normalize(cfg), model)
    raw.eval()
    folder = tmp_path / "Net"
    folder.mkdir()
    data = cfg.data
    spec = paddle.static.InputSpec([-1, data.num_frames, data.image_size, data.image_size, 3], "uint8", "frames")
    paddle.jit.save(paddle.jit.to_static(raw, input_spec=[spec], full_graph=True), str(tmp_path / "graph"))
    paddle2onnx.export(
        str(tmp_path / "graph.json"),
        str(tmp_path / "graph.pdiparams"),
        str(folder / "explain.onnx"),
        opset_version=17,
        optimize_tool="none",
    )
    files = ModelFiles(graph="explain", format="onnx", files=("explain.onnx",))
    manifest = make_manifest(cfg, version="0").model_copy(update={"models": (files,)})
    write_manifest(manifest, folder)
    ask = ("-i", video, "--png", tmp_path / "out.png", "--class", "5")
    of_folder = run_explain("-m", folder, "--runtime", "onnxruntime", *ask)
    assert of_folder[0] == 0, of_folder[2]
    exported = cv2.imread(str(tmp_path / "out.png")).astype(int)
    assert run_explain("-c", path, "-w", weights, *ask) == of_folder
    # Rounding moves a colour by a step of its scale
    assert np.abs(cv2.imread(str(tmp_path / "out.png")) - exported).max() <= 6


def test_a_folder_without_the_graph_says_how_to_get_one(recipe, run_explain, video, tmp_path):
    _, cfg, _, _ = recipe("tsn")
    write_manifest(make_manifest(cfg, version="0"), tmp_path)
    code, _, err = run_explain("-m", tmp_path, "-i", video, "-o", tmp_path / "out.mp4")
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert "no explain graph" in err


def test_the_maps_belong_to_the_sampled_frames_and_the_box_to_the_crop(recipe, shared_videos):
    _, cfg, _, _ = recipe("tsn")
    seen = []

    def run(frames):
        seen.append(frames)
        return np.zeros((1, 8), "float32"), np.zeros((1, 4, 1, 1, 8), "float32")

    video = shared_videos / "archery.avi"
    explanation = explain_video(run, make_manifest(cfg, version="0"), Record(path=str(video), name="video"))
    views = build.build_views(cfg.data, cfg.test.model_copy(update={"crop": "center"}))
    np.testing.assert_array_equal(seen[0], views(Record(path=str(video), name="video")))
    assert explanation.frames.shape[0] == len(explanation.sampled) == 4
    # Cutting the box out of the whole frames gives what the model saw, but for the filters
    top, left, height, width = explanation.box
    cut = explanation.frames[:, top : top + height, left : left + width]
    small = np.stack([cv2.resize(frame, (32, 32), interpolation=cv2.INTER_LINEAR) for frame in cut])
    difference = np.abs(small.astype(int) - seen[0][0])
    shifted = np.abs(np.roll(small, 2, axis=2).astype(int) - seen[0][0])
    assert difference.mean() < 0.6 * shifted.mean()


def test_classes_are_found_by_name_and_number():
    names = ["archery", "Arm Wrestling", "7", "bowling"]
    assert [find_class(names, wanted) for wanted in ("arm wrestling", "7", "3", "Archery")] == [1, 2, 3, 0]
    with pytest.raises(ConfigError, match="did you mean 'archery'"):
        find_class(names, "archry")
    with pytest.raises(ConfigError, match="labels are 0 to 3"):
        find_class(names, "4")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("-c", "x.yaml", "-o", "x.mp4"), "go together"),
        (("-m", "x", "-w", "x", "-o", "x.mp4"), "go together"),
        (("-m", "x"), "-o OUT.mp4, --png OUT.png or both"),
        (("-m", "x", "-o", "x.txt"), "must end in"),
        (("-m", "x", "-o", "x.mp4"), "no inference.yml"),
    ],
)
def test_wrong_arguments_end_in_a_line(run_explain, tmp_path, monkeypatch, arguments, expected):
    code, _, err = run_explain(*arguments, "-i", "x.avi")
    assert code == 2
    assert expected in err.splitlines()[-1]


def test_a_video_that_is_none_and_a_class_that_is_none(recipe, run_explain, video, tmp_path):
    path, _, _, weights = recipe("timesformer")
    bad = tmp_path / "bad.mp4"
    bad.write_text("no video")
    arguments = ("-c", path, "-w", weights, "-o", tmp_path / "out.mp4")
    for more, expected in (
        (("-i", bad), "bad.mp4"),
        (("-i", tmp_path / "none.mp4"), "none.mp4"),
        (("-i", video, "--class", "rihgt"), "did you mean 'right'?"),
        (("-i", video.parent), "explain one at a time"),
    ):
        code, _, err = run_explain(*arguments, *more)
        assert code == 2
        assert expected in err
        assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "out.mp4").exists()


def test_the_input_is_never_written_over(recipe, run_explain, video, tmp_path):
    path, _, _, weights = recipe("timesformer")
    own = tmp_path / "in" / "ex.mp4"
    own.parent.mkdir()
    own.write_bytes(video.read_bytes())
    listed = tmp_path / "list.txt"
    listed.write_text(f"{own} 0\n")
    sheet = own.with_name("ex.png")
    sheet.write_bytes(b"a picture")
    for arguments, expected in (
        (("-i", own, "-o", own), "over the input"),
        (("-i", listed, "-o", own), "over the input"),
        (("-i", own.parent, "-o", own), "lies in the folder"),
        (("-i", sheet, "--png", sheet), "over the input"),
        (("-i", own, "-o", tmp_path / "none" / "x.mp4"), "make it first"),
    ):
        code, _, err = run_explain("-c", path, "-w", weights, *arguments)
        assert code == 2
        assert expected in err
        assert len(err.strip().splitlines()) == 1
    assert own.read_bytes() == video.read_bytes()
    assert sheet.read_bytes() == b"a picture"
    assert not (tmp_path / "none").exists()
