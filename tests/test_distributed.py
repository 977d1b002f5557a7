"""Several processes over gloo on this machine's CPU."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from paddlevid.journal import read_metrics


def launch(world, log_dir, *arguments):
    command = [sys.executable, "main.py", *map(str, arguments)]
    if world > 1:
        command[1:1] = ["-m", "paddle.distributed.launch", "--nproc_per_node", str(world), "--log_dir", str(log_dir)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


@pytest.fixture
def losses(tiny_recipe, tmp_path):
    def run(world, *options):
        output = tmp_path / f"world{world}"
        launch(world, tmp_path / f"log{world}", "-c", tiny_recipe(), "-o", f"output_dir={output}", *options)
        return [row["loss"] for row in read_metrics(output / "metrics.jsonl") if row["split"] == "train"]

    return run


def test_two_processes_train_like_one(losses):
    # 16 videos in steps of 6: the last step of an epoch has 4, and 3 a process in micro-batches of 2 is uneven
    options = ("-o", "train.global_batch=6", "-o", "train.batch_size=2", "-o", "train.epochs=3", "--validate")
    one, two = losses(1, *options), losses(2, *options)
    assert len(one) == 9
    assert two == pytest.approx(one, abs=1e-4)


def test_scores_do_not_depend_on_the_number_of_processes(tiny_recipe, run_main, tmp_path):
    recipe = tiny_recipe("tsm")
    assert run_main("-c", recipe, "-o", "train.epochs=1") == 0
    results = []
    for world in (1, 2, 3):
        output = tmp_path / f"test{world}"
        options = ("-o", f"output_dir={output}", "-w", tmp_path / "output" / "last.pdparams")
        launch(world, tmp_path / f"log{world}", "--test", "-c", recipe, *options)
        results.append(np.load(output / "test_scores.npz"))
    for other in results[1:]:
        assert other["names"].tolist() == results[0]["names"].tolist()
        np.testing.assert_array_equal(other["scores"], results[0]["scores"])
