"""Kinetics: the official CSV files, and clips named `ID_000010_000020.mp4` or `ID.mp4`, in class folders or not."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from paddlevid.errors import DataError
from paddlevid.prepare.lists import Draft, Entry
from paddlevid.prepare.scan import Finder, Tree, read_annotation

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "valid",
    "valid": "valid",
    "validate": "valid",
    "validation": "valid",
    "test": "test",
    "testing": "test",
}
NEEDED = ("youtube_id", "time_start", "time_end")


class Clip(NamedTuple):
    """A row: `stem` is the long form of the name; `label` is empty where a test set keeps it secret."""

    stem: str
    youtube_id: str
    label: str
    split: str
    where: str


def draft_kinetics(tree: Tree, csv_paths: Sequence[str | Path]) -> Draft:
    """Match the rows of CSV files with the clips of a tree; classes are numbered in alphabetical order.

    Raises:
        DataError: a file is not of this kind, or only some rows of a split have labels.
    """
    clips = [clip for path in csv_paths for clip in read_clips(Path(path))]
    splits: dict[str, dict[str, Clip]] = {split: {} for split in ("train", "valid", "test")}
    for clip in clips:
        splits[clip.split].setdefault(clip.stem, clip)
    class_names = sorted({clip.label for clip in clips} - {""})
    if not class_names:
        raise DataError(f"{csv_paths[0]}: no row has a label, and so there are no classes; add the training CSV")
    labels = {name: label for label, name in enumerate(class_names)}
    for rows in splits.values():
        _check_labels(rows.values())
    num_repeated = len(clips) - sum(len(rows) for rows in splits.values())
    notes = [f"{num_repeated} row(s) repeated in the CSV files"] if num_repeated else []
    finder = Finder(tree, ignore_case=False, class_names=class_names)
    entries: dict[str, list[Entry]] = {split: [] for split, rows in splits.items() if rows}
    missing: dict[str, list[str]] = defaultdict(list)
    taken: set[str] = set()
    num_shared = 0
    for clip in (clip for rows in splits.values() for clip in rows.values()):
        name = finder.find((clip.stem, clip.youtube_id), clip.label)
        if name is None:
            missing[clip.split].append(clip.stem)
        elif name in taken:
            num_shared += 1
        else:
            taken.add(name)
            entries[clip.split].append(Entry(name, labels[clip.label] if clip.label else None))
    if num_shared:
        notes.append(f"{num_shared} row(s) left out: their video is that of an earlier row")
    return Draft(tree.root, class_names, entries, dict(missing), notes + finder.notes())


def _check_labels(clips: Collection[Clip]) -> None:
    without = [clip for clip in clips if not clip.label]
    if without and len(without) < len(clips):
        raise DataError(f"{without[0].where}: no label, and other rows of {without[0].split} have one")


def read_clips(path: Path) -> Iterator[Clip]:
    """The rows of a CSV file; without a column `split` the name of the file tells it."""
    rows = csv.reader(read_annotation(path).splitlines())
    header = [name.strip().lower() for name in next(rows, [])]
    lacking = [name for name in NEEDED if name not in header]
    if lacking:
        raise DataError(
            f"{path}: no column {', '.join(lacking)}; expected the official file, with the columns label, "
            f"{', '.join(NEEDED)}, split, found {', '.join(header) or 'nothing'}"[:500]
        )
    for row in rows:
        where = f"{path}:{rows.line_num}"
        if not any(row):
            continue
        if len(row) < len(header):
            raise DataError(f"{where}: {len(row)} fields, the head has {len(header)}")
        fields = {name: value.strip() for name, value in zip(header, row, strict=False)}
        start, end = (_seconds(fields[name], where) for name in ("time_start", "time_end"))
        youtube_id = fields["youtube_id"]
        if not youtube_id:
            raise DataError(f"{where}: no youtube_id")
        split = _split(fields.get("split", ""), path, where)
        yield Clip(f"{youtube_id}_{start:06d}_{end:06d}", youtube_id, fields.get("label", ""), split, where)


def _seconds(text: str, where: str) -> int:
    if not re.fullmatch(r"\d{1,9}(\.0*)?", text):
        raise DataError(f"{where}: {text!r} is no whole number of seconds")
    return int(text.partition(".")[0])


def _split(text: str, path: Path, where: str) -> str:
    if text:
        if text.lower() not in SPLITS:
            raise DataError(f"{where}: split {text!r} is not one of {', '.join(SPLITS)}")
        return SPLITS[text.lower()]
    found = {SPLITS[word] for word in re.findall(r"[a-z]+", path.stem.lower()) if word in SPLITS}
    if len(found) != 1:
        raise DataError(f"{where}: no split, and the name of the file does not tell; name it train.csv, val.csv, ...")
    return found.pop()
