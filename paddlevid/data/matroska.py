"""Whether the parts of a Matroska or WebM file join: each is a number, a length and so many bytes (RFC 8794, RFC 9559).

Where a length is damaged, decoders look for the next part that makes sense, and the frames between are lost in silence.
"""

from __future__ import annotations

import zlib
from typing import BinaryIO, NamedTuple

MAGIC = b"\x1a\x45\xdf\xa3"
_SEGMENT, _CLUSTER, _VOID, _CRC32 = 0x18538067, 0x1F43B675, 0xEC, 0xBF
# SeekHead, Info, Tracks, Cues, Attachments, Chapters, Tags
_IN_SEGMENT = {0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367}
_IN_SEGMENT |= {_CLUSTER, _VOID, _CRC32}
_INTEGERS = {0xE7, 0xA7, 0xAB}  # Timestamp, Position, PrevSize: of 8 bytes at most
# SilentTracks, SimpleBlock, BlockGroup, EncryptedBlock
_IN_CLUSTER = {0x5854, 0xA3, 0xA0, 0xAF, _VOID, _CRC32} | _INTEGERS
_MAX_HEAD_BYTES = 12
_MAX_CLUSTER_BYTES = 64 << 20  # larger ones are not read to be checked


class _Element(NamedTuple):
    number: int
    content: int  # where its content begins
    size: int | None  # None: up to where the next part of the outer one begins, as in live recordings


def check_parts(file: BinaryIO, num_bytes: int) -> tuple[int, str]:
    """Where the file should end, 0 where it does not tell, and what is damaged, "" if nothing is.

    Where clusters carry a sum of their bytes (those of FFmpeg do, WebM has none), the sums are checked.
    """
    head = _read_element(file, 0)
    segment = _read_element(file, head.content + (head.size or 0)) if head else None
    if segment is None or segment.number != _SEGMENT:
        return 0, "no segment follows the head of this Matroska or WebM file"
    if segment.size is not None and segment.content + segment.size > num_bytes:
        return segment.content + segment.size, ""
    position = segment.content
    end = num_bytes if segment.size is None else segment.content + segment.size
    known = _IN_SEGMENT
    while position < end:
        element = _read_element(file, position)
        if element is None or element.number not in known:
            return end, f"no part of a Matroska or WebM file begins at byte {position}"
        if element.size is None:
            position, known = element.content, _IN_SEGMENT | _IN_CLUSTER
            continue
        position = element.content + element.size
        if position > end:
            return position, "" if segment.size is None else f"the part at byte {element.content} has a wrong length"
        if element.number == _CLUSTER and element.size <= _MAX_CLUSTER_BYTES:
            file.seek(element.content)
            damage = _check_cluster(file.read(element.size), element.content)
            if damage:
                return end, damage
    return end, ""


def _check_cluster(cluster: bytes, start: int) -> str:
    """What is damaged in the content of a cluster, which begins at byte `start` of the file; "" if nothing is."""
    position, size = 0, len(cluster)
    while position < size:
        element = _parse_element(cluster, position)
        if element is None or element.size is None or element.number not in _IN_CLUSTER:
            return f"no part of a cluster begins at byte {start + position}"
        following = element.content + element.size
        if following > size or (element.size > 8 and element.number in _INTEGERS):
            return f"the part at byte {start + position} has a wrong length"
        if element.number == _CRC32 and position == 0:
            promised = int.from_bytes(cluster[element.content : following], "little")
            if zlib.crc32(memoryview(cluster)[following:]) != promised:
                return f"the bytes of the cluster at byte {start} do not have the sum that they should have (CRC-32)"
        position = following
    return ""


def _read_element(file: BinaryIO, position: int) -> _Element | None:
    file.seek(position)
    element = _parse_element(file.read(_MAX_HEAD_BYTES), 0)
    return element and element._replace(content=element.content + position)


def _parse_element(data: bytes, position: int) -> _Element | None:
    """The part that begins at `position`; None if none can."""
    try:
        first = data[position]
        number_bytes = 9 - first.bit_length()  # the first bit that is set tells the length
        sized = position + number_bytes
        size_bytes = 9 - data[sized].bit_length()
    except IndexError:
        return None
    content = sized + size_bytes
    if number_bytes > 4 or size_bytes > 8 or content > len(data):
        return None
    size = int.from_bytes(data[sized:content], "big")
    unknown = (1 << 7 * size_bytes) - 1
    size &= unknown
    return _Element(int.from_bytes(data[position:sized], "big"), content, None if size == unknown else size)
