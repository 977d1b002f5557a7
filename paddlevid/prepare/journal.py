"""The journal of a folder of things made over: what each is made of. Several processes of one run append to it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from paddlevid.data.class_names import CLASS_NAMES_FILE
from paddlevid.errors import DataError

JOURNAL_FILE = ".made.jsonl"
PARTIAL_FOLDER = ".partial"


class Made(NamedTuple):
    """What came of a video."""

    num_frames: int
    fps: float
    num_bytes: int


class Row(NamedTuple):
    """A line of the journal: what a name was made of, by its real path, size and time, and what came of it."""

    name: str
    source: str
    source_bytes: int
    source_mtime_ns: int
    made: Made


class ListNote(NamedTuple):
    """A line of the journal: the name of a list of what was made, and the real paths of its input and its root.

    Where the input is no list, both are the same.
    """

    list: str
    input: str
    root: str

    @property
    def is_of_list(self) -> bool:
        return self.input != self.root


@dataclass
class Notes:
    """What a journal says: rows by their names, lists by theirs, and whether lines were torn.

    What a torn line still tells is a row without a size, of which nothing can be kept.
    """

    rows: dict[str, Row] = field(default_factory=dict)
    lists: dict[str, ListNote] = field(default_factory=dict)
    is_torn: bool = False


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold the folder for this run alone, where the system can; also after a run that was killed."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:
        yield
        return
    with open(folder / JOURNAL_FILE, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"{folder}: another run writes into this folder; wait for its end") from None
        except OSError:
            pass  # a file system without locks
        yield


def open_journal(folder: Path, settings: Mapping[str, Any]) -> Notes:
    """What is noted; a new journal is begun where there is none.

    Raises:
        DataError: the folder was made with other settings, or nothing tells with which.
    """
    path = folder / JOURNAL_FILE
    lines = [line for line in path.read_bytes().split(b"\n") if line.strip()] if path.exists() else []
    noted = _load(lines[0]) if lines else None
    if not isinstance(noted, dict) or "list" in noted:
        if lines and set(os.listdir(folder)) - {JOURNAL_FILE, PARTIAL_FOLDER}:
            raise DataError(
                f"{path}: its first line is damaged, and nothing else tells how {folder} was made; choose another "
                "folder, or delete this one"
            )
        path.write_text(json.dumps(dict(settings)) + "\n", encoding="utf-8")
        return Notes()
    differ = [f"{key} {noted.get(key)}, not {value}" for key, value in settings.items() if noted.get(key) != value]
    if differ:
        raise DataError(f"{folder}: was made with {'; '.join(differ)}; choose another folder, or delete this one")
    notes = Notes()
    for line in lines[1:]:
        _take(line, notes)
    return notes


def _take(line: bytes, notes: Notes) -> None:
    value = _load(line)
    if isinstance(value, dict) and value.keys() == set(ListNote._fields):
        notes.lists[value["list"]] = ListNote(**value)
        return
    for piece in [line] if value is not None else re.split(rb'(?=\[")', line):  # what is torn may go on with a row
        row = _row(_load(piece)) or _torn_row(piece)
        notes.is_torn |= row is None or row.source_bytes < 0
        if row is not None:
            notes.rows[row.name] = row


def _torn_row(piece: bytes) -> Row | None:
    """The name, and the source if it is whole; None where not even the name is."""
    match = re.match(rb'\[("(?:[^"\\]|\\.)+")(?:, ("(?:[^"\\]|\\.)+"))?', piece)
    name, source = (_load(part) if part else "" for part in match.groups()) if match else ("", "")
    return Row(name, source or "", -1, -1, Made(0, 0.0, 0)) if name else None


def _load(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _row(value: Any) -> Row | None:
    try:
        name, source, num_bytes, mtime_ns, made = value
        row = Row(name, source, num_bytes, mtime_ns, Made(*made))
        return row if name and os.path.isabs(source) else None
    except (ValueError, TypeError):
        return None


def append_line(path: Path, value: Any) -> None:
    """Append a line of JSON, whole or with an OSError; it begins with the line break, as another may have been torn."""
    line = b"\n" + json.dumps(value).encode()
    with open(path, "ab", buffering=0) as file:  # at once: several processes write
        if file.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(file.fileno())


def claim_list(folder: Path, notes: Notes, note: ListNote) -> None:
    """Note of which videos a list is to be.

    Raises:
        DataError: there is a list of this name that is of others, or one whose classes have other names.
    """
    path, other = folder / note.list, notes.lists.get(note.list)
    if other == note:
        return
    if path.exists():
        origin = "of something else" if other is None else f"of {other.input}"
        if other is not None and other.input == note.input:
            origin += f" below {other.root}"
        raise DataError(f"{path}: is there already, {origin}; choose another DIR, or give a list of another name")
    others = {os.path.dirname(listed.input) for listed in notes.lists.values() if listed.is_of_list}
    if note.is_of_list and others - {os.path.dirname(note.input)}:
        check_class_names(Path(note.input), folder)
    append_line(folder / JOURNAL_FILE, note._asdict())


def check_class_names(list_path: Path, folder: Path) -> None:
    """Raise DataError if the classes of a list have other names than those of the lists in a folder."""
    names, there = list_path.parent / CLASS_NAMES_FILE, folder / CLASS_NAMES_FILE
    if names.is_file() and there.is_file() and names.read_bytes() != there.read_bytes():
        raise DataError(f"{names}: is not as {there}, which other lists were written with; choose another folder")
