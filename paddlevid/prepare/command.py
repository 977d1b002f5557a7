"""What the tools that prepare datasets have in common: options, progress, and a summary with the line to go on with."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from paddlevid.runtime import num_cores

if TYPE_CHECKING:
    from paddlevid.prepare.checking import Checked, Journal
    from paddlevid.prepare.lists import Draft, SplitSummary
    from paddlevid.prepare.scan import Tree

MAX_TIMEOUT_SEC = 86_400


@dataclass(frozen=True)
class Recipe:
    """Which recipe of `configs` suits a dataset, the public weights to start from, and what else differs from it."""

    config: str
    weights: str
    overrides: tuple[str, ...] = ()
    unmirrored: str = ""  # the override that leaves `horizontal_flip` out, where the recipe has it


MIRRORED = re.compile(r"(?<![A-Za-z])(left|right|LEFT|RIGHT)(?![a-z])|(Left|Right)(?![a-z])")
MAX_CLASSES_SHOWN = 10
# Of all TimeSformer recipes that the tools name
TIMESFORMER_UNMIRRORED = (
    "train.transforms=[{kind: short_side_jitter, min_size: 256, max_size: 320}, {kind: random_crop}]"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of all of these tools."""
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="where to write the lists (the folder of the videos)"
    )
    parser.add_argument(
        "--check",
        choices=("none", "quick", "full"),
        default="quick",
        help="quick: open each video and read its packets; full: decode every frame (quick)",
    )
    parser.add_argument("--workers", type=_positive, metavar="N", help="processes that check at once (one a core)")
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=120.0,
        metavar="SEC",
        help="give a video up that does not go on for so long (120)",
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= MAX_TIMEOUT_SEC:
        raise argparse.ArgumentTypeError(f"must be more than 0 and at most {MAX_TIMEOUT_SEC}")
    return value


def prepare(
    root: str | Path,
    args: argparse.Namespace,
    recipe: Recipe,
    make_draft: Callable[[Tree], Draft],
) -> None:
    """Scan `root`, match it with annotations, check the videos, write the lists, and print what came of it.

    `args` are those of `add_arguments`.

    Raises:
        DataError, ConfigError: there is nothing to list, or other files are in the way.
    """
    from paddlevid.prepare.checking import Journal
    from paddlevid.prepare.lists import JOURNAL_FILE, check_draft, check_output, write_lists

    start = time.monotonic()
    tree = _scan(root)
    draft = make_draft(tree)
    output = Path(root if args.output is None else args.output)
    check_draft(draft)
    check_output(draft, output)
    with Journal(output / JOURNAL_FILE) as journal:
        checked = _check(draft, args, journal)
        summaries = write_lists(draft, checked.bad, output, journal)
    lists = _lists_to_use(draft, [part.split for part in summaries if part.num_videos])
    notes = [*tree.notes, *draft.notes, *_empty_classes(draft, checked), *_notes_on_use(draft, lists, recipe)]
    print(_summary(draft, checked, summaries, output, notes, time.monotonic() - start))
    print(_next_command(draft, lists, output, recipe))


def _scan(root: str | Path) -> Tree:
    from tqdm import tqdm

    from paddlevid.prepare.scan import scan_tree

    with tqdm(desc="looking for videos", unit="file", disable=not sys.stderr.isatty(), leave=False) as bar:
        return scan_tree(root, bar.update)


def _check(draft: Draft, args: argparse.Namespace, journal: Journal) -> Checked:
    from tqdm import tqdm

    from paddlevid.prepare.checking import check_names

    with tqdm(unit="video", disable=not sys.stderr.isatty(), leave=False, smoothing=0.05) as bar:
        return check_names(
            draft.root,
            draft.names(),
            args.check,
            journal,
            num_workers=args.workers or num_cores(),
            timeout_sec=args.timeout,
            on_start=bar.reset,
            on_done=bar.update,
        )


def _summary(
    draft: Draft, checked: Checked, summaries: list[SplitSummary], output: Path, notes: list[str], seconds: float
) -> str:
    from paddlevid.prepare.lists import BAD_FILE, MISSING_FILE, count

    width = max(len(part.split) for part in summaries) + len(".txt")
    lines = [f"root of the lists: {draft.root.absolute()}", f"lists, class names and what is wrong: {output}"]
    for part in (part for part in summaries if part.num_videos + part.num_missing + part.num_bad):
        noun = "video" if part.num_videos == 1 else "videos"
        counts = (
            f"{part.num_videos:7} {noun}, {_num_classes(part.num_classes)}, {part.num_missing} missing, "
            f"{part.num_bad} broken" + (" left out" if part.num_bad else "")
        )
        lines.append(f"  {part.split + '.txt':{width}} {counts}" + ("" if part.num_videos else " (not written)"))
    if any(draft.missing.values()):
        lines.append(f"missing videos: {MISSING_FILE}")
    if checked.bad:
        lines.append(f"broken videos, with reasons: {BAD_FILE}")
    lines += [f"note: {note}" for note in notes]
    known = f", {checked.num_known} known from an earlier run" if checked.num_known else ""
    lines.append(_class_counts(draft, checked))
    lines.append(f"{count(checked.num_checked, 'video')} checked{known}; {seconds:.1f} s")
    return "\n".join(lines)


