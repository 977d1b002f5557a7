"""The benchmark counts operations as a hand does, times what it says it times, and hides nothing that cannot run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from paddlevid import build
from paddlevid.config import load_config
from paddlevid.deploy.manifest import ModelFiles, make_manifest, read_manifest, write_manifest
from paddlevid.deploy.measure.benchmark import Times, Worker, add_ratios, summarize
from paddlevid.deploy.measure.flops import Cost, count_cost, count_onnx, count_openvino
from paddlevid.deploy.measure.timing import Plan, Way

onnx = pytest.importorskip("onnx")


def save(path: Path, nodes: list, weights: dict[str, tuple[int, ...]], out: int) -> Path:
    """A graph of frames uint8 [B, 4, 32, 32, 3] -> logits [B, out], features [B, 6]; weights are seeded."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    tensors = [
        numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name) for name, shape in weights.items()
    ]
    tensors.append(numpy_helper.from_array(np.array([-1, 3, 32, 32], np.int64), "pictures"))
    tensors.append(numpy_helper.from_array(np.array([-1, 4, 6], np.int64), "clips"))
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["B", 4, 32, 32, 3])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", out]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["B", 6]),
        ],
        tensors,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def small_network(path: Path) -> Path:
    """Two convolutions on each of 4 frames, the second in 2 groups, then the mean over frames and 8 classes."""
    from onnx import helper

    nodes = [
        helper.make_node("Cast", ["frames"], ["floats"], to=1),
        helper.make_node("Transpose", ["floats"], ["moved"], perm=[0, 1, 4, 2, 3]),
        helper.make_node("Reshape", ["moved", "pictures"], ["images"]),
        helper.make_node("Conv", ["images", "conv1", "bias1"], ["one"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["one", "gamma", "beta", "mean", "var"], ["normed"]),
        helper.make_node("Conv", ["normed", "conv2"], ["two"], group=2),
        helper.make_node("ReduceMean", ["two"], ["pooled"], axes=[2, 3], keepdims=0),
        helper.make_node("Reshape", ["pooled", "clips"], ["by_clip"]),
        helper.make_node("ReduceMean", ["by_clip"], ["features"], axes=[1], keepdims=0),
        helper.make_node("Gemm", ["features", "head", "head_bias"], ["logits"], transB=1),
    ]
    weights = {
        "conv1": (4, 3, 3, 3),
        "bias1": (4,),
        "gamma": (4,),
        "beta": (4,),
        "mean": (4,),
        "var": (4,),
        "conv2": (6, 2, 1, 1),
        "head": (8, 6),
        "head_bias": (8,),
    }
    return save(path, nodes, weights, 8)


# 4 frames; 3x3 convolution from 3 to 4 channels, to 16x16 places; 1x1 in 2 groups, 2 to 3 channels each; 6 to 8
SMALL = Cost(
    params=4 * 3 * 9 + 4 + 2 * 4 + 6 * 2 + 8 * 6 + 8,
    flops=2 * (4 * 16 * 16 * 4 * 3 * 9 + 4 * 16 * 16 * 6 * 2 + 6 * 8),
)


def test_operations_of_convolutions_counted_by_hand(tmp_path):
    assert count_onnx(small_network(tmp_path / "small.onnx")) == SMALL


def test_operations_under_openvino(tmp_path):
    openvino = pytest.importorskip("openvino")
    model = openvino.Core().read_model(str(small_network(tmp_path / "small.onnx")))
    openvino.save_model(model, str(tmp_path / "small.xml"), compress_to_fp16=False)
    cost = count_openvino(tmp_path / "small.xml")
    assert cost.flops == SMALL.flops
    # OpenVINO folds the normalisation into the convolution before it
    assert abs(cost.params - SMALL.params) <= 2 * 4


def test_operations_of_a_timesformer(tiny_recipe, tmp_path):
    """Every product of the paper's formulas, for 4 frames of 2x2 patches of 16 pixels, 32 numbers wide, 2 deep."""
    paddle = pytest.importorskip("paddle")
    pytest.importorskip("paddle2onnx")
    from paddlevid.models.normalize import RawFrameClassifier

    cfg = load_config(tiny_recipe("timesformer"))
    model = build.build_model(cfg)
    layer = RawFrameClassifier(build.build_normalize(cfg), model)
    layer.eval()
    spec = paddle.static.InputSpec([-1, 4, 32, 32, 3], "uint8", "frames")
    paddle.jit.save(paddle.jit.to_static(layer, input_spec=[spec], full_graph=True), str(tmp_path / "Net"))
    manifest = make_manifest(cfg, version="0", weights_sha256="")
    files = (ModelFiles(format="paddle", files=("Net.json", "Net.pdiparams")),)
    cost = count_cost(tmp_path, manifest.model_copy(update={"models": files}))
    frames, patches, dim, classes = 4, 4, 32, 8
    tokens = frames * patches
    embedding = tokens * 3 * 16 * 16 * dim
    over_time = tokens * (4 * dim * dim + dim * dim) + 2 * patches * frames * frames * dim
    queries, everybody = frames * (patches + 1), tokens + 1
    # Of the last block only the class token is read, so only it asks, is projected and goes through the MLP
    last_queries, last = frames, 1
    keys = frames * (patches + 1) * 3 * dim * dim  # with the queries, which are computed together
    over_space = 2 * keys + sum(q * (dim * dim + 2 * (patches + 1) * dim) for q in (queries, last_queries))
    mlp = (everybody + last) * 2 * dim * 4 * dim
    products = embedding + 2 * over_time + over_space + mlp + dim * classes
    assert isinstance(cost, Cost)
    assert cost.flops == 2 * products
    trained = sum(parameter.size for parameter in model.parameters())
    assert trained <= cost.params <= trained + 100, "with mean and std, and numbers that activations are made of"


@pytest.fixture
def folder(tiny_recipe, tmp_path):
    """An exported folder, written by hand, in the format of ONNX alone."""
    pytest.importorskip("onnxruntime")
    path = tmp_path / "Net"
    small_network(path / "Net.onnx")
    manifest = make_manifest(load_config(tiny_recipe("tsn")), version="0", weights_sha256="", feature_dim=6)
    files = (ModelFiles(format="onnx", files=("Net.onnx",)),)
    write_manifest(manifest.model_copy(update={"models": files}), path)
    return path


def run(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "tools" / "benchmark.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_the_table_and_the_file_name_all_ways(folder, motion_set, tmp_path):
    cores = len(os.sched_getaffinity(0))
    arguments = ["-i", motion_set / "test.txt", "--rounds", 2, "--seconds", 0.05, "--videos", 3]
    arguments += ["--precisions", "fp32,int8", "--threads", f"1,{cores + 1}", "--batch_sizes", "1,12"]
    done = run(folder, *arguments, "--json", tmp_path / "out.json", "--baseline", "onnxruntime")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "not run: paddle fp32 on 1 threads: the folder holds no fp32 in the format paddle" in done.stdout
    assert "not run: onnxruntime int8 on 1 threads: the folder holds no int8" in done.stdout
    assert f"not run: onnxruntime fp32 on {cores + 1} threads: there are {cores} cores" in done.stdout

    result = json.loads((tmp_path / "out.json").read_text())
    assert result["cost"] == SMALL._asdict()
    assert len(result["reading_ms"]) == 2 * 3
    assert result["machine"]["cores"] == cores
    assert result["machine"]["versions"]["onnxruntime"]
    rows = result["results"]
    keys = {(row["runtime"], row["precision"], row["threads"], row["batch_size"]) for row in rows}
    runtimes = ("paddle", "onnxruntime", "openvino")
    assert keys == {(r, p, n, b) for r in runtimes for p in ("fp32", "int8") for n in (1, cores + 1) for b in (1, 12)}
    assert all(row["reason"] for row in rows if "reason" in row)
    measured = [row for row in rows if "reason" not in row]
    assert {row["batch_size"] for row in measured if row["runtime"] == "onnxruntime"} == {1, 12}
    for row in measured:
        assert row["runs"] >= 2 * 3
        assert row["median_ms"] <= row["p95_ms"]
        assert row["clips_per_s"] == pytest.approx(1000 * row["batch_size"] / row["median_ms"])
        assert row["model_videos_per_s"] == pytest.approx(row["clips_per_s"] / 3), "three crops a video"
        assert row["gflops_per_s"] == pytest.approx(row["clips_per_s"] * SMALL.flops / 1e9)
        # On one core a video takes no less than its reading; those that share a run come out together
        assert 1000 / row["end_to_end_videos_per_s"] > 0.5 * min(result["reading_ms"])
        if row["runtime"] == "onnxruntime":
            assert row["model_ratio"] == row["end_to_end_ratio"] == 1


def test_a_video_is_made_where_none_is_given(folder):
    done = run(folder, "--runtimes", "onnxruntime", "--rounds", 1, "--seconds", 0, "--videos", 1)
    assert done.returncode == 0, done.stderr
    assert "reading a video: median" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--runtimes", "tensorflow"], "'tensorflow' is not one of paddle, onnxruntime, openvino"),
        (["--threads", "0"], "no list of numbers"),
        (["--runtimes", "openvino", "--baseline", "paddle"], "--baseline paddle"),
        (["-i", "none.mp4"], "none.mp4"),
    ],
)
def test_mistakes_are_one_line(folder, arguments, message):
    done = run(folder, *arguments)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_video_that_cannot_be_read_is_named(folder, tmp_path):
    (tmp_path / "bad.mp4").write_text("no video")
    done = run(folder, "-i", tmp_path / "bad.mp4", "--runtimes", "onnxruntime")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "bad.mp4" in done.stderr


