"""Frames by index through OpenCV, as far as it can be trusted."""

from __future__ import annotations

import os
from bisect import bisect_left
from typing import Any

import numpy as np

from paddlevid.data.clip import Clip, distinct
from paddlevid.data.limits import WAY_OUT, check_convertible
from paddlevid.data.packet_index import index_packets
from paddlevid.data.pyav_container import frame_rate, open_container, video_stream
from paddlevid.data.pyav_reader import count_frames
from paddlevid.errors import DataError

_SEEKABLE = ("mov,", "matroska,", "flv")
_BEFORE = 16  # OpenCV winds to the key frame before this many frames before the one that it was asked for


class OpencvReader:
    """Reads forward with `cv2.VideoCapture`, and converts the wanted frames alone.

    It winds where that saves frames, and only in containers that tell their times: OpenCV winds by number x rate, which
    is another frame where the rate varies, so frames are known by their times.

    What it would convert to other colours than PyAV (more than 8 bits, interlaced, odd sizes with half the colours)
    raises DataError; all others are equal to the last bit. So does AV1 where OpenCV has no decoder for it. Frames that
    it guesses at because bytes are damaged pass in silence: PyAV tells.
    """

    def __init__(self, path: str, num_threads: int) -> None:
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET: errors are told by exceptions
        self._path = path
        self._num_threads = num_threads
        with open_container(path, "opencv") as container:
            stream = video_stream(container)
            check_convertible(path, container, stream, "opencv")
            self.fps = frame_rate(stream)
            index = index_packets(container, stream)
            is_seekable = index is not None and container.format.name.startswith(_SEEKABLE)
            unit_msec = float(1000 * stream.time_base)
        # OpenCV itself gives length x rate for the number of frames
        self.num_frames = count_frames(path) if index is None else len(index.times)
        if self.num_frames == 0 or not self.fps:
            raise DataError(f"{path}: opencv finds no frames in this video")
        self._times_msec: list[float] | None = None  # by which frames are known
        self._keyframes = [0]
        if index is not None and is_seekable:
            self._times_msec = [(time - index.times[0]) * unit_msec for time in index.times]
            self._keyframes = [bisect_left(index.times, time) for time in index.keyframes]
        self._capture = self._open()
        self._next = 0  # the number of the frame that is grabbed next

    def read(self, indices: np.ndarray) -> np.ndarray:
        import cv2

        wanted, positions = distinct(indices, self.num_frames)
        clip = Clip(self._path, positions)
        for rank, number in enumerate(wanted.tolist()):
            self._grab(number)
            is_read, frame_bgr = self._capture.retrieve()
            if not is_read:
                raise self._error(number, "it cannot be converted")
            clip.put(rank, cv2.cvtColor(frame_bgr, cv2.COLOR_BGR2RGB))
        return clip.frames()

    def _grab(self, number: int) -> None:
        """Make a frame the one that `retrieve` gives."""
        import cv2

        if number == self._next - 1:
            return
        if self._times_msec is not None:
            start = self._keyframe_before(number - _BEFORE)
            if start > self._next or (number < self._next and start > 0):
                self._capture.set(cv2.CAP_PROP_POS_FRAMES, number)
                if self._capture.grab() and self._is_at(number):
                    self._next = number + 1
                    return
                self._next = self.num_frames  # begin anew
        if number < self._next:
            self._capture = self._open()
            self._next = 0
        while self._next <= number:
            if not self._capture.grab():
                raise self._error(self._next, "the video ends before it")
            self._next += 1
        if not self._is_at(number):
            raise self._error(number, "frames before it are missing")

    def _is_at(self, number: int) -> bool:
        """Whether the frame grabbed last is shown when this one is."""
        import cv2

        if self._times_msec is None:
            return True
        return abs(self._capture.get(cv2.CAP_PROP_POS_MSEC) - self._times_msec[number]) < 0.01

    def _keyframe_before(self, number: int) -> int:
        return max((key for key in self._keyframes if key <= number), default=0)

    def _open(self) -> Any:
        import cv2

        capture = cv2.VideoCapture(self._path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, self._num_threads])
        if not capture.isOpened():
            raise DataError(f"{self._path}: opencv cannot open this video: {WAY_OUT}")
        return capture

    def _error(self, number: int, reason: str) -> DataError:
        return DataError(
            f"{self._path}: opencv cannot decode frame {number} of {self.num_frames} (damaged, cut off, or a codec that"
            f" it does not have?): {reason}; {WAY_OUT}"
        )

    def __enter__(self) -> OpencvReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._capture.release()
