"""A video decoded once, from its first frame to its last, with the time at which each frame is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from paddlevid.data.structure import DamagedVideoError
from paddlevid.data.video import open_video
from paddlevid.errors import DataError

TIME_TOLERANCE_SEC = Fraction(1, 1000)  # Matroska and FLV round to milliseconds
MAX_FRAMES = 1_000_000  # of one video at another frame rate: more come of a wrong timestamp


@dataclass(frozen=True)
class Footage:
    """The frames that readers of `path` number, and the seconds from the first one to each, rising."""

    path: str
    fps: Fraction
    times_sec: list[Fraction]
    time_base: Fraction  # seconds; each time is a whole number of them
    _numbers: dict[int, int] | None = field(repr=False)  # by time in the units of the file, where it tells

    def frames(self, tick: Callable[[], None]) -> Iterator[Any]:
        """All frames in order, as PyAV decodes them; `tick` is called at each packet.

        Raises:
            DamagedVideoError: a frame is damaged or missing.
        """
        import av

        count = 0
        try:
            for frame in _decode(self.path, tick):
                number = count if self._numbers is None else self._numbers.get(frame.pts)
                if number is None:
                    continue  # it needs frames from before the file was cut, and no reader counts it
                if number != count or frame.is_corrupt:
                    raise self._damage(count, "the decoder had to guess at missing or wrong data")
                yield frame
                count += 1
        except av.error.FFmpegError as error:
            raise self._damage(count, error.strerror) from None
        if count < len(self.times_sec):
            raise self._damage(count, "the video ends before it")

    def _damage(self, number: int, reason: str) -> DamagedVideoError:
        return DamagedVideoError(
            f"{self.path}: pyav cannot decode frame {number} of {len(self.times_sec)} (counted from 0): {reason}"
        )


def survey(path: str) -> Footage:
    """Open a video and see when its frames are shown; where the file does not tell, they are evenly apart.

    Raises:
        DataError: it is missing, no video, cut off or damaged.
    """
    from paddlevid.data.packet_index import index_packets
    from paddlevid.data.pyav_container import open_container, video_stream

    with open_video(path, "pyav") as reader:
        num_frames = reader.num_frames
    with open_container(path, "pyav") as container:
        stream = video_stream(container)
        fps = Fraction(stream.average_rate or stream.guessed_rate or stream.base_rate)
        index = index_packets(container, stream)
        if index is None:
            return Footage(path, fps, [number / fps for number in range(num_frames)], 1 / fps, None)
        times = [(time - index.times[0]) * stream.time_base for time in index.times]
        return Footage(path, fps, times, stream.time_base, {time: number for number, time in enumerate(index.times)})


def _decode(path: str, tick: Callable[[], None]) -> Iterator[Any]:
    from paddlevid.data.pyav_container import demux, open_container, video_stream

    with open_container(path, "pyav") as container:
        stream = video_stream(container)
        stream.codec_context.thread_count = 1
        for packet in demux(container, stream):
            tick()
            yield from packet.decode()


def frames_at_rate(times_sec: Sequence[Fraction], fps: Fraction) -> np.ndarray:
    """Which frame each picture shows at another frame rate: int64 `[N]`, not falling.

    Picture k, from 0, shows the last frame that begins by k / fps seconds after the first one, give or take a
    millisecond; the last picture is the one that shows the last frame, or would do so next. `times_sec` rise from 0.

    Raises:
        DataError: there would be more than MAX_FRAMES.
    """
    num_pictures = int((times_sec[-1] + TIME_TOLERANCE_SEC) * fps) + 1
    if num_pictures > MAX_FRAMES:
        raise DataError(
            f"{num_pictures} pictures at {float(fps):g} a second: its timestamps span {float(times_sec[-1]):.0f} s"
        )
    # Picture k is the first to show a frame that begins at t where k >= (t - tolerance) * fps
    firsts = np.array([max(0, -int((TIME_TOLERANCE_SEC - time) * fps // 1)) for time in times_sec])
    return np.searchsorted(firsts, np.arange(num_pictures), side="right") - 1
