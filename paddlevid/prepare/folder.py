"""A folder with a folder of videos for each class -> a stratified split, or the one that it is sorted into."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from paddlevid.errors import DataError
from paddlevid.prepare.kinetics import SPLITS
from paddlevid.prepare.lists import Draft, Entry
from paddlevid.prepare.scan import Tree
from paddlevid.prepare.stratify import Shares, draw_split

Classes = dict[str, list[str]]  # the videos of each class folder


def draft_folder(
    tree: Tree, shares: Shares | None = None, *, group: str | None = None, output: str | Path | None = None
) -> Draft:
    """Lists of the class folders of a tree; classes are numbered in the order of their names, numbers before others.

    Folders named train, val, test and the like that hold the class folders are taken as the split; else it is drawn.
    Videos in whose path below the class folder the regular expression `group` finds the same text stay together.
    A folder without videos that is, or holds, `output` is no class.

    Raises:
        DataError: there are no videos, fewer than two classes, a class has none to learn from, or the folders of a
            split hold videos and no classes.
        ConfigError: the shares or the regular expression make no sense.
    """
    videos = [name for name in tree.videos if "/" in name]
    with_videos = {name.partition("/")[0] for name in videos}
    tops = [
        name
        for name in tree.folders
        if "/" not in name and (name in with_videos or not _holds(tree.root / name, output))
    ]
    if not videos:
        raise DataError(f"{tree.root}: no videos in it that lie in folders; expected a folder for each class")
    notes = _notes(tree, tops, num_outside=len(tree.videos) - len(videos))
    split_folders = _split_folders(tree, tops, videos)
    if split_folders:
        found = {split: _classes(tree.folders, f"{folder}/", videos) for split, folder in split_folders.items()}
        class_names = _class_names(tree, found["train"], split_folders["train"])
        if shares is not None or group is not None:
            notes.append("the split is that of the folders, whatever shares and --group say")
        depths = {f"{split_folders[split]}/{name}": names for split in found for name, names in found[split].items()}
        return _sorted_draft(tree, class_names, found, notes + _notes_on_classes(tree, class_names, depths))
    classes = _classes(tops, "", videos)
    class_names = _class_names(tree, classes, "")
    labels = {name: label for label, name in enumerate(class_names)}
    drawn, told = draw_split(classes, shares or Shares(), group)
    splits: dict[str, list[Entry]] = {"train": [], "valid": [], "test": []}
    for class_name in class_names:
        for name in classes[class_name]:
            splits[drawn[name]].append(Entry(name, labels[class_name]))
    return Draft(tree.root, class_names, splits, notes=notes + told + _notes_on_classes(tree, class_names, classes))


def _holds(folder: Path, output: str | Path | None) -> bool:
    """Whether the output folder is this one, or lies in it."""
    return output is not None and Path(os.path.realpath(output)).is_relative_to(os.path.realpath(folder))


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


def _notes_on_classes(tree: Tree, class_names: Sequence[str], folders: Mapping[str, Sequence[str]]) -> list[str]:
    """Numbers that are no labels, and videos so deep that the classes may be the folders there."""
    notes = []
    moved = [(name, label) for label, name in enumerate(class_names) if _is_number(name) and int(name) != label]
    if moved:
        notes.append(
            f"{len(moved)} class(es) named by a number that is not the label, such as {moved[0][0]}, which has label "
            f"{moved[0][1]}"
        )
    deep = {
        folder: [name for name in names if name.count("/") > folder.count("/") + 1] for folder, names in folders.items()
    }
    deep = {folder: names for folder, names in deep.items() if names}
    if deep:
        folder, names = min(deep.items())
        notes.append(
            f"{len(deep)} of {len(folders)} class folders hold videos in further folders, such as {names[0]}: they are "
            f"of class {PurePosixPath(folder).name}"
            + (
                f"; if the folders below are the classes, give {tree.root / folder}"
                if len(deep) == len(folders)
                else ""
            )
        )
    return notes


def _is_number(class_name: str) -> bool:
    return class_name.isascii() and class_name.isdecimal()


def _by_number(class_name: str) -> tuple[bool, int, str]:
    """A key to sort by: numbers first, 2 before 10."""
    return (False, int(class_name), class_name) if _is_number(class_name) else (True, 0, class_name)


def _split_folders(tree: Tree, tops: Sequence[str], videos: Sequence[str]) -> dict[str, str]:
    """Split -> its folder, where all folders are named after splits; else nothing."""
    if not all(top.lower() in SPLITS for top in tops):
        return {}
    for name in videos:
        if name.count("/") < 2:
            raise DataError(
                f"{tree.root}: {', '.join(tops)} are named like splits, not classes, and {name} lies in no class "
                f"folder; expected {tops[0]}/CLASS/VIDEO"
            )
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
    return sorted(classes, key=_by_number)


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
        splits[split] = [Entry(name, labels[key]) for key in class_names if key in classes for name in classes[key]]
    return Draft(tree.root, class_names, splits, notes=notes)
