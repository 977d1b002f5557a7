"""The packets of an MP4 or QuickTime file, as its own tables tell: a long video is not read to its end for them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from paddlevid.data.packet_index import PacketIndex, make_index

_ONE_SAMPLE_A_PACKET = {"h264", "hevc", "av1", "libdav1d", "vp9", "mpeg4", "mjpeg"}
_MAX_MOOV_BYTES = 64 << 20
_KEY, _DISCARD = 1, 2  # AVINDEX_KEYFRAME, AVINDEX_DISCARD_FRAME


def index_mp4(container: Any, stream: Any) -> PacketIndex | None:
    """None where the tables do not tell all, and packets have to be read.

    FFmpeg, which has read the tables, tells the times of decoding, the bytes and the key frames (`index_entries`), with
    the edit list applied; how much later a frame is shown than decoded stands in the file (ctts, ISO/IEC 14496-12).
    """
    entries = getattr(stream, "index_entries", None)  # since PyAV 15
    if entries is None or "mp4" not in container.format.name.split(","):
        return None
    if stream.codec_context.name not in _ONE_SAMPLE_A_PACKET:
        return None
    delays = _read_delays(container.name, stream.id, len(entries))
    if delays is None:
        return None
    if stream.codec_context.has_b_frames and not delays.any():
        return None  # copied from AVI
    rows = np.array([(entry.timestamp, entry.size, entry.flags) for entry in entries], np.int64).reshape(-1, 3)
    times, flags = rows[:, 0] + delays, rows[:, 2]
    return make_index(times.tolist(), rows[:, 1].tolist(), (flags & _KEY) != 0, (flags & _DISCARD) != 0)


def _read_delays(path: str, track: int, num_samples: int) -> np.ndarray | None:
    """How much later than decoded each sample of a track is shown, int64 `[num_samples]`; None if that is not clear."""
    with open(path, "rb") as file:
        moov = _read_moov(file)
    for kind, start, end in _boxes(moov, 0, len(moov)):
        if kind == b"mvex":  # more samples stand in fragments
            return None
        if kind == b"trak" and _track_number(moov, start, end) == track:
            return _track_delays(moov, start, end, num_samples)
    return None


def _read_moov(file: BinaryIO) -> bytes:
    """The content of that box; nothing if there is none, or a huge one."""
    num_bytes = os.fstat(file.fileno()).st_size
    position = 0
    while position + 8 <= num_bytes:
        file.seek(position)
        head = file.read(16)
        size, content = int.from_bytes(head[:4], "big"), position + 8
        if size == 1:
            size, content = int.from_bytes(head[8:], "big"), position + 16
        if size < 8:
            break
        if head[4:8] == b"moov" and size <= _MAX_MOOV_BYTES:
            file.seek(content)
            return file.read(position + size - content)
        position += size
    return b""


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """The kinds of the boxes in a stretch of bytes, and where their contents begin and end."""
    while start + 8 <= end:
        size = int.from_bytes(data[start : start + 4], "big")
        if size < 8 or start + size > end:
            return
        yield data[start + 4 : start + 8], start + 8, start + size
        start += size


def _find(data: bytes, start: int, end: int, *kinds: bytes) -> tuple[int, int] | None:
    """Where the content of a box in boxes begins and ends."""
    for wanted in kinds:
        for kind, box_start, box_end in _boxes(data, start, end):
            if kind == wanted:
                start, end = box_start, box_end
                break
        else:
            return None
    return start, end


def _track_number(moov: bytes, start: int, end: int) -> int:
    span = _find(moov, start, end, b"tkhd")
    if span is None:
        return -1
    at = span[0] + (20 if moov[span[0]] == 1 else 12)
    return int.from_bytes(moov[at : at + 4], "big")


def _track_delays(moov: bytes, start: int, end: int, num_samples: int) -> np.ndarray | None:
    table = _find(moov, start, end, b"mdia", b"minf", b"stbl")
    edits = _find(moov, start, end, b"edts", b"elst")
    if table is None or (edits is not None and not _is_one_edit(moov[edits[0] : edits[1]])):
        return None  # several edits: FFmpeg may show samples twice
    if {kind for kind, _, _ in _boxes(moov, *table)} & {b"stps", b"sbgp", b"cslg"}:
        return None
    sizes, shown = _find(moov, *table, b"stsz"), _find(moov, *table, b"ctts")
    if sizes is None or int.from_bytes(moov[sizes[0] + 8 : sizes[0] + 12], "big") != num_samples:
        return None
    if shown is None:
        return np.zeros(num_samples, np.int64)
    rows = np.frombuffer(moov[shown[0] + 8 : shown[1]], ">i4")  # a count, a delay, ...
    if len(rows) != 2 * _count(moov, shown):
        return None
    counts, delays = rows[0::2].astype(np.int64), rows[1::2].astype(np.int64)
    if (counts < 0).any() or (delays < 0).any() or counts.sum() != num_samples:
        return None
    return delays.repeat(counts)


def _is_one_edit(elst: bytes) -> bool:
    """Whether a list of edits has one, or one and a delay before it."""
    num_edits, in_64_bits = int.from_bytes(elst[4:8], "big"), elst[:1] == b"\1"
    time = elst[16:24] if in_64_bits else elst[12:16]  # of the first: -1 for a delay
    return num_edits < 2 or (num_edits == 2 and set(time) == {0xFF})


def _count(data: bytes, span: tuple[int, int]) -> int:
    """How many rows a table has."""
    return int.from_bytes(data[span[0] + 4 : span[0] + 8], "big")
