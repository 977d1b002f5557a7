"""Where the clips of a tar shard lie, read from its headers once and kept beside it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from paddlevid.data.csv_lists import NO_LABELS
from paddlevid.errors import DataError
from paddlevid.runtime import atomic_write, cache_folder

# What a clip may be called in a shard; of its labels, the first of these counts.
VIDEO_SUFFIXES = ("mp4", "avi", "mkv", "webm", "mov", "m4v", "mpg", "mpeg", "wmv", "flv", "3gp", "ts")
LABEL_SUFFIXES = ("cls", "json", "txt")

_VERSION = 1  # of the files that keep indexes
_MAX_LABEL_BYTES = 1 << 20
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstd"}


class Stamp(NamedTuple):
    """What tells one state of a file from another."""

    num_bytes: int
    mtime_ns: int


NO_STAMP = Stamp(0, 0)


class ShardIndex(NamedTuple):
    """The clips of a shard, in its order: their names in it, where their bytes are, and the text of their labels.

    The text is a number, a name, several of them joined by semicolons, `-` for none of several, or empty where the
    shard has no label for a clip.
    """

    stamp: Stamp
    names: list[str]
    labels: list[str]
    offsets: np.ndarray  # int64 [N]
    sizes: np.ndarray  # int64 [N]


def stamp_of(path: str) -> Stamp:
    status = os.stat(path)
    return Stamp(status.st_size, status.st_mtime_ns)


def index_shard(path: str, tick: Callable[[], None] = lambda: None) -> ShardIndex:
    """The index of a shard: the one that is kept of it in this state, else a new one, which is then kept.

    It is kept beside the shard, as `SHARD.clips.npz`, or in the cache folder where that cannot be written to. `tick` is
    called at each file in the shard.

    Raises:
        DataError: the shard is missing, cut off, compressed or no tar file, or a sample in it cannot be told.
    """
    kept = kept_index(path)
    if kept is not None:
        return kept
    index = _scan(path, tick)
    for place in _places(path):
        try:
            atomic_write(place, lambda temporary: _save(index, temporary))
            break
        except OSError:
            continue  # a disk that refuses it costs time at the next start, no more
    return index


def kept_index(path: str) -> ShardIndex | None:
    """The index that is kept of a shard in its present state; None if there is none."""
    try:
        stamp = stamp_of(path)
    except OSError as error:
        raise DataError(f"{path}: cannot read this shard: {error.strerror or error}") from None
    for place in _places(path):
        try:
            index = _load(place)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            continue
        if index.stamp == stamp:
            return index
    return None


def _places(path: str) -> list[Path]:
    name = hashlib.sha256(os.path.realpath(path).encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return [Path(f"{path}.clips.npz"), cache_folder() / "shards" / f"{name}.npz"]


def _save(index: ShardIndex, path: str) -> None:
    texts: Any = {
        key: np.frombuffer("\0".join(words).encode("utf-8", "surrogateescape"), np.uint8)
        for key, words in (("names", index.names), ("labels", index.labels))
    }
    stamp = np.array([_VERSION, *index.stamp], np.int64)
    with open(path, "wb") as file:
        np.savez(file, stamp=stamp, offsets=index.offsets, sizes=index.sizes, **texts)


def _load(path: Path) -> ShardIndex:
    with np.load(path, allow_pickle=False) as arrays:
        version, num_bytes, mtime_ns = arrays["stamp"].tolist()
        names, labels = (
            arrays[key].tobytes().decode("utf-8", "surrogateescape").split("\0") for key in ("names", "labels")
        )
        index = ShardIndex(Stamp(num_bytes, mtime_ns), names, labels, arrays["offsets"], arrays["sizes"])
    if version != _VERSION or not len(names) == len(labels) == len(index.offsets) == len(index.sizes):
        raise ValueError(f"{path}: of another version")
    return index


def _scan(path: str, tick: Callable[[], None]) -> ShardIndex:
    try:
        with open(path, "rb") as file:
            stamp = Stamp(os.fstat(file.fileno()).st_size, os.fstat(file.fileno()).st_mtime_ns)
            samples = _read_samples(file, path, stamp.num_bytes, tick)
    except OSError as error:
        raise DataError(f"{path}: cannot read this shard: {error.strerror or error}") from None
    clips = [sample for sample in samples if sample.clip is not None]
    if not clips:
        found = sorted({suffix for sample in samples for suffix in sample.others})
        raise DataError(
            f"{path}: this shard holds no videos; expected files such as KEY.mp4 and KEY.cls, found "
            + (", ".join(f"KEY.{suffix}" for suffix in found[:8]) if found else "nothing")
        )
    places = np.array([sample.clip[1:] for sample in clips if sample.clip], np.int64)  # [N, 2]
    return ShardIndex(
        stamp,
        [sample.clip[0] for sample in clips if sample.clip],
        [sample.label for sample in clips],
        places[:, 0].copy(),
        places[:, 1].copy(),
    )


class _Sample:
    """The files of one key, as far as they were seen."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.clip: tuple[str, int, int] | None = None  # name, offset, size
        self.others: set[str] = set()
        self.label = ""
        self._rank = len(LABEL_SUFFIXES)

    def set_label(self, suffix: str, text: str) -> None:
        rank = LABEL_SUFFIXES.index(suffix)
        if rank < self._rank and text:
            self._rank, self.label = rank, text


