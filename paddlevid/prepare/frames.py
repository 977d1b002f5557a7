"""Videos -> folders of numbered pictures."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from paddlevid.data.isolated import Tick
from paddlevid.data.transforms import ResizeShortSide
from paddlevid.errors import DataError
from paddlevid.prepare.decoding import frames_at_rate, survey
from paddlevid.prepare.journal import Made

PICTURE_SUFFIXES = {".jpg": "jpg", ".jpeg": "jpg", ".png": "png"}


@dataclass(frozen=True)
class Pictures:
    """How frames become pictures: all of them, or those shown at `fps`; `short_side` None leaves their size.

    `quality` is that of JPEG, 0 to 100. Smaller frames are scaled up to the short side only with `enlarge`.
    """

    template: str = "img_{:05d}.jpg"
    start_index: int = 1
    short_side: int | None = None
    enlarge: bool = False
    fps: Fraction | None = None
    quality: int = 95

    def __post_init__(self) -> None:
        try:
            names = {self.template.format(number) for number in (1, 2)}
        except (ValueError, IndexError, KeyError, AttributeError) as error:
            raise DataError(f"template {self.template!r}: {error}") from None
        if len(names) == 1 or os.path.basename(self.template) != self.template:
            raise DataError(f"template {self.template!r} must be a name with a place for a number: img_{{:05d}}.jpg")
        if self.suffix not in PICTURE_SUFFIXES:
            raise DataError(f"template {self.template!r} must end in {', '.join(PICTURE_SUFFIXES)}")

    @property
    def suffix(self) -> str:
        return os.path.splitext(self.template)[1].lower()

    def settings(self) -> dict[str, Any]:
        """What the pictures depend on, for JSON."""
        plain = {key: str(value) if isinstance(value, Fraction) else value for key, value in asdict(self).items()}
        return {"made_by": "extract_frames", **plain}


def extract_video(pictures: Pictures, path: str, folder: Path, tick: Tick) -> Made:
    """Write the pictures of a video into a new folder: the frames of sequential decoding, upright.

    Raises:
        DataError: the video cannot be read to its end, or its frames change size.
    """
    from paddlevid.data.rgb import RgbConverter

    footage = survey(path)
    shown = np.arange(len(footage.times_sec))
    if pictures.fps is not None:
        shown = frames_at_rate(footage.times_sec, pictures.fps)
    repeats = Counter(shown.tolist())
    folder.mkdir()
    to_rgb, shape = RgbConverter(), (0, 0, 0)
    written: list[Path] = []
    num_bytes = 0
    for number, frame in enumerate(footage.frames(tick)):
        if not repeats[number]:
            continue
        picture = _scale(to_rgb(frame), pictures)
        if number and picture.shape != shape:
            raise DataError(f"{path}: its frames differ in size from frame {number} on")
        shape = picture.shape
        content = _encode(picture, pictures)
        for _ in range(repeats[number]):
            written.append(folder / pictures.template.format(pictures.start_index + len(written)))
            written[-1].write_bytes(content)
            num_bytes += len(content)
    flush(written)
    return Made(len(written), float(pictures.fps or footage.fps), num_bytes)


def _scale(frame_hwc: np.ndarray, pictures: Pictures) -> np.ndarray:
    """Averages over areas, where bilinear interpolation would leave pixels out."""
    short_side = min(frame_hwc.shape[:2])
    wanted = pictures.short_side or short_side
    if wanted == short_side or (wanted > short_side and not pictures.enlarge):
        return frame_hwc
    resize = ResizeShortSide(wanted, "area" if wanted < short_side else "bicubic")
    return resize(frame_hwc[None], np.random.default_rng(0))[0]


def _encode(frame_hwc: np.ndarray, pictures: Pictures) -> bytes:
    import cv2

    cv2.setNumThreads(1)
    options = [] if pictures.suffix == ".png" else [cv2.IMWRITE_JPEG_QUALITY, pictures.quality]
    is_encoded, content = cv2.imencode(pictures.suffix, cv2.cvtColor(frame_hwc, cv2.COLOR_RGB2BGR), options)
    assert is_encoded
    return content.tobytes()


def flush(files: list[Path]) -> None:
    """Have the files on the disk before their folder counts as whole: a loss of power would leave empty ones."""
    for file in files:
        with open(file, "rb") as opened:
            os.fsync(opened.fileno())
