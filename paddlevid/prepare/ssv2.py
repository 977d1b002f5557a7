"""Something-Something V2: its JSON files, and videos named `ID.webm`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paddlevid.errors import DataError
from paddlevid.prepare.lists import Draft, Entry
from paddlevid.prepare.scan import Finder, Tree, find_annotations, read_annotation

PREFIX = "something-something-v2-"  # of the files as they were named at first
ANSWERS = "test-answers.csv"


def draft_ssv2(tree: Tree, annotations: str | Path | None = None) -> Draft:
    """Match the official annotations with the videos of a tree; classes are numbered as `labels.json` says.

    The files are looked for in `annotations`, by default in the tree itself. The test set has labels where
    `test-answers.csv` lies there.

    Raises:
        DataError: `labels.json` or all others are missing, or a file is not of this kind.
    """
    files = {name.removeprefix(PREFIX): path for name, path in find_annotations(tree, annotations).items()}
    if "labels.json" not in files:
        raise DataError(
            f"{annotations or tree.root}: neither {PREFIX}labels.json nor labels.json in it; say where the annotations "
            "lie with --annotations"
        )
    class_names = _read_labels(files["labels.json"])
    labels = {_key(name): label for label, name in enumerate(class_names)}
    finder = Finder(tree, ignore_case=True)
    splits: dict[str, list[Entry]] = {}
    missing: dict[str, list[str]] = {}
    for split, file in (("train", "train.json"), ("valid", "validation.json"), ("test", "test.json")):
        if file not in files:
            continue
        answers = _read_answers(files[ANSWERS]) if split == "test" and ANSWERS in files else {}
        splits[split], missing[split] = [], []
        for number, video in enumerate(_read_json(files[file], list), start=1):
            where = f"{files[file]}: entry {number}"
            identity, template = _read_video(video, where)
            label = _label(answers.get(identity, template), labels, where, needed=split != "test" or bool(answers))
            name = finder.find([identity])
            if name is None:
                missing[split].append(identity)
            else:
                splits[split].append(Entry(name, label))
    if not splits:
        raise DataError(
            f"{files['labels.json'].parent}: no train.json, validation.json or test.json beside labels.json"
        )
    return Draft(tree.root, class_names, splits, missing, finder.notes())


def _key(text: str) -> str:
    """A template has its placeholders in brackets, and its label has not."""
    return text.replace("[", "").replace("]", "").strip().lower()


def _label(template: str | None, labels: Mapping[str, int], where: str, *, needed: bool) -> int | None:
    if template is None and not needed:
        return None
    label = labels.get(_key(template or ""))
    if label is None:
        raise DataError(f"{where}: {template!r} is not in labels.json" if template else f"{where}: no template")
    return label


def _read_json(path: Path, kind: type) -> Any:
    try:
        content = json.loads(read_annotation(path))
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}") from None
    if not isinstance(content, kind) or not content:
        raise DataError(f"{path}: expected a {kind.__name__} with entries")
    return content


def _read_labels(path: Path) -> list[str]:
    """`{"Approaching something with your camera": "0", ...}` -> names by label."""
    content = _read_json(path, dict)
    numbers = {str(number): name for name, number in content.items()}
    if set(numbers) != {str(label) for label in range(len(content))}:
        raise DataError(f"{path}: its {len(content)} classes are not numbered from 0 on")
    return [numbers[str(label)] for label in range(len(content))]


def _read_video(video: object, where: str) -> tuple[str, str | None]:
    """`{"id": "78687", "template": "Holding [something] next to [something]", ...}` -> id and template, if any."""
    if not isinstance(video, dict) or not str(video.get("id", "")):
        raise DataError(f"{where}: expected a video with an id, found {str(video)[:80]!r}")
    template = video.get("template")
    return str(video["id"]), template if isinstance(template, str) else None


def _read_answers(path: Path) -> dict[str, str]:
    """`1420;Lifting something with something on it` lines -> label by id."""
    answers = {}
    for line in filter(None, read_annotation(path).splitlines()):
        identity, semicolon, label = line.partition(";")
        if not semicolon:
            raise DataError(f"{path}: expected `id;label` lines, found {line[:80]!r}")
        answers[identity.strip()] = label
    return answers