def test_a_process_that_dies_is_a_reason(folder):
    worker = Worker(Plan(folder, (), (), (1,)), Way("onnxruntime", "fp32", 1), target=die)
    assert worker.reason == "its process ended with signal SIGKILL"
    assert worker.measure("runs", 1) == []
    worker.close()


def die(*_: object) -> None:
    os.kill(os.getpid(), 9)


def test_numbers_of_the_table(folder):
    """Runs of 10, 20 and 90 ms: the median is 20, and 95 % of the way up is 83."""
    plan = Plan(folder, (), (), (2,))
    workers = []
    for runtime, scale in (("paddle", 1.0), ("onnxruntime", 0.25)):
        worker = Worker.__new__(Worker)
        worker.way, worker.reason = Way(runtime, "fp32", 1), ""
        worker.times = Times(runs={2: [scale * t for t in (0.01, 0.02, 0.09)]}, end_to_end={2: [0.5 * scale]})
        workers.append(worker)
    rows = add_ratios(summarize(plan, read_manifest(folder), workers, flops=10**9), "paddle")
    assert rows[0]["median_ms"] == pytest.approx(20)
    assert rows[0]["p95_ms"] == pytest.approx(20 + 0.9 * 70)
    assert rows[0]["clips_per_s"] == pytest.approx(100)
    assert rows[0]["model_videos_per_s"] == pytest.approx(100 / 3)
    assert rows[0]["end_to_end_videos_per_s"] == pytest.approx(2)
    assert rows[0]["gflops_per_s"] == pytest.approx(100)
    assert [row["model_ratio"] for row in rows] == pytest.approx([1, 4])
    assert [row["end_to_end_ratio"] for row in rows] == pytest.approx([1, 4])
