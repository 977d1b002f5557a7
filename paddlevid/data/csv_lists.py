"""Lists that are tables: a CSV file whose first line names its columns, such as `path,label`."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

from paddlevid.errors import DataError

NO_LABELS = "-"
NUMBER = "-?[0-9]{1,18}"  # fits 64 bits

_PATHS = ("path", "video", "video_path", "filename")
_LABELS = ("label", "labels")
_NUM_FRAMES = "num_frames"
_DELIMITERS = (",", ";", "\t")
_NO_COLUMN = re.compile(rf"[/\\]|\.\w{{2,4}}$|\s({NO_LABELS}|{NUMBER})$")  # of a path, or with a label behind it

ClassNames = Callable[[], "Sequence[str] | None"] | None


class Reading(NamedTuple):
    """A line taken apart: `labels` None where it has none; one where it is not known to be of a multi-label list."""

    name: str
    num_frames: int | None
    labels: tuple[int, ...] | None
    is_multi_label: bool


class Header(NamedTuple):
    """What the first line of a table tells: the names of the columns, and how they are separated."""

    names: list[str]
    delimiter: str

    @property
    def path(self) -> str:
        return next(name for name in _PATHS if name in self.names)

    def label(self, multi_label: bool) -> str | None:
        """The column of labels; where there are both, that of several or of one."""
        names = reversed(_LABELS) if multi_label else _LABELS
        return next((name for name in names if name in self.names), None)


def find_header(line: str) -> Header | None:
    """The header that a line is; None of a line that names no column of paths, or has a number for a name.

    Nor is one whose columns are none of labels, and of which one could be the rest of a path or have a label behind it:
    `Path, winding/1.mp4 0` is a video.
    """
    for delimiter in _DELIMITERS:
        try:
            names = [name.strip().lower() for name in next(csv.reader([line], delimiter=delimiter), [])]
        except csv.Error:
            continue
        if not set(names) & set(_PATHS) or any(re.fullmatch(NUMBER, name) for name in names):
            continue
        if set(names) & set(_LABELS) or not any(_NO_COLUMN.search(name) for name in names):
            return Header(names, delimiter)
    return None


def is_blank_separated_header(line: str) -> bool:
    """Whether a line has nothing but names of columns, with blanks between them."""
    words = line.lower().split()
    return len(words) > 1 and words[0] in _PATHS and set(words) <= {*_PATHS, *_LABELS, _NUM_FRAMES}


def read_rows(
    lines: Iterable[str],
    header: Header,
    list_path: str,
    *,
    first_line: int,
    is_frames: bool,
    labelled: bool,
    multi_label: bool,
    class_names: ClassNames,
) -> Iterator[tuple[int, str, Reading]]:
    """The number, the text and the reading of each row behind the header, which is line `first_line` of the list.

    Labels are numbers or, where `class_names` gives any, names. Several are joined by semicolons, or by commas in
    quotes. With `labelled=False` what is no label, or a negative one, counts as missing.

    Raises:
        DataError: a needed column is missing, or a row cannot be read; it names the line.
    """
    label_column = header.label(multi_label)
    found = f"the header names the columns {', '.join(header.names)}"
    if labelled and label_column is None:
        raise DataError(
            f"{list_path}:{first_line}: {found}; a column `label` is missing: this is what the column of the labels "
            "has to be called"
        )
    if is_frames and _NUM_FRAMES not in header.names:
        raise DataError(f"{list_path}:{first_line}: {found}; a column `{_NUM_FRAMES}` is missing (data.format: frames)")
    for name in (header.path, label_column, _NUM_FRAMES):
        if name is not None and header.names.count(name) > 1:
            raise DataError(f"{list_path}:{first_line}: {found}; which `{name}` counts? Rename the others")
    parse = LabelParser(class_names, multi_label=multi_label, labelled=labelled)
    column_of = {name: column for column, name in enumerate(header.names)}
    path, needed = column_of[header.path], len(header.names)
    for number, row in _rows(lines, header.delimiter, list_path, first_line):
        try:
            if len(row) != needed:
                raise ValueError(
                    f"{len(row)} fields under {needed} columns; quote a path that has {header.delimiter!r}"
                )
            num_frames = _parse_count(row[column_of[_NUM_FRAMES]].strip()) if is_frames else None
            labels = None if label_column is None else parse(row[column_of[label_column]].strip())
            name = row[path].strip()
            if not name:
                raise ValueError(f"the column `{header.path}` is empty")
        except ValueError as error:
            text = header.delimiter.join(row)
            raise DataError(f"{list_path}:{number}: {error}: {text[:120]!r}") from None
        yield number, name, Reading(name, num_frames, labels, multi_label)


def _rows(lines: Iterable[str], delimiter: str, list_path: str, first_line: int) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, with the numbers of their lines."""
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        for row in rows:
            if any(field.strip() for field in row):
                yield first_line + rows.line_num, row
    except csv.Error as error:
        raise DataError(f"{list_path}:{first_line + rows.line_num}: not a row of CSV: {error}") from None


