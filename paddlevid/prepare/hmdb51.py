"""HMDB51: `CLASS_test_split1.txt` files with `video.avi 0|1|2` lines, and videos in class folders."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path, PurePosixPath

from paddlevid.errors import DataError
from paddlevid.prepare.lists import Draft, Entry
from paddlevid.prepare.scan import Finder, Tree, find_annotations, read_annotation

USES = {"1": "train", "2": "test", "0": None}  # 0: not of this split


def draft_hmdb51(tree: Tree, annotations: str | Path | None = None) -> Draft:
    """Match the official splits with the videos of a tree; classes are numbered in alphabetical order.

    Their files are looked for in `annotations`, by default in the tree itself.

    Raises:
        DataError: there are no such files, a class lacks one, or a line is not of this kind.
    """
    files = find_annotations(tree, annotations)
    found = {
        (match[1], int(match[2])): path
        for name, path in files.items()
        if (match := re.fullmatch(r"(.+)_test_split(\d+)\.txt", name))
    }
    if not found:
        raise DataError(
            f"{annotations or tree.root}: no CLASS_test_split1.txt in it; unpack test_train_splits.rar there, or say "
            "where it lies with --annotations"
        )
    class_names = sorted({class_name for class_name, _ in found})
    numbers = sorted({number for _, number in found})
    finder = Finder(tree, ignore_case=True, class_names=class_names)
    splits: dict[str, list[Entry]] = {f"{use}_split{number}": [] for number in numbers for use in ("train", "test")}
    missing: dict[str, list[str]] = defaultdict(list)
    owners: dict[str, str] = {}  # video -> the class that asked first for it
    claimed_again: set[str] = set()
    for number in numbers:
        for label, class_name in enumerate(class_names):
            path = found.get((class_name, number))
            if path is None:
                raise DataError(f"{class_name}_test_split{number}.txt is missing; other classes have split {number}")
            for video, use in _read_uses(path):
                name = finder.find([PurePosixPath(video).stem], class_name)
                if name is not None and owners.setdefault(name, class_name) != class_name:
                    claimed_again.add(name)
                    name = None
                if use is None:
                    continue
                split = f"{use}_split{number}"
                if name is None:
                    missing[split].append(f"{class_name}/{video}")
                else:
                    splits[split].append(Entry(name, label))
    notes = finder.notes()
    if claimed_again:
        first = min(claimed_again)
        notes.append(
            f"{len(claimed_again)} video(s) in no class folder that several classes list, such as {first}: taken for "
            f"{owners[first]}, missing for the others"
        )
    return Draft(tree.root, class_names, splits, dict(missing), notes)


def _read_uses(path: Path) -> list[tuple[str, str | None]]:
    """`video.avi 1` lines -> video, and train, test or None."""
    uses = []
    for number, line in enumerate(read_annotation(path).splitlines(), start=1):
        if not line.strip():
            continue
        match = re.fullmatch(r"\s*(.*\S)\s+([012])\s*", line)
        if match is None:
            raise DataError(f"{path}:{number}: expected `video.avi 0|1|2`, found {line.strip()[:80]!r}")
        uses.append((match[1], USES[match[2]]))
    return uses
