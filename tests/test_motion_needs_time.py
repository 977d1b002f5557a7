"""The motion set is one of motion: a model of single frames fails on it, the same network with shifts does not."""

from __future__ import annotations

import numpy as np
import pytest

from paddlevid.config import load_config
from paddlevid.data.motion import write_motion_set
from paddlevid.deploy.export import ExportOptions, export_model
from paddlevid.deploy.runtimes.open_vino import has_bf16
from paddlevid.metrics import top_k_accuracy

# Four frames of 32 pixels, so that a ResNet-18 takes minutes on two cores
SMALLER = [
    "data.num_frames=4",
    "data.image_size=32",
    "train.transforms=[{kind: resize_short_side, short_side: 36}, {kind: random_crop}]",
    "train.epochs=3",
    "test.short_side=36",
    "optimizer.lr=1e-3",
]


@pytest.fixture(scope="module")
def quickstart_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quickstart")
    write_motion_set(folder, train=4800, valid=8, test=400, size=80, workers=2)
    return folder


def options_of(model, overrides, folder, tmp_path):
    files = [f"{split}.list={folder / split}.txt" for split in ("train", "valid", "test")]
    options = [*overrides, *files, f"data.root={folder}", f"data.class_names={folder / 'classes.txt'}", "device=cpu"]
    return [*options, f"output_dir={tmp_path}", *([f"model={model}"] if model else [])]


def top1(model, overrides, folder, run_main, tmp_path):
    """Test accuracy after training from scratch with the quickstart recipe and its overrides."""
    options = options_of(model, overrides, folder, tmp_path)
    arguments = ["-c", "configs/quickstart.yaml", *(word for option in options for word in ("-o", option))]
    assert run_main(*arguments) == 0
    assert run_main("--test", *arguments, "-w", tmp_path / "last.pdparams") == 0
    saved = np.load(tmp_path / "test_scores.npz")
    return top_k_accuracy(saved["scores"], saved["labels"], 1)


@pytest.mark.slow
def test_timesformer_of_the_quickstart(quickstart_set, run_main, tmp_path):
    assert top1(None, [], quickstart_set, run_main, tmp_path) >= 0.95
    check_precisions(load_config("configs/quickstart.yaml", options_of(None, [], quickstart_set, tmp_path)), tmp_path)


def check_precisions(cfg, tmp_path):
    """What a trained model loses in bf16 and int8 on 400 videos."""
    for package in ("paddle2onnx", "openvino", "nncf"):
        pytest.importorskip(package)
    precisions = ("fp32", "int8", *(["bf16"] if has_bf16() else []))
    options = ExportOptions(formats=("onnx", "openvino"), precisions=precisions, check_videos=400)
    report = export_model(cfg, tmp_path / "last.pdparams", tmp_path / "Net", options)
    measured = {(m.format, m.precision): m for m in report.models if m.precision != "fp32"}
    assert set(measured) >= {("onnx", "int8"), ("openvino", "int8")}
    for (_, precision), files in measured.items():
        assert files.videos == 400
        assert files.same_top1 >= 0.99 or precision == "int8"
        assert files.accuracy >= files.accuracy_fp32 - 0.01


@pytest.mark.slow
def test_tsm_passes_where_tsn_fails(quickstart_set, run_main, tmp_path):
    tsm = "{name: tsm, backbone: resnet18, dropout: 0.0}"
    assert top1(tsm, SMALLER, quickstart_set, run_main, tmp_path / "tsm") > 0.90
    tsn = "{name: tsn, backbone: resnet18, dropout: 0.0}"
    assert top1(tsn, SMALLER, quickstart_set, run_main, tmp_path / "tsn") < 0.45
