"""What the packets of a video tell of its frames, before any is decoded."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any, NamedTuple

import numpy as np

from paddlevid.data.pyav_container import demux
from paddlevid.data.structure import DamagedVideoError

_TELL_TIMES = ("mov,", "matroska,", "flv", "mpegts", "nut", "asf")  # of each frame


class PacketIndex(NamedTuple):
    """The times at which the frames and the key frames are shown, in the units of the file, rising."""

    times: list[int]
    keyframes: list[int]
    packets: list[tuple[int, int]]  # in the order of the file: time and number of bytes, by which they are known again
    places: list[int]  # of the key frames among the packets
    can_seek_by_number: bool  # each key frame has as many frames before it in the file as before it in time

    def keyframe_before(self, time: int) -> int:
        return max(0, bisect_right(self.keyframes, time) - 1)


def index_packets(container: Any, stream: Any) -> PacketIndex | None:
    """None where packets do not tell when frames are shown; the container is read from where it stands to its end.

    Raises DamagedVideoError if the packets cannot be read to the last one.
    """
    import av

    codec = stream.codec_context.name
    times, sizes, are_key, are_hidden = [], [], [], []
    has_order = False  # the times of decoding differ from those of showing: whoever wrote the file knew of both
    try:
        for packet in demux(container, stream):
            if packet.size:
                has_order = has_order or packet.pts != packet.dts
                times.append(packet.pts)
                sizes.append(packet.size)
                are_key.append(packet.is_keyframe)
                are_hidden.append(packet.is_discard or (codec == "vp8" and not _is_shown_vp8(packet)))
    except av.error.FFmpegError as error:
        raise DamagedVideoError(
            f"{container.name}: pyav cannot read this video to its end (damaged or cut off?): {error.strerror}"
        ) from None
    is_counted = not has_order or not container.format.name.startswith(_TELL_TIMES)
    if None in times or (is_counted and stream.codec_context.has_b_frames and times == sorted(times)):
        return None  # such as AVI, which counts packets: B frames are shown in another order than that of their times
    return make_index(times, sizes, np.array(are_key, bool), np.array(are_hidden, bool))


def _is_shown_vp8(packet: Any) -> bool:
    return bool(memoryview(packet)[0] & 0x10)  # RFC 6386, 9.1: show_frame


def make_index(times: list[int], sizes: list[int], are_key: np.ndarray, are_hidden: np.ndarray) -> PacketIndex | None:
    """None where the times of the packets do not number the frames.

    The packets come in the order of the file: `sizes` in bytes, `are_hidden` those that are never shown.
    """
    order = np.array(times, np.int64)
    places = np.flatnonzero(are_key)
    shown = np.sort(order[~are_hidden])
    if not len(places) or (shown[1:] == shown[:-1]).any():
        return None
    # Frames shown before the first key frame need frames from before the file was cut; no decoder shows them.
    shown = shown[shown >= order[places[0]]]
    before_in_file = (np.cumsum(~are_hidden) - ~are_hidden)[places]
    in_place = bool((np.searchsorted(shown, order[places]) == before_in_file).all())
    places = places[np.argsort(order[places], kind="stable")]
    return PacketIndex(
        times=shown.tolist(),
        keyframes=order[places].tolist(),
        packets=list(zip(times, sizes, strict=True)),
        places=places.tolist(),
        can_seek_by_number=in_place and len(shown) == len(times),
    )
