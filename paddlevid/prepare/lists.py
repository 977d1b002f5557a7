"""A dataset matched with the files that are there -> `train.txt`, `valid.txt`, `class_names.txt` and what fails."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from paddlevid.data.class_names import CLASS_NAMES_FILE
from paddlevid.errors import ConfigError, DataError
from paddlevid.runtime import atomic_write

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
        missing = [name for names in draft.missing.values() for name in names]
        example = f", such as {missing[0]}" if missing else ""
        raise DataError(
            f"{draft.root}: none of the {len(missing)} videos of the annotations is there{example} (is it the folder "
            "of the videos?)"
        )
    for name in draft.class_names:
        if name.splitlines() != [name] or name.strip() != name or not _is_text(name):
            raise DataError(f"class {name!r}: a name must be one line of text without blanks around it; rename it")


def check_output(draft: Draft, output: Path) -> None:
    """Raise ConfigError where files in the output folder would be replaced that no such tool has written."""
    if (output / JOURNAL_FILE).exists():
        return
    names = [f"{split}.txt" for split in draft.splits]
    for name in (*names, CLASS_NAMES_FILE, MISSING_FILE, BAD_FILE):
        if (output / name).exists():
            raise ConfigError(f"{output / name} is there already, and of another tool; choose a folder with --output")


def unlistable(name: str) -> str:
    """Why a line of a list cannot hold the name of a file, empty where it can."""
    if not _is_text(name):
        return "its name is not UTF-8; rename it"
    if any(character in name for character in "\r\n") or name.strip(" \t") != name or name.startswith("\ufeff"):
        return "its name has a line break or begins with a blank; rename it"
    return ""


def _is_text(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)  # what stands for undecodable bytes


def write_lists(draft: Draft, bad: Mapping[str, str], output: Path) -> list[SplitSummary]:
    """Write the lists of the videos that are not `bad` (name -> reason), and the files beside them.

    Raises:
        DataError: all videos are bad. What is missing and what is bad is written all the same.
    """
    missing = dict.fromkeys(name for names in draft.missing.values() for name in names)
    _write(output / MISSING_FILE, [_shown(name) for name in missing])
    _write(output / BAD_FILE, [f"{_shown(name)}\t{reason}" for name, reason in bad.items()])
    if len(bad) == len(draft.names()):
        name, reason = next(iter(bad.items()))
        raise DataError(f"all {len(bad)} videos are broken, such as {_shown(name)}: {reason}")
    _write(output / CLASS_NAMES_FILE, draft.class_names)
    summaries = []
    for split, entries in draft.splits.items():
        good = [entry for entry in entries if entry.name not in bad]
        path = output / f"{split}.txt"
        if good:
            _write(path, [entry.name if entry.label is None else f"{entry.name} {entry.label}" for entry in good])
        else:
            path.unlink(missing_ok=True)  # of an earlier run: an empty list is an error to all who read it
        num_classes = len({entry.label for entry in good} - {None})
        num_missing = len(draft.missing.get(split, ()))
        summaries.append(SplitSummary(split, len(good), num_classes, num_missing, len(entries) - len(good)))
    return summaries


def _write(path: Path, lines: list[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    atomic_write(path, lambda temporary: Path(temporary).write_text(text, encoding="utf-8"))


def _shown(name: str) -> str:
    """A name on one line, undecodable bytes and control characters as escapes."""
    return "".join(
        character if character == " " or unicodedata.category(character)[0] not in "CZ" else repr(character)[1:-1]
        for character in name
    )