def _read_samples(file: BinaryIO, path: str, num_bytes: int, tick: Callable[[], None]) -> list[_Sample]:
    """The samples of a shard: files that follow each other with one key, which ends at the first dot of the name."""
    magic = file.read(2)
    if magic in _COMPRESSED:
        raise DataError(
            f"{path}: is compressed ({_COMPRESSED[magic]}); clips are read from anywhere in a shard: write it as plain"
            " .tar (videos do not get smaller)"
        )
    file.seek(0)
    samples: list[_Sample] = []
    try:
        archive: Any = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115
        for member in archive:
            archive.members = []  # it would keep all
            tick()
            _take(member, file, path, samples)
        end = archive.offset
    except (tarfile.TarError, EOFError) as error:
        if "end of data" in str(error) or "empty file" in str(error) or "truncated" in str(error):
            raise DataError(f"{path}: cut off: it has {num_bytes} bytes, and its last file goes on; {_AGAIN}") from None
        raise DataError(f"{path}: cannot read this shard as a tar file: {' '.join(str(error).split())}") from None
    file.seek(end)
    mark = file.read(tarfile.BLOCKSIZE)
    if len(mark) < tarfile.BLOCKSIZE:
        raise DataError(f"{path}: cut off: it has {num_bytes} bytes, and no mark of its end; {_AGAIN}")
    if mark.strip(b"\0"):
        raise DataError(f"{path}: damaged: no file of a tar begins at byte {end}; {_AGAIN}")
    return samples


_AGAIN = "copy or write it again"


def _take(member: tarfile.TarInfo, file: BinaryIO, path: str, samples: list[_Sample]) -> None:
    """Put a file of a shard to the sample that it belongs to."""
    match = re.fullmatch(r"((?:.*/)?[^./]+)\.([^/]*)", member.name, re.DOTALL)
    if match is None or not member.isreg() or re.match(r"__[^/]*__($|/)", member.name) or "\0" in member.name:
        return  # a folder, or notes on the shard
    key, suffix = match[1], match[2].lower()
    if not samples or samples[-1].key != key:
        samples.append(_Sample(key))
    sample = samples[-1]
    if suffix in VIDEO_SUFFIXES:
        if sample.clip is not None:
            raise DataError(f"{path}: one sample has the videos {sample.clip[0]} and {member.name}; give each a key")
        if member.issparse():
            raise DataError(f"{path}/{member.name}: is stored with holes; write the shard without (tar --sparse)")
        sample.clip = (member.name, member.offset_data, member.size)
        return
    sample.others.add(suffix)
    if suffix in LABEL_SUFFIXES and member.size <= _MAX_LABEL_BYTES:
        file.seek(member.offset_data)
        content = file.read(member.size)
        try:
            sample.set_label(suffix, _label_text(suffix, content))
        except ValueError as error:
            raise DataError(f"{path}/{member.name}: cannot read this label: {error}") from None


def _label_text(suffix: str, content: bytes) -> str:
    text = " ".join(content.decode("utf-8-sig").split())
    if suffix != "json":
        return text
    value: Any = json.loads(text)
    if isinstance(value, dict):
        value = value.get("labels", value.get("label"))
    if value is None:
        return ""
    parts = value if isinstance(value, list) else [value]
    if not all(isinstance(part, (int, str)) and not isinstance(part, bool) for part in parts):
        raise ValueError(f"neither a number nor a name: {text[:80]}")
    return ";".join(map(str, parts)) or NO_LABELS
