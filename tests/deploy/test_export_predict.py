"""Exported models answer like the models that they came from, and turn videos into labels by themselves."""

from __future__ import annotations

import csv
import functools
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
import yaml
from conftest import ROOT

import paddlevid
from paddlevid import build
from paddlevid.checkpoint import save_weights
from paddlevid.config import load_config
from paddlevid.data.records import Record
from paddlevid.deploy.export import ExportOptions, export_model
from paddlevid.deploy.inputs import find_records
from paddlevid.errors import ConfigError, DataError, ExportError, WeightsError


@pytest.fixture
def exported(tiny_recipe, tmp_path):
    """`exported("tsm")` -> config, model with random statistics, and its exported folder."""

    def export(name, *overrides):
        cfg = load_config(tiny_recipe(name), overrides)
        paddle.seed(7)
        model = build.build_model(cfg)
        for parameter_name, value in model.state_dict().items():
            if parameter_name.endswith("_mean"):
                value.set_value(paddle.randn(value.shape))
            elif parameter_name.endswith(("_variance", "head.weight")):
                value.set_value(paddle.rand(value.shape) + 0.5)
        model.eval()
        save_weights(model, tmp_path / "weights.pdparams")
        report = export_model(cfg, tmp_path / "weights.pdparams", tmp_path / "inference" / "Net")
        assert report.max_difference <= 1e-4
        return cfg, model, report.folder

    return export


def expected_logits(cfg, model, video):
    """What main.py --test computes for one video."""
    frames = build.build_views(cfg.data, cfg.test)(Record(path=str(video), name="video"))
    with paddle.no_grad():
        return model(build.build_normalize(cfg)(paddle.to_tensor(frames))).mean(axis=0).numpy()


@pytest.mark.parametrize("name", ["timesformer", "tsm", "tsn"])
@pytest.mark.parametrize("clip", ["archery.avi", "arm_wrestling.mp4"])
def test_the_folder_predicts_like_the_model(exported, shared_videos, name, clip):
    cfg, model, folder = exported(name)
    assert {path.name for path in folder.iterdir()} == {"Net.json", "Net.pdiparams", "inference.yml"}
    predict = paddlevid.Predictor(folder)
    video = shared_videos / clip
    logits = expected_logits(cfg, model, video)
    np.testing.assert_allclose(predict.scores(video), logits, rtol=0, atol=1e-4 * np.abs(logits).max())
    predictions = predict(video, top_k=5)
    assert [p.label for p in predictions] == np.argsort(-logits)[:5].tolist()
    probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    assert [p.score for p in predictions] == pytest.approx(
        np.sort(probabilities)[::-1][:5].tolist(), rel=1e-3, abs=1e-6
    )
    assert predictions[0].name == predict.manifest.class_names[predictions[0].label]


def test_views_spread_over_runs_give_the_same_answer(exported, motion_set):
    _, _, folder = exported("tsn", "test.num_clips=2")
    video = next((motion_set / "test").rglob("*.mp4"))
    one, many = (paddlevid.Predictor(folder, batch_size=size).scores(video) for size in (6, 4))
    np.testing.assert_allclose(one, many, rtol=1e-5, atol=1e-5)


def test_probabilities_are_averaged_where_the_recipe_says_so(exported, motion_set):
    cfg, model, folder = exported("timesformer", "test.average=probabilities")
    video = next((motion_set / "test").rglob("*.mp4"))
    frames = build.build_views(cfg.data, cfg.test)(Record(path=str(video), name="video"))
    with paddle.no_grad():
        logits = model(build.build_normalize(cfg)(paddle.to_tensor(frames)))
    expected = paddle.nn.functional.softmax(logits, axis=1).mean(axis=0).numpy()
    predictions = paddlevid.Predictor(folder)(video, top_k=99)
    assert len(predictions) == 8, "there are no more classes than the model has"
    assert [p.score for p in predictions] == pytest.approx(sorted(expected, reverse=True), rel=1e-3)


