"""Maps of where a model looks, as colours over the frames that it looked at, and a video of both side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from paddlevid.data.transforms import VIEW_CROPS, ResizeShortSide

QUANTILES = (0.02, 0.99)  # what lies beyond is drawn as cold, or as hot, as it gets
HOTTEST = 230  # of the colour map: beyond, its red turns dark
WHITE = (255, 255, 255)


class Box(NamedTuple):
    """A part of a frame, in its pixels."""

    top: int
    left: int
    height: int
    width: int


def maps_of_class(maps: np.ndarray, label: int) -> np.ndarray:
    """The maps of a class, `[T, h, w]`: from `[T, h, w, K]` less the mean of all classes; from `[T, h, w, 1]`, as is.

    Probabilities do not change where the logits of all classes rise together, so neither does this.
    """
    if maps.shape[-1] == 1:
        return maps[..., 0]
    return maps[..., label] - maps.mean(axis=-1)


def frame_shares(maps: np.ndarray) -> np.ndarray:
    """The share of each frame in what speaks for a class: maps `[T, h, w]` -> `[T]`, which sum to 1.

    Places that speak against it count as 0; where all do, no frame has more than another.
    """
    evidence = np.clip(maps, 0, None).sum(axis=(1, 2), dtype=np.float64)  # [T]
    total = evidence.sum()
    return evidence / total if total > 0 else np.full(len(maps), 1 / len(maps))


def scale_maps(maps: np.ndarray) -> np.ndarray:
    """Maps of a clip `[T, h, w]` -> float32, 0 to 1, the same scale for all frames; a few extremes do not set it."""
    low, high = np.quantile(maps, QUANTILES)
    if not high > low:
        low, high = maps.min(), maps.max()
    if not high > low:
        return np.zeros(maps.shape, np.float32)
    return np.clip((maps - low) / (high - low), 0, 1).astype(np.float32)


def interpolate_maps(maps: np.ndarray, sampled: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Maps `[T, h, w]` of the frames numbered `sampled` `[T]`, for the frames `wanted` `[M]`: float32 `[M, h, w]`.

    Between sampled frames linearly in time, before the first and after the last as theirs. A frame that was sampled
    more than once has the mean of its maps; the order of `sampled` does not matter.
    """
    places, which = np.unique(sampled, return_inverse=True)
    sums = np.zeros((len(places), *maps.shape[1:]))
    np.add.at(sums, which, maps)
    means = sums / np.bincount(which)[:, None, None]
    position = np.interp(wanted, places, np.arange(len(places)))  # in `places`, with a fraction
    before = np.floor(position).astype(np.int64)
    after = np.minimum(before + 1, len(places) - 1)
    share = (position - before)[:, None, None]
    return ((1 - share) * means[before] + share * means[after]).astype(np.float32)


def crop_box(height: int, width: int, short_side: int, crop: str, size: int, view: int = 0) -> tuple[Box, bool]:
    """Which part of a frame of `height` x `width` a crop (center, three, ten) shows, and whether it shows it mirrored.

    Found by cropping a picture of its own coordinates, so that it is the crop that the model gets.
    """
    resized = ResizeShortSide(short_side)(np.zeros((1, height, width, 3), np.uint8), np.random.default_rng(0))
    rows, columns = resized.shape[1:3]
    y, x = np.mgrid[:rows, :columns]
    picture = np.stack([y, x, np.zeros_like(y)], axis=-1)[None]  # [1, H, W, 3]
    crop_yx = VIEW_CROPS[crop](picture, size)[view, 0]  # [size, size, 3]
    (top, first, _), (bottom, last, _) = crop_yx[0, 0], crop_yx[-1, -1]
    scale_y, scale_x = height / rows, width / columns
    left, right = min(first, last), max(first, last) + 1
    edges = [round(edge) for edge in (top * scale_y, left * scale_x, (bottom + 1) * scale_y, right * scale_x)]
    return Box(edges[0], edges[1], edges[2] - edges[0], edges[3] - edges[1]), bool(first > last)


