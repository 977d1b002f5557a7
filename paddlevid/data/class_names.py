"""Class names by label: of a shipped list, a file, or the `class_names.txt` that travels with lists and weights."""

from __future__ import annotations

import json
import os
from pathlib import Path

from paddlevid.errors import DataError

CLASS_NAMES_FILE = "class_names.txt"
_STATE_FILE = "state.json"  # of a checkpoint, which has them among other things


def read_class_names(
    source: str | None,
    num_classes: int,
    *,
    weights: str | Path | None = None,
    list_path: str | Path | None = None,
) -> list[str]:
    """Class names by label: those of `source`, a shipped list (`kinetics400`) or a file with one name a line.

    Without a source, those of the `class_names.txt` beside the weights, else of the checkpoint that these belong to,
    else of the `class_names.txt` beside the list; where there is none, the bare numbers.

    Raises:
        DataError: there is no such list, or a file names another number of classes.
    """
    if source is not None:
        names = _read_source(source)
        if len(names) != num_classes:
            raise DataError(
                f"class names {source!r}: {len(names)} names for data.num_classes {num_classes}; set data.class_names "
                "to a file with a name a line, or to null"
            )
        return names
    for place in _places(weights, list_path):
        names = _names_of_state(place) if place.name == _STATE_FILE else _read_file(place)
        if names and len(names) != num_classes:
            raise DataError(
                f"{place}: {len(names)} class names for data.num_classes {num_classes}; it was taken because "
                f"data.class_names is not set: set data.num_classes={len(names)}, or data.class_names to a file with "
                f"{num_classes} names"
            )
        if names:
            return names
    return number_names(num_classes)


def number_names(num_classes: int) -> list[str]:
    """What classes without names are called."""
    return [str(label) for label in range(num_classes)]


def _places(weights: str | Path | None, list_path: str | Path | None) -> list[Path]:
    """The files that are there and may have names; weights may also be a URL, or a name of public ones."""
    places = []
    if weights is not None:
        path = Path(os.path.expanduser(weights))
        if path.exists():
            folder = path if path.is_dir() else path.parent
            places += [folder / CLASS_NAMES_FILE, folder / _STATE_FILE]
    if list_path is not None:
        places.append(Path(list_path).parent / CLASS_NAMES_FILE)
    return [place for place in places if place.is_file()]


def _read_source(source: str) -> list[str]:
    shipped = Path(__file__).parent.parent / "labels"
    path = shipped / f"{source}.txt"
    if not path.is_file():
        path = Path(source)
    try:
        return _lines(path)
    except (OSError, UnicodeDecodeError) as error:
        known = ", ".join(sorted(file.stem for file in shipped.glob("*.txt")))
        raise DataError(
            f"class names {source!r}: neither a shipped list ({known}) nor a readable file: {error}"
        ) from None


def _read_file(path: Path) -> list[str]:
    try:
        names = _lines(path)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot read these class names: {error}") from None
    if not names:
        raise DataError(f"{path}: holds no class names; write a name a line, or delete it")
    return names


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
