"""Several labels a video, from the list to the exported model."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle
import pytest
import yaml
from conftest import tiny_sections
from exported_models import randomise
from multi_label_lists import NAMES, to_multi_label, write_multi_label_list

import paddlevid
from paddlevid import build
from paddlevid.checkpoint import save_weights
from paddlevid.config import load_config
from paddlevid.data.annotations import read_list
from paddlevid.data.records import Record
from paddlevid.demo.analysis import Analyst
from paddlevid.deploy.export import ExportOptions, export_model
from paddlevid.deploy.inputs import find_records
from paddlevid.deploy.manifest import read_manifest
from paddlevid.deploy.streaming.online import OnlineClassifier
from paddlevid.schema import Config


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


@dataclass(frozen=True)
class Tiny:
    cfg: Config
    model: paddle.nn.Layer
    folder: Path

    def view_logits(self, record: Record) -> np.ndarray:
        """`[V, K]` of the model itself."""
        frames = build.build_views(self.cfg.data, self.cfg.test)(record)
        with paddle.no_grad():
            return self.model(build.build_normalize(self.cfg)(paddle.to_tensor(frames))).numpy()


@pytest.fixture(scope="module", params=["logits", pytest.param("probabilities", marks=pytest.mark.slow)])
def tiny(request, motion_set, tmp_path_factory) -> Tiny:
    """An online TSM with random weights, exported in fp32 and, where ONNX is there, fp16, and with an explain graph."""
    folder = tmp_path_factory.mktemp(f"multi_label_{request.param}")
    recipe = to_multi_label(tiny_sections("tsm", motion_set, folder / "output"), motion_set, folder)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    cfg = load_config(folder / "recipe.yaml", ["model.online=true", f"test.average={request.param}"])
    model = build.build_model(cfg)
    randomise(model)
    spread_logits(cfg, model)
    save_weights(model, folder / "weights.pdparams")
    formats, precisions = ("paddle",), ("fp32",)
    if request.param == "logits" and all(map(_is_there, ("paddle2onnx", "onnxruntime"))):
        formats, precisions = ("onnx", "paddle"), ("fp32", "fp16")
    options = ExportOptions(formats=formats, precisions=precisions, explain=True, check_videos=7)
    export_model(cfg, folder / "weights.pdparams", folder / "Net", options)
    return Tiny(cfg, model, folder / "Net")


def spread_logits(cfg: Config, model: paddle.nn.Layer) -> None:
    """Move and scale the head so that logits of the test videos have mean 0 and deviation 1 in each class."""
    dataset = build.build_eval_dataset(cfg, cfg.test)
    frames = paddle.to_tensor(np.concatenate([dataset.views(record) for record in dataset.records]))
    with paddle.no_grad():
        logits = model(build.build_normalize(cfg)(frames))
    head = model.head
    scale = logits.std(axis=0)
    head.weight.set_value(head.weight / scale)
    head.bias.set_value((head.bias - logits.mean(axis=0)) / scale)


def _is_there(package: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(package) is not None


def test_the_folder_gives_each_class_its_own_probability(tiny, motion_set):
    assert read_manifest(tiny.folder).data.multi_label
    predict, analyst = paddlevid.Predictor(tiny.folder, runtime="paddle"), Analyst(tiny.folder, runtime="paddle")
    spread = []
    for record in read_list(tiny.cfg.test.list, format="video", root=motion_set, multi_label=True):
        logits = tiny.view_logits(record)
        by_logits = tiny.cfg.test.average == "logits"
        expected = sigmoid(logits.mean(axis=0)) if by_logits else sigmoid(logits).mean(axis=0)
        found = predict(record.path, top_k=99)
        assert [p.label for p in found] == np.argsort(-expected).tolist()
        np.testing.assert_allclose([p.score for p in found], np.sort(expected)[::-1], atol=1e-4)
        assert [p.name for p in found] == [NAMES[p.label] for p in found]
        assert predict(record.path, top_k=2) == found[:2]
        assert analyst(record).predictions == found, "the page shows the same"
        spread.append(expected.sum())
    assert np.ptp(spread) > 0.1, "they do not sum to 1"


def test_the_tool_predicts_the_list_that_the_model_was_tested_on(tiny, run_tool, motion_set, tmp_path):
    """The labels of the list are no part of the paths; `score` is the probability of each class by itself."""
    options = ("-m", tiny.folder, "-i", tiny.cfg.test.list, "--root", motion_set, "--runtime", "paddle", "--top_k", 5)
    code, out, err = run_tool("predict", *options, "--output", tmp_path / "found.json")
    assert (code, err) == (0, "")
    records = read_list(tiny.cfg.test.list, format="video", root=motion_set, multi_label=True)
    rows = json.loads((tmp_path / "found.json").read_text())
    assert [row["name"] for row in rows] == [record.name for record in records]
    blocks = out.split("Current video file: ")[1:]
    predict = paddlevid.Predictor(tiny.folder, runtime="paddle")
    for record, row, block in zip(records, rows, blocks, strict=True):
        expected = predict(record, top_k=5)
        lines = block.splitlines()
        best = expected[0]
        assert lines[:3] == [record.path, f"top-1 class: {best.label}", f"top-1 score: {best.score:.4f}"]
        assert [found["label"] for found in row["predictions"]] == [p.label for p in expected]
        assert [found["score"] for found in row["predictions"]] == pytest.approx([p.score for p in expected], abs=1e-5)


def test_labels_are_taken_off_paths_that_are_not_there(tiny, tmp_path):
    (tmp_path / "list.txt").write_text("gone.mp4 0,4\ngone.mp4 -\ngone.mp4\n")
    records = find_records(tmp_path / "list.txt", read_manifest(tiny.folder).data)
    assert [record.name for record in records] == ["gone.mp4"] * 3


def test_precisions_below_fp32_are_compared_by_mean_average_precision(tiny, motion_set, run_tool):
    if tiny.cfg.test.average == "probabilities":
        pytest.skip("compared once, by logits")
    reduced = [files for files in read_manifest(tiny.folder).models if files.precision == "fp16"]
    if not reduced:
        pytest.skip("needs paddle2onnx and onnxruntime")
    targets = write_multi_label_list(motion_set / "test.txt", tiny.folder.parent / "again.txt")
    scores = np.array(
        [
            tiny.view_logits(record).mean(axis=0)
            for record in build.read_records(tiny.cfg, tiny.cfg.test.list, max_missing_share=0)
        ]
    )
    precisions = []
    for column, wanted in zip(scores.T, targets.T, strict=True):
        precisions += [np.mean([wanted[column >= score].mean() for score in column[wanted]])] if wanted.any() else []
    for files in reduced:
        assert (files.accuracy, files.accuracy_fp32) == (None, None)
        assert files.same_top1 is not None
        assert files.mean_average_precision is not None
        assert files.mean_average_precision_fp32 == pytest.approx(np.mean(precisions), abs=1e-3)


def test_explain_prints_probabilities_of_each_class(tiny, run_tool, motion_set, tmp_path):
    record = read_list(tiny.cfg.test.list, format="video", root=motion_set, multi_label=True)[0]
    options = ("-m", tiny.folder, "-i", record.path, "--png", tmp_path / "x.png", "--runtime", "paddle")
    code, out, _ = run_tool("explain", *options)
    assert code == 0
    center = sigmoid(tiny.view_logits(record)[1])  # of three crops
    best = np.argsort(-center)
    expected = [f"top-{rank} class: {k} {NAMES[k]} {center[k]:.3f}" for rank, k in enumerate(best, start=1)]
    found = [line[:-1] for line in out.splitlines() if line.startswith("top-")]
    assert [line.rsplit(" ", 1)[0] for line in found] == [line.rsplit(" ", 1)[0] for line in expected]
    scores = [float(line.rsplit(" ", 1)[1]) for line in out.splitlines() if line.startswith("top-")]
    np.testing.assert_allclose(scores, center[best], atol=2e-4)


def test_online_answers_are_means_of_each_class(tiny):
    classifier = OnlineClassifier(tiny.folder, runtime="paddle")
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    found = [classifier.step(frame) for frame in frames]
    state, logits = np.zeros((1, classifier.manifest.state_size), np.float32), []
    for frame in frames:
        one, _, state = classifier.runtime(frame[None, None], state)
        logits.append(one[0])
    for number, probabilities in enumerate(found, start=1):
        recent = np.array(logits[max(0, number - 4) : number])
        by_logits = tiny.cfg.test.average == "logits"
        expected = sigmoid(recent.mean(axis=0)) if by_logits else sigmoid(recent).mean(axis=0)
        np.testing.assert_allclose(probabilities, expected, atol=1e-5)


def test_a_long_video_has_segments_of_classes_that_overlap(tiny, run_tool, motion_set, tmp_path):
    video = next((motion_set / "test").rglob("*.mp4"))
    table, segments = tmp_path / "windows.csv", tmp_path / "segments.csv"
    options = ("--window_sec", 0.25, "--stride_sec", 0.125, "--threshold", 0.2, "--runtime", "paddle")
    outputs = ("--csv", table, "--segments", segments, "--png", tmp_path / "x.png")
    code, _, err = run_tool("predict_long", "-m", tiny.folder, "-i", video, *options, *outputs)
    assert code == 0, err
    with table.open() as file, segments.open() as segments_file:
        rows, found = list(csv.DictReader(file)), list(csv.DictReader(segments_file))
    sums = [sum(float(row[f"score_{rank}"]) for rank in range(1, 6)) for row in rows]
    assert rows
    assert max(abs(total - 1) for total in sums) > 0.01
    scores = [(row[f"label_{rank}"], float(row[f"score_{rank}"])) for row in rows for rank in range(1, 6)]
    seen = {label for label, score in scores if score >= 0.2}
    assert len(seen) > 1
    assert {segment["label"] for segment in found} == seen
    assert (tmp_path / "x.png").stat().st_size > 0


def test_from_the_list_to_the_prediction(motion_set, run_main, run_tool, tmp_path, capsys):
    recipe = to_multi_label(tiny_sections("timesformer", motion_set, tmp_path / "output"), motion_set, tmp_path)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert run_main("-c", tmp_path / "recipe.yaml", "--validate") == 0
    rows = [json.loads(line) for line in (tmp_path / "output" / "metrics.jsonl").read_text().splitlines()]
    valid = [row["mAP"] for row in rows if "mAP" in row]
    assert len(valid) == 2
    losses = [row["loss"] for row in rows if "loss" in row]
    assert all(0 < loss < 2 for loss in losses), "binary cross entropies, means over classes"

    capsys.readouterr()
    weights = tmp_path / "output" / "best.pdparams"
    assert run_main("--test", "-c", tmp_path / "recipe.yaml", "-w", weights) == 0
    out = capsys.readouterr().out
    assert "mAP:" in out
    assert "top-1:" not in out
    saved = np.load(tmp_path / "output" / "test_scores.npz")
    np.testing.assert_array_equal(
        saved["targets"], write_multi_label_list(motion_set / "test.txt", tmp_path / "again.txt")
    )

    code, _, _ = run_tool("export_model", "-c", tmp_path / "recipe.yaml", "-p", weights, "-o", tmp_path / "Net")
    assert code == 0
    predict = paddlevid.Predictor(tmp_path / "Net", runtime="paddle")
    for name, scores in zip(saved["names"], saved["scores"], strict=True):
        found = {p.label: p.score for p in predict(motion_set / str(name), top_k=99)}
        np.testing.assert_allclose([found[k] for k in range(len(NAMES))], sigmoid(scores), atol=1e-4)
