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
    return done


@pytest.fixture
def losses(tiny_recipe, tmp_path):
    def run(world, *options):
        output = tmp_path / f"world{world}"
        done = launch(world, tmp_path / f"log{world}", "-c", tiny_recipe(), "-o", f"output_dir={output}", *options)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return [row["loss"] for row in read_metrics(output / "metrics.jsonl") if row["split"] == "train"]

    return run


def test_two_processes_train_like_one(losses):
    # 16 videos in steps of 6: the last step of an epoch has 4, and 3 a process in micro-batches of 2 is uneven
    options = ("-o", "train.global_batch=6", "-o", "train.batch_size=2", "-o", "train.epochs=3", "--validate")
    options += ("-o", "optimizer={name: momentum, lr: 0.05}")  # unlike AdamW, it minds the scale of gradients
    one, two = losses(1, *options), losses(2, *options)
    assert len(one) == 9
    assert two == pytest.approx(one, abs=1e-4)


def test_a_video_that_one_process_cannot_read_ends_all_with_its_name(tiny_recipe, tmp_path, motion_set):
    bad, listed = tmp_path / "bad.mp4", tmp_path / "train.txt"
    bad.write_text("no video")
    listed.write_text((motion_set / "train.txt").read_text() + f"{bad} 1\n")
    done = launch(2, tmp_path / "log", "-c", tiny_recipe(), "-o", f"train.list={listed}")
    assert done.returncode != 0
    for rank in (0, 1):
        log = (tmp_path / "log" / f"workerlog.{rank}").read_text()
        assert "error: " in log
        assert "bad.mp4" in log
        assert "Traceback" not in log


def test_scores_do_not_depend_on_the_number_of_processes(tiny_recipe, run_main, tmp_path):
    recipe = tiny_recipe("tsm")
    assert run_main("-c", recipe, "-o", "train.epochs=1") == 0
    results = []
    for world in (1, 2, 3):
        output = tmp_path / f"test{world}"
        options = ("-o", f"output_dir={output}", "-w", tmp_path / "output" / "last.pdparams")
        done = launch(world, tmp_path / f"log{world}", "--test", "-c", recipe, *options)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        results.append(np.load(output / "test_scores.npz"))
    for other in results[1:]:
        assert other["names"].tolist() == results[0]["names"].tolist()
        np.testing.assert_array_equal(other["scores"], results[0]["scores"])
