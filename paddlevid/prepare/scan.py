"""What lies under the folder of a dataset, from one walk: a file system over a network is slow to ask file by file."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from paddlevid.deploy.inputs import VIDEO_SUFFIXES
from paddlevid.errors import DataError

ANNOTATION_SUFFIXES = {".txt", ".csv", ".json"}
_LEFT_BY_ARCHIVES = {"__MACOSX"}
_REPLACEMENT = "replacement"  # the folder of Kinetics' repaired videos has it in its name


@dataclass
class Tree:
    """The files under `root`; names are relative to it, their parts joined by "/", and in order."""

    root: Path
    videos: list[str] = field(default_factory=list)
    annotations: list[str] = field(default_factory=list)  # files that may be some
    folders: list[str] = field(default_factory=list)
    num_others: dict[str, Counter[str]] = field(default_factory=dict)  # of a folder: suffix -> files that are no videos
    notes: list[str] = field(default_factory=list)


def scan_tree(root: str | Path, on_files: Callable[[int], object] = lambda count: None) -> Tree:
    """Walk through a folder, links to folders included; hidden files and folders are passed over.

    `on_files` is called with the number of files of each folder.

    Raises:
        DataError: there is no such folder, or it is a file.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: is a file; give the folder" if root.exists() else f"{root}: no such folder")
    tree, seen = Tree(root), set()
    unreadable: list[OSError] = []
    for folder, folders, files in os.walk(root, followlinks=True, onerror=unreadable.append):
        state = os.stat(folder)
        if (state.st_dev, state.st_ino) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _LEFT_BY_ARCHIVES)
        prefix = "" if Path(folder) == root else f"{Path(folder).relative_to(root).as_posix()}/"
        tree.folders += [prefix + name for name in folders]
        _sort_files(tree, prefix, files)
        on_files(len(files))
    tree.videos.sort()
    tree.annotations.sort()
    tree.folders.sort()
    if unreadable:
        first = unreadable[0]
        tree.notes.append(f"{len(unreadable)} folder(s) cannot be read, such as {first.filename}: {first.strerror}")
    return tree


def _sort_files(tree: Tree, prefix: str, files: list[str]) -> None:
    others: Counter[str] = Counter()
    for file in files:
        suffix = os.path.splitext(file)[1].lower()
        if file.startswith("."):
            continue
        if suffix in VIDEO_SUFFIXES:
            tree.videos.append(prefix + file)
            continue
        others[suffix or "no suffix"] += 1
        if suffix in ANNOTATION_SUFFIXES:
            tree.annotations.append(prefix + file)
    if others:
        tree.num_others[prefix.removesuffix("/")] = others


class Finder:
    """Finds the videos of a tree by their names without suffix, and keeps what it came upon.

    A folder that is named after one of `class_names` holds videos of no other class.
    """

    def __init__(self, tree: Tree, *, ignore_case: bool, class_names: Iterable[str] = ()) -> None:
        self._ignore_case = ignore_case
        self._class_folders = {plain(class_name) for class_name in class_names} - {""}
        self._found: defaultdict[str, list[str]] = defaultdict(list)
        self._num_videos = len(tree.videos)
        self._used: set[str] = set()
        self._several: dict[str, list[str]] = {}
        self._of_others: dict[tuple[str, str], str] = {}  # class and name that were asked for -> a file that is there
        for name in tree.videos:
            self._found[self._key(PurePosixPath(name).stem)].append(name)

    def find(self, stems: Iterable[str], class_name: str = "") -> str | None:
        """The video that bears one of the names, the first before the others; None where there is none.

        Of several files, a repaired one goes first, then one in the folder of its class. One in the folder of another
        class is none.
        """
        of_any = [name for stem in stems for name in self._found.get(self._key(stem), ())]
        names = [name for name in of_any if self._class_folder(name) in ("", plain(class_name)) or not class_name]
        if not names:
            if of_any:
                self._of_others[class_name, PurePosixPath(of_any[0]).stem] = of_any[0]
            return None
        best = min(names, key=lambda name: (_REPLACEMENT not in name, not self._class_folder(name)))
        if len(names) > 1:
            self._several[best] = [name for name in names if name != best]
        self._used.update(names)
        return best

    def notes(self) -> list[str]:
        """What a user should know of the files that were found, and of those that nobody asked for."""
        notes = []
        if self._several:
            taken, others = next(iter(self._several.items()))
            notes.append(f"{len(self._several)} video(s) there more than once, such as {taken} (taken) and {others[0]}")
        if self._of_others:
            (class_name, _), other = next(iter(self._of_others.items()))
            notes.append(
                f"{len(self._of_others)} video(s) count as missing: what bears the name lies in the folder of another "
                f"class, such as {other} for {class_name}"
            )
        num_left = self._num_videos - len(self._used)
        if num_left:
            names = (name for group in self._found.values() for name in group)
            first = next(name for name in names if name not in self._used)
            notes.append(f"{num_left} video(s) in no annotation, such as {first}")
        return notes

    def _key(self, stem: str) -> str:
        return stem.lower() if self._ignore_case else stem

    def _class_folder(self, name: str) -> str:
        """The plain name of the class in whose folder a video lies, however deep; empty outside of such folders."""
        folders = (plain(folder.name) for folder in PurePosixPath(name).parents)
        return next((folder for folder in folders if folder in self._class_folders), "")


def plain(class_name: str) -> str:
    """Only its letters and digits: folders have underscores for blanks, and no brackets."""
    return "".join(character for character in class_name.lower() if character.isalnum())


def read_annotation(path: Path) -> str:
    """The text of an annotation file. Raises DataError where it is no text."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file in UTF-8 ({error.reason} at byte {error.start})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot read these annotations: {error.strerror or error}") from None


def find_annotations(tree: Tree, folder: str | Path | None) -> dict[str, Path]:
    """Files that may be annotations, by their names in small letters: those of `folder`, or of the tree itself.

    Of files with the same name the one that lies highest is taken.
    """
    where = tree if folder is None else scan_tree(folder)
    by_depth = sorted(where.annotations, key=lambda name: (name.count("/"), name), reverse=True)
    return {PurePosixPath(name).name.lower(): where.root / name for name in by_depth}
