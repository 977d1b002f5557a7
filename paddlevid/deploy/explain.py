"""A video and a graph that shows where it looks -> what it saw, its answer, and a video of both."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from paddlevid.build import build_views
from paddlevid.data.dataset import FrameSource
from paddlevid.data.records import Record
from paddlevid.data.transforms import ResizeShortSide, center_crop
from paddlevid.deploy.manifest import Manifest
from paddlevid.deploy.overlay import (
    Box,
    beside,
    contact_sheet,
    crop_box,
    interpolate_maps,
    label_frames,
    maps_of_class,
    overlay,
    scale_maps,
)
from paddlevid.errors import ConfigError

SHORT_SIDES = (320, 480)  # of the video made: smaller frames are scaled up, larger ones down
SHEET_SHORT_SIDE = 240  # of a frame in the picture
FRAMES_AT_ONCE = 64  # of a video that is drawn: a long one does not fit into memory

Run = Callable[[np.ndarray], Sequence[np.ndarray]]  # an explain graph: uint8 [B, T, H, W, C] -> logits, maps
NO_RANDOMNESS = np.random.default_rng(0)


class Explanation(NamedTuple):
    """What a model says of one clip of a video, and where in it it looks.

    `frames` uint8 `[S, H, W, 3]` are whole, of which the model saw `box`, the first ones of its snippets; `sampled`
    `[S]` are their numbers in the video, which has `fps` of them a second. `logits` `[K]`; `maps` `[S, h, w, K or 1]`
    cover the box.
    """

    frames: np.ndarray
    box: Box
    sampled: np.ndarray
    fps: float
    logits: np.ndarray
    maps: np.ndarray


def explain_video(run: Run, manifest: Manifest, record: Record) -> Explanation:
    """Run an explain graph, uint8 `[1, T, H, W, C]` -> logits and maps, on the first clip of a video, its centre.

    Raises:
        DataError: the video cannot be read.
    """
    views = build_views(manifest.data, manifest.views)
    with views.source.open(record) as reader:
        clips = views.sampling(reader.num_frames, reader.fps, rng=None, num_clips=views.num_clips)  # [clips, T]
        frames, fps = reader.read(clips[0]), reader.fps
    resized = ResizeShortSide(views.short_side)(frames, NO_RANDOMNESS)
    logits, maps = run(np.ascontiguousarray(center_crop(resized, views.size)))
    sampled = clips[0, :: manifest.data.frames_per_snippet]
    if manifest.data.modality != "rgb":
        with views.source.open_to_show(record) as reader:
            frames = reader.read(sampled)
    _, height, width, _ = frames.shape
    box, _ = crop_box(height, width, views.short_side, "center", views.size)
    return Explanation(frames, box, sampled, fps, logits[0], maps[0])


def find_class(names: Sequence[str], wanted: str) -> int:
    """The label of a class that is given by its name, in any case, or by its number.

    Raises:
        ConfigError: there is no such class.
    """
    folded = [name.casefold() for name in names]
    if wanted.casefold() in folded:
        return folded.index(wanted.casefold())
    if wanted.isdecimal() and int(wanted) < len(names):
        return int(wanted)
    close = difflib.get_close_matches(wanted.casefold(), folded, n=1, cutoff=0.5)
    hint = f"did you mean {names[folded.index(close[0])]!r}?" if close else f"labels are 0 to {len(names) - 1}"
    raise ConfigError(f"no class {wanted!r}: {hint}")


def draw_video(
    explanation: Explanation, source: FrameSource, record: Record, label: int, title: str
) -> Iterator[np.ndarray]:
    """The clip at its full rate, as it is beside where the model looks: pieces uint8 `[M, H, 2*W, 3]`.

    It goes from the first of the frames that the model saw to the last one; between them the maps change linearly.
    """
    heat = scale_maps(maps_of_class(explanation.maps, label))  # [T, h, w]
    sampled = explanation.sampled
    numbers = np.arange(sampled.min(), sampled.max() + 1)
    with source.open_to_show(record) as reader:
        for start in range(0, len(numbers), FRAMES_AT_ONCE):
            piece = numbers[start : start + FRAMES_AT_ONCE]
            frames, box = _to_show(reader.read(piece), explanation.box, SHORT_SIDES)
            warm = overlay(frames, interpolate_maps(heat, sampled, piece), box)
            times = [f"{number / explanation.fps:.2f} s" for number in piece]
            yield beside(label_frames(frames, times), label_frames(warm, [title] * len(piece)))


def draw_sheet(explanation: Explanation, label: int, title: str) -> np.ndarray:
    """The frames that the model saw, and where it looks in them: uint8 `[H, W, 3]`, four in a row."""
    heat = scale_maps(maps_of_class(explanation.maps, label))
    frames, box = _to_show(explanation.frames, explanation.box, (SHEET_SHORT_SIDE, SHEET_SHORT_SIDE))
    lines = [f"{number / explanation.fps:.2f} s  {title}" for number in explanation.sampled]
    return contact_sheet(label_frames(overlay(frames, heat, box), lines))


def write_picture(path: str | Path, picture: np.ndarray) -> None:
    """Write uint8 RGB `[H, W, 3]` as .png or .jpg."""
    import cv2

    _, encoded = cv2.imencode(Path(path).suffix, picture[..., ::-1])
    Path(path).write_bytes(encoded.tobytes())


def _to_show(frames_thwc: np.ndarray, box: Box, short_sides: tuple[int, int]) -> tuple[np.ndarray, Box]:
    """Frames with a short side in a range, and where the box is in them."""
    height, width = frames_thwc.shape[1:3]
    shown = ResizeShortSide(min(max(min(height, width), short_sides[0]), short_sides[1]))(frames_thwc, NO_RANDOMNESS)
    down, across = shown.shape[1] / height, shown.shape[2] / width
    top, bottom = round(box.top * down), round((box.top + box.height) * down)
    left, right = round(box.left * across), round((box.left + box.width) * across)
    return shown, Box(top, left, bottom - top, right - left)
