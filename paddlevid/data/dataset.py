"""Records -> samples. A sample depends on (seed, epoch, index) alone, never on who draws it or when.

A clip that cannot be read does not end the process that reads it: its sample carries the reason, and whoever asked
decides. Frames leave here as raw uint8; the model normalises them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypedDict

import numpy as np

from paddlevid.data.annotations import Record
from paddlevid.data.transforms import VIEW_CROPS, ResizeShortSide
from paddlevid.data.video import FrameFolder, FrameReader, open_video
from paddlevid.errors import DataError

UNLABELLED = -1

Transform = Callable[[np.ndarray, np.random.Generator], np.ndarray]


class Sampling(Protocol):
    """Which frames of a video make its clips: int64 `[num_clips, T]`."""

    def __call__(
        self, available_frames: int, fps: float, *, rng: np.random.Generator | None, num_clips: int = 1
    ) -> np.ndarray: ...


class Sample(TypedDict):
    """One item of a dataset; `error` is empty unless `frames` are blank because the video could not be read."""

    frames: np.ndarray  # uint8 [V, T, H, W, C]
    label: int
    index: int
    error: str


@dataclass(frozen=True)
class FrameSource:
    """How the frames of a record are read: from a video or, where it has a number of frames, a folder of pictures."""

    decoder: str = "auto"
    frame_template: str = "img_{:05d}.jpg"
    frame_start_index: int = 1

    def open(self, record: Record) -> FrameReader:
        if record.num_frames is None:
            return open_video(record.path, decoder=self.decoder)
        return FrameFolder(record.path, record.num_frames, self.frame_template, self.frame_start_index)


@dataclass(frozen=True)
class Views:
    """The deterministic views of a video: `num_clips` temporal clips x the crops of `crop` (center, three, ten)."""

    source: FrameSource
    sampling: Sampling
    num_frames: int
    num_clips: int
    short_side: int
    crop: str
    size: int

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
        frames = ResizeShortSide(self.short_side)(frames, _NO_RANDOMNESS)
        crops = VIEW_CROPS[self.crop](frames, self.size)  # [S, clips*T, H, W, C]
        num_crops, _, height, width, channels = crops.shape
        views = crops.reshape(num_crops, self.num_clips, self.num_frames, height, width, channels)
        return np.ascontiguousarray(views.swapaxes(0, 1)).reshape(-1, self.num_frames, height, width, channels)


_NO_RANDOMNESS = np.random.default_rng(0)


@dataclass(frozen=True)
class TrainDataset:
    """Randomly sampled and augmented clips; items are asked for by `(epoch, index)`."""

    records: Sequence[Record]
    source: FrameSource
    sampling: Sampling
    transforms: Sequence[Transform]
    num_frames: int
    size: int
    seed: int

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        record = self.records[index]
        rng = np.random.default_rng([self.seed, epoch, index])
        try:
            with self.source.open(record) as reader:
                indices = self.sampling(reader.num_frames, reader.fps, rng=rng)
                frames = reader.read(indices.reshape(-1))  # [T, H, W, C]
        except DataError as error:
            return _blank_sample(record, index, (1, self.num_frames, self.size, self.size, 3), str(error))
        for transform in self.transforms:
            frames = transform(frames, rng)
        return Sample(frames=np.ascontiguousarray(frames)[None], label=_label(record), index=index, error="")


@dataclass(frozen=True)
class ViewDataset:
    """All views of each video, the same on every call; items are asked for by index."""

    records: Sequence[Record]
    views: Views

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Sample:
        record = self.records[index]
        try:
            return Sample(frames=self.views(record), label=_label(record), index=index, error="")
        except DataError as error:
            views = self.views
            shape = (views.num_views, views.num_frames, views.size, views.size, 3)
            return _blank_sample(record, index, shape, str(error))


def _label(record: Record) -> int:
    return UNLABELLED if record.label is None else record.label


def _blank_sample(record: Record, index: int, shape: tuple[int, ...], error: str) -> Sample:
    return Sample(frames=np.zeros(shape, np.uint8), label=_label(record), index=index, error=error)


def read_class_names(source: str | None, num_classes: int) -> list[str]:
    """Class names by label: of a shipped list (`kinetics400`), of a file with one name a line, or the bare numbers.

    Raises:
        DataError: there is no such list, or it names another number of classes.
    """
    if source is None:
        return [str(label) for label in range(num_classes)]
    shipped = Path(__file__).parent.parent / "labels"
    path = shipped / f"{source}.txt"
    if not path.is_file():
        path = Path(source)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        known = ", ".join(sorted(file.stem for file in shipped.glob("*.txt")))
        raise DataError(
            f"class names {source!r}: neither a shipped list ({known}) nor a readable file: {error}"
        ) from None
    names = [line.strip() for line in lines if line.strip()]
    if len(names) != num_classes:
        raise DataError(
            f"class names {source!r}: {len(names)} names for data.num_classes {num_classes}; set data.class_names to a "
            "file with a name a line, or to null"
        )
    return names
