"""How fast an exported folder is, for each way to run it: the model alone, and from files to labels.

Each way runs in a process of its own, which may use as many cores as it has threads. The processes take turns, so that
a machine that gets slower for a while is unfair to none of them; who waits uses no processor.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from paddlevid.deploy.manifest import Manifest, read_manifest
from paddlevid.deploy.measure.timing import Plan, Way, serve
from paddlevid.deploy.runtimes import ENGINES, is_installed
from paddlevid.errors import DataError
from paddlevid.runtime import num_cores

READING = Way("", "fp32", 1)


@dataclass
class Times:
    """Seconds: of each run of the model, by batch size; of each video end to end; of reading each video."""

    runs: dict[int, list[float]] = field(default_factory=dict)
    end_to_end: dict[int, list[float]] = field(default_factory=dict)
    reading: list[float] = field(default_factory=list)


# ---- taking turns ---------------------------------------------------------------------------------------------------


class Worker:
    """The process of a way, which runs `target`. `reason` says why it cannot run, if it cannot."""

    def __init__(self, plan: Plan, way: Way, target: Callable[[Connection, Plan, Way], None] | None = None) -> None:
        self.way, self.times = way, Times()
        self.reason = _why_not(plan, way)
        if self.reason:
            return
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=target or serve, args=(theirs, plan, way), daemon=True)
        self._process.start()
        theirs.close()
        self._receive()

    def measure(self, kind: str, batch_size: int) -> list[float]:
        if self.reason:
            return []
        self._connection.send((kind, batch_size))
        return self._receive() or []

    def _receive(self) -> list[float] | None:
        try:
            kind, value = self._connection.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode or 0
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            kind, value = "reason", f"its process ended with {how}"
        if kind == "reason":
            self.reason = value
        return value if kind == "times" else None

    def close(self) -> None:
        if hasattr(self, "_process"):
            if self._process.is_alive() and not self.reason:
                self._connection.send(None)
                self._process.join(10)
            if self._process.is_alive():
                self._process.kill()
            self._connection.close()


def _why_not(plan: Plan, way: Way) -> str:
    """What can be told without loading anything; empty if nothing is against it."""
    available = num_cores()
    if way.num_threads > available:
        return f"there are {available} cores for {way.num_threads} threads"
    if not way.runtime:
        return ""
    engine = ENGINES[way.runtime]
    if not is_installed(way.runtime):
        return f"it is not installed: {engine.install}"
    models = read_manifest(plan.folder).models
    held = {files.precision for files in models if files.graph == "classify" and files.format in engine.formats}
    formats = " or ".join(engine.formats)
    return "" if way.precision in held else f"the folder holds no {way.precision} in the format {formats}"


def measure(plan: Plan, on_turn: Callable[[str], object] | None = None) -> tuple[Times, list[Worker]]:
    """Time the reading of videos and all ways, in turns; a worker has its times or its reason.

    Raises:
        DataError: a video cannot be read.
    """
    workers: list[Worker] = []
    try:
        for way in (READING, *plan.ways):
            if on_turn is not None:
                on_turn(f"loading {way}" if way.runtime else "reading videos")
            workers.append(Worker(plan, way))
        reader, *models = workers
        for number in range(1, plan.rounds + 1):
            reader.times.reading += reader.measure("reading", 0)
            if reader.reason:
                raise DataError(reader.reason)
            for worker, batch_size in ((w, b) for b in plan.batch_sizes for w in models):
                if on_turn is not None:
                    on_turn(f"round {number} of {plan.rounds}: {worker.way}, batch {batch_size}")
                for kind in ("runs", "end_to_end"):
                    times = getattr(worker.times, kind).setdefault(batch_size, [])
                    times += worker.measure(kind, batch_size)
        return reader.times, models
    finally:
        for worker in workers:
            worker.close()


# ---- what was found -------------------------------------------------------------------------------------------------


def summarize(plan: Plan, manifest: Manifest, workers: Sequence[Worker], flops: int | None) -> list[dict[str, Any]]:
    """A row for each way and batch size: latency of a run, clips and videos a second, or why there is none."""
    from paddlevid.build import build_views

    num_views = build_views(manifest.data, manifest.views).num_views
    rows = []
    for worker, batch_size in ((w, b) for w in workers for b in plan.batch_sizes):
        row: dict[str, Any] = {
            "runtime": worker.way.runtime,
            "precision": worker.way.precision,
            "threads": worker.way.num_threads,
            "batch_size": batch_size,
        }
        runs, videos = (times.get(batch_size, []) for times in (worker.times.runs, worker.times.end_to_end))
        if worker.reason or not runs or not videos:
            rows.append(row | {"reason": worker.reason})
            continue
        median = float(np.median(runs))
        row |= {
            "median_ms": 1e3 * median,
            "p95_ms": 1e3 * float(np.percentile(runs, 95)),
            "runs": len(runs),
            "clips_per_s": batch_size / median,
            "model_videos_per_s": batch_size / median / num_views,
            "end_to_end_videos_per_s": 1 / float(np.median(videos)),
        }
        if flops is not None:
            row["gflops_per_s"] = flops * batch_size / median / 1e9
        rows.append(row)
    return rows


def add_ratios(rows: Sequence[dict[str, Any]], baseline: str) -> list[dict[str, Any]]:
    """The rows with their speed relative to that of the baseline, in fp32, with as many threads and clips a run."""
    base = {
        (row["threads"], row["batch_size"]): row
        for row in rows
        if row["runtime"] == baseline and row["precision"] == "fp32" and "reason" not in row
    }
    found = []
    for row in rows:
        other = base.get((row["threads"], row["batch_size"]))
        if other is None or "reason" in row:
            found.append(row)
            continue
        ratios = {
            "model_ratio": row["clips_per_s"] / other["clips_per_s"],
            "end_to_end_ratio": row["end_to_end_videos_per_s"] / other["end_to_end_videos_per_s"],
        }
        found.append(row | ratios)
    return found
