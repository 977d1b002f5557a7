"""A tiny motion set and a tiny recipe, for tests that run the whole way on real video files."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from file_server import Server

if TYPE_CHECKING:
    from exported_models import Exported

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def motion_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 training, 7 validation and 7 test videos of 64 pixels, in 8 classes."""
    from paddlevid.data.motion import write_motion_set

    folder = tmp_path_factory.mktemp("motion")
    write_motion_set(folder, train=16, valid=7, test=7, size=64, frames=12, workers=1)
    return folder


MODELS = {
    "timesformer": {
        "name": "timesformer",
        "patch_size": 16,
        "embed_dim": 32,
        "depth": 2,
        "num_heads": 2,
        "drop_path_rate": 0.0,
        "time_embed_std": 1.0,
    },
    "tsm": {"name": "tsm", "backbone": "resnet18"},
    "tsn": {"name": "tsn", "backbone": "resnet18"},
}


def tiny_sections(model: str, motion_set: Path, output_dir: Path) -> dict[str, Any]:
    """A recipe of seconds for the motion set."""
    split = {"short_side": 40, "num_workers": 0, "batch_size": 4}
    return {
        "model": MODELS[model],
        "data": {
            "num_classes": 8,
            "num_frames": 4,
            "image_size": 32,
            "mean": [0.45] * 3,
            "std": [0.225] * 3,
            "sampling": {"kind": "segment"},
            "root": str(motion_set),
            "class_names": str(motion_set / "classes.txt"),
        },
        "train": {
            "list": str(motion_set / "train.txt"),
            "transforms": [{"kind": "resize_short_side", "short_side": 40}, {"kind": "random_crop"}],
            "epochs": 2,
            "global_batch": 8,
            "batch_size": 4,
            "num_workers": 0,
            "log_every_steps": 1,
        },
        "valid": {"list": str(motion_set / "valid.txt"), **split},
        "test": {"list": str(motion_set / "test.txt"), "crop": "three", **split},
        # What AdamW keeps of a ResNet makes big files
        "optimizer": {"name": "adamw", "lr": 1e-3} if model == "timesformer" else {"name": "sgd", "lr": 0.01},
        "schedule": {"kind": "cosine"},
        "output_dir": str(output_dir),
        "device": "cpu",
    }


@pytest.fixture
def tiny_recipe(motion_set: Path, tmp_path: Path) -> Callable[[str], Path]:
    """`tiny_recipe("tsm")` writes a recipe of seconds for the motion set, with output under `tmp_path`."""

    def write(model: str = "timesformer") -> Path:
        recipe = tiny_sections(model, motion_set, tmp_path / "output")
        path = tmp_path / f"{model}.yaml"
        path.write_text(yaml.safe_dump(recipe))
        return path

    return write


@pytest.fixture(scope="session")
def every_format(motion_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    """`every_format("tsm")`: paddle, onnx and openvino; fp32, bf16 where the processor has it, fp16; also explain.

    The TSM is an online one, and has a graph for streams.
    """
    for package in ("paddle2onnx", "onnxruntime", "openvino"):
        pytest.importorskip(package)
    from exported_models import export_everything

    @functools.cache
    def export(name: str) -> Exported:
        folder = tmp_path_factory.mktemp(f"every_format_{name}")
        overrides = ["model.online=true"] if name == "tsm" else []
        return export_everything(tiny_sections(name, motion_set, folder / "output"), folder, overrides)

    return export


@pytest.fixture
def run_main(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """`run_main("-c", path, ...)` runs main.py in this process and returns its exit code."""
    import main
    from paddlevid.runtime import run_command

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["main.py", *map(str, arguments)])
        try:
            run_command(main.main)
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    return run


@pytest.fixture
def run_tool(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """`run_tool("predict", ...)` runs tools/predict.py in this process -> exit code, stdout, stderr."""
    from paddlevid.runtime import run_command

    monkeypatch.syspath_prepend(str(ROOT / "tools"))

    def run(name: str, *arguments: object) -> tuple[int, str, str]:
        tool = importlib.import_module(name)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            run_command(tool.main)
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def shared_videos() -> Path:
    """Real clips that lie beside a checkout; tests of them are skipped where they do not."""
    folder = ROOT.parent / "shared" / "videos"
    if not folder.is_dir():
        pytest.skip("needs the real clips of ../shared/videos")
    return folder


@pytest.fixture
def server(cache: Path) -> Iterator[Server]:
    server = Server()
    yield server
    for served in server.files.values():
        served.go_on.set()
    server.close()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of downloads, empty, with tries that follow each other at once."""
    from paddlevid.runtime import logger
    from paddlevid.weights import transfer

    monkeypatch.setenv("PADDLEVID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(transfer, "RETRY_PAUSES_SEC", (0.0, 0.01, 0.01))
    # What another test's run has set up: without, a download says what it does on stderr
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", True)  # or pytest gives it handlers
    return tmp_path / "cache" / "weights"
