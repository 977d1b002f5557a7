"""Public weights that `-w NAME` downloads: python tools/list_weights.py [--family tsm] [PATTERN]"""

import argparse
import dataclasses
import fnmatch
import json
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlevid.errors import WeightsError
from paddlevid.runtime import run_command
from paddlevid.weights.zoo import FAMILIES, PublicWeights, list_weights

COLUMNS = ("name", "data", "clip", "test", "top-1/top-5", "source", "licence", "")
LEGEND = (
    "clip: for TimeSformer frames x distance between them; for TSM and TSN the backbone (R50 is ResNet-50) and frames",
    "test: temporal clips x spatial crops; top-1/top-5: what the file's own project scored so, in percent",
)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="List the public weights that -w NAME downloads and loads.")
    parser.add_argument("pattern", nargs="?", default="", help="part of a name, or with * and ? a whole one")
    parser.add_argument("--family", choices=FAMILIES, help="weights of this model; image: starts for a training")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--urls", action="store_true", help="names and addresses only")
    form.add_argument("--json", action="store_true", help="all that is known, for programs")
    return parser.parse_args()


def select(family: str | None, pattern: str) -> list[PublicWeights]:
    wanted = pattern.lower() if any(mark in pattern for mark in "*?") else f"*{pattern.lower()}*"
    found = [weights for weights in list_weights() if family in {None, weights.family}]
    chosen = [weights for weights in found if fnmatch.fnmatch(weights.name, wanted)]
    if not chosen:
        of_family = f" of the family {family}" if family else ""
        raise WeightsError(f"no public weights{of_family} have a name like {pattern!r}; without it all are listed")
    return chosen


def format_table(chosen: Sequence[PublicWeights], width: int) -> str:
    """Aligned columns; notes below, each once, with its number in the last column."""
    notes = list(dict.fromkeys(weights.note for weights in chosen if weights.note))
    rows = [COLUMNS]
    for weights in chosen:
        scores = "/".join("-" if score is None else str(score) for score in (weights.top1, weights.top5))
        mark = f"[{notes.index(weights.note) + 1}]" if weights.note else ""
        tested = (weights.protocol, scores.replace("-/-", "-"))
        rows.append((weights.name, weights.data, weights.clip, *tested, weights.source, weights.licence, mark))
    lines = [*align(rows), ""] + [line for text in LEGEND for line in textwrap.wrap(text, width)]
    for number, note in enumerate(notes, 1):
        lines += textwrap.wrap(f"[{number}] {note}", width, subsequent_indent="    ")
    return "\n".join(lines)


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def main() -> None:
    args = parse_arguments()
    chosen = select(args.family, args.pattern)
    if args.json:
        table = [dataclasses.asdict(weights) | {"sha256": weights.sha256} for weights in chosen]
        print(json.dumps(table, indent=2))
    elif args.urls:
        print("\n".join(align([(weights.name, weights.url) for weights in chosen])))
    else:
        print(format_table(chosen, shutil.get_terminal_size((120, 50)).columns))


if __name__ == "__main__":
    run_command(main)
