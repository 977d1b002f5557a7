"""What becomes of the name of a video: that of its clip or folder of frames, and the line of the new list."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from paddlevid.data.annotations import NO_LABELS
from paddlevid.data.records import Record
from paddlevid.errors import DataError


class Job(NamedTuple):
    """A video to make over: the path that opens it, the same below the set's folder, and the name of what is made."""

    path: str
    source: str
    name: str


def plan_jobs(
    records: Iterable[Record], root: str | Path, suffix: str = "", known: Mapping[str, str] = MappingProxyType({})
) -> list[Job]:
    """A job for each video of a set, named as it is below `root`: `a/b/x.mp4` -> `a/b/x` + `suffix`.

    Videos that are not all below `root` are named below the folder that they have in common. Where two names would be
    the same, or one a folder of another, and where a list could not hold a name, the suffix of the video stays. What
    was made of a source before keeps its name: `known` is source -> name.

    Raises:
        DataError: two videos have one name all the same.
    """
    paths = list(dict.fromkeys(os.path.abspath(record.path) for record in records))
    begin = len(_common_folder(paths, os.path.abspath(root)).rstrip(os.sep)) + 1
    sources = [path[begin:].replace(os.sep, "/") for path in paths]
    folders = _folders(sources)
    taken = {name: source for source, name in known.items()}
    whole: set[str] = set()
    while True:
        names = [known.get(source) or _new_name(source, source in whole, suffix) for source in sources]
        counts = Counter(names)
        clashing = [
            (path, source, name)
            for path, source, name in zip(paths, sources, names, strict=True)
            if counts[name] > 1 or name in folders or taken.get(name, source) != source
        ]
        more = {source for _, source, _ in clashing} - whole - known.keys()
        if not more:
            break
        whole |= more
    for path, _, name in clashing:
        raise DataError(f"{path}: what is made of it would be named {name}, as something else is; rename the video")
    return [Job(*job) for job in zip(paths, sources, names, strict=True)]


def _folders(sources: Iterable[str]) -> set[str]:
    """All folders that sources lie in, however deep."""
    folders = {source.rpartition("/")[0] for source in sources}
    for folder in list(folders):
        while folder := folder.rpartition("/")[0]:
            folders.add(folder)
    return folders


def _new_name(source: str, is_whole: bool, suffix: str) -> str:
    short = os.path.splitext(source)[0]
    return (source if is_whole or short[-1] in " \t," else short) + suffix


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
