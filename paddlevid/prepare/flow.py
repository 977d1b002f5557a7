"""Videos -> folders of numbered pictures of optical flow."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from paddlevid.data.flow.colours import flow_colours
from paddlevid.data.flow.method import FlowMethod
from paddlevid.data.flow.note import NOTE_FILE, FlowNote
from paddlevid.data.isolated import Tick
from paddlevid.data.video import FrameFolder, open_video
from paddlevid.errors import DataError
from paddlevid.pictures import clip_grid, encode_png, spread
from paddlevid.prepare.decoding import Footage, frames_at_rate, survey
from paddlevid.prepare.frames import flush
from paddlevid.prepare.journal import Made
from paddlevid.processes import keep_freed_memory
from paddlevid.runtime import atomic_write

TEMPLATES = {"pair": "flow_{axis}_{:05d}", "one": "flow_{:05d}"}
FORMATS = {"pair": "jpg", "one": "png"}  # JPEG mixes colours
PREVIEW_HEIGHT, PREVIEW_MOMENTS = 128, 3


@dataclass(frozen=True)
class FlowPictures:
    """How flow is computed and written: two grey pictures each, where the template has an {axis}, or one in colour.

    In colour x is red, y is green, and blue is 0. `quality` is that of JPEG, 0 to 100; `fps`, if any, the rate of
    the frames that flow is computed between.
    """

    method: FlowMethod
    template: str = "flow_{axis}_{:05d}.jpg"
    start_index: int = 1
    fps: Fraction | None = None
    quality: int = 95

    def __post_init__(self) -> None:
        if os.path.basename(self.template) != self.template:
            raise DataError(f"template {self.template!r} must be a name, not a path")
        if self.suffix not in (".jpg", ".jpeg", ".png"):
            raise DataError(f"template {self.template!r} must end in .jpg, .jpeg or .png")

    @property
    def suffix(self) -> str:
        return os.path.splitext(self.template)[1].lower()

    @property
    def axes(self) -> tuple[str, ...]:
        return ("x", "y") if "{axis" in self.template else ("",)

    def note(self) -> FlowNote:
        """What whoever reads the pictures has to know."""
        method, fps = self.method, None if self.fps is None else float(self.fps)
        return FlowNote(
            method.algorithm, method.bound, method.short_side, method.warp, self.template, self.start_index, fps
        )

    def settings(self) -> dict[str, Any]:
        """What the pictures depend on, for JSON."""
        return {
            "made_by": "extract_flow",
            **self.method.settings(),
            "template": self.template,
            "start_index": self.start_index,
            "fps": None if self.fps is None else str(self.fps),
            "quality": None if self.suffix == ".png" else self.quality,
        }


def extract_flow(pictures: FlowPictures, path: str, folder: Path, tick: Tick) -> Made:
    """Write the flow between each two consecutive frames of a video, upright, into a new folder: of N frames N - 1.

    Raises:
        DataError: the video has one frame, cannot be read to its end, or its frames change size.
    """
    footage = survey(path)
    numbers = shown_frames(footage, pictures.fps)
    keep_freed_memory()
    folder.mkdir()
    num_flows = num_bytes = 0
    before: np.ndarray | None = None
    with _flushed() as written:
        for frame in _scaled_frames(footage, numbers, pictures.method, tick):
            if before is not None:
                picture = pictures.method.picture(before, frame)
                for name, content in encode_flow(picture, pictures, pictures.start_index + num_flows):
                    (folder / name).write_bytes(content)
                    written(folder / name)
                    num_bytes += len(content)
                num_flows += 1
                tick()  # one of TV-L1 takes seconds
            before = frame
    assert num_flows == len(numbers) - 1
    return Made(num_flows, float(pictures.fps or footage.fps), num_bytes)


@contextlib.contextmanager
def _flushed() -> Iterator[Callable[[Path], None]]:
    """Have the disk busy while flow is computed: files that it is told of are on the disk when the block ends."""
    files: SimpleQueue[Path | None] = SimpleQueue()

    def flush_all() -> None:
        while (file := files.get()) is not None:
            flush([file])

    with ThreadPoolExecutor(1) as threads:
        flushing = threads.submit(flush_all)
        try:
            yield files.put
        finally:
            files.put(None)
        flushing.result()


def shown_frames(footage: Footage, fps: Fraction | None) -> np.ndarray:
    """Which frames flow is computed between, int64 `[N]`, not falling: all, or those shown at a rate.

    Raises:
        DataError: there are not two of them.
    """
    numbers = np.arange(len(footage.times_sec)) if fps is None else frames_at_rate(footage.times_sec, fps)
    if len(numbers) < 2:
        rate = "" if fps is None else f" at {float(fps):g} a second"
        raise DataError(f"{footage.path}: has one frame{rate}; flow lies between two")
    return numbers


def _scaled_frames(
    footage: Footage, numbers: Sequence[int] | np.ndarray, method: FlowMethod, tick: Tick
) -> Iterator[np.ndarray]:
    """The frames of these numbers, uint8 RGB `[h, w, 3]`; the same object again where a number repeats."""
    import cv2

    from paddlevid.data.rgb import RgbConverter

    cv2.setNumThreads(1)  # a process a core
    to_rgb, repeats, shape = RgbConverter(), Counter(np.asarray(numbers).tolist()), None
    for number, frame in enumerate(footage.frames(tick)):
        if not repeats[number]:
            continue
        frame_hwc = to_rgb(frame)
        if shape not in (None, frame_hwc.shape):
            raise DataError(f"{footage.path}: its frames differ in size from frame {number} on")
        shape = frame_hwc.shape
        scaled = method.scale(frame_hwc)
        for _ in range(repeats[number]):
            yield scaled


def encode_flow(flow_hw2: np.ndarray, pictures: FlowPictures, number: int) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the files of one flow, uint8 `[H, W, 2]`."""
    import cv2

    if pictures.suffix == ".png":  # a fifth smaller than by default; what is smaller takes several times as long
        options = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
    else:  # colours of half the resolution would blur the motion
        options = [cv2.IMWRITE_JPEG_QUALITY, pictures.quality]
        options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    for index, axis in enumerate(pictures.axes):
        plane = np.ascontiguousarray(flow_hw2[..., index])
        if not axis:
            plane = cv2.merge([np.zeros_like(plane), np.ascontiguousarray(flow_hw2[..., 1]), plane])  # BGR
        is_encoded, content = cv2.imencode(pictures.suffix, plane, options)
        assert is_encoded
        yield pictures.template.format(number, axis=axis), content.tobytes()


