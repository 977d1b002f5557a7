"""UCF101: `classInd.txt`, `trainlist01.txt`, `testlist01.txt`, ..., and videos named `v_Archery_g08_c01.avi`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from paddlevid.errors import DataError
from paddlevid.prepare.lists import Draft, Entry
from paddlevid.prepare.scan import Finder, Tree, find_annotations, read_annotation


def draft_ucf101(tree: Tree, annotations: str | Path | None = None) -> Draft:
    """Match the lists of the official splits with the videos of a tree.

    They are looked for in `annotations`, by default in the tree itself.

    Raises:
        DataError: a file of the annotations is missing or is not of this kind.
    """
    files = find_annotations(tree, annotations)
    if "classind.txt" not in files:
        raise DataError(
            f"{annotations or tree.root}: no classInd.txt in it; unpack UCF101TrainTestSplits-RecognitionTask.zip "
            "there, or say where it lies with --annotations"
        )
    class_names = _read_classes(files["classind.txt"])
    labels = {name: label for label, name in enumerate(class_names)}
    lists = {
        f"{match[1]}_split{int(match[2])}": files[name]
        for name in sorted(files)
        if (match := re.fullmatch(r"(train|test)list(\d+)\.txt", name))
    }
    if not lists:
        raise DataError(
            f"{files['classind.txt'].parent}: neither trainlist01.txt nor testlist01.txt beside classInd.txt"
        )
    finder = Finder(tree, ignore_case=True, class_names=class_names)
    splits: dict[str, list[Entry]] = {}
    missing: dict[str, list[str]] = {}
    for split in sorted(lists, key=lambda split: (split.rpartition("split")[2], split.startswith("test"))):
        splits[split], missing[split] = [], []
        for video, label in _read_videos(lists[split], labels):
            name = finder.find([PurePosixPath(video).stem], class_names[label])
            if name is None:
                missing[split].append(video)
            else:
                splits[split].append(Entry(name, label))
    return Draft(tree.root, class_names, splits, missing, finder.notes())


def _read_classes(path: Path) -> list[str]:
    """`1 ApplyEyeMakeup` lines -> names by label, from 0."""
    names: dict[int, str] = {}
    for number, line in enumerate(read_annotation(path).splitlines(), start=1):
        match = re.fullmatch(r"\s*(\d+)\s+(\S+)\s*", line)
        if match:
            names[int(match[1])] = match[2]
        elif line.strip():
            raise DataError(f"{path}:{number}: expected `number class`, found {line.strip()[:80]!r}")
    if sorted(names) != list(range(1, len(names) + 1)) or not names:
        raise DataError(f"{path}: its {len(names)} classes are not numbered from 1 on")
    return [names[number] for number in sorted(names)]


def _read_videos(path: Path, labels: Mapping[str, int]) -> list[tuple[str, int]]:
    """`Class/video.avi 1` lines, the number counted from 1 and left out in test lists -> video and label, from 0."""
    videos = []
    for number, line in enumerate(read_annotation(path).splitlines(), start=1):
        if not line.strip():
            continue
        match = re.fullmatch(r"\s*(([^/\s]+)/\S+?)(?:\s+(\d+))?\s*", line)
        if match is None or match[2] not in labels:
            raise DataError(f"{path}:{number}: expected `class/video.avi`, found {line.strip()[:80]!r}")
        label = labels[match[2]]
        if match[3] and int(match[3]) != label + 1:
            raise DataError(f"{path}:{number}: {match[2]} has number {label + 1} in classInd.txt, and {match[3]} here")
        videos.append((match[1], label))
    return videos
