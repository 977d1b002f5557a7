"""Datasets that tell how long they take to open, decode and transform; and one that does not end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

import numpy as np

from paddlevid.data.dataset import FrameSource, Sample, TrainDataset, TrainSample, ViewDataset
from paddlevid.data.records import Record
from paddlevid.data.video import FrameReader

STAGES = ("open", "decode", "transform", "hand-over")
MANY = 100_000  # videos to look at, more than anyone waits for


class Read(NamedTuple):
    """Frames that were read: the floor reads them again."""

    source: FrameSource
    record: Record
    indices: np.ndarray


class Clock:
    """Adds up seconds by stage; while a stage is within another one, only the inner one's time goes on."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._running: list[str] = []
        self._since = 0.0
        self._reads: list[Read] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self._charge()
        self._running.append(name)
        try:
            yield
        finally:
            self._charge()
            self._running.pop()

    def _charge(self) -> None:
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now

    def add_read(self, read: Read) -> None:
        self._reads.append(read)

    def take_reads(self) -> list[Read]:
        reads, self._reads = self._reads, []
        return reads


@dataclass(frozen=True)
class _EndlessViews(ViewDataset):
    """The videos again and again, for lists that are soon at their end."""

    def __len__(self) -> int:
        return max(MANY, len(self.records))

    def __getitem__(self, index: int) -> Sample:
        return super().__getitem__(index % len(self.records))


@dataclass(frozen=True)
class _TimedSource(FrameSource):
    clock: Clock = field(default_factory=Clock)

    def open(self, record: Record) -> FrameReader:
        with self.clock.stage("open"):
            return _TimedReader(super().open(record), self, record)


class _TimedReader:
    """A reader whose readings are timed, and written down."""

    def __init__(self, reader: FrameReader, source: _TimedSource, record: Record) -> None:
        self._reader, self._source, self._record = reader, source, record
        self.num_frames, self.fps = reader.num_frames, reader.fps

    def read(self, indices: np.ndarray) -> np.ndarray:
        with self._source.clock.stage("decode"):
            frames = self._reader.read(indices)
        self._source.clock.add_read(Read(self._source, self._record, indices))
        return frames

    def __enter__(self) -> _TimedReader:
        self._reader.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        with self._source.clock.stage("open"):
            self._reader.__exit__(*error)


@dataclass(frozen=True)
class _TimedClips(TrainDataset):
    clock: Clock = field(default_factory=Clock)

    def __getitem__(self, key: tuple[int, int]) -> TrainSample:
        with self.clock.stage("transform"):
            return super().__getitem__(key)


@dataclass(frozen=True)
class _TimedViews(_EndlessViews):
    clock: Clock = field(default_factory=Clock)

    def __getitem__(self, index: int) -> Sample:
        with self.clock.stage("transform"):
            return super().__getitem__(index)


def endless_views(dataset: ViewDataset) -> ViewDataset:
    return _EndlessViews(**_values(dataset))


def timed_clips(dataset: TrainDataset, clock: Clock) -> TrainDataset:
    source = _TimedSource(**_values(dataset.source), clock=clock)
    return _TimedClips(**{**_values(dataset), "source": source}, clock=clock)


def timed_views(dataset: ViewDataset, clock: Clock) -> ViewDataset:
    source = _TimedSource(**_values(dataset.views.source), clock=clock)
    return _TimedViews(**{**_values(dataset), "views": replace(dataset.views, source=source)}, clock=clock)


def _values(section: Any) -> dict[str, Any]:
    return {item.name: getattr(section, item.name) for item in fields(section)}
