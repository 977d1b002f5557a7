"""Which frames of a video make a clip: pure functions from a number of frames to indices `[V, T]`, int64, from 0.

With an `rng` each of the V clips is drawn anew (training); with `rng=None` the clips are fixed (validation and test).
A model that reads snippets of L consecutive frames samples among the N - L + 1 frames that can begin one.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Sampling(Protocol):
    """Which frames of a video make its clips: int64 `[num_clips, T]`."""

    def __call__(
        self, available_frames: int, fps: float, *, rng: np.random.Generator | None, num_clips: int = 1
    ) -> np.ndarray: ...


def segment_indices(
    num_frames: int, num_segments: int, *, rng: np.random.Generator | None = None, num_clips: int = 1
) -> np.ndarray:
    """One frame from each of `num_segments` equal parts, as TSN and TSM do ("uniform"); `[num_clips, num_segments]`.

    Fixed clips take the same place in each part: one clip its centre; two clips the centre, then the beginning (the
    "twice sample" of TSM); K > 2 clips the places (k + 1) / (K + 1). A video with fewer frames than parts repeats
    frames in the order of time.
    Source: Wang et al., Temporal Segment Networks, 2016; github.com/mit-han-lab/temporal-shift-module, dataset.py.
    """
    _check(num_frames, num_segments, num_clips)
    part = np.arange(num_segments)
    if rng is not None and num_frames >= num_segments:
        frames_per_part = num_frames // num_segments
        return part * frames_per_part + rng.integers(0, frames_per_part, (num_clips, num_segments))  # [V, T]
    tick = num_frames / num_segments
    if rng is not None:
        places = tick * rng.random((num_clips, num_segments))
    elif num_clips <= 2:
        places = np.array([[tick / 2], [0.0]])[:num_clips]
    else:
        places = tick * np.arange(1, num_clips + 1)[:, None] / (num_clips + 1)
    return np.minimum((places + part * tick).astype(np.int64), num_frames - 1)  # [V, T]


def dense_indices(
    num_frames: int,
    clip_frames: int,
    *,
    window: int = 64,
    rng: np.random.Generator | None = None,
    num_clips: int = 1,
) -> np.ndarray:
    """`clip_frames` frames, evenly apart, from `window` consecutive ones, as TSM does; `[num_clips, clip_frames]`.

    Random clips begin at any frame that leaves room for the window, the last such frame included. Fixed clips begin at
    places evenly spread from the first to the last of them; one clip begins at the middle one. A video shorter than the
    window is read around in a circle.
    Source: github.com/mit-han-lab/temporal-shift-module, dataset.py (`dense_sample`).
    """
    _check(num_frames, clip_frames, num_clips)
    if window < clip_frames:
        raise ValueError(f"window is {window}: it must hold the clip's {clip_frames} frames")
    num_starts = max(1, 1 + num_frames - window)
    if rng is not None:
        starts = rng.integers(0, num_starts, num_clips)
    elif num_clips == 1:
        starts = np.array([(num_starts - 1) // 2])
    else:
        starts = np.arange(num_clips) * (num_starts - 1) // (num_clips - 1)
    stride = window // clip_frames
    return ((starts[:, None] + stride * np.arange(clip_frames)) % num_frames).astype(np.int64)  # [V, T]


def clip_indices(
    num_frames: int,
    clip_frames: int,
    *,
    rate: int,
    fps: float,
    target_fps: float = 30.0,
    rng: np.random.Generator | None = None,
    num_clips: int = 1,
) -> np.ndarray:
    """`clip_frames` frames, `rate` frames apart at `target_fps`, as TimeSformer does; `[num_clips, clip_frames]`.

    Random clips begin anywhere (a real number) that leaves room for the clip. The fixed clip k of K begins at k / K of
    that room, so a single clip begins at frame 0 and none reaches the end: the published numbers were measured so. A
    video shorter than the clip repeats its last frame.
    Source: github.com/facebookresearch/TimeSformer, datasets/decoder.py; Kinetics.
    """
    _check(num_frames, clip_frames, num_clips)
    if rate < 1 or not (0 < fps < float("inf")) or not target_fps > 0:
        raise ValueError(f"rate {rate}, fps {fps}, target_fps {target_fps}: each must be greater than 0")
    span = rate * clip_frames * fps / target_fps
    room = max(num_frames - span, 0.0)
    starts = rng.uniform(0, room, num_clips) if rng is not None else room * np.arange(num_clips) / num_clips
    ends = starts + span - 1
    steps = np.linspace(0, 1, clip_frames)  # [T]
    places = starts[:, None] + (ends - starts)[:, None] * steps  # [V, T]
    # At 25 fps a 8x32 clip lands on whole frames (91 and 182) that rounding errors would move: round them away.
    return np.floor(np.clip(places, 0, num_frames - 1) + 1e-9).astype(np.int64)  # [V, T]


def linspace_indices(
    num_frames: int, clip_frames: int, *, rng: np.random.Generator | None = None, num_clips: int = 1
) -> np.ndarray:
    """`clip_frames` frames evenly spread from the first to the last, both included; `[1, clip_frames]`.

    The same with and without `rng`: the end points are fixed. For the same reason there is only one such clip.
    """
    del rng
    _check(num_frames, clip_frames, num_clips)
    if num_clips != 1:
        raise ValueError(f"num_clips is {num_clips}: frames spread over the whole video make one clip only")
    if clip_frames == 1:
        return np.array([[(num_frames - 1) // 2]], np.int64)
    return np.arange(clip_frames, dtype=np.int64)[None] * (num_frames - 1) // (clip_frames - 1)  # [1, T]


@dataclass(frozen=True, slots=True)
class SegmentSampling:
    """`segment_indices` with `num_frames` segments."""

    num_frames: int

    def __post_init__(self) -> None:
        _check(1, self.num_frames, 1)

    def __call__(
        self, available_frames: int, fps: float, *, rng: np.random.Generator | None, num_clips: int = 1
    ) -> np.ndarray:
        return segment_indices(available_frames, self.num_frames, rng=rng, num_clips=num_clips)


@dataclass(frozen=True, slots=True)
class DenseSampling:
    """`dense_indices` with clips of `num_frames` frames."""

    num_frames: int
    window: int = 64

    def __post_init__(self) -> None:
        dense_indices(1, self.num_frames, window=self.window)

    def __call__(
        self, available_frames: int, fps: float, *, rng: np.random.Generator | None, num_clips: int = 1
    ) -> np.ndarray:
        return dense_indices(available_frames, self.num_frames, window=self.window, rng=rng, num_clips=num_clips)


@dataclass(frozen=True, slots=True)
class ClipSampling:
    """`clip_indices` with clips of `num_frames` frames."""

    num_frames: int
    rate: int
    target_fps: float = 30.0

    def __post_init__(self) -> None:
        clip_indices(1, self.num_frames, rate=self.rate, fps=30.0, target_fps=self.target_fps)

    def __call__(
        self, available_frames: int, fps: float, *, rng: np.random.Generator | None, num_clips: int = 1
    ) -> np.ndarray:
        return clip_indices(
            available_frames,
            self.num_frames,
            rate=self.rate,
            fps=fps,
            target_fps=self.target_fps,
            rng=rng,
            num_clips=num_clips,
        )


@dataclass(frozen=True, slots=True)
class LinspaceSampling:
    """`linspace_indices` with clips of `num_frames` frames."""

    num_frames: int

    def __post_init__(self) -> None:
        _check(1, self.num_frames, 1)

    def __call__(
        self, available_frames: int, fps: float, *, rng: np.random.Generator | None, num_clips: int = 1
    ) -> np.ndarray:
        return linspace_indices(available_frames, self.num_frames, rng=rng, num_clips=num_clips)


@dataclass(frozen=True, slots=True)
class SnippetSampling:
    """`length` consecutive frames from each one that `starts` samples, among those that can begin a snippet.

    A video shorter than a snippet repeats its last frame. Source: github.com/yjxiong/tsn-pytorch, dataset.py.
    """

    starts: Sampling
    length: int

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"length {self.length} must be at least 1")

    def __call__(
        self, available_frames: int, fps: float, *, rng: np.random.Generator | None, num_clips: int = 1
    ) -> np.ndarray:
        """int64 `[num_clips, S * length]`, snippet by snippet."""
        starts = self.starts(max(1, available_frames - self.length + 1), fps, rng=rng, num_clips=num_clips)  # [V, S]
        indices = starts[..., None] + np.arange(self.length)  # [V, S, L]
        return np.minimum(indices, available_frames - 1).reshape(num_clips, -1)


def _check(num_frames: int, clip_frames: int, num_clips: int) -> None:
    if num_frames < 1 or clip_frames < 1 or num_clips < 1:
        raise ValueError(
            f"{num_clips} clips of {clip_frames} frames from a video of {num_frames}: each must be at least 1"
        )
