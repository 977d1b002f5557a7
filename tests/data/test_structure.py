"""The parts of files, put together by hand from what the formats say, and files of FFmpeg."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

import pytest

from paddlevid.data.structure import DamagedVideoError, TruncatedVideoError, check_structure
from paddlevid.errors import DataError


def atom(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def chunk(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def element(number: str, content: bytes, *, known: bool = True) -> bytes:
    """Part of a Matroska file, its length in 8 bytes; without `known`, in none."""
    length = struct.pack(">Q", len(content) | 1 << 56) if known else b"\x01" + b"\xff" * 7
    return bytes.fromhex(number) + length + content


SEGMENT, INFO, CLUSTER, CUES, TIME, BLOCK, CRC = (
    "18538067",
    "1549a966",
    "1f43b675",
    "1c53bb6b",
    "e7",
    "a3",
    "bf",
)
HEAD = element("1a45dfa3", b"matroska")
BLOCKS = element(TIME, b"\0") + element(BLOCK, b"a" * 300) + element(BLOCK, b"b" * 20)
SUMMED = element(CRC, struct.pack("<I", zlib.crc32(BLOCKS))) + BLOCKS
TWO = element(INFO, b"i" * 9) + element(CLUSTER, SUMMED) + element(CLUSTER, BLOCKS)
FTYP, MOOV, MDAT = atom(b"ftyp", b"isom" * 3), atom(b"moov", b"m" * 50), atom(b"mdat", b"p" * 400)
HDRL, MOVI = chunk(b"LIST", b"hdrl" + b"h" * 30), chunk(b"LIST", b"movi" + b"00dc" * 40)
INDEX = chunk(b"idx1", b"x" * 64)

WHOLE = {
    "moov behind": FTYP + MDAT + MOOV,
    "moov in front": FTYP + MOOV + MDAT,
    "in fragments": FTYP + MOOV + (atom(b"moof", b"f" * 20) + MDAT) * 3,
    "without ftyp": atom(b"wide", b"") + MDAT + MOOV,
    "mdat to the end": FTYP + MOOV + struct.pack(">I4s", 0, b"mdat") + b"p" * 99,
    "length in 64 bits": FTYP + struct.pack(">I4sQ", 1, b"mdat", 16 + 77) + b"p" * 77 + MOOV,
    "zeros behind": FTYP + MOOV + MDAT + bytes(999),
    "a note behind": FTYP + MOOV + MDAT + b"made by a careful hand",
    "padding cut off": FTYP + MOOV + MDAT + atom(b"free", bytes(99))[:50],
    "avi": chunk(b"RIFF", b"AVI " + HDRL + MOVI + INDEX),
    "avi without its index": chunk(b"RIFF", b"AVI " + HDRL + MOVI + INDEX)[: -len(INDEX)],
    "avi never closed": b"RIFF\0\0\0\0AVI " + HDRL + b"LIST\0\0\0\0movi" + b"00dc" * 40,
    "avi of two parts": chunk(b"RIFF", b"AVI " + HDRL + MOVI + INDEX) + chunk(b"RIFF", b"AVIX" + MOVI),
    "matroska": HEAD + element(SEGMENT, TWO + element(CUES, b"c" * 5)),
    "matroska, live": HEAD + element(SEGMENT, TWO, known=False),
    "matroska, live clusters": HEAD + element(SEGMENT, element(CLUSTER, BLOCKS, known=False) * 2, known=False),
    "matroska, zeros behind": HEAD + element(SEGMENT, TWO) + bytes(99),
    "a transport stream": (b"G" + bytes(187)) * 9,
    "text": b"not a video\n",
    "nothing": b"",
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_files_pass(tmp_path: Path, name: str) -> None:
    (tmp_path / "x").write_bytes(WHOLE[name])
    check_structure(str(tmp_path / "x"))


CUT = {
    "mdat": (FTYP + MOOV + MDAT, 1),
    "mdat but for its head": (FTYP + MOOV + MDAT, 400),
    "moov": (FTYP + MDAT + MOOV, 1),
    "a fragment": (FTYP + MOOV + atom(b"moof", b"f" * 20) + MDAT, 100),
    "frames of avi": (chunk(b"RIFF", b"AVI " + HDRL + MOVI), 1),
    "segment": (HEAD + element(SEGMENT, TWO), 1),
}


@pytest.mark.parametrize("name", CUT)
def test_cut_files_tell_how_long_they_were(tmp_path: Path, name: str) -> None:
    content, missing = CUT[name]
    path = tmp_path / "x.mp4"
    path.write_bytes(content[:-missing])
    message = f"{path}: cut off: it has {len(content) - missing} bytes, of {len(content)} or more"
    with pytest.raises(TruncatedVideoError, match=f"^{re.escape(message)}$"):
        check_structure(str(path))


@pytest.mark.parametrize("content", [FTYP + MDAT, FTYP + struct.pack(">I4s", 0, b"mdat") + b"p" * 50, FTYP])
def test_mp4_without_its_index(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(TruncatedVideoError, match="cut off: it has no index"):
        check_structure(str(tmp_path / "x"))


@pytest.mark.parametrize("every_byte_of", ["lengths and numbers", "blocks with a sum"])
def test_each_wrong_byte_of_a_matroska_file(tmp_path: Path, every_byte_of: str) -> None:
    path = tmp_path / "x.mkv"
    good = HEAD + element(SEGMENT, TWO)
    summed = good.index(BLOCKS)
    plain = good.rindex(BLOCKS)
    if every_byte_of == "blocks with a sum":
        places = range(summed, summed + len(BLOCKS))
    else:  # heads of the second cluster and of its parts, less what only says how many bytes a length has
        heads = [plain - 12, plain, plain + 10, plain + 10 + 309]
        places = [plain - 12, plain - 11, plain - 10, plain - 9, plain - 1, *heads[1:], plain + 9 - 1, plain + 10 + 8]
    for place in places:
        wrong = bytearray(good)
        wrong[place] ^= 1 << 2
        path.write_bytes(wrong)
        with pytest.raises(DamagedVideoError, match=rf"^{path}: damaged: .*at byte \d+"):
            check_structure(str(path))


def test_a_file_that_vanishes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone: cannot read this video: No such file"):
        check_structure(str(tmp_path / "gone"))
