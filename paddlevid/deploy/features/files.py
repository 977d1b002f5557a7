"""A folder of features: one `.npy` a video, what made them, and what is done.

Several processes on several machines may write to one folder. Each video is written by one of them, and files that all
of them write have the same bytes whoever writes last.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np

from paddlevid.data.records import Record
from paddlevid.deploy.inputs import VIDEO_SUFFIXES
from paddlevid.errors import DataError
from paddlevid.runtime import atomic_write

SETTINGS_FILE = "features.json"
# What runtime.atomic_write calls a file until it is whole; a process that was killed leaves it behind.
_UNFINISHED = re.compile(r"\.(?P<stem>.+)\.\d+\.npy")


class Item(NamedTuple):
    """A video, its name in what a user pointed at, and the file of its features relative to the folder."""

    record: Record
    name: str
    file: str


class Shard(NamedTuple):
    """Part `number`, from 1, of `total`: every `total`-th video of the list."""

    number: int = 1
    total: int = 1

    @property
    def suffix(self) -> str:
        return f"-{self.number}-of-{self.total}" if self.total > 1 else ""


# ---- names ----------------------------------------------------------------------------------------------------------


def plan_files(records: Sequence[Record], source: str | Path) -> list[Item]:
    """The file of each video: `a/b/x.mp4` -> `a/b/x.npy`, or `a/b/x.mp4.npy` where there is an `x.avi` as well.

    Names are those of the list, or relative to the folder that `source` is. A root or `..` at their beginning is left
    out, so that all files lie in the folder. A video that is named twice is taken once.

    Raises:
        DataError: two videos would be written to one file.
    """
    source = Path(source)
    keys: dict[str, tuple[str, Record]] = {}
    for record in records:
        name = record.name
        if source.is_dir():
            inside = os.path.relpath(record.path, source)
            name = inside if inside != "." else source.resolve().name
        elif os.path.normpath(record.path) == os.path.normpath(source):
            name = source.name
        key = _inside(name)
        known = keys.setdefault(key, (name, record))[1]
        if os.path.normpath(known.path) != os.path.normpath(record.path):
            raise DataError(
                f"{known.path} and {record.path}: their features would both be those of {key}; put them in two lists, "
                "with a folder of features each"
            )
    names = _file_names(list(keys))
    return [Item(record, name, file) for (name, record), file in zip(keys.values(), names, strict=True)]


def _inside(name: str) -> str:
    """`/a/b`, `../a/b` and `./x/../a/b` -> `a/b`."""
    path = PurePath(os.path.normpath(name))
    parts = [part for part in path.parts if part not in (path.anchor, "..")]
    return "/".join(parts) or "video"


def _file_names(keys: Sequence[str]) -> list[str]:
    """Distinct names without the suffixes of videos, but for those that would be the same without."""
    whole: set[str] = set()
    while True:
        names = [key if key in whole else _without_suffix(key) for key in keys]
        counts = Counter(names)
        clashing = {key for key, name in zip(keys, names, strict=True) if counts[name] > 1} - whole
        if not clashing:
            return [f"{name}.npy" for name in names]
        whole |= clashing


def _without_suffix(key: str) -> str:
    stem, suffix = os.path.splitext(key)
    return stem if suffix.lower() in VIDEO_SUFFIXES else key


# ---- writing --------------------------------------------------------------------------------------------------------


@contextmanager
def named_disk_errors(path: Path) -> Iterator[None]:
    """What the disk refuses becomes a DataError that names the file."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from None


def write_features(path: Path, features: np.ndarray) -> None:
    """Write a `.npy` file that is there whole or not at all."""

    def write(temporary: str) -> None:
        with open(temporary, "wb") as file:  # numpy's own writing does not say why it fails
            write_npy(file, features.dtype, features.shape, [features])

    with named_disk_errors(path):
        atomic_write(path, write)


def write_npy(file: Any, dtype: np.dtype, shape: tuple[int, ...], rows: Iterable[np.ndarray]) -> None:
    """Rows, which together have the shape, in the format of `.npy`."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    for row in rows:
        file.write(np.ascontiguousarray(row).tobytes())


def write_shared(path: Path, shard: Shard, write: Callable[[str], object]) -> None:
    """As `atomic_write`, for a file that other shards write, too: process numbers may be equal on two machines."""
    own = path.with_name(f"{path.stem}{shard.suffix}.whole{path.suffix}")
    with named_disk_errors(path):
        for unfinished in path.parent.glob(f".{own.stem}.*{path.suffix}"):  # of a process that was killed
            unfinished.unlink(missing_ok=True)
        atomic_write(own, write)
        own.replace(path)


# ---- what made the features -----------------------------------------------------------------------------------------


def read_settings(folder: Path) -> dict[str, Any] | None:
    """What made the features that are in the folder; None where there are none."""
    path = folder / SETTINGS_FILE
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    if not isinstance(settings, dict) or not all(isinstance(settings.get(k), str) for k in ("runtime", "precision")):
        raise DataError(f"{path}: does not describe features; restore it, or remove it and use --overwrite")
    return settings


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs, but for the version of this package."""
    keys = [key for key in {**new, **old} if key != "paddlevid_version"]
    return [f"{key} {old.get(key)}, not {new.get(key)}" for key in keys if old.get(key) != new.get(key)]


def write_settings(folder: Path, settings: Mapping[str, Any], shard: Shard) -> None:
    """Raises DataError where another process has just begun with other settings."""
    text = json.dumps(settings, indent=1) + "\n"
    write_shared(folder / SETTINGS_FILE, shard, lambda path: Path(path).write_text(text, encoding="utf-8"))
    if differing := differences(read_settings(folder) or {}, settings):
        raise DataError(f"{folder}: another process is writing features with {'; '.join(differing)}")


# ---- what is done ---------------------------------------------------------------------------------------------------


def find_done(folder: Path, items: Sequence[Item], mine: Sequence[Item]) -> set[str]:
    """Files of `items` that are there whole. What a killed process left unfinished of `mine` is removed.

    One walk over the folders asks a network disk much less than a question a file. Files of one folder have one size:
    only where a size is new a header is read, which tells whether the file is as long as it promises.
    """
    wanted, own = {item.file for item in items}, {item.file for item in mine}
    done = set()
    whole_sizes: set[int] = set()
    for file in walk(folder):
        if file in wanted:
            size = _whole_size(folder / file, whole_sizes)
            if size is not None:
                whole_sizes.add(size)
                done.add(file)
        elif match := _UNFINISHED.fullmatch(PurePath(file).name):
            parent = file.rpartition("/")[0]
            if os.path.join(parent, f"{match['stem']}.npy") in own:
                (folder / file).unlink(missing_ok=True)
    return done


def _whole_size(path: Path, known: Container[int]) -> int | None:
    """The size of a `.npy` file that is whole; those of `known` sizes are."""
    try:
        size = path.stat().st_size
        if size in known:
            return size
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
            promised = file.tell() + math.prod(shape) * dtype.itemsize
    except Exception:  # numpy parses headers as Python, and damaged ones fail in as many ways
        return None
    return size if size == promised else None


def walk(folder: Path) -> Iterator[str]:
    """Files under a folder, relative to it, parted by `/`."""
    waiting = [""]
    while waiting:
        parent = waiting.pop()
        with os.scandir(folder / parent) as entries:
            for entry in entries:
                path = f"{parent}/{entry.name}" if parent else entry.name
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(path)
                else:
                    yield path


def printable(name: str) -> str:
    """A file name as text, whatever its bytes."""
    return name.encode("utf-8", "backslashreplace").decode()
