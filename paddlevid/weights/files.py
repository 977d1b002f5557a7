"""Files on disk: what is read of them is checked to lie inside, and is read when it is wanted."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from paddlevid.errors import WeightsError

_LONGEST_LINE = 1 << 20  # bytes; what is not a pickle may be one line
_CHUNK = 1 << 20


class DamagedError(Exception):
    """A file does not hold what it says it does; the message is the reason alone, without the path."""


class Source:
    """A file of weights, which must stay as it is between the opening and the last read.

    Raises WeightsError, naming the path, for what is missing, empty, no file, or may not be opened.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise WeightsError(f"{path} does not exist")
        if not self.path.is_file():
            raise WeightsError(f"{path} is not a file")
        with self.open() as file:
            self._status = _status(file)
        self.size = self._status[0]
        if self.size == 0:
            raise WeightsError(f"{path} is empty; copy or download it again")

    def open(self) -> BinaryIO:
        try:
            return self.path.open("rb")
        except OSError as error:
            raise WeightsError(f"{self.path} cannot be read: {error.strerror}") from error

    def read(self, start: int, length: int) -> np.ndarray:
        """`length` bytes, uint8. Raises DamagedError where they are not in the file, or it is another by now."""
        if start < 0 or length < 0 or start + length > self.size:
            raise DamagedError(f"bytes {start} to {start + length} of {self.size} are asked for")
        data = np.empty(length, np.uint8)
        try:
            with self.open() as file:
                if _status(file) != self._status:
                    raise DamagedError("the file has changed since it was opened")
                file.seek(start)
                done = file.readinto(data.data)  # type: ignore[attr-defined]
        except OSError as error:
            raise DamagedError(error.strerror or "the disk cannot be read") from error
        if done != length:
            raise DamagedError("the file ends early")
        return data


class Stretch:
    """Some bytes of a source, with their checksum if the file has one, which is verified at the first read."""

    def __init__(self, source: Source, start: int, length: int, crc32: int | None = None) -> None:
        self.source, self.start, self.length, self._crc32 = source, start, length, crc32

    def read(self, offset: int, length: int) -> np.ndarray:
        """`length` bytes from `offset` on, uint8. Raises DamagedError where they are not those that were written."""
        if offset < 0 or offset + length > self.length:
            raise DamagedError(f"bytes {offset} to {offset + length} of {self.length} are asked for")
        if self._crc32 is not None and length < self.length:
            self.verify()
        data = self.source.read(self.start + offset, length)
        if self._crc32 is not None:
            self._compare(zlib.crc32(data.data))
        return data

    def verify(self) -> None:
        """Compare the checksum, a chunk at a time: a small part may be all that is wanted of a big whole."""
        crc = 0
        for offset in range(0, self.length, _CHUNK):
            crc = zlib.crc32(self.source.read(self.start + offset, min(_CHUNK, self.length - offset)).data, crc)
        self._compare(crc)

    def _compare(self, crc: int) -> None:
        if self._crc32 is not None and crc != self._crc32:
            raise DamagedError("its bytes do not give its checksum")
        self._crc32 = None


class Window:
    """A stretch of an open file, to be read from start to end by an unpickler.

    Raises EOFError where more is asked for than it has, before any memory is taken.
    """

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self._file, self.position, self.end = file, start, end
        file.seek(start)

    def read(self, length: int) -> bytes:
        if length > self.end - self.position:
            raise EOFError
        data = self._file.read(length)
        self.position += len(data)
        if len(data) != length:
            raise EOFError
        return data

    def readline(self) -> bytes:
        line = self._file.readline(min(_LONGEST_LINE, self.end - self.position))
        self.position += len(line)
        if not line.endswith(b"\n"):
            if self.position >= self.end:
                raise EOFError
            raise ValueError("a line of it is too long for a pickle")
        return line

    def skip(self, length: int) -> int:
        """Pass over `length` bytes and return where they begin."""
        start = self.position
        if length > self.end - start:
            raise EOFError
        self.position += length
        self._file.seek(self.position)
        return start


def one_line(text: object, limit: int = 200) -> str:
    """What a file says, fit for an error message: neither lines nor length are its to choose."""
    line = " ".join(str(text).split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


def _status(file: BinaryIO) -> tuple[int, int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns, status.st_ino
