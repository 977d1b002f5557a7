"""List files -> records: one line a video, `path label`, or one line a folder of frames, `path num_frames label`."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from paddlevid.errors import DataError

ListFormat = Literal["video", "frames"]

_EXPECTED = {
    ("video", True): "`path label`",
    ("video", False): "`path` or `path label`",
    ("frames", True): "`path num_frames label`",
    ("frames", False): "`path num_frames` or `path num_frames label`",
}


@dataclass(frozen=True, slots=True)
class Record:
    """One video or folder of frames. `path` opens it; `name` is the path as the list has it."""

    path: str
    label: int | None = None
    num_frames: int | None = None
    name: str = ""


def read_list(
    list_path: str | os.PathLike[str],
    *,
    format: ListFormat,
    root: str | os.PathLike[str] = "",
    labelled: bool = True,
    num_classes: int | None = None,
) -> list[Record]:
    """Read a list file; relative paths are taken from `root`.

    Lines are read from the right, so a path may hold blanks and commas. The fields of a line are separated by blanks
    and tabs, or by commas (with or without blanks around them). Empty lines are skipped; there are no comments, because
    a path may begin with any character. With `labelled=False` a label may be missing, and a number at the end of a line
    that is itself part of an existing path ("shots/take 3") stays in the path; a negative label counts as missing.
    Raises DataError if the list is missing, empty or not UTF-8, or if a line has too few fields, a label outside
    0..num_classes-1 or less than one frame.
    """
    list_path = os.fspath(list_path)
    try:
        with open(list_path, encoding="utf-8-sig") as file:
            lines = [line.strip(" \t\r\n") for line in file]
    except UnicodeDecodeError as error:
        raise DataError(f"{list_path}: not a text file in UTF-8 ({error.reason} at byte {error.start})") from None
    except OSError as error:
        raise DataError(f"{list_path}: cannot read this list: {error.strerror or error}") from None

    records = []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        where = f"{list_path}:{number}"
        fields = _split_line(line, format, os.fspath(root), labelled)
        if fields is None:
            raise DataError(f"{where}: expected {_EXPECTED[format, labelled]}, found {_shorten(line)!r}")
        name, num_frames, label = fields
        if label is not None and (label < 0 or (num_classes is not None and label >= num_classes)):
            wanted = "0 or more" if num_classes is None else f"0 to {num_classes - 1} for {num_classes} classes"
            raise DataError(f"{where}: label {label} must be {wanted}: {_shorten(line)!r}")
        if num_frames is not None and num_frames < 1:
            raise DataError(f"{where}: num_frames {num_frames} must be at least 1: {_shorten(line)!r}")
        records.append(Record(path=os.path.join(root, name), label=label, num_frames=num_frames, name=name))
    if not records:
        raise DataError(f"{list_path}: this list is empty; expected lines of {_EXPECTED[format, labelled]}")
    return records


def check_files(records: Sequence[Record]) -> None:
    """Raise DataError, naming the first, if files or folders of the records are missing."""
    missing = [record.path for record in records if not os.path.exists(record.path)]
    if missing:
        raise DataError(
            f"{missing[0]}: no such file or folder; {len(missing)} of the {len(records)} in the list are missing"
            " (is the root folder right?)"
        )


def _split_line(line: str, format: ListFormat, root: str, labelled: bool) -> tuple[str, int | None, int | None] | None:
    """Path, num_frames and label of a line; None if it has too few fields."""
    num_needed = 1 if format == "frames" else 0
    with_label = _split_numbers(line, num_needed + 1)
    fields = with_label
    if not labelled:
        without_label = _split_numbers(line, num_needed)
        if with_label is None or (without_label and os.path.exists(os.path.join(root, without_label[0]))):
            fields = without_label
    if fields is None:
        return None
    path, numbers = fields
    num_frames = numbers[0] if format == "frames" else None
    label = numbers[num_needed] if len(numbers) > num_needed else None
    if not labelled and label is not None and label < 0:
        label = None
    return path, num_frames, label


def _split_numbers(line: str, count: int) -> tuple[str, list[int]] | None:
    """Split `count` whole numbers, all behind commas or all behind blanks, off the right end of a line."""
    for separator in (r"[ \t]*,[ \t]*", r"[ \t]+"):
        match = re.fullmatch(r"(.*[^ \t,])" + rf"{separator}(-?[0-9]+)" * count, line)
        if match:
            return match[1], [int(number) for number in match.groups()[1:]]
    return None


def _shorten(line: str) -> str:
    return line if len(line) <= 120 else f"{line[:58]} ... {line[-57:]}"
