"""What the parts of a video file tell before anything is decoded: that its end is missing, or that parts do not join.

Decoders read what there is of such a file, and say nothing; its frames are then too few, and have other numbers.
"""

from __future__ import annotations

import os
from typing import BinaryIO

from paddlevid.data import matroska
from paddlevid.errors import DataError

# The outer parts of MP4 and QuickTime files; what else stands behind the last of them is padding, or a note.
_MP4_PARTS = {
    b"ftyp",
    b"moov",
    b"mdat",
    b"moof",
    b"free",
    b"skip",
    b"wide",
    b"pnot",
    b"uuid",
    b"sidx",
    b"styp",
    b"mfra",
}
_MP4_NEEDED = {b"moov", b"mdat", b"moof"}


class TruncatedVideoError(DataError):
    """The end of a video is missing."""


class DamagedVideoError(DataError):
    """Bytes of a video are not those that were written."""


def check_structure(path: str) -> None:
    """Check that an MP4, AVI, Matroska or WebM file is as long as it says, and that the parts of the last two join.

    Other kinds of files pass, and so do AVI, Matroska and WebM files that do not tell their length, as recordings do
    that were never closed.

    Raises:
        TruncatedVideoError, DamagedVideoError: the file is cut off, or damaged.
    """
    try:
        with open(path, "rb") as file:
            num_bytes = os.fstat(file.fileno()).st_size
            promised, damage = _promise(file, num_bytes)
    except OSError as error:
        raise DataError(f"{path}: cannot read this video: {error.strerror or error}") from None
    if damage:
        raise DamagedVideoError(f"{path}: damaged: {damage}")
    if promised is None:
        raise TruncatedVideoError(f"{path}: cut off: it has no index (moov), which is written last")
    if promised > num_bytes:
        raise TruncatedVideoError(f"{path}: cut off: it has {num_bytes} bytes, of {promised} or more")


def _promise(file: BinaryIO, num_bytes: int) -> tuple[int | None, str]:
    """Where the file should end, 0 where that is not behind its end, and what is damaged; None without an index."""
    head = file.read(12)
    if head[4:8] in _MP4_PARTS:
        return _mp4_end(file, num_bytes), ""
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return _avi_end(file, num_bytes), ""
    if head[:4] == matroska.MAGIC:
        return matroska.check_parts(file, num_bytes)
    return 0, ""


def _mp4_end(file: BinaryIO, num_bytes: int) -> int | None:
    """Where that outer part ends which ends behind the file, if pictures need it, else 0; None without an index."""
    position, kinds = 0, set()
    while position + 8 <= num_bytes:
        file.seek(position)
        head = file.read(16)
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if size == 1 and len(head) == 16:
            size = int.from_bytes(head[8:], "big")
        size = size or num_bytes - position  # 0: to the end of the file
        if kind not in _MP4_PARTS or size < 8:
            break
        kinds.add(kind)
        if position + size > num_bytes:
            return position + size if kind in _MP4_NEEDED else 0
        position += size
    return 0 if kinds & {b"moov", b"moof"} else None


def _avi_end(file: BinaryIO, num_bytes: int) -> int:
    """Where that list of frames ends which ends behind the file; else 0. Without the index behind it, AVI is whole."""
    position = 0
    while position + 12 <= num_bytes:
        file.seek(position)
        head = file.read(12)
        if not head[:4].isalnum():
            break
        following = position + 8 + int.from_bytes(head[4:8], "little")
        if following > num_bytes and head[:4] == b"LIST" and head[8:] == b"movi":
            return following
        position = position + 12 if head[:4] == b"RIFF" else following + following % 2
    return 0
