"""Which of several runtimes is the fastest for a model on this machine: measured once, then remembered.

The order is not the same everywhere: ONNX Runtime or OpenVINO is ahead, as the network and the processor are.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from paddlevid.errors import ConfigError
from paddlevid.runtime import atomic_write, cache_folder

RUNS = 3  # the first one warms up


def fastest(
    runs: dict[str, Callable[[], object]], *, packages: Sequence[str], model: str, num_threads: int | None
) -> str:
    """The name of the run that takes the least time.

    The answer is kept in `runtimes.json` of the cache folder, where that can be written to, for this `model`, these
    versions of `packages`, and this processor.
    """
    versions = [_version(package) for package in packages]
    facts = [model, _processor(), os.cpu_count(), num_threads, sorted(runs), versions]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    known = _read().get(key)
    if isinstance(known, str) and known in runs:
        return known
    names = list(runs)
    choice = names[int(np.argmin([_best_time(run) for run in runs.values()]))]
    _write({**_read(), key: choice})
    return choice


def _best_time(run: Callable[[], object]) -> float:
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def _path() -> Path:
    return cache_folder() / "runtimes.json"


def _read() -> dict[str, Any]:
    try:
        return dict(json.loads(_path().read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError, ConfigError):
        return {}


def _write(choices: dict[str, Any]) -> None:
    text = json.dumps(choices, indent=1)
    with contextlib.suppress(OSError, ConfigError):  # a read-only machine measures each time
        atomic_write(_path(), lambda temporary: Path(temporary).write_text(text, encoding="utf-8"))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # another build of it, such as onnxruntime-gpu
        return ""


def _processor() -> str:
    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text().splitlines() if cpu_info.is_file() else []
    return next((line for line in lines if line.startswith("model name")), "")