def write_note(folder: Path, pictures: FlowPictures) -> None:
    """Say in `folder` what its pictures are."""
    text = pictures.note().dumps()
    atomic_write(folder / NOTE_FILE, lambda path: Path(path).write_text(text, encoding="utf-8"))


# ---- for people to look at -----------------------------------------------------------------------------------------


def write_preview(path: Path, pictures: FlowPictures, videos: Sequence[tuple[str, Path, Made]]) -> None:
    """Write a PNG with a row for each video, of its path, its folder and what was made: some frames and their flow."""
    rows = [_preview_row(pictures, *video) for video in videos]
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    content = encode_png(np.concatenate(padded))
    atomic_write(path, lambda temporary: Path(temporary).write_bytes(content))


def _preview_row(pictures: FlowPictures, path: str, folder: Path, made: Made) -> np.ndarray:
    """Frames and flows of one video side by side, uint8 `[H, W, 3]`, with a caption."""
    numbers = spread(made.num_frames, PREVIEW_MOMENTS + 2)[1:-1] if made.num_frames > 2 else np.zeros(1, np.int64)
    flows = FrameFolder(folder, made.num_frames, pictures.template, pictures.start_index, is_flow=True).read(numbers)
    with open_video(path) as reader:
        frames = reader.read(shown_frames(survey(path), pictures.fps)[numbers])
    frames = np.stack([pictures.method.scale(frame) for frame in frames])
    beyond = np.isin(flows, (0, 255)).any(axis=-1).mean()
    caption = f"{folder.name}: right is red, down yellow, left cyan, up violet"
    if beyond >= 0.001:
        caption += f"; {beyond:.1%} is at the bound of {pictures.method.bound:g} pixels"
    both = np.concatenate([frames, flow_colours(flows)], axis=2)  # [T, H, 2W, 3]
    return clip_grid(both[None, None], [caption], height=PREVIEW_HEIGHT)
