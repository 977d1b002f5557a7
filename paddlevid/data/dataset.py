"""Records -> samples. A sample depends on (seed, epoch, index) alone, never on who draws it or when.

A clip that cannot be read does not end the process that reads it: its sample carries the reason, and whoever asked
decides. In training another video takes its place. Frames leave here as raw uint8; the model normalises them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from paddlevid.data.flow.cache import FlowCache
from paddlevid.data.flow.method import FlowMethod
from paddlevid.data.flow.reader import FlowReader
from paddlevid.data.flow.shown import ColouredFlow
from paddlevid.data.mixing import Mixing
from paddlevid.data.records import Record, labels_of
from paddlevid.data.sampling import Sampling
from paddlevid.data.shards import ShardClip, ShardRecord
from paddlevid.data.transforms import VIEW_CROPS, ResizeShortSide
from paddlevid.data.video import FrameFolder, FrameReader, open_video
from paddlevid.errors import DataError

UNLABELLED = -1
MAX_REPLACEMENTS = 20  # tried for an unreadable video: were every second one broken, one in two million would run out

Transform = Callable[[np.ndarray, np.random.Generator], np.ndarray]
BeforeReading = Callable[[int], None]  # with the index of a record; a DataError that it raises is the record's


def _nothing(index: int) -> None:
    pass


class Sample(TypedDict):
    """The views of one video; `error` is empty unless `frames` are blank because the video could not be read."""

    frames: np.ndarray  # uint8 [V, T, H, W, C]
    label: int
    index: int
    error: str


class TrainSample(TypedDict):
    """A clip to learn from; `error` is empty unless `frames` are blank because no video could be read."""

    frames: np.ndarray  # uint8 [1, T, H, W, C]
    target: np.ndarray  # float32 [K], the probability of each class: one-hot, multi-hot, or mixed
    index: int  # of the record that is seen
    failures: list[tuple[int, str]]  # index and reason of each record that could not be read in its place
    error: str


@dataclass(frozen=True)
class FrameSource:
    """How the frames of a record are read: from a video, a tar shard or, where it has a number of frames, a folder.

    With `flow` frames are those of optical flow, `[T, H, W, 2]`: computed, and kept in the folder `flow_cache` where
    that is given, or read from folders where these hold it (`stored_flow`).
    """

    decoder: str = "auto"
    frame_template: str = "img_{:05d}.jpg"
    frame_start_index: int = 1
    frame_fps: float = 30.0  # of folders, which do not tell
    timeout_sec: float = 60.0  # for one record, where workers read
    flow: FlowMethod | None = None
    stored_flow: bool = False
    flow_cache: str | None = None

    def open(self, record: Record) -> FrameReader:
        is_folder = record.num_frames is not None and not isinstance(record, ShardRecord)
        if self.flow is None or (is_folder and self.stored_flow):
            return self._open_frames(record)
        cache = None if self.flow_cache is None else FlowCache(self.flow_cache, self.flow)
        pictures = self._pictures(record) if is_folder and cache is not None else ""
        return FlowReader(self._open_frames(record), self.flow, path=record.path, cache=cache, frames=pictures)

    def _pictures(self, record: Record) -> str:
        """What the frames of a folder are beside its path: pictures may be written anew where they are."""
        stamps = []
        for number in (self.frame_start_index, self.frame_start_index + (record.num_frames or 1) - 1):
            name = self.frame_template.format(number)
            with contextlib.suppress(OSError):  # reading tells what is missing
                status = os.stat(os.path.join(record.path, name))
                stamps.append((name, status.st_size, status.st_mtime_ns))
        return f"{self.frame_template}: {stamps}"

    def open_to_show(self, record: Record) -> FrameReader:
        """What people are shown of a record, RGB: its frames or, where a folder holds flow alone, that in colours."""
        frames = self._open_frames(record)
        return ColouredFlow(frames) if isinstance(frames, FrameFolder) and self.stored_flow else frames

    def _open_frames(self, record: Record) -> FrameReader:
        if isinstance(record, ShardRecord):
            return ShardClip(record, self.decoder)
        if record.num_frames is None:
            return open_video(record.path, decoder=self.decoder)
        return FrameFolder(
            record.path,
            record.num_frames,
            self.frame_template,
            self.frame_start_index,
            self.frame_fps,
            is_flow=self.stored_flow,
        )


@dataclass(frozen=True)
class Views:
    """The deterministic views of a video: `num_clips` temporal clips x the crops of `crop` (center, three, ten).

    A clip is `num_frames` frames in all, T, of `channels` each.
    """

    source: FrameSource
    sampling: Sampling
    num_frames: int
    num_clips: int
    short_side: int
    crop: str
    size: int
    channels: int = 3

    @property
    def num_views(self) -> int:
        return self.num_clips * VIEW_CROPS[self.crop].num_crops

    def __call__(self, record: Record) -> np.ndarray:
        """Read one record as uint8 `[V, T, H, W, C]`, the crops of the first clip first.

        Raises:
            DataError: the record cannot be read.
        """
        with self.source.open(record) as reader:
            indices = self.sampling(reader.num_frames, reader.fps, rng=None, num_clips=self.num_clips)
            frames = reader.read(indices.reshape(-1))  # [clips*T, H, W, C]
        crop, (height, width, channels) = VIEW_CROPS[self.crop], frames.shape[1:]
        views = np.empty((self.num_views, self.num_frames, self.size, self.size, channels), np.uint8)
        clips = frames.reshape(self.num_clips, self.num_frames, height, width, channels)
        # Clip by clip: what is resized lies in the cache when it is cropped
        for clip, out in zip(clips, np.split(views, self.num_clips), strict=True):
            crop(ResizeShortSide(self.short_side)(clip, _NO_RANDOMNESS), self.size, out)
        return views


_NO_RANDOMNESS = np.random.default_rng(0)


@dataclass(frozen=True)
class TrainDataset:
    """Randomly sampled and augmented clips; items are asked for by `(epoch, index)`.

    Where a video cannot be read, another one drawn from (seed, epoch, index, attempt) takes its place, and the sample
    tells. `mixing` is how the clips of a step are mixed, once they are together.
    """

    records: Sequence[Record]
    source: FrameSource
    sampling: Sampling
    transforms: Sequence[Transform]
    num_frames: int
    size: int
    num_classes: int
    seed: int
    mixing: Mixing | None = None
    before_reading: BeforeReading = _nothing
    channels: int = 3

    def __len__(self) -> int:
        return len(self.records)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Of the frames of an item, `[V, T, H, W, C]`."""
        return (1, self.num_frames, self.size, self.size, self.channels)

    @property
    def labels(self) -> list[int]:
        """Of each record; UNLABELLED for those of a multi-label list."""
        return labels_of(self.records, UNLABELLED).tolist()

    def __getitem__(self, key: tuple[int, int]) -> TrainSample:
        epoch, index = key
        failures: list[tuple[int, str]] = []
        for attempt in range(1 + MAX_REPLACEMENTS):
            # To NumPy [seed, epoch, index, 0] is the same seed as [seed, epoch, index]
            rng = np.random.default_rng([self.seed, epoch, index, attempt])
            seen = index if attempt == 0 else int(rng.integers(len(self.records)))
            record = self.records[seen]
            try:
                self.before_reading(seen)
                frames = self._read(record, rng)
            except DataError as error:
                failures.append((seen, str(error)))
                continue
            return TrainSample(frames=frames, target=self._target(record), index=seen, failures=failures, error="")
        return TrainSample(
            frames=np.zeros(self.sample_shape, np.uint8),
            target=self._target(self.records[index]),
            index=index,
            failures=failures,
            error=f"{failures[0][1]}; nor could any of {MAX_REPLACEMENTS} videos drawn in its place be read",
        )

    def _read(self, record: Record, rng: np.random.Generator) -> np.ndarray:
        """One augmented clip, uint8 `[1, T, H, W, C]`."""
        with self.source.open(record) as reader:
            indices = self.sampling(reader.num_frames, reader.fps, rng=rng)
            frames = reader.read(indices.reshape(-1))  # [T, H, W, C]
        for transform in self.transforms:
            frames = transform(frames, rng)
        return np.ascontiguousarray(frames)[None]  # [1, T, H, W, C]

    def _target(self, record: Record) -> np.ndarray:
        """One-hot, or multi-hot for a record of a multi-label list: float32 `[K]`."""
        target = np.zeros(self.num_classes, np.float32)
        target[list(record.labels or ()) if record.label is None else record.label] = 1
        return target


@dataclass(frozen=True)
class ViewDataset:
    """All views of each video, the same on every call; items are asked for by index."""

    records: Sequence[Record]
    views: Views
    before_reading: BeforeReading = _nothing

    def __len__(self) -> int:
        return len(self.records)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Of the frames of an item, `[V, T, H, W, C]`."""
        views = self.views
        return (views.num_views, views.num_frames, views.size, views.size, views.channels)

    def __getitem__(self, index: int) -> Sample:
        record = self.records[index]
        try:
            self.before_reading(index)
            return Sample(frames=self.views(record), label=_label(record), index=index, error="")
        except DataError as error:
            frames = np.zeros(self.sample_shape, np.uint8)
            return Sample(frames=frames, label=_label(record), index=index, error=str(error))


def _label(record: Record) -> int:
    return UNLABELLED if record.label is None else record.label