def _parse_count(text: str) -> int:
    if not re.fullmatch(NUMBER, text):
        raise ValueError(f"`{_NUM_FRAMES}` is {text!r}, no number")
    return int(text)


class LabelParser:
    """From the text of a field to the labels that it names; each text is taken apart once.

    `class_names` are asked for at the first label; None where classes have no names. `numbers_count`: a number is a
    label even where a class of another number has it for a name.
    """

    def __init__(
        self, class_names: ClassNames, *, multi_label: bool, labelled: bool, numbers_count: bool = False
    ) -> None:
        self._class_names = class_names
        self._numbers_count = numbers_count
        self._multi_label = multi_label
        self._labelled = labelled
        self._known: dict[str, tuple[int, ...] | None] = {}

    def __call__(self, text: str) -> tuple[int, ...] | None:
        """Labels, None where there are none.

        Raises:
            ValueError: these are no labels, or too many.
        """
        if text not in self._known:
            self._known[text] = self._parse(text)
        return self._known[text]

    def _parse(self, text: str) -> tuple[int, ...] | None:
        if text in ("", NO_LABELS) and self._multi_label:
            return () if text or self._labelled else None
        try:
            if not text:
                raise ValueError("there is no label")
            labels = tuple(self._number(part) for part in self._split(text))
            if len(labels) > 1 and not self._multi_label:
                raise ValueError(f"{len(labels)} labels; several labels a video need data.multi_label: true")
        except ValueError:
            if self._labelled:
                raise
            return None
        return None if not self._labelled and min(labels) < 0 else labels

    def _split(self, text: str) -> list[str]:
        parts = [part.strip() for part in text.split(";" if ";" in text else ",")]
        if len(parts) > 1 and not re.fullmatch(NUMBER, parts[0]) and text in (self._numbers or ()):
            return [text]  # names have commas
        return parts

    @cached_property
    def _numbers(self) -> dict[str, int] | None:
        names = self._class_names and self._class_names()
        return {name: number for number, name in enumerate(names)} if names else None

    @cached_property
    def _digit_names(self) -> dict[int, tuple[str, int]]:
        """The names that are numbers, and whose they are."""
        names = {} if self._numbers_count else self._numbers or {}
        return {int(name): (name, number) for name, number in names.items() if re.fullmatch(NUMBER, name)}

    def _number(self, text: str) -> int:
        if re.fullmatch(NUMBER, text):
            label = int(text)
            name, of_class = self._digit_names.get(label, ("", label))
            if of_class != label:
                raise ValueError(
                    f"label {text!r} may be a number, or the name {name!r} of class {of_class}: for names, write ones "
                    f"that are no numbers, here and in the file of class names (`class {name}`); for numbers, write "
                    "lines of `path label` without a header"
                )
            return label
        if self._numbers is None:
            raise ValueError(f"label {text!r} is no number; for names of classes, give data.class_names a file of them")
        if text not in self._numbers:
            raise ValueError(f"label {text!r} is neither a number nor one of the {len(self._numbers)} class names")
        return self._numbers[text]
