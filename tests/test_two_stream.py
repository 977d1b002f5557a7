"""`make two-stream`, whole: what each stream is worth on videos that only motion tells apart, and all fused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from paddlevid.data.moving_shapes import MOTIONS

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_two_stream(tmp_path: Path) -> None:
    for name in ("paddlevid", "tools", "configs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "main.py"):
        shutil.copy(ROOT / name, tmp_path)
    command = ["make", "two-stream", "INSTALLED=", f"RUN={sys.executable}"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=3600)

    scores = {name: np.load(tmp_path / f"output/motion_{name}/test_scores.npz") for name in ("rgb", "rgb_diff", "flow")}
    scores["fused"] = np.load(tmp_path / "output/motion_fused/fused_scores.npz")
    top1 = {name: float((stream["scores"].argmax(1) == stream["labels"]).mean()) for name, stream in scores.items()}
    assert top1["flow"] >= 0.90
    assert top1["rgb_diff"] >= 0.80
    assert top1["fused"] >= max(top1[name] for name in ("rgb", "rgb_diff", "flow"))

    # Single frames may show along which axis something moves, by chance or not; never which of two opposite ways
    opposite = opposites()
    labels, predicted = scores["rgb"]["labels"], scores["rgb"]["scores"].argmax(1)
    right, reverse = (predicted == labels).sum(), (predicted == opposite[labels]).sum()
    spread = 3 * np.sqrt((right + reverse) / 4)  # three standard deviations of a fair coin
    assert abs(right - (right + reverse) / 2) < spread
    assert top1["rgb"] < 0.5


def opposites() -> np.ndarray:
    """The label of the opposite of each motion."""
    names, motions = list(MOTIONS), MOTIONS
    return np.array(
        [
            next(i for i, other in enumerate(names) if motions[other] == (axis, not backwards))
            for axis, backwards in motions.values()
        ]
    )
