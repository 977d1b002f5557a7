"""Windows that slide over a stream of frames, in constant memory, and what a model says of them.

A window is looked at as if it were a video of its own: the model's own sampling says which of its frames are taken.
Only those are turned into pictures, resized and cropped, once, also where windows overlap.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from paddlevid.build import build_sampling
from paddlevid.data.sampling import Sampling
from paddlevid.data.transforms import VIEW_CROPS, ResizeShortSide
from paddlevid.deploy.manifest import Manifest
from paddlevid.deploy.predictor import Predictor
from paddlevid.deploy.streaming.streams import FrameStream, StreamFrame
from paddlevid.errors import ConfigError
from paddlevid.schema.data import ClipSamplingConfig, DataConfig, DenseSamplingConfig

DENSE_FPS = 30.0  # of the videos that dense windows of frames are counted in
WHOLE_VIDEO_SEC = 10.0  # of a Kinetics clip, over all of which segments are spread
# A frame is taken for a moment up to so much of a frame before it is shown. Windows begin at halves and other simple
# parts of a frame; files round times to milliseconds: with this, no such rounding moves one frame but not the next.
EARLY_FRAMES = 0.45


class Window(NamedTuple):
    """The crops of a stretch of the stream, uint8 `[S, T, H, W, 3]`; `after_gap` as in `StreamFrame`."""

    start_sec: float
    end_sec: float
    frames: np.ndarray
    after_gap: bool = False


class Scored(NamedTuple):
    """What the model says of a stretch of the stream: float32 probabilities `[K]`."""

    start_sec: float
    end_sec: float
    probabilities: np.ndarray


def default_window_sec(data: DataConfig, num_frames: int) -> float:
    """The seconds of video that a clip of the model's training spans; 10 where that is a whole video."""
    if isinstance(data.sampling, ClipSamplingConfig):
        return data.sampling.rate * num_frames / data.sampling.target_fps
    if isinstance(data.sampling, DenseSamplingConfig):
        return data.sampling.window / DENSE_FPS
    return WHOLE_VIDEO_SEC


@dataclass(frozen=True)
class WindowPlan:
    """When each window begins, and the times of its frames: window k begins at `start_sec + k * stride_sec`.

    `end_sec`, where it is known, is the end of the stream: windows that reach beyond it are sampled as shorter videos.
    With `prompt` a window is given once its frames are there, before it is known that the stream goes on to its end.
    Raises ConfigError for a window without a frame, and for a stride of less than a frame.
    """

    window_sec: float
    stride_sec: float
    fps: float
    sampling: Sampling
    start_sec: float = 0.0
    end_sec: float | None = None
    prompt: bool = False
    _offsets: dict[int, list[float]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.window_sec) and self.window_sec * self.fps >= 0.5):
            raise ConfigError(f"a window of {self.window_sec:g} s holds no frame of a video at {self.fps:g} frames/s")
        # Less would look at the same frames again and again; the tolerance is that of plan_frames
        if not (math.isfinite(self.stride_sec) and self.stride_sec * (self.fps + 1e-3) >= 1):
            raise ConfigError(
                f"a stride of {self.stride_sec:g} s: it must be a frame at least, {1 / self.fps:.4g} s of a video at "
                f"{self.fps:g} frames/s"
            )

    @property
    def early_sec(self) -> float:
        return EARLY_FRAMES / self.fps

    def begin(self, k: int) -> float:
        return self.start_sec + k * self.stride_sec

    def first_from(self, time_sec: float) -> int:
        """The first window that begins with the frame at this time or later."""
        return max(0, math.ceil((time_sec - self.early_sec - self.start_sec) / self.stride_sec))

    def length(self, k: int) -> int:
        """Frames in window k, as far as the end of the stream is known."""
        if self.end_sec is None or (k > 0 and self.end_sec - self.begin(k) < self.window_sec / 2):
            return self.length_until(k, math.inf)  # what will be dropped matters only if that end is wrong
        return self.length_until(k, self.end_sec)

    def length_until(self, k: int, end_sec: float) -> int:
        return max(1, round(min(self.window_sec, end_sec - self.begin(k)) * self.fps))

    def offsets(self, length: int) -> list[float]:
        """Seconds from the beginning of a window of `length` frames to each of its T frames."""
        if length not in self._offsets:
            indices = self.sampling(length, self.fps, rng=None, num_clips=1)[0]
            self._offsets[length] = (indices / self.fps).tolist()
        return self._offsets[length]

    def wants(self, time_sec: float, next_sec: float) -> bool:
        """Whether some window takes the frame that is shown from `time_sec` until `next_sec`."""
        early_sec = self.early_sec
        first = max(0, math.ceil((time_sec - self.window_sec - self.start_sec) / self.stride_sec) - 1)
        k = first
        while self.begin(k) + early_sec < next_sec:
            begin = self.begin(k) + early_sec
            if any(time_sec <= begin + offset < next_sec for offset in self.offsets(self.length(k))):
                return True
            k += 1
        return time_sec <= self.start_sec + early_sec  # what the very first moments are shown with

    @property
    def max_kept(self) -> int:
        """The most frames that windows keep at any time."""
        num_taken = len(self.offsets(self.length_until(0, math.inf)))
        return num_taken * (math.ceil((self.window_sec + 1 / self.fps) / self.stride_sec) + 1)


