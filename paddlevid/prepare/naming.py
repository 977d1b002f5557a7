"""What becomes of the name of a video: that of its clip or folder of frames, and the line of the new list."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from paddlevid.data.annotations import NO_LABELS
from paddlevid.data.records import Record
from paddlevid.errors import DataError


class Job(NamedTuple):
    """A video to make over: a path that opens it, its real path, and the name of what is made."""

    path: str
    source: str
    name: str


def plan_jobs(
    records: Iterable[Record],
    root: str | Path,
    suffix: str = "",
    known: Mapping[str, str] = MappingProxyType({}),
    is_taken: Callable[[str], bool] = lambda name: False,
) -> list[Job]:
    """A job for each video of a set, named as it is below `root`: `a/b/x.mp4` -> `a/b/x` + `suffix`.

    Videos that are not all below `root` are named below the folder that they have in common. Where two names would be
    the same, or one a folder of another, and where a list could not hold a name, the suffix of the video stays. What
    was made of a file before keeps its name: `known` is name -> real path; others of that name get a number, too, and
    so do those whose name `is_taken` by something unknown. Several links to a file are one video.

    Raises:
        DataError: two videos have one name all the same.
    """
    paths: dict[str, str] = {}  # by real path
    for record in records:
        paths.setdefault(os.path.realpath(record.path), os.path.abspath(record.path))
    begin = len(_common_folder(list(paths.values()), os.path.abspath(root)).rstrip(os.sep)) + 1
    short_names = {source: path[begin:].replace(os.sep, "/") for source, path in paths.items()}
    folders = _folders([*short_names.values(), *known])
    kept = {source: name for name, source in known.items()}
    tries = dict.fromkeys(paths, 0)
    while True:
        names = {source: kept.get(source) or _new_name(short_names[source], tries[source], suffix) for source in paths}
        counts = Counter(names.values())
        new = {source: name for source, name in names.items() if source not in kept}
        occupied = {source for source, name in new.items() if name in known or is_taken(name)}
        clashing = [
            source
            for source, name in new.items()
            if source in occupied
            or counts[name] > 1
            or name in folders
            or not known.keys().isdisjoint(_folders([name]))
        ]
        more = [source for source in clashing if tries[source] == 0 or source in occupied]
        if not more:
            break
        for source in more:
            tries[source] += 1
    for source in clashing:
        name = names[source]
        raise DataError(
            f"{paths[source]}: what is made of it would be named {name}, as something else is; rename the video"
        )
    return [Job(path, source, names[source]) for source, path in paths.items()]


def _folders(sources: Iterable[str]) -> set[str]:
    """All folders that sources lie in, however deep."""
    folders = {source.rpartition("/")[0] for source in sources}
    for folder in list(folders):
        while folder := folder.rpartition("/")[0]:
            folders.add(folder)
    return folders


def _new_name(name: str, num_tries: int, suffix: str) -> str:
    """Without the suffix of the video at first, then with it, then with a number behind it from 2 on."""
    short = os.path.splitext(name)[0]
    is_whole = num_tries > 0 or short[-1] in " \t,"
    return (name if is_whole else short) + (f"_{num_tries}" if num_tries > 1 else "") + suffix


def _common_folder(paths: Sequence[str], root: str) -> str:
    prefix = root.rstrip(os.sep) + os.sep
    if all(path.startswith(prefix) for path in paths):
        return root
    return os.path.commonpath([os.path.dirname(path) for path in paths])


def list_line(name: str, record: Record, num_frames: int | None = None) -> str:
    """A line that `read_list` reads back: name, number of frames where it is a folder of them, and labels, if any."""
    fields = [f"./{name}" if name[0] in " \t\ufeff" else name]
    if num_frames is not None:
        fields.append(str(num_frames))
    if record.labels is not None:
        fields.append(",".join(map(str, record.labels)) or NO_LABELS)
    elif record.label is not None:
        fields.append(str(record.label))
    return " ".join(fields)


def override(key: str, value: str | float) -> str:
    """`key=value` as `-o` of the command lines reads it."""
    if isinstance(value, str) and not re.fullmatch(r"[A-Za-z/][\w./{}:+-]*", value):
        value = json.dumps(value, ensure_ascii=False)
    return f"{key}={value}"
