"""List files -> records: one line a video, `path label`, or one line a folder of frames, `path num_frames label`.

Where videos have several labels, one field holds them, joined by commas: `path 0,4,7`, or `path -` for none.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np

from paddlevid.data.csv_lists import (
    NO_LABELS,
    NUMBER,
    ClassNames,
    LabelParser,
    Reading,
    find_header,
    is_blank_separated_header,
    read_rows,
)
from paddlevid.data.records import Record, Records
from paddlevid.data.shard_lists import read_shards
from paddlevid.errors import DataError

ListFormat = Literal["video", "frames", "shards"]

_NUM_FIELDS = {"video": "", "frames": " num_frames"}
_MANY_OF_A_FOLDER = 32
# Lines that can be read in one way only: nothing in the path looks like a separator
_PLAIN = {
    "video": re.compile(r"([^ \t,]+)()[ \t]+([0-9]{1,18})"),
    "frames": re.compile(r"([^ \t,]+)[ \t]+([0-9]{1,18})[ \t]+([0-9]{1,18})"),
}


def read_list(
    list_path: str | os.PathLike[str],
    *,
    format: ListFormat,
    root: str | os.PathLike[str] = "",
    labelled: bool = True,
    num_classes: int | None = None,
    multi_label: bool = False,
    class_names: ClassNames = None,
) -> Records:
    """Read a list file; relative paths are taken from `root`. For `format="shards"`, see `read_shards`.

    Lines are read from the right, so a path may hold blanks and commas. The fields of a line are separated by blanks
    and tabs, or by commas (with or without blanks around them); with `multi_label` by blanks and tabs only, because
    commas join the labels (`path,3` is refused). Empty lines are skipped; there are no comments, because a path may
    begin with any character. With `labelled=False` a label may be missing, a number at the end of a line that is itself
    part of an existing path ("shots/take 3") stays in the path, labels of the other kind are taken off where what is
    left exists, and a negative label counts as missing.

    A list whose first line names a column of paths (`path`, `video`, `video_path` or `filename`) is a table in CSV,
    separated by commas, semicolons or tabs: see `csv_lists`. Its labels (`label` or `labels`) are numbers, or names of
    those that `class_names` returns, but not a number that is the name of another class; several are joined as in
    `"0,4"` or `0;4`.

    Raises DataError if the list is missing, empty or not UTF-8, if a line has too few fields, a label twice or outside
    0..num_classes-1 or less than one frame, or if no video of a labelled multi-label list has a label.
    """
    list_path, root = os.fspath(list_path), os.fspath(root)
    if format == "shards":
        # What is in KEY.cls is a number, whatever the classes are called
        parse = LabelParser(class_names, multi_label=multi_label, labelled=labelled, numbers_count=True)
        return read_shards(
            list_path,
            root=root,
            parse_label=parse,
            multi_label=multi_label,
            labelled=labelled,
            num_classes=num_classes,
        )
    records = Records(root)
    has_label = False
    for number, line, reading in _read_list(list_path, format, root, labelled, multi_label, class_names):
        labels = reading.labels
        if labels is not None and labelled:
            _check_labels(labels, num_classes, list_path, number, line)
            has_label = has_label or bool(labels)
        if reading.num_frames is not None and reading.num_frames < 1:
            raise DataError(
                f"{list_path}:{number}: num_frames {reading.num_frames} must be at least 1: {_shorten(line)!r}"
            )
        if reading.is_multi_label and labels is not None:
            records.append(reading.name, None, reading.num_frames, tuple(sorted(labels)))
        else:
            records.append(reading.name, labels[0] if labels else None, reading.num_frames)
    if not records:
        wanted = _expected(format, labelled, multi_label)
        raise DataError(f"{list_path}: this list is empty; expected lines of {wanted}, or rows below a header")
    if labelled and multi_label and not has_label:
        raise DataError(f"{list_path}: none of its {len(records)} videos has a label")
    return records


def multi_hot(records: Sequence[Record], num_classes: int) -> np.ndarray:
    """The labels of multi-label records as bool `[N, K]`."""
    targets = np.zeros((len(records), num_classes), bool)
    for row, record in zip(targets, records, strict=True):
        row[list(record.labels or ())] = True
    return targets


def find_missing(records: Sequence[Record]) -> list[str]:
    """The paths of the files or folders that are missing.

    A folder of which many are asked for is read instead: a network disk takes its time for each answer.
    """
    asked: dict[str, int] = {}
    names: dict[str, set[str]] = {}
    missing = []
    for path in records.paths() if isinstance(records, Records) else (record.path for record in records):
        folder, _, name = path.rpartition("/")
        known = names.get(folder)
        if known is None:
            asked[folder] = asked.get(folder, 0) + 1
            if asked[folder] == _MANY_OF_A_FOLDER:
                names[folder] = _names_in(path.removesuffix(name) or os.curdir)
        # A name that is written otherwise, as some systems allow, is not among them
        if (known is None or name not in known) and not os.path.exists(path):
            missing.append(path)
    return missing


def _names_in(folder: str) -> set[str]:
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()


def check_files(records: Sequence[Record], *, max_missing_share: float = 0.0) -> None:
    """Warn, on stderr, of files or folders of the records that are missing, naming the first.

    Raises:
        DataError: more than `max_missing_share` of them (0 to 1) are missing, or all. One may be even in a short list,
            unless the share is 0.
    """
    missing = find_missing(records)
    if not missing:
        return
    found = f"{missing[0]}: no such file or folder; {len(missing)} of the {len(records)} in the list are missing"
    if len(missing) == len(records) or are_too_many(len(missing), len(records), max_missing_share):
        raise DataError(f"{found} (is the root folder right?)")
    # Lists are read before the processes know each other's ranks, and so before there is a log
    print(f"warning: {found} and count as unreadable", file=sys.stderr)


def are_too_many(count: int, total: int, share: float) -> bool:
    """Whether so many of a list may not be missing: more than this share, or than one unless the share is 0."""
    return count > max(share * total, 1.0 if share else 0.0)


def _read_lines(list_path: str) -> Iterator[str]:
    """The lines of a list, with their ends."""
    try:
        with open(list_path, encoding="utf-8-sig", newline="") as file:
            yield from file
    except UnicodeDecodeError as error:
        place = error.start
        try:
            Path(list_path).read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as whole:  # the other counts from somewhere in the file
            place = whole.start
        raise DataError(f"{list_path}: not a text file in UTF-8 ({error.reason} at byte {place})") from None
    except OSError as error:
        raise DataError(f"{list_path}: cannot read this list: {error.strerror or error}") from None


def _read_list(
    list_path: str, format: ListFormat, root: str, labelled: bool, multi_label: bool, class_names: ClassNames
) -> Iterator[tuple[int, str, Reading]]:
    """The number, the text and the reading of each line of a list, or of each row of a table."""
    lines = _read_lines(list_path)
    blank, first = _skip_blank(lines)
    line = first.strip(" \t\r\n")
    header = None if _names_a_file(line, format, root) else find_header(line)
    if header is None and is_blank_separated_header(line) and not _exists(root, line):
        raise DataError(
            f"{list_path}:{blank + 1}: a header needs commas between the columns, as the rows below it: write "
            f"`{','.join(line.split())}`, or leave it away"
        )
    if header is None:
        return _read_plain(chain([first], lines), blank + 1, list_path, format, root, labelled, multi_label)
    return read_rows(
        lines,
        header,
        list_path,
        first_line=blank + 1,
        is_frames=format == "frames",
        labelled=labelled,
        multi_label=multi_label,
        class_names=class_names,
    )


def _names_a_file(line: str, format: ListFormat, root: str) -> bool:
    """Whether a line is a path that is there, with labels or without."""
    readings = (_split_numbers(line, format), _split_labels(line, format))
    return any(_exists(root, name) for name in (line, *(reading.name for reading in readings if reading)) if name)


def _skip_blank(lines: Iterator[str]) -> tuple[int, str]:
    """How many lines are blank at the beginning, and the line behind them."""
    for number, line in enumerate(lines):
        if line.strip(" \t\r\n"):
            return number, line
    return 0, ""


def _read_plain(
    lines: Iterator[str],
    first_line: int,
    list_path: str,
    format: ListFormat,
    root: str,
    labelled: bool,
    multi_label: bool,
) -> Iterator[tuple[int, str, Reading]]:
    """The number, the text and the reading of each line that is not blank."""
    match_plain = _PLAIN[format].fullmatch if labelled and not multi_label else lambda line: None
    read = _read_labelled if labelled else _read_unlabelled
    for number, raw in enumerate(lines, start=first_line):
        line = raw.strip(" \t\r\n")
        match = match_plain(line)
        if match:
            name, num_frames, label = match.groups()
            yield number, line, Reading(name, int(num_frames) if num_frames else None, (int(label),), False)
        elif line:
            yield number, line, read(line, f"{list_path}:{number}", format, root, multi_label)


def _read_labelled(line: str, where: str, format: ListFormat, root: str, multi_label: bool) -> Reading:
    one, several = _split_numbers(line, format), _split_labels(line, format)
    found = f"{where}: expected {_expected(format, True, multi_label)}, found {_shorten(line)!r}"
    if multi_label:
        if several is None:
            raise DataError(f"{found} (labels are one field behind a blank, joined by commas without blanks)")
        # MMAction2's lists have blanks between labels, which would go to the path here
        path = re.sub(r"([ \t]+[0-9]+)+$", "", several.name)
        if path != several.name and not _exists(root, several.name) and _exists(root, path):
            raise DataError(f"{found} (there is no {several.name!r}; are labels not joined by commas?)")
        return several
    # By commas, `a.mp4 0,4` would be the path `a.mp4 0` with the label 4
    if several and len(several.labels or ()) != 1 and not (one and _exists(root, one.name)):
        raise DataError(f"{found}; several labels a video, or none, need data.multi_label: true")
    if one is None:
        raise DataError(found)
    return one


def _read_unlabelled(line: str, where: str, format: ListFormat, root: str, multi_label: bool) -> Reading:
    bare = _split_numbers(line, format, with_label=False)
    if bare is not None and _exists(root, bare.name):
        return bare
    one, several = _split_numbers(line, format), _split_labels(line, format)
    reading, other = (several, one) if multi_label else (one, several)
    if other and not (reading and (reading.name == other.name or _exists(root, reading.name))):
        reading = other if _exists(root, other.name) else reading
    reading = reading or bare
    if reading is None:
        raise DataError(f"{where}: expected {_expected(format, False, multi_label)}, found {_shorten(line)!r}")
    if reading.labels and min(reading.labels) < 0:
        return reading._replace(labels=None)
    return reading


def _split_numbers(line: str, format: ListFormat, *, with_label: bool = True) -> Reading | None:
    """Split whole numbers, all behind commas or all behind blanks, off the right end of a line; None without them."""
    is_frames = format == "frames"
    for separator in (r"[ \t]*,[ \t]*", r"[ \t]+"):
        match = re.fullmatch(r"(.*[^ \t,])" + rf"{separator}({NUMBER})" * (is_frames + with_label), line)
        if match:
            numbers = [int(number) for number in match.groups()[1:]]
            num_frames = numbers[0] if is_frames else None
            return Reading(match[1], num_frames, tuple(numbers[is_frames:]) if with_label else None, False)
    return None


def _split_labels(line: str, format: ListFormat) -> Reading | None:
    """The same of a line of a multi-label list, whose last field holds all labels."""
    num_frames = rf"[ \t]+({NUMBER})" if format == "frames" else "()"
    match = re.fullmatch(rf"(.*[^ \t,]){num_frames}[ \t]+({NO_LABELS}|{NUMBER}(?:,{NUMBER})*)", line)
    if match is None:
        return None
    labels = () if match[3] == NO_LABELS else tuple(int(label) for label in match[3].split(","))
    return Reading(match[1], int(match[2]) if match[2] else None, labels, True)


def _check_labels(labels: tuple[int, ...], num_classes: int | None, list_path: str, number: int, line: str) -> None:
    for label in labels:
        if label < 0 or (num_classes is not None and label >= num_classes):
            wanted = "0 or more" if num_classes is None else f"0 to {num_classes - 1} for {num_classes} classes"
            raise DataError(f"{list_path}:{number}: label {label} must be {wanted}: {_shorten(line)!r}")
        if len(labels) > 1 and labels.count(label) > 1:
            raise DataError(
                f"{list_path}:{number}: label {label} stands there {labels.count(label)} times: {_shorten(line)!r}"
            )


def _expected(format: ListFormat, labelled: bool, multi_label: bool) -> str:
    fields = f"path{_NUM_FIELDS[format]}"
    label = "label,label,..." if multi_label else "label"
    with_label = f"`{fields} {label}`" + (f" (`{NO_LABELS}` for no label)" if multi_label else "")
    return with_label if labelled else f"`{fields}` or {with_label}"


def _exists(root: str, name: str) -> bool:
    return os.path.exists(os.path.join(root, name))


def _shorten(line: str) -> str:
    return line if len(line) <= 120 else f"{line[:58]} ... {line[-57:]}"
