"""Runs of main.py that are killed, and what is left of them."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from conftest import ROOT

from paddlevid.weights import read_state


def options(*pairs: str) -> list[str]:
    """`key=value` pairs as main.py takes them."""
    return [part for pair in pairs for part in ("-o", pair)]


def command(arguments: Sequence[object], world: int = 1, log_dir: Path | None = None) -> list[str]:
    """main.py with these arguments, alone or as `world` processes of a launch."""
    launch: list[str] = []
    if world > 1:
        launch = ["-m", "paddle.distributed.launch", "--nproc_per_node", str(world), "--log_dir", str(log_dir)]
    return [sys.executable, *launch, "main.py", *map(str, arguments)]


def start(arguments: Sequence[object], world: int = 1, log_dir: Path | None = None) -> subprocess.Popen[str]:
    """Start a run in a process group of its own, so that all of it can be killed."""
    return subprocess.Popen(
        command(arguments, world, log_dir),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def kill(process: subprocess.Popen[str]) -> None:
    """kill -9 to all processes of a run at once."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def kill_and_resume(
    arguments: Sequence[object],
    *,
    times: int,
    until: Callable[[subprocess.Popen[str], random.Random], bool],
    world: int = 1,
    log_dir: Path | None = None,
    seed: int = 0,
) -> int:
    """Start the run again and again with `--resume auto`, and kill it `times` times, when `until` returns.

    Then let it end, and return how often it was killed; `until` returns False where the run was over before.
    """
    rng = random.Random(seed)
    killed = 0
    while killed < times:
        process = start([*arguments, "--resume", "auto"], world, log_dir)
        if not until(process, rng):
            break
        kill(process)
        killed += 1
    process = start([*arguments, "--resume", "auto"], world, log_dir)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output[-3000:]
    return killed


def random_moment(first_sec: float, last_sec: float) -> Callable[[subprocess.Popen[str], random.Random], bool]:
    """Wait some time between the two after the start."""

    def wait(process: subprocess.Popen[str], rng: random.Random) -> bool:
        end = time.monotonic() + rng.uniform(first_sec, last_sec)
        while time.monotonic() < end:
            if process.poll() is not None:
                return False
            time.sleep(0.01)
        return True

    return wait


def while_writing(checkpoints: Path) -> Callable[[subprocess.Popen[str], random.Random], bool]:
    """Wait until a checkpoint is being written, and then some milliseconds more."""

    def wait(process: subprocess.Popen[str], rng: random.Random) -> bool:
        before = set(checkpoints.glob(".step_*"))  # what an earlier one left
        while not set(checkpoints.glob(".step_*")) - before:
            if process.poll() is not None:
                return False
        time.sleep(rng.uniform(0, 0.03))
        return True

    return wait


def bits(path: Path) -> dict[str, bytes]:
    """Every tensor of a file of weights, byte for byte."""
    return {name: tensor.read().tobytes() for name, tensor in read_state(path).items()}
