"""Processes of a launch on this machine's CPU, over gloo; several launches stand for several hosts."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from conftest import ROOT

PROGRAMS = ROOT / "tests" / "rank_programs.py"
# What Paddle and its launcher print of themselves
NOISE = ("LAUNCH INFO", "HTTP Request", "ccache", "warnings.warn", "FLAGS", "=====")


@dataclass
class Host:
    """One launcher, and where its console and the logs of its processes go."""

    launcher: subprocess.Popen
    console: Path
    logs: Path

    def lines(self) -> list[str]:
        """The console, without what says nothing."""
        text = self.console.read_text(errors="replace")
        return [line for line in text.splitlines() if line.strip() and not any(noise in line for noise in NOISE)]

    def log(self, local_rank: int) -> str:
        path = self.logs / f"workerlog.{local_rank}"
        return path.read_text(errors="replace") if path.exists() else ""

    def pid(self, rank: int) -> int:
        """The process id of the process with this rank."""
        for environment in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                values = environment.read_bytes().split(b"\0")
                parent = int((environment.parent / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == self.launcher.pid and f"PADDLE_TRAINER_ID={rank}".encode() in values:
                    return int(environment.parent.name)
        raise LookupError(f"no process of rank {rank}")

    def wait(self, timeout_sec: float = 240) -> int:
        return self.launcher.wait(timeout_sec)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_host(folder: Path, script: Path, *arguments: object, world: int = 2, options: tuple[str, ...] = ()) -> Host:
    """Start a launcher of `world` processes."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", str(world), "--log_dir"]
    command += [str(folder / "log"), *options, str(script), *map(str, arguments)]
    # Two processes with a thread for each core only get in each other's way
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GLOG_minloglevel": "2", "OMP_NUM_THREADS": "1"}
    console = folder / "console.txt"
    with console.open("w") as file:
        launcher = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT)
    return Host(launcher, console, folder / "log")


def start_hosts(folder: Path, script: Path, arguments: list[tuple[object, ...]], *, world: int = 1) -> list[Host]:
    """Start a launcher a host, of `world` processes each; `arguments` has those of each host."""
    master = f"127.0.0.1:{free_port()}"
    return [
        start_host(
            folder / f"host{number}",
            script,
            *own,
            world=world,
            options=("--nnodes", str(len(arguments)), "--master", master, "--rank", str(number)),
        )
        for number, own in enumerate(arguments)
    ]


def wait_until(condition, timeout_sec: float = 120) -> None:
    deadline = time.monotonic() + timeout_sec
    while not condition():
        assert time.monotonic() < deadline, "it has not come to be"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