def plan_windows(
    manifest: Manifest, stream: FrameStream, window_sec: float | None = None, stride_sec: float | None = None
) -> WindowPlan:
    """Windows of the model's own span, half overlapping, unless told otherwise, over a stream.

    Raises:
        ConfigError: a window or a stride is too short, or the model sees optical flow.
    """
    if manifest.data.is_flow:
        raise ConfigError(
            "this model sees optical flow, which is computed for whole videos only (tools/predict.py); label streams "
            "and parts of long videos with one of modality rgb or rgb_diff"
        )
    span_sec = window_sec or default_window_sec(manifest.data, manifest.num_snippets)
    return WindowPlan(
        window_sec=span_sec,
        stride_sec=stride_sec or max(span_sec / 2, 1 / stream.fps),
        fps=stream.fps,
        sampling=build_sampling(manifest.data, manifest.num_snippets),
        start_sec=stream.start_sec,
        end_sec=None if stream.is_live else stream.duration_sec,
        prompt=stream.is_live,
    )


@dataclass(frozen=True)
class FrameCrops:
    """A picture uint8 `[H, W, 3]` -> its crops uint8 `[S, size, size, 3]`, cut like the views of a video."""

    short_side: int
    crop: str
    size: int

    def __call__(self, picture_hwc: np.ndarray) -> np.ndarray:
        resized = ResizeShortSide(self.short_side)(picture_hwc[None], _NO_RANDOMNESS)  # [1, h, w, 3]
        return np.ascontiguousarray(VIEW_CROPS[self.crop](resized, self.size)[:, 0])


_NO_RANDOMNESS = np.random.default_rng(0)


def frame_crops(manifest: Manifest, crop: str | None = None) -> FrameCrops:
    """The crops of an exported model's views; `crop` (center, three, ten) asks for others."""
    return FrameCrops(manifest.views.short_side, crop or manifest.views.crop, manifest.data.image_size)


@dataclass
class _OpenWindow:
    """A window that still waits for frames; `taken` has those it has so far, in the order of their times."""

    k: int
    begin_sec: float
    length: int
    pending: deque[tuple[float, int]]  # when a frame is due, and its place among the T
    crops: list[np.ndarray | None]
    after_gap: bool


