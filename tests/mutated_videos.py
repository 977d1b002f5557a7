"""Files as fuzzers make them from good ones: flipped bits, wrong numbers, cuts, and parts of two files joined."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from video_kinds import write_kind

from paddlevid.data.isolated import Tick
from paddlevid.data.video import open_video
from paddlevid.errors import DataError

SOURCES = ("uneven.mp4", "hevc_open.mkv", "mpeg4.avi", "vp9.webm", "mpeg2.ts")
HEAD_BYTES = 2048  # where most containers tell what they hold


class Outcome(NamedTuple):
    """What came of reading a file."""

    message: str  # "" if it was read
    seconds: float
    peak_mib: float  # of the process, so far


def flip_anywhere(data: bytearray, other: bytes, rng: np.random.Generator) -> bytearray:
    for place in rng.integers(len(data), size=rng.integers(1, 40)):
        data[place] ^= 1 << rng.integers(8)
    return data


def flip_heads(data: bytearray, other: bytes, rng: np.random.Generator) -> bytearray:
    """In what stands at the beginning or the end, where MP4 has its tables."""
    for place in rng.integers(min(HEAD_BYTES, len(data)), size=rng.integers(1, 8)):
        data[place if rng.random() < 0.5 else -place - 1] ^= 1 << rng.integers(8)
    return data


def write_numbers(data: bytearray, other: bytes, rng: np.random.Generator) -> bytearray:
    """Large ones, of four bytes, where lengths, counts and sizes stand."""
    numbers = [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x10\0\0\0", b"\0\0\0\0", b"\0\0\xff\xff", b"\xff\xff\0\0"]
    for place in rng.integers(min(HEAD_BYTES, len(data) - 4), size=rng.integers(1, 4)):
        begin = place if rng.random() < 0.5 else len(data) - 4 - place
        data[begin : begin + 4] = numbers[rng.integers(len(numbers))]
    return data


def cut(data: bytearray, other: bytes, rng: np.random.Generator) -> bytearray:
    return data[: rng.integers(1, len(data))]


def leave_out(data: bytearray, other: bytes, rng: np.random.Generator) -> bytearray:
    begin, end = sorted(rng.integers(1, len(data), 2))
    return data[:begin] + data[end:]


def splice(data: bytearray, other: bytes, rng: np.random.Generator) -> bytearray:
    """The head of a file before the rest of another."""
    begin = int(rng.integers(1, min(len(data), len(other))))
    return data[:begin] + other[begin:]


MUTATIONS: tuple[Callable[[bytearray, bytes, np.random.Generator], bytearray], ...] = (
    flip_anywhere,
    flip_heads,
    write_numbers,
    cut,
    leave_out,
    splice,
)


def write_mutated(folder: Path, number: int) -> Path:
    """The mutated file of a number: the same on each call, sources and mutations in turn."""
    rng = np.random.default_rng([20, number])
    source = write_kind(folder, SOURCES[number % len(SOURCES)])
    mutate = MUTATIONS[number // len(SOURCES) % len(MUTATIONS)]
    other = write_kind(folder, SOURCES[int(number + rng.integers(1, len(SOURCES))) % len(SOURCES)])
    path = folder / f"{number:03d}_{mutate.__name__}_{source.name}"
    path.write_bytes(mutate(bytearray(source.read_bytes()), other.read_bytes(), rng))
    return path


def read_clip(job: tuple[Path, str], tick: Tick) -> Outcome:
    """Read eight frames as training does."""
    import resource

    path, decoder = job
    start, message = time.monotonic(), ""
    try:
        with open_video(path, decoder) as reader:
            frames = reader.read(np.linspace(0, reader.num_frames - 1, 8).astype(int))
        assert frames.shape[0] == 8
        assert frames.shape[3] == 3
    except DataError as error:
        message = str(error)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Outcome(message, time.monotonic() - start, peak / 1024)
