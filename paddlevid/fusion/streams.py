"""Files of scores -> streams that hold the same videos in the same order, or an error that says what differs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from paddlevid.data.class_names import number_names
from paddlevid.deploy.inputs import VIDEO_SUFFIXES
from paddlevid.errors import DataError
from paddlevid.evaluate import Evaluation
from paddlevid.report import read_scores

MAX_NAMED = 3  # videos in a message
SAME_LISTS = "test with lists of the same videos"
SAME_PATHS = "if they are the same in other folders, write their lists with the same paths and set data.root"


@dataclass(frozen=True)
class Streams:
    """The scores of several models; row n of each is of the same video."""

    paths: list[str]
    titles: list[str]  # short and distinct names of the paths
    results: list[Evaluation]
    class_names: list[str]
    left_out: list[int]  # of each, how many videos are not in all of them
    missing: list[tuple[str, str]]  # the names of these, and the files without them

    @property
    def multi_label(self) -> bool:
        return self.results[0].targets is not None


def load_streams(paths: Sequence[str], *, common: bool = False) -> Streams:
    """Read files of scores and bring their videos into the order of the first.

    Videos are told by name. Lists of videos and of folders of flow name the same video differently: suffixes of videos
    do not count, but where a file has two videos that differ in nothing else.

    Args:
        common: take the videos that all files hold, and leave out the others.

    Raises:
        DataError: a file cannot be read, or the files do not hold the same labels, classes or videos; with `common`,
            not one video is in all.
    """
    read = [read_scores(path) for path in paths]
    results, class_names = [result for result, _ in read], [names for _, names in read]
    for number in range(1, len(paths)):
        _check_classes(paths, results, class_names, number)
    keys = _keys([result.names for result in results])
    for path, result, own in zip(paths, results, keys, strict=True):
        _check_distinct(path, result.names, own)
    if not common:
        for number in range(1, len(paths)):
            _check_same_videos(paths, results, keys, number)
    shared = _in_all(paths, results, keys)
    aligned: list[Evaluation] = []
    for number, (result, own) in enumerate(zip(results, keys, strict=True)):
        places = {key: row for row, key in enumerate(own)}
        rows = np.array([places[key] for key in shared])
        names = aligned[0].names if aligned else [result.names[row] for row in rows]
        aligned.append(_take(result, rows, names))
        _check_labels(paths, aligned[0], aligned[number], number)
    numbers = number_names(len(class_names[0]))
    named = next((names for names in class_names if names != numbers), numbers)
    left_out = [len(own) - len(shared) for own in keys]
    return Streams(list(paths), _titles(paths), aligned, named, left_out, _missing(paths, results, keys))


def shared_videos(one: Streams, other: Streams) -> int:
    """How many videos of `one` are in `other`, too, by name."""
    mine, others = _keys([one.results[0].names, other.results[0].names])
    return len(set(mine) & set(others))


def check_same_classes(one: Streams, other: Streams) -> None:
    """Raise DataError where the classes of two sets of videos are not the same."""
    paths = [one.paths[0], other.paths[0]]
    _check_classes(paths, [one.results[0], other.results[0]], [one.class_names, other.class_names], 1)


def _keys(names: Sequence[Sequence[str]]) -> list[list[str]]:
    """What the names of each file are compared by."""
    stems = [[_without_suffix(name) for name in own] for own in names]
    ambiguous = {stem for own in stems for stem, count in Counter(own).items() if count > 1}
    return [
        [name if stem in ambiguous else stem for name, stem in zip(own, own_stems, strict=True)]
        for own, own_stems in zip(names, stems, strict=True)
    ]


def _without_suffix(name: str) -> str:
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in VIDEO_SUFFIXES else name


def _in_all(paths: Sequence[str], results: Sequence[Evaluation], keys: Sequence[list[str]]) -> list[str]:
    """The keys that all files have, in the order of the first."""
    shared = set(keys[0]).intersection(*keys[1:])
    if not shared:
        names = ", ".join(f"{result.names[0]} in {path}" for path, result in zip(paths, results, strict=True))
        bases = [{os.path.basename(key) for key in own} for own in keys]
        hint = SAME_PATHS if bases[0].intersection(*bases[1:]) else SAME_LISTS
        raise DataError(f"no video is in all {len(paths)} files (the first are {names}); {hint}")
    return [key for key in keys[0] if key in shared]


def _missing(paths: Sequence[str], results: Sequence[Evaluation], keys: Sequence[list[str]]) -> list[tuple[str, str]]:
    """The names of the videos that a file holds and another does not, and which files do not."""
    names: dict[str, str] = {}
    for result, own in zip(results, keys, strict=True):
        for name, key in zip(result.names, own, strict=True):
            names.setdefault(key, name)
    found = [set(own) for own in keys]
    without = {key: [path for path, own in zip(paths, found, strict=True) if key not in own] for key in names}
    return [(names[key], f"not in {', '.join(files)}") for key, files in without.items() if files]


def _take(result: Evaluation, rows: np.ndarray, names: list[str]) -> Evaluation:
    targets = None if result.targets is None else result.targets[rows]
    return replace(result, names=names, labels=result.labels[rows], scores=result.scores[rows], targets=targets)


# ---- checks: file `number` against those before it -------------------------------------------------------------------


def _check_classes(
    paths: Sequence[str], results: Sequence[Evaluation], class_names: Sequence[list[str]], number: int
) -> None:
    both = f"{paths[0]} and {paths[number]}"
    first, other = results[0], results[number]
    if (first.targets is None) != (other.targets is None):
        raise DataError(f"{both}: one has a label a video and the other several; test both with the same lists")
    if first.scores.shape[1] != other.scores.shape[1]:
        raise DataError(f"{both}: one has {first.scores.shape[1]} classes and the other {other.scores.shape[1]}")
    numbers = number_names(len(class_names[0]))
    named = next((place for place in range(number) if class_names[place] != numbers), None)
    if named is None or class_names[number] == numbers:
        return  # there are no names to compare
    for label, (one, another) in enumerate(zip(class_names[named], class_names[number], strict=True)):
        if one != another:
            raise DataError(
                f"{paths[named]} and {paths[number]}: class {label} is {one!r} in one and {another!r} in the other; "
                "train both with lists that number the classes alike"
            )


def _check_distinct(path: str, names: Sequence[str], keys: Sequence[str]) -> None:
    twice = [key for key, count in Counter(keys).items() if count > 1]
    if twice:
        raise DataError(
            f"{path}: {some(twice)} stand{'s' if len(twice) == 1 else ''} there more than once, and cannot be told "
            f"apart among {len(names)} videos; write each once in the list, and test again"
        )


def _check_same_videos(
    paths: Sequence[str], results: Sequence[Evaluation], keys: Sequence[list[str]], number: int
) -> None:
    found = [set(keys[0]), set(keys[number])]
    if found[0] == found[1]:
        return
    parts = []
    for place, file, others in ((0, 0, found[1]), (1, number, found[0])):
        alone = [name for name, key in zip(results[file].names, keys[file], strict=True) if key not in others]
        if alone:
            parts.append(f"{len(alone)} of {len(found[place])} in {paths[file]} alone ({some(alone)})")
    hint = SAME_LISTS
    if {os.path.basename(key) for key in found[0]} == {os.path.basename(key) for key in found[1]}:
        hint = SAME_PATHS
    elif found[0] & found[1]:
        hint = (
            f"{SAME_LISTS}, or, if one stream could not read them, add --common, which fuses the videos that all hold"
        )
    raise DataError(f"{paths[0]} and {paths[number]} do not hold the same videos: {', '.join(parts)}; {hint}")


def _check_labels(paths: Sequence[str], first: Evaluation, other: Evaluation, number: int) -> None:
    if first.targets is None or other.targets is None:
        differ = np.flatnonzero(first.labels != other.labels)
        labels = (first.labels, other.labels)
    else:
        differ = np.flatnonzero((first.targets != other.targets).any(axis=1))
        labels = (first.targets, other.targets)
    if len(differ):
        one, another = (_label_text(own[differ[0]]) for own in labels)
        raise DataError(
            f"{paths[0]} and {paths[number]} have other labels for {len(differ)} of {len(first.names)} videos, such as "
            f"{one} and {another} for {first.names[differ[0]]}; test both with the same labels"
        )


def _label_text(label: np.ndarray) -> str:
    return str(label) if label.ndim == 0 else ",".join(map(str, np.flatnonzero(label))) or "none"


def some(names: Sequence[str]) -> str:
    """The first few of many names."""
    rest = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _titles(paths: Sequence[str]) -> list[str]:
    """The shortest that tells the files apart: names without suffix, those of their folders, both, or the paths."""
    whole = [Path(path).absolute() for path in paths]
    for titles in (
        [path.stem for path in whole],
        [path.parent.name for path in whole],
        [f"{path.parent.name}/{path.stem}" for path in whole],
        list(map(str, paths)),
    ):
        if len(set(titles)) == len(titles) and all(titles):
            return titles
    return [f"{path.stem} ({number})" for number, path in enumerate(whole, 1)]