def test_the_manifest_tells_clip_views_classes_and_origin(exported, tmp_path):
    import hashlib

    _, _, folder = exported("timesformer")
    manifest = yaml.safe_load((folder / "inference.yml").read_text())
    assert manifest["paddlevid_version"] == paddlevid.__version__
    assert manifest["weights_sha256"] == hashlib.sha256((tmp_path / "weights.pdparams").read_bytes()).hexdigest()
    assert manifest["class_names"][4] == "clockwise"
    assert manifest["data"]["num_frames"] == 4
    assert manifest["views"]["crop"] == "three"


def test_scores_of_segments_are_averaged(exported, motion_set):
    cfg, model, folder = exported("tsn", "model.consensus=identity")
    video = next((motion_set / "test").rglob("*.mp4"))
    frames = build.build_views(cfg.data, cfg.test)(Record(path=str(video), name="video"))
    with paddle.no_grad():
        logits = model(build.build_normalize(cfg)(paddle.to_tensor(frames))).mean(axis=[0, 1]).numpy()
    np.testing.assert_allclose(paddlevid.Predictor(folder).scores(video), logits, atol=1e-4 * np.abs(logits).max())


@pytest.mark.parametrize(
    "name", ["tsm", *(pytest.param(name, marks=pytest.mark.slow) for name in ("timesformer", "tsn"))]
)
def test_pdmodel_files_as_before_paddle_3(exported, tiny_recipe, motion_set, tmp_path, name):
    _, _, folder = exported(name)
    video = next((motion_set / "test").rglob("*.mp4"))
    expected = paddlevid.Predictor(folder).scores(video)
    command = [sys.executable, "tools/export_model.py", "--pdmodel", "-c", tiny_recipe(name), "-o", folder]
    done = subprocess.run(
        [*map(str, command), "-p", str(tmp_path / "weights.pdparams")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert not (folder / "Net.json").exists()
    predict = paddlevid.Predictor(folder)
    assert predict.manifest.models[0].files == ("Net.pdmodel", "Net.pdiparams")
    np.testing.assert_allclose(predict.scores(video), expected, atol=1e-4 * np.abs(expected).max())


def test_weights_that_leave_a_layer_untrained_are_not_exported(tiny_recipe, tmp_path):
    cfg = load_config(tiny_recipe())
    save_weights(build.build_model(cfg), tmp_path / "weights.pdparams")
    wider = load_config(tiny_recipe(), ["data.num_classes=5", "data.class_names=null"])
    with pytest.raises(WeightsError, match=r"nothing is loaded for head\.weight"):
        export_model(wider, tmp_path / "weights.pdparams", tmp_path / "inference" / "Net")


@pytest.fixture
def run_predict(run_tool):
    """Run tools/predict.py -> exit code, stdout, stderr."""
    return functools.partial(run_tool, "predict")


def test_predict_prints_the_three_lines_and_writes_files(exported, run_predict, motion_set, tmp_path):
    _, _, folder = exported("tsn")
    video = next((motion_set / "test").rglob("*.mp4"))
    code, out, _ = run_predict("--input_file", video, "--model_file", folder / "Net.json", "--use_gpu=False")
    assert code == 0
    best = paddlevid.Predictor(folder)(video)[0]
    lines = out.splitlines()
    assert lines[:3] == [f"Current video file: {video}", f"top-1 class: {best.label}", f"top-1 score: {best.score:.4f}"]
    assert best.name in lines[3]

    table, tree = tmp_path / "out.csv", tmp_path / "out.json"
    for output in (table, tree):
        code, out, _ = run_predict(
            "-i", motion_set / "test.txt", "--model_file", folder / "Net.json", "--output", output
        )
        # relative paths of a list begin at its folder
        assert code == 0
        assert out.count("Current video file:") == 7
    rows = list(csv.DictReader(table.open()))
    assert [row["name"] for row in rows[::5]] == [record["name"] for record in json.loads(tree.read_text())]
    assert len(rows) == 7 * 5
    assert float(rows[0]["score"]) == pytest.approx(
        json.loads(tree.read_text())[0]["predictions"][0]["score"], abs=1e-6
    )


def test_predict_on_a_folder_goes_on_after_a_bad_video(exported, run_predict, motion_set, tmp_path):
    _, _, folder = exported("tsn")
    videos = tmp_path / "videos"
    (videos / "deep").mkdir(parents=True)
    source = next((motion_set / "test").rglob("*.mp4"))
    (videos / "deep" / "good.mp4").write_bytes(source.read_bytes())
    (videos / "bad.mp4").write_text("no video")
    table = tmp_path / "out.csv"
    code, out, err = run_predict("-i", videos, "--model_file", folder / "Net.json", "--output", table)
    assert code == 1
    assert {row["name"]: row["error"] != "" for row in csv.DictReader(table.open())} == {
        str(videos / "bad.mp4"): True,
        str(videos / "deep" / "good.mp4"): False,
    }
    assert out.count("Current video file:") == 1
    assert "bad.mp4" in err
    assert "1 of 2 videos could not be read" in err


@pytest.mark.parametrize("name", ["none.mp4", "text.mp4", "picture.jpg"])
def test_predict_on_what_is_no_video(exported, run_predict, tmp_path, name):
    import cv2

    _, _, folder = exported("tsn")
    path = tmp_path / name
    if name.startswith("text"):
        path.write_text("no video")
    elif name.startswith("picture"):
        cv2.imwrite(str(path), np.zeros((64, 64, 3), np.uint8))
    code, _, err = run_predict("-i", path, "--model_file", folder / "Net.json")
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert name in err


def test_predict_with_a_recipe_instead_of_a_manifest(exported, run_predict, tiny_recipe, motion_set):
    _, _, folder = exported("tsn")
    video = next((motion_set / "test").rglob("*.mp4"))
    with_manifest = run_predict("-i", video, "--model_file", folder / "Net.json")
    (folder / "inference.yml").unlink()
    code, _, err = run_predict("-i", video, "--model_file", folder / "Net.json")
    assert code == 2
    assert "inference.yml" in err
    arguments = ("--config", tiny_recipe("tsn"), "--params_file", folder / "Net.pdiparams")
    assert run_predict("-i", video, "--model_file", folder / "Net.json", *arguments) == with_manifest


def test_find_records(tiny_recipe, tmp_path):
    data = load_config(tiny_recipe()).data
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="neither videos"):
        find_records(tmp_path / "empty", data)
    frames = load_config(tiny_recipe(), ["data.format=frames"]).data
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in (1, 2, 3):
        (folder / f"img_{number:05d}.jpg").touch()
    (folder / "notes.txt").touch()
    assert [record.num_frames for record in find_records(folder, frames)] == [3]
    (tmp_path / "clip.mp4").touch()
    assert find_records(tmp_path / "clip.mp4", frames)[0].num_frames is None, "a video, whatever the model was fed with"
    assert {record.num_frames for record in find_records(tmp_path, frames)} == {None, 3}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("num_frames: 4", "num_frames: 5"), "does not take inputs of [B] + [5, 32, 32, 3]"),
        (("num_classes: 8", "num_classes: 9"), "8 classes"),
    ],
)
def test_predict_with_the_recipe_of_another_model(exported, run_predict, tiny_recipe, motion_set, change, expected):
    _, _, folder = exported("tsm")
    video = next((motion_set / "test").rglob("*.mp4"))
    recipe = folder / "other.yaml"
    recipe.write_text(tiny_recipe("tsm").read_text().replace(*change).replace("  class_names:", "  # class_names:"))
    code, _, err = run_predict("-i", video, "--model_file", folder / "Net.json", "--config", recipe)
    assert code == 2
    assert expected in err


