"""A dataset matched with the files that are there -> `train.txt`, `valid.txt`, `class_names.txt` and what fails."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from paddlevid.data.class_names import CLASS_NAMES_FILE
from paddlevid.data.csv_lists import find_header
from paddlevid.errors import ConfigError, DataError
from paddlevid.runtime import atomic_write

if TYPE_CHECKING:
    from paddlevid.prepare.checking import Journal

MISSING_FILE = "missing.txt"
BAD_FILE = "bad_videos.txt"
JOURNAL_FILE = "checked_videos.jsonl"


class Entry(NamedTuple):
    """A video of a list: its path below the root, parts joined by "/", and its class; None where that is secret."""

    name: str
    label: int | None


@dataclass(frozen=True)
class Draft:
    """What annotations say, matched with the files under `root`; of these nothing was read yet.

    `splits` has the videos of each list (`train`, `train_split1`, ...), `missing` names those that are not there.
    """

    root: Path
    class_names: list[str]
    splits: dict[str, list[Entry]]
    missing: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def is_labelled(self, split: str) -> bool:
        return all(entry.label is not None for entry in self.splits[split])

    def names(self) -> list[str]:
        """Each video once."""
        return list(dict.fromkeys(entry.name for entries in self.splits.values() for entry in entries))

    def missing_names(self) -> list[str]:
        """Each one that is not there once."""
        return list(dict.fromkeys(name for names in self.missing.values() for name in names))


class SplitSummary(NamedTuple):
    """What became of a split."""

    split: str
    num_videos: int
    num_classes: int
    num_missing: int
    num_bad: int


def check_draft(draft: Draft) -> None:
    """See before hours of checks that there is something to list.

    Raises:
        DataError: not one of the videos is there, or a class has a name that no file of names can hold.
    """
    if not draft.names():
        missing = draft.missing_names()
        example = f", such as {missing[0]}" if missing else ""
        raise DataError(
            f"{draft.root}: of {count(len(missing), 'video')} in the annotations none is there{example} (is it the "
            "folder of the videos?)"
        )
    for name in draft.class_names:
        if name.splitlines() != [name] or name.strip() != name or not _is_text(name):
            raise DataError(f"class {name!r}: a name must be one line of text without blanks around it; rename it")


def check_output(draft: Draft, output: Path) -> None:
    """Raise ConfigError where files in the output folder would be replaced that no such tool has written."""
    if (output / JOURNAL_FILE).exists():
        return
    for name in _names_of_files(draft):
        if (output / name).exists():
            raise ConfigError(f"{output / name} is there already, and of another tool; choose a folder with --output")


def _names_of_files(draft: Draft) -> list[str]:
    return [*(f"{split}.txt" for split in draft.splits), CLASS_NAMES_FILE, MISSING_FILE, BAD_FILE]


def unlistable(name: str) -> str:
    """Why a line of a list cannot hold the name of a file, empty where it can."""
    if not _is_text(name):
        return "its name is not UTF-8; rename it"
    if any(character in name for character in "\r\n") or name.strip(" \t") != name or name.startswith("\ufeff"):
        return "its name has a line break or begins with a blank; rename it"
    return ""


def count(number: int, noun: str) -> str:
    """`1 video`, `2 videos`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _is_text(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)  # what stands for undecodable bytes


def write_lists(draft: Draft, bad: Mapping[str, str], output: Path, journal: Journal) -> list[SplitSummary]:
    """Write the lists of the videos that are not `bad` (name -> reason), and the files beside them.

    Files without a line are not written: an empty list is an error to all who read it. Those that an earlier run wrote
    and that are not written now are removed: the numbers of their classes may be others.

    Raises:
        DataError: all videos are bad. What is missing and what is bad is written all the same.
    """
    contents = {
        MISSING_FILE: [_shown(name) for name in draft.missing_names()],
        BAD_FILE: [f"{_shown(name)}\t{reason}" for name, reason in bad.items()],
    }
    earlier = set(_names_of_files(draft) if journal.written is None else journal.written)
    if len(bad) == len(draft.names()):
        _replace(output, contents, earlier, journal, kept=earlier - set(contents))
        name, reason = next(iter(bad.items()))
        raise DataError(f"all {len(bad)} videos are broken, such as {_shown(name)}: {reason}")
    contents[CLASS_NAMES_FILE] = draft.class_names
    summaries = []
    for split, entries in draft.splits.items():
        good = [entry for entry in entries if entry.name not in bad]
        contents[f"{split}.txt"] = _list_lines(good)
        num_classes = len({entry.label for entry in good} - {None})
        num_missing = len(draft.missing.get(split, ()))
        summaries.append(SplitSummary(split, len(good), num_classes, num_missing, len(entries) - len(good)))
    _replace(output, contents, earlier, journal)
    return summaries


def _list_lines(entries: Sequence[Entry]) -> list[str]:
    """A line for each; one that could be the header of a table does not stand first."""
    lines = [entry.name if entry.label is None else f"{entry.name} {entry.label}" for entry in entries]
    if lines and find_header(lines[0]):
        place = next((place for place, line in enumerate(lines) if not find_header(line)), None)
        if place is None:
            lines[0] = f"./{lines[0]}"
        else:
            lines.insert(0, lines.pop(place))
    return lines


def _replace(
    output: Path,
    contents: Mapping[str, list[str]],
    earlier: Collection[str],
    journal: Journal,
    kept: Collection[str] = (),
) -> None:
    """Write the files that have lines, and remove those of `earlier` that have none and are not `kept`."""
    filled = {name: lines for name, lines in contents.items() if lines}
    journal.note_written({*earlier, *filled})  # first: a run that is killed here leaves no file that nobody removes
    for name in set(earlier).difference(filled, kept):
        (output / name).unlink(missing_ok=True)
    for name, lines in filled.items():
        _write(output / name, lines)
    journal.note_written({*kept, *filled})


def _write(path: Path, lines: list[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    atomic_write(path, lambda temporary: Path(temporary).write_text(text, encoding="utf-8"))


def _shown(name: str) -> str:
    """A name on one line, undecodable bytes and control characters as escapes."""
    return "".join(
        character if character == " " or unicodedata.category(character)[0] not in "CZ" else repr(character)[1:-1]
        for character in name
    )
