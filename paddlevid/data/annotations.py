"""List files -> records: one line a video, `path label`, or one line a folder of frames, `path num_frames label`.

Where videos have several labels, one field holds them, joined by commas: `path 0,4,7`, or `path -` for none.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from paddlevid.data.records import Record, Records
from paddlevid.errors import DataError

ListFormat = Literal["video", "frames"]

NO_LABELS = "-"

_NUMBER = "-?[0-9]{1,18}"  # fits 64 bits
_NUM_FIELDS = {"video": "", "frames": " num_frames"}


class _Reading(NamedTuple):
    """A line taken apart: `labels` None where it has none; one where it is not known to be of a multi-label list."""

    name: str
    num_frames: int | None
    labels: tuple[int, ...] | None
    is_multi_label: bool


def read_list(
    list_path: str | os.PathLike[str],
    *,
    format: ListFormat,
    root: str | os.PathLike[str] = "",
    labelled: bool = True,
    num_classes: int | None = None,
    multi_label: bool = False,
) -> Records:
    """Read a list file; relative paths are taken from `root`.

    Lines are read from the right, so a path may hold blanks and commas. The fields of a line are separated by blanks
    and tabs, or by commas (with or without blanks around them); with `multi_label` by blanks and tabs only, because
    commas join the labels (`path,3` is refused). Empty lines are skipped; there are no comments, because a path may
    begin with any character. With `labelled=False` a label may be missing, a number at the end of a line that is itself
    part of an existing path ("shots/take 3") stays in the path, labels of the other kind are taken off where what is
    left exists, and a negative label counts as missing.

    Raises DataError if the list is missing, empty or not UTF-8, if a line has too few fields, a label twice or outside
    0..num_classes-1 or less than one frame, or if no video of a labelled multi-label list has a label.
    """
    list_path, root = os.fspath(list_path), os.fspath(root)
    records = Records(root)
    for number, line in enumerate(_read_lines(list_path), start=1):
        if not line:
            continue
        where = f"{list_path}:{number}"
        if labelled:
            reading = _read_labelled(line, where, format, root, multi_label)
            _check_labels(reading, where, line, num_classes)
        else:
            reading = _read_unlabelled(line, where, format, root, multi_label)
        if reading.num_frames is not None and reading.num_frames < 1:
            raise DataError(f"{where}: num_frames {reading.num_frames} must be at least 1: {_shorten(line)!r}")
        _add(reading, records)
    if not records:
        raise DataError(
            f"{list_path}: this list is empty; expected lines of {_expected(format, labelled, multi_label)}"
        )
    if labelled and multi_label and not any(record.labels for record in records):
        raise DataError(f"{list_path}: none of its {len(records)} videos has a label")
    return records


def multi_hot(records: Sequence[Record], num_classes: int) -> np.ndarray:
    """The labels of multi-label records as bool `[N, K]`."""
    targets = np.zeros((len(records), num_classes), bool)
    for row, record in zip(targets, records, strict=True):
        row[list(record.labels or ())] = True
    return targets


def check_files(records: Sequence[Record], *, max_missing_share: float = 0.0) -> None:
    """Warn, on stderr, of files or folders of the records that are missing, naming the first.

    Raises:
        DataError: more than `max_missing_share` of them (0 to 1) are missing, or all. One may be even in a short list,
            unless the share is 0.
    """
    missing = [record.path for record in records if not os.path.exists(record.path)]
    if not missing:
        return
    found = f"{missing[0]}: no such file or folder; {len(missing)} of the {len(records)} in the list are missing"
    allowed = max(max_missing_share * len(records), 1.0 if max_missing_share else 0.0)
    if len(missing) == len(records) or len(missing) > allowed:
        raise DataError(f"{found} (is the root folder right?)")
    # Lists are read before the processes know each other's ranks, and so before there is a log
    print(f"warning: {found} and count as unreadable", file=sys.stderr)


def _read_lines(list_path: str) -> list[str]:
    try:
        with open(list_path, encoding="utf-8-sig") as file:
            return [line.strip(" \t\r\n") for line in file]
    except UnicodeDecodeError as error:
        raise DataError(f"{list_path}: not a text file in UTF-8 ({error.reason} at byte {error.start})") from None
    except OSError as error:
        raise DataError(f"{list_path}: cannot read this list: {error.strerror or error}") from None


def _read_labelled(line: str, where: str, format: ListFormat, root: str, multi_label: bool) -> _Reading:
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


def _read_unlabelled(line: str, where: str, format: ListFormat, root: str, multi_label: bool) -> _Reading:
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


def _split_numbers(line: str, format: ListFormat, *, with_label: bool = True) -> _Reading | None:
    """Split whole numbers, all behind commas or all behind blanks, off the right end of a line; None without them."""
    is_frames = format == "frames"
    for separator in (r"[ \t]*,[ \t]*", r"[ \t]+"):
        match = re.fullmatch(r"(.*[^ \t,])" + rf"{separator}({_NUMBER})" * (is_frames + with_label), line)
        if match:
            numbers = [int(number) for number in match.groups()[1:]]
            num_frames = numbers[0] if is_frames else None
            return _Reading(match[1], num_frames, tuple(numbers[is_frames:]) if with_label else None, False)
    return None


def _split_labels(line: str, format: ListFormat) -> _Reading | None:
    """The same of a line of a multi-label list, whose last field holds all labels."""
    num_frames = rf"[ \t]+({_NUMBER})" if format == "frames" else "()"
    match = re.fullmatch(rf"(.*[^ \t,]){num_frames}[ \t]+({NO_LABELS}|{_NUMBER}(?:,{_NUMBER})*)", line)
    if match is None:
        return None
    labels = () if match[3] == NO_LABELS else tuple(int(label) for label in match[3].split(","))
    return _Reading(match[1], int(match[2]) if match[2] else None, labels, True)


def _check_labels(reading: _Reading, where: str, line: str, num_classes: int | None) -> None:
    labels = reading.labels or ()
    for label in labels:
        if label < 0 or (num_classes is not None and label >= num_classes):
            wanted = "0 or more" if num_classes is None else f"0 to {num_classes - 1} for {num_classes} classes"
            raise DataError(f"{where}: label {label} must be {wanted}: {_shorten(line)!r}")
        if len(labels) > 1 and labels.count(label) > 1:
            raise DataError(f"{where}: label {label} stands there {labels.count(label)} times: {_shorten(line)!r}")


def _add(reading: _Reading, records: Records) -> None:
    label = labels = None
    if reading.labels is not None:
        label, labels = (None, tuple(sorted(reading.labels))) if reading.is_multi_label else (reading.labels[0], None)
    records.append(reading.name, label, reading.num_frames, labels)


def _expected(format: ListFormat, labelled: bool, multi_label: bool) -> str:
    fields = f"path{_NUM_FIELDS[format]}"
    label = "label,label,..." if multi_label else "label"
    with_label = f"`{fields} {label}`" + (f" (`{NO_LABELS}` for no label)" if multi_label else "")
    return with_label if labelled else f"`{fields}` or {with_label}"


def _exists(root: str, name: str) -> bool:
    return os.path.exists(os.path.join(root, name))


def _shorten(line: str) -> str:
    return line if len(line) <= 120 else f"{line[:58]} ... {line[-57:]}"