def test_a_gpu_and_tensorrt_that_are_not_there_are_refused(exported):
    _, _, folder = exported("tsn")
    with pytest.raises(ConfigError, match="TensorRT runs on GPUs"):
        paddlevid.Predictor(folder, use_tensorrt=True)
    if not paddle.device.is_compiled_with_cuda():
        for use_tensorrt in (False, True):
            with pytest.raises(ConfigError, match="the CPU build"):
                paddlevid.Predictor(folder, use_gpu=True, use_tensorrt=use_tensorrt)


@pytest.fixture
def run_export(run_tool):
    """Run tools/export_model.py -> exit code, stdout, stderr."""
    return functools.partial(run_tool, "export_model")


def test_export_writes_several_formats_and_tells_how_near_they_are(run_export, tiny_recipe, tmp_path):
    for package in ("paddle2onnx", "onnxruntime", "openvino"):
        pytest.importorskip(package)
    recipe = tiny_recipe("tsn")
    save_weights(build.build_model(load_config(recipe)), tmp_path / "w.pdparams")
    folder = tmp_path / "inference" / "Net"
    arguments = ("-c", recipe, "-p", tmp_path / "w.pdparams", "-o", folder, "--check_videos", 3)
    code, out, _ = run_export(*arguments, "--format", "openvino", "onnx", "--precision", "fp32", "fp16")
    assert code == 0
    assert {path.name for path in folder.iterdir()} == {
        *("inference.yml", "Net.onnx", "Net.fp16.onnx", "Net.xml", "Net.bin", "Net.fp16.xml", "Net.fp16.bin")
    }
    lines = [line for line in out.splitlines() if line.startswith("  classify")]
    assert [line.split()[1:3] for line in lines] == [
        ["onnx", "fp32"],
        ["openvino", "fp32"],
        ["openvino", "fp16"],
        ["onnx", "fp16"],
    ]
    assert all("largest difference" in line for line in lines)
    assert [("of 3 videos" in line, "top-1" in line) for line in lines] == [(False, False)] * 2 + [(True, True)] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--precision", "bf16"], "--precision bf16 needs --format openvino, not paddle"),
        (["--format", "onnx", "--pdmodel"], "--pdmodel goes with --format paddle alone"),
        (["--format", "onnx", "--precision", "int8", "--calibration", "none.txt"], "none.txt"),
    ],
)
def test_what_cannot_be_exported_is_one_line_and_leaves_nothing(run_export, tiny_recipe, tmp_path, options, message):
    pytest.importorskip("paddle2onnx")
    if "int8" in options:
        pytest.importorskip("nncf")
    recipe = tiny_recipe("tsn")
    save_weights(build.build_model(load_config(recipe)), tmp_path / "w.pdparams")
    arguments = ("-c", recipe, "-p", tmp_path / "w.pdparams", "-o", tmp_path / "inference" / "Net", *options)
    code, _, err = run_export(*arguments)
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert message in err
    assert not list(tmp_path.glob("inference/*"))


