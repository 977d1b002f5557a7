"""Frames by index through PyAV, and what the packets of a file tell about its frames."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from paddlevid.data.clip import Clip, distinct
from paddlevid.data.structure import DamagedVideoError
from paddlevid.errors import DataError

HAD_TO_GUESS = "the decoder had to guess at missing or wrong data"


class PacketIndex(NamedTuple):
    """The times at which the frames and the key frames are shown, in the units of the file, rising."""

    times: list[int]
    keyframes: list[int]
    can_seek_by_number: bool  # each key frame has as many frames before it in the file as before it in time

    def keyframe_before(self, time: int) -> int:
        return max(0, bisect_right(self.keyframes, time) - 1)


class PyavReader:
    """Reads by the times of the packets: seeks to key frames, and skips unwanted frames that no other one needs.

    Frames are counted by decoding where packets do not tell. When the quick way does not find a frame, the video is
    decoded from the beginning, one frame after the other: seeking never changes what is read, only how fast.

    Where the decoder says that it had to guess at a frame, because bytes are damaged, nothing is read: other frames are
    made from that one, and nobody says which.
    """

    def __init__(self, path: str, num_threads: int) -> None:
        self._path = path
        self._num_threads = num_threads
        with open_container(path, "pyav") as container:
            stream = container.streams.video[0]
            rate = stream.average_rate or stream.guessed_rate or stream.base_rate
            self._index = index_packets(container, stream)
        self.num_frames = _count_frames(path) if self._index is None else len(self._index.times)
        if self.num_frames == 0 or not rate:
            raise DataError(f"{path}: pyav finds no frames in this video")
        self.fps = float(rate)

    def read(self, indices: np.ndarray) -> np.ndarray:
        wanted, positions = distinct(indices, self.num_frames)
        clip = Clip(self._path, positions)
        if self._index is None or not self._read_quickly(wanted, self._index, clip):
            self._read_in_order(wanted, clip)
        return clip.frames()

    def _read_quickly(self, wanted: np.ndarray, index: PacketIndex, clip: Clip) -> bool:
        """Put the wanted frames into the clip; False if not all of them were found."""
        import av

        waiting = {index.times[frame]: rank for rank, frame in enumerate(wanted)}  # by rising time
        convert = RgbConverter()
        decoded = -1  # the last key frame given to the decoder
        with open_container(self._path, "pyav") as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = self._num_threads
            stream.codec_context.thread_type = "AUTO" if self._num_threads > 1 else "SLICE"
            try:
                while waiting:
                    start = index.keyframe_before(next(iter(waiting)))
                    if start <= decoded:
                        return False
                    if start > 0:
                        container.seek(index.keyframes[start], stream=stream)
                    decoded = _decode_from(start, demux(container, stream), index, waiting, clip, convert)
                    if decoded < 0:
                        return False
            except av.error.FFmpegError:
                return False
        return True

    def _read_in_order(self, wanted: np.ndarray, clip: Clip) -> None:
        import av

        waiting = {int(frame): rank for rank, frame in enumerate(wanted)}
        numbers = None if self._index is None else {time: number for number, time in enumerate(self._index.times)}
        convert, damaged, reason = RgbConverter(), None, "the video ends before it"
        try:
            for count, frame in enumerate(decode_in_order(self._path)):
                number = count if numbers is None else numbers.get(frame.pts)
                if number is not None and frame.is_corrupt:
                    damaged, reason = number, HAD_TO_GUESS
                    break
                if number in waiting:
                    clip.put(waiting.pop(number), convert(frame))
                if not waiting:
                    return
        except av.error.FFmpegError as error:
            reason = error.strerror
        failed = min(waiting) if damaged is None else damaged
        raise DamagedVideoError(
            f"{self._path}: pyav cannot decode frame {failed} of {self.num_frames} (counted from 0; damaged or"
            f" cut off?): {reason}"
        )

    def __enter__(self) -> "PyavReader":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _decode_from(
    start: int,
    packets: Iterable[Any],
    index: PacketIndex,
    waiting: dict[int, int],
    clip: Clip,
    convert: "RgbConverter",
) -> int:
    """Decode until the next waiting frame lies behind a key frame still to come; return the last key frame decoded.

    Frames that are found go from `waiting` into the clip. None is taken before key frame `start` was seen: the file may
    not have been wound to where it was asked to. At a damaged frame it ends, and returns -1; those shown before the key
    frame do not count, because they may need frames that were passed over.
    """
    numbers = {time: number for number, time in enumerate(index.keyframes)}
    decoded = -1
    for packet in packets:
        number = numbers.get(packet.pts, -1)
        if decoded >= 0 or number == start:
            decoded = max(decoded, number)
        packet.stream.codec_context.skip_frame = "DEFAULT" if packet.pts in waiting else "NONREF"
        for frame in packet.decode():
            if decoded < 0 or frame.pts is None or frame.pts < index.keyframes[start]:
                continue
            if frame.is_corrupt:
                return -1
            if frame.pts in waiting:
                clip.put(waiting.pop(frame.pts), convert(frame))
        if not waiting or (decoded >= 0 and index.keyframe_before(next(iter(waiting))) > decoded):
            break
    return max(decoded, start)


def index_packets(container: Any, stream: Any) -> PacketIndex | None:
    """None where packets do not tell when frames are shown, or where some never are (VP8).

    Raises DamagedVideoError if the packets cannot be read to the last one.
    """
    import av

    times: list[Any] = []
    keyframes = []
    discarded = False
    try:
        for packet in demux(container, stream):
            if not packet.size:
                continue
            if packet.is_keyframe and packet.pts is not None:
                keyframes.append((packet.pts, len(times)))
            if packet.is_discard:
                discarded = True
            else:
                times.append(packet.pts)
    except av.error.FFmpegError as error:
        raise DamagedVideoError(
            f"{container.name}: pyav cannot read this video to its end (damaged or cut off?): {error.strerror}"
        ) from None
    if None in times or len(set(times)) < len(times) or not keyframes or stream.codec_context.name == "vp8":
        return None
    if stream.codec_context.has_b_frames and times == sorted(times):
        return None  # AVI counts packets: B frames are shown in another order than that of their times
    # Frames shown before the first key frame need frames from before the file was cut; no decoder shows them.
    shown = sorted(time for time in times if time >= keyframes[0][0])
    in_place = all(bisect_left(shown, time) == place for time, place in keyframes)
    by_number = in_place and not discarded and len(shown) == len(times)
    return PacketIndex(shown, sorted(time for time, _ in keyframes), can_seek_by_number=by_number)


def _count_frames(path: str) -> int:
    import av

    count = 0
    try:
        for frame in decode_in_order(path):
            if frame.is_corrupt:
                reason = HAD_TO_GUESS
                break
            count += 1
        else:
            return count
    except av.error.FFmpegError as error:
        reason = error.strerror
    raise DamagedVideoError(f"{path}: pyav cannot decode frame {count} (counted from 0; damaged or cut off?): {reason}")


def decode_in_order(path: str) -> Iterator[Any]:
    with open_container(path, "pyav") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for packet in demux(container, stream):
            yield from packet.decode()


def demux(container: Any, stream: Any) -> Iterator[Any]:
    """The packets of a stream, and an empty one behind the last."""
    while True:
        try:
            yield from container.demux(stream)
            return
        except IndexError:
            pass  # a packet of another stream, which begins behind the head of the file: PyAV 18 does not know it


def open_container(
    path: str, decoder: str, *, options: dict[str, str] | None = None, timeout: float | None = None
) -> Any:
    """A container with pictures in it. `options` and `timeout`, in seconds, are for URLs."""
    import av

    try:
        # Titles and comments are in any encoding, and nobody reads them; PyAV 19 decodes none that nobody asks for
        lenient = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
        container = av.open(path, options=options or {}, timeout=timeout, **lenient)
    except av.error.FFmpegError as error:
        raise DataError(f"{path}: {decoder} cannot open this video: {error.strerror}") from None
    if container.streams.video and container.streams.video[0].codec_context is not None:
        return container
    if container.streams.video:
        container.close()
        raise DataError(f"{path}: {decoder} cannot open this video: its codec is unknown")
    kinds = sorted({stream.type for stream in container.streams}) or ["nothing"]
    container.close()
    raise DataError(f"{path}: {decoder} cannot open this video: it holds no pictures, only {', '.join(kinds)}")


class RgbConverter:
    """`to_rgb` for many frames of a video: to set a conversion up takes longer than to convert a small picture."""

    def __init__(self) -> None:
        from av.video.reformatter import VideoReformatter

        self._reformatter = VideoReformatter()
        self._options = {"threads": 1}  # by default PyAV 17 takes one a core, in each process that loads data

    def __call__(self, frame: Any) -> np.ndarray:
        try:
            converted = self._reformatter.reformat(frame, format="rgb24", **self._options)
        except TypeError:
            if not self._options:
                raise
            self._options = {}  # before PyAV 17 there is one, and no such argument
            return self(frame)
        return _upright(converted.to_ndarray(), frame)


def to_rgb(frame: Any) -> np.ndarray:
    """The picture of a decoded frame, uint8 RGB `[H, W, 3]`, upright."""
    return _upright(frame.to_ndarray(format="rgb24"), frame)


def _upright(frame_hwc: np.ndarray, frame: Any) -> np.ndarray:
    # Telephones write how far the picture is to be turned, counterclockwise; PyAV before 14 does not tell.
    quarter_turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.rot90(frame_hwc, quarter_turns) if quarter_turns else frame_hwc
