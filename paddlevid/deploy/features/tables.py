"""The tables of a folder of features: whose they are (`videos.csv`), and which videos have none (`failed*.csv`)."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Container, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from paddlevid.deploy.features.files import Item, Shard, named_disk_errors, write_shared
from paddlevid.errors import DataError

INDEX_FILE = "videos.csv"
_FAILED = re.compile(r"failed(?:-(\d+)-of-(\d+))?\.csv")


class Source(NamedTuple):
    """Whose features a file holds: a name, and the bytes of the video ("" where they were not known)."""

    name: str
    size: str


def read_index(folder: Path) -> dict[str, Source]:
    """Whose features each file holds.

    Raises:
        DataError: it is not as it was written.
    """
    path = folder / INDEX_FILE
    if not path.is_file():
        return {}
    rows = _read_table(path, ("file", "video"), "surrogateescape")
    for row in rows:
        file = PurePath(row["file"])
        if file.is_absolute() or ".." in file.parts or file.suffix != ".npy":  # --overwrite removes what is named here
            raise DataError(f"{path}: is damaged: {row['file']!a} is no file of features; remove it")
    return {row["file"]: Source(row["video"], row.get("bytes") or "") for row in rows}


def _read_table(path: Path, columns: Sequence[str], errors: str) -> list[dict[str, str]]:
    """The rows of a CSV file that this module has written."""
    try:
        with path.open(encoding="utf-8", errors=errors, newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read: {error}; remove it") from None
    if any(row.get(column) is None for row in rows for column in columns):
        raise DataError(f"{path}: is damaged: each row must have {' and '.join(columns)}; remove it")
    return rows


def write_index(folder: Path, items: Sequence[Item], done: Container[str], shard: Shard) -> None:
    """Note whose features each file holds, beside what is noted already.

    The name alone does not tell: two data sets may name their videos alike. A size is the same on all machines.

    Raises:
        DataError: a file holds the features of another video.
    """
    known = read_index(folder)
    merged = dict(known)
    for item in items:
        size = _size_of(item.record.path)
        old = merged.setdefault(item.file, Source(item.name, size))
        if old.name != item.name:
            other = f"{old.name}, not of {item.name}"
        elif item.file in done and "" not in (old.size, size) and old.size != size:
            other = f"another video {item.name}, of {old.size} bytes; {item.record.path} has {size}"
        else:
            # What is gone was of that size all the same; what has no features yet may have been mended
            merged[item.file] = Source(item.name, size or old.size)
            continue
        raise DataError(
            f"{folder / item.file}: has the features of {other}; use another folder, or --overwrite in one process"
        )
    if merged == known:
        return

    def write(temporary: str) -> None:
        rows = [(file, source.name, source.size) for file, source in merged.items()]
        with open(temporary, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            csv.writer(file).writerows([("file", "video", "bytes"), *rows])

    write_shared(folder / INDEX_FILE, shard, write)


def _size_of(path: str) -> str:
    """The bytes of a video, or of the first picture of a folder of frames; "" where there is none."""
    try:
        if os.path.isdir(path):
            path = os.path.join(path, min(name for name in os.listdir(path) if not name.startswith(".")))
        return str(os.stat(path).st_size)
    except (OSError, ValueError):
        return ""


class Failures:
    """`failed.csv`, or `failed-2-of-4.csv` of a shard: videos without features and why. Not there without any."""

    def __init__(self, folder: Path, shard: Shard) -> None:
        self.path = folder / f"failed{shard.suffix}.csv"
        self.count = 0
        for path in folder.glob("failed*.csv"):  # of the run before; other shards of this run keep theirs
            match = _FAILED.fullmatch(path.name)
            if match and (path == self.path or int(match[2] or 1) != shard.total):
                path.unlink(missing_ok=True)

    def add(self, item: Item, reason: str) -> None:
        rows = [(item.name, reason)] if self.count else [("name", "reason"), (item.name, reason)]
        with (
            named_disk_errors(self.path),
            self.path.open("a", encoding="utf-8", errors="backslashreplace", newline="") as file,
        ):
            csv.writer(file).writerows(rows)
        self.count += 1


def failed_names(folder: Path) -> set[str]:
    """Names of the videos that failed in the latest run, of all shards."""
    names: set[str] = set()
    for path in folder.glob("failed*.csv"):
        if _FAILED.fullmatch(path.name):
            names |= {row["name"] for row in _read_table(path, ("name",), "strict")}
    return names
