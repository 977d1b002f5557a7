"""A folder with a folder of videos for each class -> a stratified split, or the one that it is sorted into."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from paddlevid.errors import DataError
from paddlevid.prepare.kinetics import SPLITS
from paddlevid.prepare.lists import Draft, Entry
from paddlevid.prepare.scan import Tree
from paddlevid.prepare.stratify import Shares, draw_split

Classes = dict[str, list[str]]  # the videos of each class folder


def draft_folder(tree: Tree, shares: Shares, *, group: str | None = None, skip: str | Path | None = None) -> Draft:
    """Lists of the class folders of a tree; classes are numbered in the order of their names.

    Folders named train, val, test and the like that hold the class folders are taken as the split; else it is drawn.
    Videos in whose path below the class folder the regular expression `group` finds the same text stay together.
    `skip` is a folder that is no class.

    Raises:
        DataError: there are no videos, fewer than two classes, or a class has none to learn from.
        ConfigError: the shares or the regular expression make no sense.
    """
    left_out = None if skip is None else os.path.realpath(skip)
    tops = [name for name in tree.folders if "/" not in name and os.path.realpath(tree.root / name) != left_out]
    videos = [name for name in tree.videos if "/" in name and name.partition("/")[0] in tops]
    if not videos:
        raise DataError(f"{tree.root}: no videos in it that lie in folders; expected a folder for each class")
    notes = _notes(tree, tops, num_outside=len(tree.videos) - len(videos))
    split_folders = _split_folders(tops, videos)
    if split_folders:
        found = {split: _classes(tree.folders, f"{folder}/", videos) for split, folder in split_folders.items()}
        class_names = _class_names(tree, found["train"], split_folders["train"])
        return _sorted_draft(tree, class_names, found, notes)
    classes = _classes(tops, "", videos)
    class_names = _class_names(tree, classes, "")
    labels = {name: label for label, name in enumerate(class_names)}
    drawn, told = draw_split(classes, shares, group)
    splits: dict[str, list[Entry]] = {"train": [], "valid": [], "test": []}
    for class_name in class_names:
        for name in classes[class_name]:
            splits[drawn[name]].append(Entry(name, labels[class_name]))
    return Draft(tree.root, class_names, splits, notes=notes + told)


def _notes(tree: Tree, tops: Sequence[str], num_outside: int) -> list[str]:
    """What is no video, and videos of no class."""
    others: Counter[str] = Counter()
    for folder, suffixes in tree.num_others.items():
        if folder.partition("/")[0] in tops:
            others += suffixes
    notes = []
    if others:
        commonest = sorted(others.items(), key=lambda kind: (-kind[1], kind[0]))[:5]
        kinds = ", ".join(f"{suffix} {number}" for suffix, number in commonest)
        notes.append(f"{sum(others.values())} file(s) left out that are no videos ({kinds})")
    if num_outside:
        notes.append(f"{num_outside} video(s) left out that lie outside of class folders")
    return notes


def _split_folders(tops: Sequence[str], videos: Sequence[str]) -> dict[str, str]:
    """Split -> its folder, where all folders are named after splits and hold class folders; else nothing."""
    if not all(top.lower() in SPLITS for top in tops) or any(name.count("/") < 2 for name in videos):
        return {}
    found = {SPLITS[top.lower()]: top for top in tops}
    if len(found) < len(tops):
        raise DataError(f"{', '.join(tops)}: two of these folders are of the same split")
    if "train" not in found:
        raise DataError(f"{', '.join(tops)}: no folder train beside these")
    return found


def _classes(folders: Sequence[str], prefix: str, videos: Sequence[str]) -> Classes:
    """The videos of each folder right below `prefix`, in order."""
    depth = prefix.count("/")
    classes: Classes = {
        name.removeprefix(prefix): [] for name in folders if name.startswith(prefix) and name.count("/") == depth
    }
    for name in videos:
        if name.startswith(prefix):
            classes[name.removeprefix(prefix).partition("/")[0]].append(name)
    return classes


def _class_names(tree: Tree, classes: Mapping[str, Sequence[str]], folder: str) -> list[str]:
    empty = [name for name in classes if not classes[name]]
    where = tree.root / folder
    if empty:
        raise DataError(
            f"{where / min(empty)}: a class without videos ({len(empty)} of {len(classes)} folders have none); remove "
            "the folder, or add videos"
        )
    if len(classes) < 2:
        raise DataError(f"{where}: one class only; if the class folders lie further down, give {where / min(classes)}")
    return sorted(classes)


def _sorted_draft(tree: Tree, class_names: list[str], found: Mapping[str, Classes], notes: list[str]) -> Draft:
    """The split as its folders have it."""
    labels = {name: label for label, name in enumerate(class_names)}
    splits: dict[str, list[Entry]] = {}
    for split in ("train", "valid", "test"):
        classes = {name: videos for name, videos in found.get(split, {}).items() if videos}
        unknown = sorted(set(classes) - set(class_names))
        if unknown:
            raise DataError(f"{tree.root}: class {unknown[0]!r} has videos for {split}, and none for training")
        absent = [name for name in class_names if name not in classes]
        if classes and absent:
            notes = [*notes, f"{len(absent)} class(es) without a video in {split}, such as {absent[0]}"]
        splits[split] = [Entry(name, labels[key]) for key in sorted(classes) for name in classes[key]]
    return Draft(
        tree.root,
        class_names,
        splits,
        notes=[*notes, "the split is that of the folders, whatever shares and --group say"],
    )