def _num_classes(number: int) -> str:
    return "1 class" if number == 1 else f"{number} classes"


def _class_counts(draft: Draft, checked: Checked) -> str:
    """The first classes with the number of their videos, each counted once however many lists have it."""
    label_of = {entry.name: entry.label for entries in draft.splits.values() for entry in entries}
    numbers = Counter(label for name, label in label_of.items() if name not in checked.bad)
    shown = [f"{name} {numbers[label]}" for label, name in enumerate(draft.class_names[:MAX_CLASSES_SHOWN])]
    num_left = len(draft.class_names) - len(shown)
    more = f", and {num_left} more" if num_left else ""
    return f"{_num_classes(len(draft.class_names))}: {', '.join(shown)}{more}"


def _empty_classes(draft: Draft, checked: Checked) -> list[str]:
    """Notes on classes that nothing teaches."""
    notes = []
    for split, entries in draft.splits.items():
        if split.startswith("train"):
            seen = {entry.label for entry in entries if entry.name not in checked.bad}
            empty = [name for label, name in enumerate(draft.class_names) if label not in seen]
            if empty and seen:
                notes.append(
                    f"{len(empty)} of {len(draft.class_names)} classes without a video in {split}, such as {empty[0]}"
                )
    return notes


def _lists_to_use(draft: Draft, written: list[str]) -> dict[str, str]:
    """The lists with labels to train, validate and test on; of the last two, one stands in for the other."""
    usable = [split for split in written if draft.is_labelled(split)]
    train = next((split for split in usable if split.startswith("train")), None)
    suffix = "" if train is None else train.removeprefix("train")
    others = [split for split in (f"valid{suffix}", f"test{suffix}") if split in usable]
    lists = {"train": train, "valid": next(iter(others), None), "test": next(reversed(others), None)}
    return {use: split for use, split in lists.items() if split}


def _notes_on_use(draft: Draft, lists: Mapping[str, str], recipe: Recipe) -> list[str]:
    """What the command below does that nobody may have meant."""
    notes = []
    valid = lists.get("valid", "")
    if "train" in lists and valid.startswith("test"):
        notes.append(f"no list for validation: the command validates on {valid}.txt, and best.pdparams is chosen by it")
    elif valid.startswith("valid") and lists["test"] == valid:
        notes.append(f"no list with labels for testing: the command names {valid}.txt as test.list, too")
    mirrored = [name for name in draft.class_names if MIRRORED.search(name)]
    if "train" in lists and mirrored and recipe.unmirrored:
        notes.append(
            f"class names hold left or right, such as {mirrored[0]!r}, and the recipe mirrors half of the clips; where "
            f"that changes the class, add -o {shlex.quote(recipe.unmirrored)}"
        )
    return notes


def _next_command(draft: Draft, lists: Mapping[str, str], output: Path, recipe: Recipe) -> str:
    """The command that trains on the lists or, where there is none to train on, tests."""
    if not lists:
        return "no list with labels was written: there is nothing to train on or to test"
    values: dict[str, str | int | None] = {
        "data.root": str(draft.root.absolute()),
        "data.num_classes": len(draft.class_names),
        "data.class_names": None,  # those beside the list
    }
    values |= {f"{use}.list": str((output / f"{split}.txt").absolute()) for use, split in lists.items()}
    options = [f"{key}={_as_yaml(value)}" for key, value in values.items()] + list(recipe.overrides)
    words = ["python", "main.py", "-c", recipe.config]
    if "train" in lists:
        title, words = "train on it:", [*words, *(["--validate"] if "valid" in lists else []), "-w", recipe.weights]
    else:
        title, words = "test on it:", [*words, "--test", "-w", "WEIGHTS"]
    return f"{title}\n{shlex.join([*words, *(word for option in options for word in ('-o', option))])}"


def _as_yaml(value: str | int | None) -> str:
    """A value as -o reads it; paths are quoted where YAML would see something else in them."""
    if not isinstance(value, str):
        return json.dumps(value)
    return value if re.fullmatch(r"/[\w./+-]*", value) else json.dumps(value, ensure_ascii=False)
