"""Several processes over gloo on this machine's CPU."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from launches import start_host, start_hosts, wait_until

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
        return train_losses(output)

    return run


def train_losses(output):
    return [row["loss"] for row in read_metrics(output / "metrics.jsonl") if row["split"] == "train"]


# 16 videos in steps of 6: the last step of an epoch has 4, and 3 a process in micro-batches of 2 is uneven. Momentum,
# unlike AdamW, minds the scale of gradients.
UNEVEN = ("-o", "train.global_batch=6", "-o", "train.batch_size=2", "-o", "train.epochs=3", "--validate")
UNEVEN += ("-o", "optimizer={name: momentum, lr: 0.05}")


def run_hosts(folder, recipe, outputs, *options):
    hosts = start_hosts(
        folder, ROOT / "main.py", [("-c", recipe, "-o", f"output_dir={output}", *options) for output in outputs]
    )
    for host in hosts:
        assert host.wait() == 0, host.lines()


@pytest.mark.slow
def test_two_hosts_train_like_one_process(tiny_recipe, run_main, tmp_path):
    assert run_main("-c", tiny_recipe(), *UNEVEN) == 0
    one = train_losses(tmp_path / "output")
    assert len(one) == 9
    # Only the first process writes, and the hosts need share no folder
    outputs = [tmp_path / "first", tmp_path / "second"]
    run_hosts(tmp_path / "hosts", tiny_recipe(), outputs, *UNEVEN)
    assert train_losses(outputs[0]) == pytest.approx(one, abs=1e-4)
    assert (outputs[0] / "best.pdparams").exists()
    assert not outputs[1].exists()


def test_a_video_that_one_process_cannot_read_ends_all_with_its_name(tiny_recipe, tmp_path, motion_set):
    bad, listed = tmp_path / "bad.mp4", tmp_path / "train.txt"
    bad.write_text("no video")
    listed.write_text((motion_set / "train.txt").read_text() + f"{bad} 1\n")
    done = launch(2, tmp_path / "log", "-c", tiny_recipe(), "-o", f"train.list={listed}", "-o", "train.max_bad_share=0")
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
    for world in (1, 3):  # 7 videos: 3, 2, 2
        output = tmp_path / f"test{world}"
        options = ("--test", "-c", recipe, "-o", f"output_dir={output}", "-w", tmp_path / "output" / "last.pdparams")
        done = launch(world, tmp_path / f"log{world}", *options)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        results.append(np.load(output / "test_scores.npz"))
    for other in results[1:]:
        assert other["names"].tolist() == results[0]["names"].tolist()
        np.testing.assert_array_equal(other["scores"], results[0]["scores"])


@pytest.mark.slow
def test_a_run_goes_on_where_only_the_first_host_has_its_checkpoints(losses, tiny_recipe, tmp_path):
    outputs = [tmp_path / "first", tmp_path / "second"]
    run_hosts(tmp_path / "start", tiny_recipe(), outputs, *UNEVEN, "--max_iters", "4")
    run_hosts(tmp_path / "rest", tiny_recipe(), outputs, *UNEVEN, "--resume")
    # And one host of two processes trains like two hosts of one
    assert train_losses(outputs[0]) == losses(2, *UNEVEN)
    assert not outputs[1].exists()


def checkpoint_tensors(output, step):
    """All tensors of a checkpoint, by file and name."""
    from paddlevid.optimizer_state import READERS

    folder = output / "checkpoints" / f"step_{step:07d}"
    model = READERS["pdparams"](folder / "model.pdparams")
    optimizer = READERS["pdparams"](folder / "optimizer.pdopt")["optimizer"]
    named = {**{f"model {name}": value for name, value in model.items()}, **optimizer}
    return {name: np.asarray(value) for name, value in named.items() if isinstance(value, np.ndarray)}


def assert_same_tensors(one, other):
    assert one.keys() == other.keys()
    assert len(one) > 100
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


@pytest.mark.slow
def test_shards_change_neither_weights_nor_checkpoints(tiny_recipe, tmp_path):
    def run(name, *options):
        output = tmp_path / name
        options = ("-o", "train.epochs=3", "-o", "train.keep_checkpoints=3", *options)
        done = launch(2, tmp_path / f"log_{name}", "-c", tiny_recipe(), "-o", f"output_dir={output}", *options)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return output

    plain, sharded = run("plain"), run("sharded", "-o", "train.shard_optimizer=true")
    for step in (2, 4, 6):
        assert_same_tensors(checkpoint_tensors(sharded, step), checkpoint_tensors(plain, step))
    # Each goes on from what the other has left
    for output, shards in ((plain, "true"), (sharded, "false")):
        before = checkpoint_tensors(output, 6)
        resumed = run(
            output.name, "-o", f"train.shard_optimizer={shards}", "--resume", output / "checkpoints/step_0000004"
        )
        assert_same_tensors(checkpoint_tensors(resumed, 6), before)


@pytest.mark.slow
def test_a_host_whose_list_is_missing_ends_the_other(tiny_recipe, tmp_path):
    options = [("-c", tiny_recipe(), "-o", f"output_dir={tmp_path / 'output'}") for _ in range(2)]
    options[1] += ("-o", "train.list=missing.txt")
    hosts = start_hosts(tmp_path / "hosts", ROOT / "main.py", options)
    assert hosts[1].wait(60) == 2
    assert hosts[0].wait(30) == 2
    for host in hosts:
        errors = [line for line in host.lines() if line.startswith("error:")]
        assert errors
        assert "missing.txt" in errors[0]


@pytest.mark.slow
def test_a_killed_process_is_named_and_the_run_goes_on(losses, tiny_recipe, tmp_path):
    output = tmp_path / "killed"
    options = ("-o", "train.epochs=8", "-o", "train.num_workers=1")
    arguments = ("-c", tiny_recipe(), "-o", f"output_dir={output}", *options)
    host = start_host(tmp_path / "first", ROOT / "main.py", *arguments)
    wait_until(lambda: "step 5/16" in host.log(0))
    os.kill(host.pid(1), signal.SIGKILL)
    assert host.wait(60) != 0
    errors = [line for line in host.lines() if line.startswith(("error:", "Traceback"))]
    assert "process 1 of 2" in errors[0]
    assert "ended without a word: killed" in errors[0]

    resumed = start_host(tmp_path / "second", ROOT / "main.py", *arguments, "--resume")
    assert resumed.wait() == 0, resumed.lines()
    assert train_losses(output) == losses(2, *options)