def test_the_folder_takes_the_place_of_the_files(exported, run_predict, motion_set):
    _, _, folder = exported("tsn")
    video = next((motion_set / "test").rglob("*.mp4"))
    by_file = run_predict("-i", video, "--model_file", folder / "Net.json", "--params_file", folder / "Net.pdiparams")
    assert run_predict("-i", video, "-m", folder) == by_file
    assert run_predict("-i", video, "-m", folder, "--runtime", "paddle", "--threads", 1)[1] == by_file[1]
    code, _, err = run_predict("-i", video, "-m", folder, "--runtime", "openvino")
    assert code == 2
    assert "it holds paddle fp32" in err or "pip install openvino" in err
    code, _, err = run_predict("-i", video, "--model_file", folder)
    assert code == 2
    assert "for a folder use -m" in err


def test_lists_begin_at_their_own_folder_wherever_the_training_data_lay(exported, run_predict, motion_set, tmp_path):
    _, _, folder = exported("tsn")
    videos = sorted((motion_set / "test").rglob("*.mp4"))
    (tmp_path / "mine" / "test").mkdir(parents=True)
    for own, other in ((videos[0], videos[1]), (videos[1], videos[0])):
        (tmp_path / "mine" / "test" / own.name).write_bytes(other.read_bytes())  # same names, other videos
    listed = tmp_path / "mine" / "list.txt"
    listed.write_text(f"test/{videos[0].name}\n")
    predict = paddlevid.Predictor(folder)
    assert predict.manifest.data.root == ""
    expected = f"top-1 score: {predict(videos[1])[0].score:.4f}"
    assert expected in run_predict("-i", listed, "-m", folder)[1]
    listed.rename(tmp_path / "list.txt")
    assert expected in run_predict("-i", tmp_path / "list.txt", "-m", folder, "--root", tmp_path / "mine")[1]