class SlidingWindows:
    """Takes frames in the order of time, and gives the windows that are whole.

    A last window of which less than half is left is dropped, unless it is the only one.
    """

    def __init__(self, plan: WindowPlan, crops: FrameCrops) -> None:
        self._plan = plan
        self._crops = crops
        self._open: deque[_OpenWindow] = deque()
        self._kept: dict[int, tuple[float, np.ndarray]] = {}  # by id: when it is shown, the crops
        self._held: StreamFrame | None = None  # shown now; until when, the next frame tells
        self._held_crop: np.ndarray | None = None
        self._next = 0
        self._num_given = 0
        self._after_gap = False

    @property
    def num_kept(self) -> int:
        """Frames in memory."""
        return len(self._kept)

    def add(self, frame: StreamFrame) -> Iterator[Window]:
        if self._held is not None:
            if frame.after_gap:
                yield from self.finish(self._held.time_sec + 1 / self._plan.fps)
                self._next = max(self._next, self._plan.first_from(frame.time_sec))
                self._after_gap = True
            else:
                yield from self._show_until(frame.time_sec)
        self._held, self._held_crop = frame, None

    def finish(self, end_sec: float) -> Iterator[Window]:
        """The last windows of a stream that ends at this time."""
        if self._held is None:
            return
        yield from self._show_until(end_sec)
        for window in self._open:
            length = self._plan.length_until(window.k, end_sec)
            yield from self._give_short(window, length, min(end_sec, window.begin_sec + self._plan.window_sec))
        self._open.clear()
        self._kept.clear()
        self._held = self._held_crop = None

    def _show_until(self, next_sec: float) -> Iterator[Window]:
        """The held frame is shown until `next_sec`: windows take it for all that is due until then."""
        early_sec = self._plan.early_sec
        while (begin_sec := self._plan.begin(self._next)) + early_sec < next_sec:
            yield from self._take_held(begin_sec + early_sec)
            length = self._plan.length(self._next)
            times = [begin_sec + offset for offset in self._plan.offsets(length)]
            pending = deque(sorted((due_sec, place) for place, due_sec in enumerate(times)))
            self._open.append(_OpenWindow(self._next, begin_sec, length, pending, [None] * len(times), self._after_gap))
            self._after_gap = False
            self._next += 1
        yield from self._take_held(next_sec)

    def _take_held(self, next_sec: float) -> Iterator[Window]:
        limit_sec = next_sec - self._plan.early_sec
        for window in self._open:
            while window.pending and window.pending[0][0] < limit_sec:
                window.crops[window.pending.popleft()[1]] = self._crop_held()
        while self._open and self._is_whole(self._open[0], limit_sec):
            window = self._open.popleft()
            whole = self._plan.length_until(window.k, math.inf)
            span_sec = self._plan.window_sec if window.length == whole else window.length / self._plan.fps
            yield from self._give(window, window.crops, window.begin_sec + span_sec)
            self._forget()

    def _is_whole(self, window: _OpenWindow, limit_sec: float) -> bool:
        if self._plan.prompt:
            return not window.pending
        return window.begin_sec + (window.length - 1) / self._plan.fps < limit_sec

    def _crop_held(self) -> np.ndarray:
        assert self._held is not None
        if self._held_crop is None:
            self._held_crop = self._crops(self._held.picture())
        self._kept[id(self._held_crop)] = self._held.time_sec, self._held_crop
        return self._held_crop

    def _forget(self) -> None:
        used = {id(crop) for window in self._open for crop in window.crops if crop is not None}
        self._kept = {key: kept for key, kept in self._kept.items() if key in used}

    def _give_short(self, window: _OpenWindow, length: int, end_sec: float) -> Iterator[Window]:
        """A window that the stream did not fill, from what is nearest to the frames of a video of `length` frames."""
        self._crop_held()
        kept = sorted(self._kept.values(), key=lambda entry: entry[0])
        times = np.array([time_sec for time_sec, _ in kept])
        due = window.begin_sec + np.array(self._plan.offsets(length))  # [T]
        nearest = np.abs(times[None] - due[:, None]).argmin(axis=1)
        yield from self._give(window, [kept[place][1] for place in nearest], end_sec)

    def _give(self, window: _OpenWindow, crops: list[np.ndarray | None], end_sec: float) -> Iterator[Window]:
        is_short = end_sec - window.begin_sec + self._plan.early_sec < self._plan.window_sec / 2
        if is_short and self._num_given:
            return
        self._num_given += 1
        frames = np.stack([crop for crop in crops if crop is not None], axis=1)  # [S, T, H, W, 3]
        yield Window(window.begin_sec, end_sec, frames, window.after_gap)


def slide(stream: FrameStream, plan: WindowPlan, crops: FrameCrops) -> Iterator[Window]:
    """The windows of a whole stream, in one pass."""
    windows = SlidingWindows(plan, crops)
    for frame in stream.frames(plan.wants):
        yield from windows.add(frame)
    yield from windows.finish(stream.end_sec)


def score_windows(predictor: Predictor, windows: Iterable[Window], *, at_once: bool = False) -> Iterator[Scored]:
    """Label windows, several a run of the model; `at_once` does not wait for several."""
    group: list[Window] = []
    for window in windows:
        group.append(window)
        if at_once or len(group) * len(window.frames) >= predictor.batch_size:
            yield from _score_group(predictor, group)
            group = []
    if group:
        yield from _score_group(predictor, group)


def _score_group(predictor: Predictor, group: list[Window]) -> Iterator[Scored]:
    logits = predictor.run(np.concatenate([window.frames for window in group])).logits  # [windows*S, K]
    for window, of_window in zip(group, np.split(logits, len(group)), strict=True):
        yield Scored(window.start_sec, window.end_sec, predictor.probabilities(predictor.average(of_window)))
