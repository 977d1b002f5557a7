"""Clips a second by number of workers, through the loader that trains; and where the time of a clip goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from paddlevid.data import loader
from paddlevid.data.dataset import FrameSource, TrainDataset, ViewDataset
from paddlevid.data.records import Record
from paddlevid.data.shards import ShardRecord
from paddlevid.data.speed import bare
from paddlevid.data.speed.timed import MANY, Clock, Read, endless_views, timed_clips, timed_views
from paddlevid.errors import DataError

SKIPPED_BATCHES_A_WORKER = 2  # until all workers are under way


class Effort(NamedTuple):
    """When enough was measured: after some seconds, or after some clips."""

    seconds: float
    clips: int | None = None

    def is_enough(self, seconds: float, clips: int) -> bool:
        return seconds >= self.seconds if self.clips is None else clips >= self.clips


@dataclass(frozen=True)
class Workload:
    """What is loaded: clips to learn from, by their `plan`, or all views of videos, `batch_size` videos a batch."""

    dataset: TrainDataset | ViewDataset
    batch_size: int
    plan: loader.TrainPlan | None = None

    @property
    def unit(self) -> str:
        return "clip" if isinstance(self.dataset, TrainDataset) else "video"

    @property
    def source(self) -> FrameSource:
        return self.dataset.source if isinstance(self.dataset, TrainDataset) else self.dataset.views.source

    def batches(self, num_workers: int, clock: Clock | None = None) -> Generator[Any, None, None]:
        """Batches as a run has them, without end; timed where there is a clock."""
        dataset = self.dataset
        if isinstance(dataset, TrainDataset):
            assert self.plan is not None
            endless = replace(self.plan, epochs=MANY)
            learned = dataset if clock is None else timed_clips(dataset, clock)
            yield from loader.train_batches(learned, endless, start_step=0, rank=0, world=1, num_workers=num_workers)
            return
        views = endless_views(dataset) if clock is None else timed_views(dataset, clock)
        yield from loader.view_batches(
            views, videos_per_batch=self.batch_size, rank=0, world=1, num_workers=num_workers
        )


class Throughput(NamedTuple):
    """Of a number of workers."""

    num_workers: int
    clips_per_second: float
    first_batch_sec: float  # until it was there
    clips: int  # that were timed
    unreadable: frozenset[int] = frozenset()  # videos among them, by their places in the list


class Times(NamedTuple):
    """Where the time of a clip goes in one process; seconds a clip, in the mean."""

    seconds: dict[str, float]  # by stage
    floor_sec: float | None  # of the bare decoder, for the same frames
    cpu_share: float  # of the time in which the process computed, and did not wait
    crowded_share: float  # of the time in which it could have, had other work left it a core; 0 where nobody tells
    clips: int

    @property
    def total_sec(self) -> float:
        return sum(self.seconds.values())


def throughput(work: Workload, num_workers: int, effort: Effort) -> Throughput:
    """Load batches and do nothing with them. What comes before all workers are under way does not count.

    Raises:
        DataError: the first video could not be read, nor could any in its place.
    """
    skipped = max(1, SKIPPED_BATCHES_A_WORKER * num_workers)
    started = began = time.perf_counter()
    first_batch_sec, clips, unreadable = 0.0, 0, set[int]()
    with closing(work.batches(num_workers)) as batches:
        for number, batch in enumerate(batches, start=1):
            now = time.perf_counter()
            if number == 1:
                _check(batch)
                first_batch_sec = now - started
            if number <= skipped:
                began = now
                continue
            clips += batch["frames"].shape[0]
            unreadable.update(_unreadable(batch))
            # Workers end their batches together: as many of each are counted
            if effort.is_enough(now - began, clips) and (number - skipped) % max(1, num_workers) == 0:
                break
    return Throughput(num_workers, clips / (now - began), first_batch_sec, clips, frozenset(unreadable))


def _unreadable(batch: dict[str, Any]) -> list[int]:
    """The places in the list of videos that could not be read, of clips to learn from or of all views."""
    if "failures" in batch:
        return [index for index, _ in batch["failures"]]
    return [int(index) for index, error in zip(batch["indices"], batch["errors"], strict=True) if error]


def stage_times(work: Workload, effort: Effort) -> Times:
    """Load batches in this process, with one thread, and tell the stages apart; the first batch does not count."""
    import cv2

    num_threads = cv2.getNumThreads()
    cv2.setNumThreads(0)
    try:
        return _stage_times(work, effort)
    finally:
        cv2.setNumThreads(num_threads)


def _stage_times(work: Workload, effort: Effort) -> Times:
    clock, floor = Clock(), Floor()
    clips, cpu_sec, crowded_sec = 0, 0.0, 0.0
    with closing(work.batches(0, clock)) as batches:
        _check(next(batches))
        floor(clock.take_reads())
        clock.reset()
        floor.seconds = 0.0
        while not clips or not effort.is_enough(sum(clock.seconds.values()), clips):
            cpu_started, crowded_started = time.process_time(), _waited_for_a_core()
            with clock.stage("hand-over"):
                batch = next(batches)
            cpu_sec += time.process_time() - cpu_started
            crowded_sec += _waited_for_a_core() - crowded_started
            clips += batch["frames"].shape[0]
            floor(clock.take_reads())
    total = sum(clock.seconds.values())
    return Times(
        seconds={stage: seconds / clips for stage, seconds in clock.seconds.items()},
        floor_sec=floor.seconds / clips if floor.is_known else None,
        cpu_share=min(1.0, cpu_sec / total),
        crowded_share=min(1.0, crowded_sec / total),
        clips=clips,
    )


def _waited_for_a_core() -> float:
    """Seconds that this thread was ready to run and did not, as Linux counts them."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def _check(batch: dict[str, Any]) -> None:
    errors = [error for error in batch["errors"] if error]
    if len(errors) == len(batch["frames"]):
        raise DataError(f"no video of the first batch can be read: {errors[0]}")


class Floor:
    """Times the bare decoder. What it has to know of a file, it learns before the time counts."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.is_known = True
        self._shown: dict[str, bare.Shown | None] = {}

    def __call__(self, reads: list[Read]) -> None:
        for read in reads:
            decode = self._decoder(read)
            if decode is None:
                self.is_known = False
                return
            started = time.perf_counter()
            decode()
            self.seconds += time.perf_counter() - started

    def _decoder(self, read: Read) -> Callable[[], object] | None:
        """None for what PyAV cannot read by itself, and for flow, which is computed."""
        import av

        record, source = read.record, read.source
        if source.flow is not None and not source.stored_flow:
            return None
        if record.num_frames is not None:
            numbers = np.unique(read.indices) + source.frame_start_index
            axes = ("x", "y") if "{axis" in source.frame_template else ("",)
            names = [source.frame_template.format(number, axis=axis) for number in numbers for axis in axes]
            return lambda: bare.read_pictures([f"{record.path}/{name}" for name in names], grey=len(axes) > 1)
        try:
            if record.path not in self._shown:
                self._shown[record.path] = bare.times_shown(_file(record))
        except (OSError, IndexError, av.error.FFmpegError):
            return None
        return lambda: bare.decode(_file(record), read.indices, self._shown[record.path])


def _file(record: Record) -> str | BytesIO:
    """What PyAV opens: a path, or the bytes of a part of a shard."""
    if not isinstance(record, ShardRecord):
        return record.path
    with open(record.shard, "rb") as shard:
        shard.seek(record.offset)
        return BytesIO(shard.read(record.size))
