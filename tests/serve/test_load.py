"""A short run of benchmarks/serve_load.py, whose long one is for releases."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT


@pytest.mark.slow
def test_eight_clients_good_and_bad(model_folder: Path, videos: list[Path]) -> None:
    command = [sys.executable, "benchmarks/serve_load.py", model_folder, *videos[:5], "--runtime", "onnxruntime"]
    done = subprocess.run(
        [*map(str, command), "--clients", "8", "--seconds", "8"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAULT" not in done.stdout
    assert int(next(line for line in done.stdout.splitlines() if line.startswith("upload ")).split()[1]) > 10
