"""The floor of a decoder: wanted frames of a file as RGB, by FFmpeg alone, with nothing of this package around it."""

from __future__ import annotations

from bisect import bisect_right
from itertools import groupby
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from paddlevid.data.skipping import skips_exactly


class Shown(NamedTuple):
    """The times at which a video's frames and key frames are shown, rising, in the units of the file."""

    times: list[int]
    keyframes: list[int]


def times_shown(file: str | BinaryIO) -> Shown | None:
    """None where packets do not tell: such videos are decoded from their beginning."""
    import av

    times, keyframes = [], []
    with av.open(file) as container:
        stream = container.streams.video[0]
        for packet in container.demux(stream):
            if packet.size:
                times.append(packet.pts)
                if packet.is_keyframe:
                    keyframes.append(packet.pts)
        reordered = stream.codec_context.has_b_frames
    if None in times or len(set(times)) < len(times) or not keyframes or (reordered and times == sorted(times)):
        return None
    first = min(keyframes)  # what is shown before it needs frames that are not in the file
    return Shown(sorted(time for time in times if time >= first), sorted(keyframes))


def decode(file: str | BinaryIO, indices: np.ndarray, shown: Shown | None) -> list[np.ndarray]:
    """The distinct frames of `indices`, uint8 `[H, W, 3]`, by rising number, with one thread.

    With the times at which frames are `shown`, it seeks to the key frame before each, and decodes none that is neither
    wanted nor referred to, where that leaves the others as they are. Fewer frames come back where not all are found.
    """
    import av

    wanted = [int(index) for index in np.unique(indices)]
    convert = _Converter()
    with av.open(file) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        stream.codec_context.thread_type = "SLICE"
        if shown is None:
            return _in_order(container, wanted, convert)
        found: list[np.ndarray] = []
        for keyframe, times in groupby(
            [shown.times[index] for index in wanted], lambda time: bisect_right(shown.keyframes, time) - 1
        ):
            if keyframe > 0:
                container.seek(shown.keyframes[keyframe], stream=stream)
            found += _by_time(container, stream, set(times), convert)
        return found


def _by_time(container: Any, stream: Any, waiting: set[int], convert: _Converter) -> list[np.ndarray]:
    found = []
    unwanted = "NONREF" if skips_exactly(stream.codec_context) else "DEFAULT"
    for packet in container.demux(stream):
        stream.codec_context.skip_frame = "DEFAULT" if packet.pts in waiting else unwanted
        for frame in packet.decode():
            if frame.pts in waiting:
                waiting.remove(frame.pts)
                found.append(convert(frame))
        if not waiting:
            break
    return found


def _in_order(container: Any, wanted: list[int], convert: _Converter) -> list[np.ndarray]:
    waiting, found = set(wanted), []
    for number, frame in enumerate(container.decode(video=0)):
        if number in waiting:
            found.append(convert(frame))
        if number >= wanted[-1]:
            break
    return found


class _Converter:
    """To RGB, with one conversion set up for all frames of a video."""

    def __init__(self) -> None:
        from av.video.reformatter import VideoReformatter

        self._reformat = VideoReformatter().reformat
        self._options = {"threads": 1}

    def __call__(self, frame: Any) -> np.ndarray:
        try:
            return self._reformat(frame, format="rgb24", **self._options).to_ndarray()
        except TypeError:
            if not self._options:
                raise
            self._options = {}  # PyAV before 17
            return self(frame)


def read_pictures(paths: list[str], *, grey: bool = False) -> list[Any]:
    """Pictures as OpenCV decodes them, uint8 `[H, W, 3]`, blue first, or `[H, W]`."""
    import cv2

    flag = cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR
    return [cv2.imread(path, flag) for path in paths]
