"""What the tools that make videos over have in common: options, the videos to read, progress, and what is written."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from paddlevid.runtime import num_cores

if TYPE_CHECKING:
    from paddlevid.data.records import Record
    from paddlevid.prepare.rewriting import Make, Report

MAX_FPS = 1000


class Outcome(NamedTuple):
    """What a run came to; `list_path` has a line for each video of the set that was made."""

    report: Report
    list_path: Path
    num_lines: int
    seconds: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of these tools but for those that say what is made."""
    parser.add_argument("input", metavar="LIST", help="a .txt/.csv list, a folder, or a video")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="the folder to write to")
    parser.add_argument(
        "--root", metavar="DIR", help="where relative paths of LIST begin (its folder; data.root of the recipe with -c)"
    )
    parser.add_argument("-c", "--config", help="a recipe: how its lists are written")
    parser.add_argument("--override", action="append", default=[], metavar="KEY=VALUE", help="change the recipe")
    parser.add_argument("--multi_label", action="store_true", help="LIST has several labels a video; without -c")
    parser.add_argument("--unlabelled", action="store_true", help="LIST has no labels")
    parser.add_argument(
        "--fps",
        type=positive_fraction,
        metavar="F",
        help="pictures a second, such as 15 or 30000/1001: each shows the last frame that begins by its time (all)",
    )
    parser.add_argument("--workers", type=positive, metavar="N", help="videos made at once (one a core)")


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End with a message where options do not go together."""
    if args.config is None and args.override:
        parser.error("--override changes a recipe, and needs -c")
    if args.config and args.multi_label:
        parser.error("--multi_label is told by the recipe of -c")
    if args.fps is not None and args.fps > MAX_FPS:
        parser.error(f"--fps must be at most {MAX_FPS}")


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a whole number of at least 1")
    return int(text)


def positive_fraction(text: str) -> Fraction:
    """A number more than 0."""
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError):
        value = Fraction(0)
    if value <= 0:
        raise argparse.ArgumentTypeError("must be a number more than 0, such as 15 or 30000/1001")
    return value


def make_all(args: argparse.Namespace, make: Make, settings: dict[str, Any], suffix: str) -> Outcome:
    """Make over all videos that `args` name; bad ones are told on stderr as they come. See `rewriting.rewrite`.

    A `suffix` is that of the files that are made; without, folders of frames are.

    Raises:
        DataError, ConfigError: there are no videos, or the output folder has other things in it.
    """
    from tqdm import tqdm

    from paddlevid.prepare.rewriting import copy_class_names, rewrite, write_bad, write_list

    start = time.monotonic()
    source, is_list, root = Path(args.input), is_list_file(args.input), find_root(args)
    list_path = args.output / (f"{source.stem}.txt" if is_list else "list.txt")
    check_output(list_path, source)
    records = find_videos(args, root)
    with tqdm(unit="video", disable=not sys.stderr.isatty(), leave=False, smoothing=0.05) as bar:

        def begin(total: int, done: int) -> None:
            bar.reset(total)
            bar.initial = bar.n = done
            bar.refresh()

        def tell(path: str, reason: str) -> None:
            bar.update()
            if reason:
                bar.write(f"{path}: {reason}", file=sys.stderr)

        report = rewrite(
            make,
            records,
            root,
            args.output,
            suffix=suffix,
            settings=settings,
            num_workers=args.workers or num_cores(),
            on_start=begin,
            on_done=tell,
        )
    num_lines = write_list(records, report, list_path, is_frames=not suffix)
    write_bad(records, report, args.output)
    if is_list:
        copy_class_names(source, list_path)
    return Outcome(report, list_path, num_lines, time.monotonic() - start)


def is_list_file(path: str) -> bool:
    from paddlevid.deploy.inputs import LIST_SUFFIXES

    return os.path.isfile(path) and os.path.splitext(path)[1].lower() in LIST_SUFFIXES


def find_root(args: argparse.Namespace) -> Path:
    """Where relative names begin: of a list that of the recipe or its folder, else the folder of the videos."""
    if args.root is not None:
        return Path(args.root)
    source = Path(args.input)
    if is_list_file(args.input) and args.config:
        from paddlevid.config import load_config

        return Path(load_config(args.config, args.override).data.root)
    return source if source.is_dir() else source.parent


def check_output(list_path: Path, source: Path) -> None:
    """See before hours of work that the new list takes no other's place."""
    from paddlevid.errors import ConfigError
    from paddlevid.prepare.rewriting import JOURNAL_FILE

    is_ours = (list_path.parent / JOURNAL_FILE).exists() and list_path.resolve() != source.resolve()
    if list_path.exists() and not is_ours:
        raise ConfigError(f"{list_path}: is there already, and a new list is to take its place; choose another DIR")


def find_videos(args: argparse.Namespace, root: Path) -> Sequence[Record]:
    """The records of a list, with their labels, of a folder, but for what is in the output, or of a video."""
    from paddlevid.data.annotations import read_list
    from paddlevid.deploy.inputs import find_records
    from paddlevid.errors import ConfigError, DataError
    from paddlevid.schema.data import DataConfig

    data = DataConfig.model_construct(format="video", multi_label=args.multi_label, class_names=None)
    if args.config:
        from paddlevid.config import load_config

        data = load_config(args.config, args.override).data
        if data.format != "video":
            raise ConfigError(f"{args.config}: data.format is {data.format}; only lists of videos can be made over")
    if not is_list_file(args.input):
        output = args.output.resolve()
        found = [record for record in find_records(args.input, data) if record.num_frames is None]
        records = [record for record in found if output not in Path(record.path).resolve().parents]
        if not records:
            raise DataError(f"{args.input}: no videos in this folder")
        return records
    try:
        return read_list(
            args.input,
            format="video",
            root=root,
            labelled=not args.unlabelled,
            num_classes=data.num_classes if args.config else None,
            multi_label=data.multi_label,
            class_names=lambda: _class_names(data, args.input),
        )
    except DataError as error:
        hint = "" if args.unlabelled else " (a list without labels needs --unlabelled)"
        raise DataError(f"{error}{hint}") from None


def _class_names(data: Any, list_path: str) -> list[str] | None:
    """What classes are called in a list; None where nothing tells."""
    from paddlevid.data.class_names import CLASS_NAMES_FILE, read_class_names

    if data.class_names is not None:
        return read_class_names(data.class_names, data.num_classes)
    beside = Path(list_path).parent / CLASS_NAMES_FILE
    if not beside.is_file():
        return None
    return [line.strip() for line in beside.read_text(encoding="utf-8-sig").splitlines() if line.strip()]


def describe(outcome: Outcome) -> str:
    """How many videos were made, how fast, and how many are bad."""
    report = outcome.report
    num_new = len(report.made) - report.done_before
    text = f"{num_new} videos made in {outcome.seconds:.1f} s"
    if num_new:
        text += f", {num_new / outcome.seconds:.2f} videos/s"
    if report.done_before:
        text += f"; {report.done_before} were there already"
    if report.bad:
        from paddlevid.prepare.lists import BAD_FILE

        text += f"; {len(report.bad)} are bad: see {outcome.list_path.parent / BAD_FILE}"
    return text


def as_size(num_bytes: float) -> str:
    """Bytes in a unit that suits them."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} TB"
