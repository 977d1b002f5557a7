"""Frames by index, from a video file or a folder of pictures: one interface, `FrameReader`.

Readers are made in the process that uses them; importing this module opens and loads nothing.
"""

import os
import re
import stat
from typing import Protocol

import numpy as np

from paddlevid.data.clip import Clip, distinct
from paddlevid.data.decord_reader import DecordReader, has_decord
from paddlevid.data.opencv_reader import OpencvReader
from paddlevid.data.pyav_reader import PyavReader
from paddlevid.data.structure import check_structure
from paddlevid.errors import DataError

DECODERS = ("auto", "decord", "opencv", "pyav")


class FrameReader(Protocol):
    """What reads frames, for a `with` block. Frames are numbered from 0 in the order in which they are shown."""

    @property
    def num_frames(self) -> int: ...

    @property
    def fps(self) -> float: ...

    def read(self, indices: np.ndarray) -> np.ndarray:
        """The frames at the indices `[T]`, in any order, as uint8 `[T, H, W, C]`; repeats are decoded once.

        Raises DataError if a frame cannot be decoded, IndexError if there is no such frame.
        """
        ...

    def __enter__(self) -> "FrameReader": ...

    def __exit__(self, *_: object) -> None: ...


def open_video(path: str | os.PathLike[str], decoder: str = "auto", num_threads: int = 1) -> FrameReader:
    """Open a video file with `decoder`: "decord", "opencv", "pyav" or "auto".

    All give the same frames of good files, in RGB and turned upright where the file says how, or raise DataError: the
    first two cannot read all that PyAV reads. "auto" is PyAV: with one thread it takes the least time in all containers
    and codecs (benchmarks/decoders.py), and it tells when it had to guess at damaged frames, which the others do in
    silence.

    Raises DataError if the file is missing, no video, cut off or damaged, or if the decoder cannot open it or is not
    installed.
    """
    if decoder not in DECODERS:
        raise ValueError(f"decoder {decoder!r} must be one of {', '.join(DECODERS)}")
    path = os.fspath(path)
    check_file(path)
    check_structure(path)
    if decoder == "decord" and has_decord(demanded=True):
        return DecordReader(path, num_threads)
    if decoder == "opencv":
        return OpencvReader(path, num_threads)
    return PyavReader(path, num_threads)


class FrameFolder:
    """A folder of `num_frames` pictures, named by `template` and numbers from `start_index`, e.g. "img_{:05d}.jpg".

    With `is_flow` the frames are optical flow, uint8 `[T, H, W, 2]`: two grey pictures each, where the template has a
    place for the axis, x and y ("flow_{axis}_{:05d}.jpg"), else one with x in red and y in green. A folder has no frame
    rate of its own: `fps` is that of its extraction.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        num_frames: int,
        template: str = "img_{:05d}.jpg",
        start_index: int = 1,
        fps: float = 30.0,
        *,
        is_flow: bool = False,
    ) -> None:
        try:
            names = {template.format(number, axis="x") for number in (0, 1)}
        except (ValueError, IndexError, KeyError, AttributeError) as error:
            raise ValueError(f"frame template {template!r}: {error}") from None
        if len(names) == 1:
            raise ValueError(f"frame template {template!r} has no place for a number, such as {{:05d}}")
        self.path = os.fspath(path)
        self.num_frames = num_frames
        self.fps = fps
        self._template = template
        self._start_index = start_index
        self._is_flow = is_flow
        self._axes = ("x", "y") if "{axis" in template else ("",)
        if self._axes != ("",) and not is_flow:
            raise ValueError(f"frame template {template!r} is one of optical flow")
        if not os.path.isdir(self.path):
            raise DataError(f"{self.path}: no such folder of frames")

    def read(self, indices: np.ndarray) -> np.ndarray:
        wanted, positions = distinct(indices, self.num_frames)
        clip = Clip(self.path, positions)
        for rank, index in enumerate(wanted):
            clip.put(rank, self._read_picture(int(index) + self._start_index))
        return clip.frames()

    def _read_picture(self, number: int) -> np.ndarray:
        import cv2

        planes = []
        for axis in self._axes:
            file = os.path.join(self.path, self._template.format(number, axis=axis))
            flag = cv2.IMREAD_GRAYSCALE if axis else cv2.IMREAD_COLOR
            try:
                data = np.fromfile(file, np.uint8)
            except OSError as error:
                last = self._start_index + self.num_frames - 1
                hint = "; a video of N frames has N - 1 flows" if self._is_flow else ""
                raise DataError(
                    f"{file}: {error.strerror or error}; its list gives the folder frames"
                    f" {self._start_index} to {last}, named {self._template}{hint}"
                ) from None
            picture = cv2.imdecode(data, flag) if data.size else None
            if picture is None:
                raise DataError(f"{file}: not a picture that OpenCV can read ({data.size} bytes)")
            planes.append(picture if axis else cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
        if len(planes) == 1:
            return planes[0][..., :2] if self._is_flow else planes[0]
        if planes[0].shape != planes[1].shape:
            raise DataError(f"{self.path}: the x and y pictures of frame {number} differ in size")
        return np.stack(planes, axis=-1)  # [H, W, 2]

    def __enter__(self) -> "FrameFolder":
        return self

    def __exit__(self, *_: object) -> None:
        pass


_PICTURES = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n",
    "BMP": rb"BM....\0\0\0\0",
    "TIFF": rb"II\*\0|MM\0\*",
    "WebP": rb"RIFF....WEBP",
}


def check_file(path: str) -> None:
    """Raise DataError if there is no file, or it is empty, a folder or a picture."""
    if os.path.isdir(path):
        raise DataError(f"{path}: is a folder, not a video file (for a folder of frames, use a list of frames)")
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # such as a pipe, which may never answer
            raise DataError(f"{path}: is no regular file")
        with open(path, "rb") as file:
            head = file.read(16)
    except OSError as error:
        raise DataError(f"{path}: cannot read this video: {error.strerror or error}") from None
    if not head:
        raise DataError(f"{path}: this video is empty (0 bytes)")
    for kind, magic in _PICTURES.items():
        if re.match(magic, head, re.DOTALL):
            raise DataError(f"{path}: is a picture ({kind}), not a video")
