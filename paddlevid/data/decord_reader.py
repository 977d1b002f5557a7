"""Frames by index through decord, as far as it can be trusted."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from paddlevid.data.clip import Clip, distinct
from paddlevid.data.limits import WAY_OUT, check_convertible
from paddlevid.data.packet_index import index_packets
from paddlevid.data.pyav_container import open_container, video_stream
from paddlevid.data.structure import DamagedVideoError
from paddlevid.errors import DataError

_SEEKABLE = ("mov,", "matroska,", "flv")
_READ_FORWARD = ("avi", "asf")  # after seeking it takes the wrong frames, even of simple files
_PADDED = "decord cannot read videos of this width (it takes padding for channels): choose the decoder pyav or auto"


def has_decord(*, demanded: bool) -> bool:
    try:
        import cv2  # noqa: F401  (decord brings its own zlib: loaded first, it makes OpenCV read PNG files wrongly)
        import decord  # noqa: F401
    except ImportError as error:
        if demanded:
            raise DataError(
                f"decoder decord cannot be loaded ({_one_line(error)}): install it (pip install decord), or choose the"
                " decoder pyav"
            ) from None
        return False
    return True


class DecordReader:
    """Reads by decord's `get_batch` where that is right: decord takes the place of a key frame in the file for its
    number, and so gives frames up to 10 away from those asked for in videos with open groups of pictures (many in HEVC,
    MPEG-4 and MPEG-2), and in AVI. Those are read forward, one frame after the other. In transport streams even that
    begins some frames late: DataError.

    Where the width divides the length of a line with its padding, as 16, 24, 48 and 72 pixels do, decord takes the
    padding for more channels. Reading those raises DataError, as does what it would convert to other colours (more than
    8 bits, interlaced, odd sizes with half the colours), and where it counts frames that an edit list leaves out. Its
    FFmpeg is of 2019: its MPEG-4 (Part 2) pictures may be 2 grey levels off at a few pixels in 100,000. Frames that it
    guesses at because bytes are damaged pass in silence: PyAV tells.
    """

    def __init__(self, path: str, num_threads: int) -> None:
        import decord

        decord.logging.set_level(decord.logging.QUIET)
        self._path = path
        self._num_threads = num_threads
        # Also because decord prints its reason, and hides it from its caller, when it cannot open a file.
        with open_container(path, "decord") as container:
            stream = video_stream(container)
            check_convertible(path, container, stream, "decord")
            index = index_packets(container, stream)
            form = container.format.name
            if stream.frames > os.path.getsize(path):  # decord makes room for as many, and may end the process
                raise DamagedVideoError(f"{path}: damaged: its head promises {stream.frames} frames")
        if not form.startswith((*_SEEKABLE, *_READ_FORWARD)):
            raise DataError(f"{path}: decord does not read files of this kind ({form}) exactly: {WAY_OUT}")
        self._can_seek = index is not None and index.can_seek_by_number and form.startswith(_SEEKABLE)
        self._reader = self._open()
        self.num_frames = len(self._reader)
        if index is not None and len(index.times) != self.num_frames:
            raise DataError(
                f"{path}: decord counts {self.num_frames} frames, of which {len(index.times)} are shown: {WAY_OUT}"
            )
        self.fps = float(self._reader.get_avg_fps())

    def read(self, indices: np.ndarray) -> np.ndarray:
        wanted, positions = distinct(indices, self.num_frames)
        with self._errors(f"cannot decode frames {wanted[0]} to {wanted[-1]} of {self.num_frames}"):
            if not self._can_seek:
                return self._read_in_order(wanted, positions)
            frames = self._reader.get_batch(wanted).asnumpy()
            return frames if np.array_equal(wanted, indices) else frames[positions]

    def _read_in_order(self, wanted: np.ndarray, positions: np.ndarray) -> np.ndarray:
        reader = self._open()
        clip = Clip(self._path, positions)
        for number in range(wanted[-1] + 1):
            frame = reader.next()
            if frame.shape[2] != 3:
                raise DataError(f"{self._path}: {_PADDED}")
            if number in wanted:
                clip.put(int(np.searchsorted(wanted, number)), frame.asnumpy())
        return clip.frames()

    def _open(self) -> Any:
        import decord

        with self._errors("cannot open this video"):
            # fault_tol: fail if a frame had to be replaced by a neighbour, which decord does in silence by default.
            return decord.VideoReader(self._path, ctx=decord.cpu(0), num_threads=self._num_threads, fault_tol=1e-9)

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        import decord

        # RuntimeError: a file that cannot be opened; AssertionError: one without frames; StopIteration: past the end.
        kinds = (RuntimeError, AssertionError, StopIteration, decord.DECORDError, decord.DECORDLimitReachedError)
        try:
            yield
        except kinds as error:
            if "from_size == to_size" in str(error):
                raise DataError(f"{self._path}: {_PADDED}") from None
            raise DataError(f"{self._path}: decord {what} (damaged or cut off?): {_one_line(error)}") from None

    def __enter__(self) -> "DecordReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._reader = None


def _one_line(error: BaseException) -> str:
    """A decoder's message without its trace, on one line."""
    text = str(error).split("Stack trace")[0]
    text = re.sub(r"\[\d\d:\d\d:\d\d\] \S+:\d+: ", "", text)  # decord's time and line of source
    return " ".join(text.split())[:200]
