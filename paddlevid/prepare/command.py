"""What the tools that prepare datasets have in common: options, progress, and a summary with the line to go on with."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
import time
from collections.abc import Callable
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
    summaries = write_lists(draft, checked.bad, output)
    print(_summary(draft, checked, summaries, output, tree.notes, time.monotonic() - start))
    print(_next_command(draft, [part.split for part in summaries if part.num_videos], output, recipe))


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
    from paddlevid.prepare.lists import BAD_FILE, MISSING_FILE

    width = max(len(part.split) for part in summaries) + len(".txt")
    lines = [f"root of the lists: {draft.root.absolute()}", f"lists, class names and what is wrong: {output}"]
    for part in (part for part in summaries if part.num_videos + part.num_missing + part.num_bad):
        counts = (
            f"{part.num_videos:7} videos, {part.num_classes} classes, {part.num_missing} missing, {part.num_bad} broken"
        )
        lines.append(f"  {part.split + '.txt':{width}} {counts}" + ("" if part.num_videos else " (not written)"))
    if any(draft.missing.values()):
        lines.append(f"missing videos: {MISSING_FILE}")
    if checked.bad:
        lines.append(f"broken videos, with reasons: {BAD_FILE}")
    lines += [f"note: {note}" for note in (*notes, *draft.notes, *_empty_classes(draft, checked))]
    known = f", {checked.num_known} known from an earlier run" if checked.num_known else ""
    lines.append(f"{len(draft.class_names)} classes; {checked.num_checked} videos checked{known}; {seconds:.1f} s")
    return "\n".join(lines)


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


def _next_command(draft: Draft, written: list[str], output: Path, recipe: Recipe) -> str:
    """The command that trains on the lists or, where there is none to train on, tests."""
    usable = [split for split in written if draft.is_labelled(split)]
    train = next((split for split in usable if split.startswith("train")), None)
    suffix = "" if train is None else train.removeprefix("train")
    others = [split for split in (f"valid{suffix}", f"test{suffix}") if split in usable]
    values: dict[str, str | int | None] = {
        "data.root": str(draft.root.absolute()),
        "data.num_classes": len(draft.class_names),
        "data.class_names": None,  # those beside the list
    }
    lists = {"train": train, "valid": next(iter(others), None), "test": next(reversed(others), None)}
    values |= {f"{key}.list": str((output / f"{split}.txt").absolute()) for key, split in lists.items() if split}
    options = [f"{key}={_as_yaml(value)}" for key, value in values.items()] + list(recipe.overrides)
    words = ["python", "main.py", "-c", recipe.config]
    if train is None and not others:
        return "no list with labels was written: there is nothing to train on or to test"
    if train is None:
        title, words = "test on it:", [*words, "--test", "-w", "WEIGHTS"]
    else:
        title, words = "train on it:", [*words, *(["--validate"] if others else []), "-w", recipe.weights]
    return f"{title}\n{shlex.join([*words, *(word for option in options for word in ('-o', option))])}"


def _as_yaml(value: str | int | None) -> str:
    """A value as -o reads it; paths are quoted where YAML would see something else in them."""
    if not isinstance(value, str):
        return json.dumps(value)
    return value if re.fullmatch(r"/[\w./+-]*", value) else json.dumps(value, ensure_ascii=False)
