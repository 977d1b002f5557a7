"""A video -> all that the page shows of it: labels, the frames that the model saw, and where in them it looked."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paddlevid.data.records import Record
from paddlevid.deploy.overlay import Box, crop_box, maps_of_class, overlay, scale_maps
from paddlevid.deploy.predictor import Prediction, Predictor
from paddlevid.deploy.runtimes import open_runtime

TOP_K = 5
SHOWN_SIDE = 240  # pixels of a frame on the page, at most
CENTER_CROP = {"center": 0, "three": 1, "ten": 8}  # its place among the crops of a view


@dataclass(frozen=True)
class Analysis:
    """What the page shows of a video.

    `times_sec` [T] and `frames_thwc` uint8 `[T, S, S, 3]` are those of the clip that speaks most for the best class,
    number `clip` from 0, of each snippet the first; they are its centre crop in the video's own pixels, S at most
    `SHOWN_SIDE`. `overlays_thwc` are the same, coloured by where the model looked, for the best class alone or for all
    of them; None where the folder has no graph that tells.
    """

    predictions: list[Prediction]
    times_sec: np.ndarray
    frames_thwc: np.ndarray
    overlays_thwc: np.ndarray | None
    overlays_of_class: bool
    clip: int
    num_clips: int
    width: int
    height: int
    fps: float
    duration_sec: float
    decode_sec: float
    model_sec: float


@dataclass(frozen=True)
class ShownClip:
    """One of the clips that the views of a video are made of, for people to look at."""

    times_sec: np.ndarray  # [T]
    frames_thwc: np.ndarray  # [T, S, S, 3]
    width: int
    height: int
    fps: float
    duration_sec: float


class Analyst:
    """Looks at videos with an exported model.

    Raises:
        ConfigError: the folder holds no exported model, or none that `runtime` can run.
    """

    def __init__(self, folder: str | Path, *, runtime: str = "auto") -> None:
        self.predictor = Predictor(folder, runtime=runtime)
        self.predictor.check_flow()
        self.predictor.warm_up()
        self.manifest = self.predictor.manifest
        self.explain = None
        if self.manifest.has("explain"):
            self.explain = open_runtime(folder, self.manifest, graph="explain", name=runtime)

    def __call__(self, record: Record) -> Analysis:
        """Label a video and find out where the model looked.

        Raises:
            DataError: the video cannot be read.
        """
        predictor = self.predictor
        started = time.perf_counter()
        views = predictor.views(record)  # [V, T, H, W, C]
        decoded = time.perf_counter()
        logits = predictor.run(views).logits  # [V, K]
        predictions = predictor.rank(predictor.average(logits), TOP_K)
        finished = time.perf_counter()

        num_clips = predictor.views.num_clips
        best = predictions[0].label
        clip = int(logits[:, best].reshape(num_clips, -1).mean(axis=1).argmax())  # the crops of a clip lie together
        shown = self._read_clip(record, clip)
        crops = views.reshape(num_clips, -1, *views.shape[1:])[clip]
        overlays, of_class = self._look(crops, shown.frames_thwc, best)
        return Analysis(
            predictions=predictions,
            overlays_thwc=overlays,
            overlays_of_class=of_class,
            clip=clip,
            num_clips=num_clips,
            decode_sec=decoded - started,
            model_sec=finished - decoded,
            **vars(shown),
        )

    def _read_clip(self, record: Record, clip: int) -> ShownClip:
        """Decode one clip again, now for people: the centre crop of the model, at the size of the video."""
        views = self.predictor.views
        with views.source.open(record) as reader:
            indices = views.sampling(reader.num_frames, reader.fps, rng=None, num_clips=views.num_clips)[clip]
        indices = indices[:: self.manifest.data.frames_per_snippet]  # [T]
        with views.source.open_to_show(record) as reader:
            frames = reader.read(indices)  # [T, H, W, 3]
            num_frames, fps = reader.num_frames, reader.fps
        _, height, width, _ = frames.shape
        box, _ = crop_box(height, width, views.short_side, views.crop, views.size, CENTER_CROP[views.crop])
        return ShownClip(indices / fps, _cut(frames, box), width, height, fps, num_frames / fps)

    def _look(self, crops: np.ndarray, frames_thwc: np.ndarray, label: int) -> tuple[np.ndarray | None, bool]:
        """`frames_thwc` coloured by where the model looks in the centre crop, and whether for this class alone.

        `crops` uint8 `[S, T, H, W, C]` are what it sees of the clip.
        """
        if self.explain is None:
            return None, False
        center = CENTER_CROP[self.predictor.views.crop]
        _, maps = self.explain(crops[center : center + 1])  # [1, T, h, w, K or 1]
        return overlay(frames_thwc, scale_maps(maps_of_class(maps[0], label))), maps.shape[-1] > 1


def read_thumbnail(analyst: Analyst, record: Record) -> np.ndarray:
    """The middle of a video: uint8 `[S, S, 3]`, a square of at most `SHOWN_SIDE` pixels.

    Raises:
        DataError: the video cannot be read.
    """
    with analyst.predictor.views.source.open_to_show(record) as reader:
        frame = reader.read(np.array([reader.num_frames // 2]))  # [1, H, W, C]
    height, width = frame.shape[1:3]
    side = min(height, width)
    return _cut(frame, Box((height - side) // 2, (width - side) // 2, side, side))[0]


def _cut(frames_thwc: np.ndarray, box: Box) -> np.ndarray:
    """A part of frames, made smaller where it is larger than the page shows it."""
    import cv2

    cut = frames_thwc[:, box.top : box.top + box.height, box.left : box.left + box.width]
    if max(box.height, box.width) > SHOWN_SIDE:
        size = (SHOWN_SIDE, SHOWN_SIDE)
        cut = np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in cut])
    return np.ascontiguousarray(cut)
