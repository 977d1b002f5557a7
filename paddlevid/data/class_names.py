"""Class names by label: of a shipped list, a file, or the `class_names.txt` that travels with lists and weights."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from paddlevid.errors import DataError

CLASS_NAMES_FILE = "class_names.txt"
_STATE_FILE = "state.json"  # of a checkpoint, which has them among other things


def read_class_names(
    source: str | None,
    num_classes: int,
    *,
    weights: str | Path | None = None,
    train_list: str | Path | None = None,
    list_path: str | Path | None = None,
) -> list[str]:
    """Class names by label: those of `source`, a shipped list (`kinetics400`) or a file with one name a line.

    Without a source, those of the `class_names.txt` beside the weights, else of the checkpoint that these belong to,
    else of the `class_names.txt` beside the list that is learned from, else beside the list; where there is none, the
    bare numbers.

    Raises:
        DataError: there is no such list, a file names another number of classes or a class twice, or the list has
            other names beside it than those: the same labels would stand for different classes.
    """
    if source is not None:
        names = _read_source(source)
        if len(names) != num_classes:
            raise DataError(
                f"class names {source!r}: {len(names)} names for data.num_classes {num_classes}; set data.class_names "
                "to a file with a name a line, or to null"
            )
        return names
    for place in (*_carried(weights), *_beside(train_list), *_beside(list_path)):
        names = _names_of_state(place) if place.name == _STATE_FILE else _read_file(place)
        if names and len(names) != num_classes:
            raise DataError(
                f"{place}: {len(names)} class names for data.num_classes {num_classes}; it was taken because "
                f"data.class_names is not set: set data.num_classes={len(names)}, or data.class_names to a file with "
                f"{num_classes} names"
            )
        if names:
            check_same_classes(names, place, list_path)
            return names
    return number_names(num_classes)


def check_same_classes(names: Sequence[str], place: Path, list_path: str | Path | None) -> None:
    """Raise DataError where a list has other names beside it than these, which `place` has."""
    for beside in _beside(list_path):
        others = [] if beside == place else _read_file(beside)
        if others and others != list(names):
            pairs = enumerate(zip(names, others, strict=False))
            differ = next(
                (f"class {label} is {one!r} and {other!r}" for label, (one, other) in pairs if one != other), ""
            )
            raise DataError(
                f"{place} and {beside} number the classes differently "
                f"({differ or f'{len(names)} and {len(others)} names'}): write the lists anew with one numbering, or "
                "set data.class_names to the file of names that holds for all lists"
            )


def number_names(num_classes: int) -> list[str]:
    """What classes without names are called."""
    return [str(label) for label in range(num_classes)]


def _carried(weights: str | Path | None) -> list[Path]:
    """The files that are there and may have names of weights; these may also be a URL, or a name of public ones."""
    path = None if weights is None else Path(os.path.expanduser(weights))
    if path is None or not path.exists():
        return []
    folder = path if path.is_dir() else path.parent
    return [place for place in (folder / CLASS_NAMES_FILE, folder / _STATE_FILE) if place.is_file()]


def _beside(list_path: str | Path | None) -> list[Path]:
    """The file of names beside a list, or in a folder of shards; none where it is not there."""
    if list_path is None:
        return []
    path = Path(list_path)
    place = (path if path.is_dir() else path.parent) / CLASS_NAMES_FILE
    return [place] if place.is_file() else []


def _read_source(source: str) -> list[str]:
    shipped = Path(__file__).parent.parent / "labels"
    path = shipped / f"{source}.txt"
    if not path.is_file():
        path = Path(source)
    try:
        names = _lines(path)
    except (OSError, UnicodeDecodeError) as error:
        known = ", ".join(sorted(file.stem for file in shipped.glob("*.txt")))
        raise DataError(
            f"class names {source!r}: neither a shipped list ({known}) nor a readable file: {error}"
        ) from None
    _check_distinct(names, path)
    return names


def _read_file(path: Path) -> list[str]:
    try:
        names = _lines(path)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot read these class names: {error}") from None
    if not names:
        raise DataError(f"{path}: holds no class names; write a name a line, or delete it")
    _check_distinct(names, path)
    return names


def _check_distinct(names: Sequence[str], path: Path) -> None:
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise DataError(f"{path}: {names.count(twice)} classes are named {twice!r}; give each a name of its own")


def _lines(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    return [line.strip() for line in lines if line.strip()]


def _names_of_state(path: Path) -> list[str]:
    """Those that a checkpoint has; none where it is an older one, or the file is of something else."""
    try:
        names = json.loads(path.read_text(encoding="utf-8")).get("class_names", [])
    except (OSError, ValueError, AttributeError):
        return []
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return names if is_list else []
