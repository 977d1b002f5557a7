"""Online TSM: one frame after the other, with what the network keeps between them, and a running mean of the answers.

Each frame costs one step of a 2D network; no frame is looked at twice, and no answer waits for a window to end.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from paddlevid.deploy.manifest import Manifest, read_manifest
from paddlevid.deploy.runtimes import Runtime, open_runtime
from paddlevid.deploy.streaming.streams import FrameStream
from paddlevid.deploy.streaming.windows import Scored, Window, WindowPlan, default_window_sec
from paddlevid.errors import ConfigError
from paddlevid.metrics import average_views, score_probabilities

MAX_LATENCIES = 100_000  # the last ones, for median and percentiles


class OnlineClassifier:
    """Runs the `online` graph of an exported folder along a stream.

    The answer at a frame is the mean over the last `num_frames` frames (those of a clip in training), of logits or of
    probabilities as the views of the folder say.

    Raises:
        ConfigError: the folder has no such graph, or does not tell the size of its state.
    """

    def __init__(
        self, folder: str | Path, runtime: str = "auto", *, use_gpu: bool = False, num_threads: int | None = None
    ) -> None:
        manifest = read_manifest(folder)
        if manifest.has("online"):
            _check_state(manifest)
        opened = open_runtime(folder, manifest, graph="online", name=runtime, use_gpu=use_gpu, num_threads=num_threads)
        self._setup(manifest, opened)

    @classmethod
    def from_parts(cls, manifest: Manifest, runtime: Runtime) -> OnlineClassifier:
        """A classifier of a graph that already runs, which `manifest` describes."""
        self = cls.__new__(cls)
        self._setup(manifest, runtime)
        return self

    def _setup(self, manifest: Manifest, runtime: Runtime) -> None:
        _check_state(manifest)
        self.manifest, self.runtime = manifest, runtime
        self.latencies_ms: deque[float] = deque(maxlen=MAX_LATENCIES)
        self.reset()

    def reset(self) -> None:
        """Forget the frames so far: the next one begins a stream."""
        self._state = np.zeros((1, self.manifest.state_size), np.float32)
        self._recent: deque[np.ndarray] = deque(maxlen=self.manifest.num_frames)

    def warm_up(self) -> None:
        """Run the model on a blank frame, so that no frame waits for it; forgets the frames so far."""
        size = self.manifest.data.image_size
        self.step(np.zeros((size, size, 3), np.uint8))
        self.latencies_ms.clear()
        self.reset()

    def step(self, frame_hwc: np.ndarray) -> np.ndarray:
        """The next frame, uint8 `[H, W, 3]` -> float32 probabilities `[K]` of the stream so far.

        Raises:
            ConfigError: the graph takes other frames or another state, or has other classes than its description.
        """
        begun = time.perf_counter()
        logits, _, self._state = self.runtime(frame_hwc[None, None], self._state)  # [1, K], [1, D], [1, S]
        self.latencies_ms.append((time.perf_counter() - begun) * 1e3)
        if logits.shape[1] != len(self.manifest.class_names):
            raise ConfigError(
                f"the online graph has {logits.shape[1]} classes, inference.yml describes "
                f"{len(self.manifest.class_names)}"
            )
        self._recent.append(logits[0])
        average, multi_label = self.manifest.views.average, self.manifest.data.multi_label
        mean = average_views(np.stack(self._recent), average=average, multi_label=multi_label)  # [K]
        return score_probabilities(mean, average=average, multi_label=multi_label)


def _check_state(manifest: Manifest) -> None:
    if manifest.state_size < 1:
        raise ConfigError("inference.yml does not tell the state_size of its online graph; export it again")


class Latency(NamedTuple):
    """Of the steps of the model, in ms."""

    median_ms: float
    percentile_95_ms: float
    num_frames: int


def measure(latencies_ms: Iterable[float]) -> Latency | None:
    """None where there was no frame."""
    values = np.fromiter(latencies_ms, np.float64)
    if not len(values):
        return None
    median, late = np.percentile(values, [50, 95])
    return Latency(float(median), float(late), len(values))


def plan_frames(manifest: Manifest, stream: FrameStream, online_fps: float | None = None) -> WindowPlan:
    """The frames of a stream that an online model looks at, as windows of one frame.

    By default as many a second as in a clip of its training: `num_frames` over the seconds that it spans (10 where
    the model is trained on segments of whole videos).

    Raises:
        ConfigError: more frames are asked for than the stream has.
    """
    fps = online_fps or min(stream.fps, manifest.num_frames / default_window_sec(manifest.data, manifest.num_frames))
    if not 0 < fps <= stream.fps + 1e-3:
        raise ConfigError(f"{fps:g} frames a second are asked for; {stream.name} has {stream.fps:g}")
    return WindowPlan(1 / fps, 1 / fps, stream.fps, _first_frame, stream.start_sec, prompt=True)


def _first_frame(
    available_frames: int, fps: float, *, rng: np.random.Generator | None, num_clips: int = 1
) -> np.ndarray:
    """A sampling (see `data.dataset.Sampling`) of one frame, the first."""
    return np.zeros((num_clips, 1), np.int64)


def score_frames(
    classifier: OnlineClassifier, windows: Iterable[Window], on_frame: Callable[[float], object] | None = None
) -> Iterator[Scored]:
    """Label a stream after each of its frames; after a gap it begins anew.

    Several crops of a frame would need a state each: windows have one. `on_frame` is told the latency of each, in ms.
    """
    for window in windows:
        if window.after_gap:
            classifier.reset()
        probabilities = classifier.step(window.frames[0, 0])
        if on_frame is not None:
            on_frame(classifier.latencies_ms[-1])
        yield Scored(window.start_sec, window.end_sec, probabilities)