def test_a_run_leaves_the_recipe_that_its_export_takes(run_main, run_export, tiny_recipe, tmp_path):
    arguments = ("-c", tiny_recipe("tsm"), "-o", "model.online=true", "-o", "data.mean=[0.1,0.2,0.3]", "--max_iters", 1)
    assert run_main(*arguments) == 0
    output = tmp_path / "output"
    recipe = output / "config.yaml"
    assert load_config(recipe) == load_config(tiny_recipe("tsm"), ["model.online=true", "data.mean=[0.1,0.2,0.3]"])
    code, _, err = run_export("-c", recipe, "-p", output / "last.pdparams", "-o", tmp_path / "inference" / "Net")
    assert (code, err) == (0, "")
    manifest = paddlevid.Predictor(tmp_path / "inference" / "Net").manifest
    assert manifest.has("online")
    assert manifest.data.mean == (0.1, 0.2, 0.3)


@pytest.mark.slow
def test_results_are_not_lost_when_the_reader_leaves_or_the_user_stops(exported, motion_set, tmp_path):
    _, _, folder = exported("tsn")
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"{video}\n" for video in sorted((motion_set / "train").rglob("*.mp4")) * 20))
    command = [sys.executable, "tools/predict.py", "-m", str(folder), "-i", str(listed), "--output"]
    process = subprocess.Popen([*command, str(tmp_path / "piped.csv")], cwd=ROOT, stdout=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=120) == 0
    assert len({row["name"] for row in csv.DictReader((tmp_path / "piped.csv").open())}) == 16
    assert sum(1 for _ in (tmp_path / "piped.csv").open()) == 1 + 320 * 5
    process = subprocess.Popen([*command, str(tmp_path / "stopped.csv")], cwd=ROOT, stdout=subprocess.PIPE)
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 130
    assert 1 < sum(1 for _ in (tmp_path / "stopped.csv").open()) < 1 + 320 * 5


@pytest.mark.parametrize("output", [".", "none/out.csv"])
def test_a_place_that_cannot_be_written_to_is_told_before_the_work(exported, run_predict, motion_set, tmp_path, output):
    _, _, folder = exported("tsn")
    path = tmp_path / output if output != "." else tmp_path / "folder.csv"
    if output == ".":
        path.mkdir()
    code, out, err = run_predict("-i", motion_set / "test.txt", "-m", folder, "--output", path)
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    assert str(path) in err


def test_a_name_that_is_a_folder_is_told_and_the_old_export_stays(exported, tmp_path):
    cfg, _, folder = exported("tsn")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "Net.onnx").mkdir()
    with pytest.raises(ExportError, match=r"Net\.onnx is a folder"):
        export_model(cfg, tmp_path / "weights.pdparams", folder, ExportOptions(formats=("paddle", "onnx")))
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_a_killed_export_leaves_no_folder_of_new_weights_and_old_words(exported, tmp_path, monkeypatch):
    cfg, _, folder = exported("tsn")
    moved = []

    def replace_once(self, target, replace=Path.replace):
        if moved:
            raise KeyboardInterrupt
        moved.append(target)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", replace_once)
    with pytest.raises(KeyboardInterrupt):
        export_model(cfg, tmp_path / "weights.pdparams", folder)
    monkeypatch.undo()
    with pytest.raises(ConfigError, match=r"no inference\.yml here"):
        paddlevid.Predictor(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("short_side: 40", "short_side: 16"), "views.short_side 16 is less than data.image_size 32"),
        (("- Net.json", "- ../Net.json"), "'../Net.json' is not the name of a file in this folder"),
        (("  - Net.pdiparams\n", ""), "a model of paddle is 2 file"),
        (("- left\n", ""), "7 class_names for data.num_classes 8"),
    ],
)
def test_a_description_that_does_not_fit_is_one_line(exported, change, message):
    _, _, folder = exported("tsn")
    path = folder / "inference.yml"
    text = path.read_text()
    assert change[0] in text
    path.write_text(text.replace(*change))
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        paddlevid.Predictor(folder)
    assert "\n" not in str(caught.value)
