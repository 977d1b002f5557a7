"""Clips in tar shards, as WebDataset writes them: few large files in place of many small ones, for network disks.

A shard holds samples, files that share a key: `KEY.mp4`, and its label in `KEY.cls` (a number), `KEY.json`
(`{"label": 3}`, `{"labels": [0, 4]}`) or `KEY.txt` (the name of a class). Samples stay in random access: any of them is
one read of its bytes, and what it is depends on its index alone.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, overload

import numpy as np

from paddlevid.data.records import Record, Records
from paddlevid.data.shard_index import NO_STAMP, ShardIndex, Stamp
from paddlevid.data.video import FrameReader, open_video
from paddlevid.errors import DataError


@dataclass(frozen=True, slots=True)
class ShardRecord(Record):
    """A clip that is a part of the file `shard`, which `stamp` tells from later states of it."""

    shard: str = ""
    offset: int = 0
    size: int = 0
    stamp: Stamp = NO_STAMP


class ShardRecords(Records):
    """Records of clips in shards, with 20 bytes more each."""

    def __init__(self, root: str = "") -> None:
        super().__init__(root)
        self.shards: list[tuple[str, Stamp]] = []  # paths, and their states when they were indexed
        self._shard_numbers: Any = array("i")
        self._offsets: Any = array("q")
        self._sizes: Any = array("q")

    def add_shard(self, path: str, index: ShardIndex) -> None:
        """The places of clips that are to be appended."""
        self._shard_numbers.extend([len(self.shards)] * len(index.names))
        self._offsets.frombytes(index.offsets.astype(np.int64).tobytes())
        self._sizes.frombytes(index.sizes.astype(np.int64).tobytes())
        self.shards.append((path, index.stamp))

    @overload
    def __getitem__(self, index: int) -> Record: ...

    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...

    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        record = super().__getitem__(index)
        if isinstance(record, list):
            return record  # made of single ones
        assert not isinstance(index, slice)
        shard, stamp = self.shards[self._shard_numbers[index]]
        return ShardRecord(
            path=record.path,
            label=record.label,
            num_frames=None,
            name=record.name,
            labels=record.labels,
            shard=shard,
            offset=self._offsets[index],
            size=self._sizes[index],
            stamp=stamp,
        )

    def shard_numbers(self) -> np.ndarray:
        return np.array(self._shard_numbers, np.int64)


def shard_numbers(records: Sequence[Record]) -> np.ndarray | None:
    """The number of the shard of each record, int64 `[N]`; None of records that are not in shards."""
    return records.shard_numbers() if isinstance(records, ShardRecords) else None


def shuffle_by_shard(shards: np.ndarray, rng: np.random.Generator, shards_at_once: int) -> np.ndarray:
    """An order of samples, int64 `[N]`, in which those of at most `shards_at_once` shards are mixed at any time.

    Args:
        shards: the number of the shard of each sample, `[N]`.

    Shards come in random order and their samples in random order; once all of a shard have come, another is begun.
    With as many at once as there are shards, it is `rng.permutation(N)`: the order of samples that lie in no shards.
    """
    if shards_at_once < 1:
        raise ValueError(f"shards_at_once {shards_at_once} must be at least 1")
    shuffled = rng.permutation(len(shards))
    _, counts = np.unique(shards, return_counts=True)
    if shards_at_once >= len(counts):
        return shuffled
    by_shard = shuffled[np.argsort(shards[shuffled], kind="stable")]
    samples = np.split(by_shard, np.cumsum(counts)[:-1])
    # Each lane has one shard open after the other, and gets its turns among the lanes by lot
    lanes: list[list[np.ndarray]] = [[] for _ in range(shards_at_once)]
    lengths = [0] * len(lanes)
    for shard in rng.permutation(len(samples)):
        lane = int(np.argmin(lengths))
        lanes[lane].append(samples[shard])
        lengths[lane] += len(samples[shard])
    turns = rng.permutation(np.repeat(np.arange(len(lanes)), lengths))
    order = np.empty(len(shards), np.int64)
    for lane, pieces in enumerate(lanes):
        order[turns == lane] = np.concatenate(pieces)
    return order


class ShardClip:
    """A FrameReader of a clip in a shard: its bytes are read at once, and decoded from memory.

    Raises DataError as `open_video` does, with the name `SHARD/KEY.mp4`, and if the shard was changed since.
    """

    def __init__(self, record: ShardRecord, decoder: str = "auto") -> None:
        self._name = record.path
        self._stack = contextlib.ExitStack()
        try:
            self._file = self._stack.enter_context(clip_file(record))
            with self._named_errors():
                self._reader: FrameReader = self._stack.enter_context(open_video(self._file, decoder))
        except BaseException:
            self._stack.close()
            raise
        self.num_frames = self._reader.num_frames
        self.fps = self._reader.fps

    def read(self, indices: np.ndarray) -> np.ndarray:
        with self._named_errors():
            return self._reader.read(indices)

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except DataError as error:
            raise type(error)(str(error).replace(self._file, self._name)) from None

    def __enter__(self) -> ShardClip:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


@contextlib.contextmanager
def clip_file(record: ShardRecord) -> Iterator[str]:
    """The path of a file with the bytes of a clip: in memory on Linux, elsewhere a temporary one.

    Raises:
        DataError: the shard cannot be read, or is not as it was when it was indexed.
    """
    with contextlib.ExitStack() as stack:
        try:
            shard = stack.enter_context(open(record.shard, "rb", buffering=0))
            status = os.fstat(shard.fileno())
            if Stamp(status.st_size, status.st_mtime_ns) != record.stamp:
                raise DataError(f"{record.path}: {record.shard} was changed since it was indexed; start again")
            if hasattr(os, "memfd_create"):
                descriptor = os.memfd_create("clip")
                path = f"/proc/self/fd/{descriptor}"
            else:
                descriptor, path = tempfile.mkstemp(Path(record.path).suffix)
                stack.callback(os.unlink, path)
            stack.callback(os.close, descriptor)
            _copy(shard, record.offset, record.size, descriptor)
        except OSError as error:
            raise DataError(f"{record.path}: cannot read this video: {error.strerror or error}") from None
        yield path


def _copy(shard: FileIO, offset: int, size: int, descriptor: int) -> None:
    """Read a part of a file right into another, which lies in memory."""
    if not size:
        return
    os.ftruncate(descriptor, size)
    shard.seek(offset)
    with mmap.mmap(descriptor, size) as memory, memoryview(memory) as view:
        done = 0
        while done < size:
            count = shard.readinto(view[done:])
            if not count:
                raise OSError(0, "the shard ends before it")
            done += count