def overlay(frames_thwc: np.ndarray, heat: np.ndarray, box: Box | None = None, alpha: float = 0.7) -> np.ndarray:
    """Colours over frames: uint8 `[T, H, W, 3]` and heat `[T, h, w]`, 0 to 1 -> uint8 `[T, H, W, 3]`.

    The hotter, the less of the frame shows through: none of it with `alpha` 1 at heat 1. `box` is the part that the
    heat is of, drawn as a line; without, it is of the whole frame.
    """
    import cv2

    _, height, width, _ = frames_thwc.shape
    area = box or Box(0, 0, height, width)
    rows, columns = slice(area.top, area.top + area.height), slice(area.left, area.left + area.width)
    result = frames_thwc.copy()
    for frame, cold in zip(result, heat, strict=True):
        warm = cv2.resize(cold.astype(np.float32), (area.width, area.height), interpolation=cv2.INTER_CUBIC)
        warm = np.clip(warm, 0, 1)  # cubic curves swing over
        colours = cv2.applyColorMap((warm * HOTTEST).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
        opacity = alpha * warm[..., None]
        frame[rows, columns] = ((1 - opacity) * frame[rows, columns] + opacity * colours + 0.5).astype(np.uint8)
        if box is not None:
            corners = (area.left, area.top), (area.left + area.width - 1, area.top + area.height - 1)
            cv2.rectangle(frame, *corners, WHITE, max(1, min(height, width) // 240))
    return result


def label_frames(frames_thwc: np.ndarray, lines: Sequence[str]) -> np.ndarray:
    """Write a line over the top of each frame: uint8 `[T, H, W, 3]` -> the same. What is not ASCII becomes a "?"."""
    import cv2

    result = frames_thwc.copy()
    height, width = result.shape[1:3]
    for frame, line in zip(result, lines, strict=True):
        text = line.encode("ascii", "replace").decode("ascii")
        (text_width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 1.0, 1)
        scale = min(height / 480, 0.95 * width / max(text_width, 1))
        thickness = max(1, round(scale))
        (_, text_height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
        margin = max(2, below // 2)
        band = frame[: text_height + below + 2 * margin]
        band[:] = band // 3  # darkened, so that the line can be read on any frame
        place = (2 * margin, text_height + below // 2 + margin)
        cv2.putText(frame, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, WHITE, thickness, cv2.LINE_AA)
    return result


def contact_sheet(frames_thwc: np.ndarray, columns: int = 4) -> np.ndarray:
    """Frames in rows, one after the other: uint8 `[T, H, W, 3]` -> `[rows*H, columns*W, 3]`, the rest black."""
    num_frames, height, width, channels = frames_thwc.shape
    columns = min(columns, num_frames)
    rows = -(-num_frames // columns)
    sheet = np.zeros((rows * columns, height, width, channels), np.uint8)
    sheet[:num_frames] = frames_thwc
    sheet = sheet.reshape(rows, columns, height, width, channels)
    return sheet.swapaxes(1, 2).reshape(rows * height, columns * width, channels)


def beside(left_thwc: np.ndarray, right_thwc: np.ndarray) -> np.ndarray:
    """Two clips as one: uint8 `[T, H, W, 3]` twice -> `[T, H, 2*W, 3]`."""
    return np.concatenate([left_thwc, right_thwc], axis=2)


def write_video(path: str | Path, clips: Iterable[np.ndarray], fps: float) -> int:
    """Encode clips uint8 `[T, H, W, 3]`, one after the other, and return the number of frames.

    H.264 in yuv420p, which every browser plays, MPEG-4 where PyAV has no libx264. Odd sides lose a row or a column.
    The file is there once it is whole.
    """
    import av

    path = Path(path)
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    num_frames = 0
    try:
        with av.open(str(part), "w", options={"movflags": "faststart"}) as container:
            stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(10_000))
            if codec == "libx264":
                stream.options = {"crf": "18", "preset": "veryfast"}
            stream.pix_fmt = "yuv420p"
            for clip_thwc in clips:
                height, width = (side // 2 * 2 for side in clip_thwc.shape[1:3])
                if num_frames == 0:
                    stream.height, stream.width = height, width
                for frame in clip_thwc:
                    picture = np.ascontiguousarray(frame[:height, :width])
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
                    num_frames += 1
            container.mux(stream.encode())
        part.replace(path)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()
    return num_frames
