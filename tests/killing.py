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
    """kill -9 to all processes of a run at once; a launcher's are in groups of their own."""
    for pid in [process.pid, *descendants(process.pid)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate()


def descendants(pid: int) -> list[int]:
    """All processes that a process has started, and those that they have."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = [pid]
    for parent in found:  # grows on the way
        found += children.get(parent, [])
    return found[1:]


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for the end of a run, which must be a good one, and return what it printed."""
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output[-3000:]
    return output


def kill_again_and_again(
    arguments: Sequence[object],
    *,
    times: int,
    wait: Callable[[subprocess.Popen[str], random.Random], None],
    world: int = 1,
    log_dir: Path | None = None,
    seed: int = 0,
) -> None:
    """Start an endless run again and again with `--resume auto`, and kill all of it when `wait` returns."""
    rng = random.Random(seed)
    for _ in range(times):
        process = start([*arguments, "--resume", "auto"], world, log_dir)
        wait(process, rng)
        assert process.poll() is None, process.communicate()[0][-3000:]
        kill(process)


def random_moment(first_sec: float, last_sec: float) -> Callable[[subprocess.Popen[str], random.Random], None]:
    """Wait some time between the two after the start."""
    return lambda process, rng: time.sleep(rng.uniform(first_sec, last_sec))


def while_writing(checkpoints: Path) -> Callable[[subprocess.Popen[str], random.Random], None]:
    """Wait until the second, third or fourth checkpoint is being written, and then some milliseconds more."""

    def wait(process: subprocess.Popen[str], rng: random.Random) -> None:
        left_behind = set(checkpoints.glob(".step_*"))
        number, seen = rng.randint(2, 4), set[Path]()
        while len(seen) < number and process.poll() is None:
            seen |= set(checkpoints.glob(".step_*")) - left_behind
        time.sleep(rng.uniform(0, 0.03))

    return wait


def bits(path: Path) -> dict[str, bytes]:
    """Every tensor of a file of weights, byte for byte."""
    return {name: tensor.read().tobytes() for name, tensor in read_state(path).items()}
