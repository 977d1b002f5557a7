"""What a process of a benchmark does: time one way to run a model, in turns that its parent asks for."""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

import numpy as np

from paddlevid.data.records import Record
from paddlevid.deploy.manifest import Precision, read_manifest
from paddlevid.deploy.runtimes import RuntimeName
from paddlevid.errors import DataError, UserError
from paddlevid.runtime import PADDLE_NOTICES

MIN_RUNS = 3  # a turn


@dataclass(frozen=True)
class Way:
    """A runtime, a precision and a number of threads; or, without a runtime, only the reading of videos."""

    runtime: RuntimeName | Literal[""]
    precision: Precision
    num_threads: int

    def __str__(self) -> str:
        return f"{self.runtime} {self.precision} on {self.num_threads} threads"


@dataclass(frozen=True)
class Plan:
    """What is measured. A turn lasts `seconds` or `num_videos` videos at least, in each of the rounds."""

    folder: Path
    records: tuple[Record, ...]
    ways: tuple[Way, ...]
    batch_sizes: tuple[int, ...]
    rounds: int = 3
    seconds: float = 2.0
    num_videos: int = 16


def serve(connection: Connection, plan: Plan, way: Way) -> None:
    """Measure what is asked for with the model of the plan's folder; tells a reason instead where it cannot."""
    prepare_process(way)
    answer(connection, partial(_measures, plan, way))


def prepare_process(way: Way) -> None:
    """Take as many cores as the way has threads, and leave interrupts to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for notice in PADDLE_NOTICES:
        warnings.filterwarnings("ignore", message=notice)
    if hasattr(os, "sched_setaffinity"):  # before any library counts its cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: way.num_threads])


def answer(connection: Connection, load: Callable[[], Mapping[str, Callable[[int], list[float]]]]) -> None:
    """Load what measures, then ask it until None is received."""
    try:
        measures = load()
    except (UserError, ImportError, RuntimeError, ValueError) as error:
        connection.send(("reason", str(error).strip().splitlines()[0]))
        return
    connection.send(("ready", None))
    while (asked := connection.recv()) is not None:
        kind, batch_size = asked
        try:
            connection.send(("times", measures[kind](batch_size)))
        except UserError as error:
            connection.send(("reason", str(error)))
            return


def _measures(plan: Plan, way: Way) -> dict[str, Callable[[int], list[float]]]:
    from paddlevid.build import build_views

    if not way.runtime:
        manifest = read_manifest(plan.folder)
        views = build_views(manifest.data, manifest.views)
        return {"reading": lambda _: [_seconds(partial(views, record)) for record in plan.records]}
    from paddlevid.deploy.predictor import Predictor

    predictor = Predictor(
        plan.folder,
        way.runtime,
        precision=way.precision,
        num_threads=way.num_threads,
        batch_size=max(plan.batch_sizes),
        num_readers=way.num_threads,
    )
    views_of_one = predictor.read(plan.records[0])  # [V, T, H, W, C]
    clips = np.resize(views_of_one, (max(plan.batch_sizes), *views_of_one.shape[1:]))

    def run_model(batch_size: int) -> list[float]:
        return time_runs(partial(predictor.run, clips[:batch_size]), plan.seconds)

    def label_videos(batch_size: int) -> list[float]:
        """Seconds a video, once as many are read ahead as will ever be, while more are to come."""
        predictor.batch_size = batch_size
        group = max(1, batch_size // predictor.views.num_views)  # videos that share a run, and come out together
        num_ahead = group * (2 + -(-predictor.num_readers // group))
        num_videos = group * max(2, -(-plan.num_videos // group))
        started = 0.0
        for done, (_, outcome) in enumerate(predictor.predict_many(cycle(plan.records)), start=1):
            if isinstance(outcome, DataError):
                raise outcome
            if done == num_ahead:
                started = time.perf_counter()
            if done == num_ahead + num_videos:
                break
        return [(time.perf_counter() - started) / num_videos]

    return {"runs": run_model, "end_to_end": label_videos}


def time_runs(work: Callable[[], object], at_least_seconds: float) -> list[float]:
    """Seconds of each run, after one that does not count."""
    work()
    seconds: list[float] = []
    while len(seconds) < MIN_RUNS or sum(seconds) < at_least_seconds:
        seconds.append(_seconds(work))
    return seconds


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
