"""Frames by index through PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from paddlevid.data.clip import Clip, distinct
from paddlevid.data.mp4_index import index_mp4
from paddlevid.data.packet_index import PacketIndex, index_packets
from paddlevid.data.pyav_container import demux, frame_rate, limit_decoder, open_container, read_only, video_stream
from paddlevid.data.rgb import RgbConverter
from paddlevid.data.skipping import skips_exactly
from paddlevid.data.structure import DamagedVideoError
from paddlevid.errors import DataError

HAD_TO_GUESS = "the decoder had to guess at missing or wrong data"

# A frame of these is whole with its packet, unless it is interlaced.
_WHOLE_PACKETS = {"h264", "mpeg1video", "mpeg2video"}
_PROGRESSIVE = 1  # AV_FIELD_PROGRESSIVE
_MAX_KEPT_PIXELS = 1 << 25  # 50 MB of frames: twelve seconds of 340x256


class _Run(NamedTuple):
    """Frames read in one go: from a key frame on up to a packet."""

    start: int  # the number of the key frame
    last: int  # the place of the packet
    times: set[int]


class PyavReader:
    """Reads by the times of the packets: seeks to key frames, and skips unwanted frames that no other one needs.

    Frames are counted by decoding where packets do not tell of them. After seeking, packets are compared with those of
    the index. Where they differ, the video is read from its beginning; where a frame is not found, it is decoded one
    frame after the other: seeking and skipping never change what is read, only how fast. Nothing is scaled while it is
    decoded (`lowres`), and no filter is left out (`skip_loop_filter`): both change pixels.

    Where the decoder says that it had to guess at a frame, because bytes are damaged, nothing is read: other frames are
    made from that one, and nobody says which.
    """

    def __init__(self, path: str, num_threads: int) -> None:
        self._path = path
        self._num_threads = num_threads
        self._container: Any = None
        self._can_seek = True
        self._kept: list[Any] = []  # all frames, of a short video whose packets do not tell of them
        stream = self._open()
        try:
            self.fps = frame_rate(stream)
            self._index = index_mp4(self._container, stream)
            self._is_from_tables = self._index is not None
            if self._index is None:
                self._index = self._index_packets()
            self.num_frames = self._count_frames() if self._index is None else len(self._index.times)
            if self.num_frames == 0 or not self.fps:
                raise DataError(f"{path}: pyav finds no frames in this video")
        except BaseException:
            self.close()
            raise

    def read(self, indices: np.ndarray) -> np.ndarray:
        wanted, positions = distinct(indices, self.num_frames)
        clip = Clip(self._path, positions)
        if self._kept:
            convert = RgbConverter()
            for rank, number in enumerate(wanted):
                clip.put(rank, convert(self._kept[number]))
            return clip.frames()
        if self._index is not None and self._read_quickly(wanted, self._index, clip):
            return clip.frames()
        if self._is_from_tables:  # they may be wrong
            self._distrust_tables()
            return self.read(indices)
        self._read_in_order(wanted, clip)
        return clip.frames()

    def _index_packets(self) -> PacketIndex | None:
        self._is_fresh = False
        return index_packets(self._container, video_stream(self._container))

    def _count_frames(self) -> int:
        """Count by decoding, which takes as long as reading: frames that take little room are kept."""
        count = num_pixels = 0
        for frame in sound_frames(self._path):
            count += 1
            num_pixels += frame.width * frame.height
            if num_pixels <= _MAX_KEPT_PIXELS:
                self._kept.append(frame)
            else:
                self._kept = []
        return count

    def _distrust_tables(self) -> None:
        self._open()
        self._is_from_tables, self._can_seek = False, True
        self._index = self._index_packets()
        if self._index is None or len(self._index.times) != self.num_frames:
            count = "unknown" if self._index is None else len(self._index.times)
            raise DamagedVideoError(
                f"{self._path}: its tables tell of {self.num_frames} frames, its packets of {count} (damaged or cut"
                " off?)"
            )

    def _read_quickly(self, wanted: np.ndarray, index: PacketIndex, clip: Clip) -> bool:
        """Put the wanted frames into the clip; False if not all of them were found."""
        import av

        ranks = {index.times[frame]: rank for rank, frame in enumerate(wanted)}
        convert = RgbConverter()
        try:
            runs = _plan(list(ranks), index) if self._can_seek else []
            if runs and all(self._read_run(run, index, ranks, clip, convert) for run in runs):
                return True
            self._open()
            last = max(place for place, (time, _) in enumerate(index.packets) if time in ranks)
            return self._read_run(_Run(0, last, set(ranks)), index, ranks, clip, convert)
        except av.error.FFmpegError:
            return False

    def _read_run(
        self, run: _Run, index: PacketIndex, ranks: dict[int, int], clip: Clip, convert: RgbConverter
    ) -> bool:
        """Put the frames of a run into the clip; False if not all of them were found."""
        packets = self._packets_from(run.start, index)
        if packets is None:
            return False
        stream = video_stream(self._container)
        context = stream.codec_context
        can_skip = skips_exactly(context)
        if can_skip:
            context.skip_frame = "DEFAULT"  # not as the last run left it
        is_whole = context.name in _WHOLE_PACKETS and getattr(context, "field_order", 0) == _PROGRESSIVE
        waiting, skips = set(run.times), False
        for place, packet in packets:
            if can_skip and skips == (packet.pts in run.times):
                skips = not skips
                context.skip_frame = "NONREF" if skips else "DEFAULT"
            is_end = is_whole and place == run.last
            # Those that it holds back, to show them in order, need not wait for more packets
            for frame in packet.decode() + (context.decode(None) if is_end else []):
                if frame.pts is None or frame.pts < index.keyframes[run.start]:
                    continue  # it may need frames that were passed over
                if frame.is_corrupt or (is_end and frame.interlaced_frame):
                    return False
                if frame.pts in waiting:
                    clip.put(ranks[frame.pts], convert(frame))
                    waiting.remove(frame.pts)
            if not waiting or is_end:
                break
        return not waiting

    def _packets_from(self, start: int, index: PacketIndex) -> Iterator[tuple[int, Any]] | None:
        """The packets from a key frame on with their places; None if it is not found."""
        place, stream = index.places[start], video_stream(self._container)
        # Some containers wind to behind the key frame
        for aim in range(start, max(-1, start - 2), -1):
            if self._is_fresh and start == 0:
                break
            self._is_fresh = False
            self._container.seek(index.keyframes[aim], stream=stream)
            packets = demux(self._container, stream)
            most = place - index.places[max(0, aim - 1)] + 1
            for _, packet in zip(range(most), packets, strict=False):
                if (packet.pts, packet.size) == index.packets[place]:
                    return _checked(chain([packet], packets), index, place)
        if start > 0:
            self._can_seek = False
            return None
        stream = stream if self._is_fresh else self._open()
        self._is_fresh = False
        return _checked(demux(self._container, stream), index, 0)

    def _open(self) -> Any:
        """Open the container, anew if it is open; its stream of pictures."""
        self.close()
        self._container = open_container(self._path, "pyav")
        self._is_fresh = True
        stream = video_stream(self._container)
        read_only(self._container, stream)
        limit_decoder(stream, self._num_threads)
        return stream

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

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None

    def __enter__(self) -> PyavReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _plan(times: list[int], index: PacketIndex) -> list[_Run]:
    """The runs that give the frames shown at these rising times: what lies between them is not read."""
    wanted = set(times)
    places = {time: place for place, (time, _) in enumerate(index.packets) if time in wanted}
    runs: list[_Run] = []
    for time in times:
        start, last = index.keyframe_before(time), places[time]
        if runs and index.places[start] <= runs[-1].last + 1:
            before = runs.pop()
            runs.append(_Run(before.start, max(before.last, last), before.times | {time}))
        else:
            runs.append(_Run(start, last, {time}))
    return runs


def _checked(packets: Iterator[Any], index: PacketIndex, place: int) -> Iterator[tuple[int, Any]]:
    """Packets with their places, as long as they are those of the index; the empty one behind the last has -1."""
    for packet in packets:
        if not packet.size:
            yield -1, packet
        elif place < len(index.packets) and (packet.pts, packet.size) == index.packets[place]:
            yield place, packet
            place += 1
        else:
            return


def count_frames(path: str) -> int:
    return sum(1 for _ in sound_frames(path))


def sound_frames(path: str) -> Iterator[Any]:
    """All frames, in order. Raises DamagedVideoError at one that the decoder had to guess at."""
    import av

    count = 0
    try:
        for frame in decode_in_order(path):
            if frame.is_corrupt:
                reason = HAD_TO_GUESS
                break
            yield frame
            count += 1
        else:
            return
    except av.error.FFmpegError as error:
        reason = error.strerror
    raise DamagedVideoError(f"{path}: pyav cannot decode frame {count} (counted from 0; damaged or cut off?): {reason}")


def decode_in_order(path: str) -> Iterator[Any]:
    with open_container(path, "pyav") as container:
        stream = video_stream(container)
        read_only(container, stream)
        limit_decoder(stream, num_threads=1)
        for packet in demux(container, stream):
            yield from packet.decode()
