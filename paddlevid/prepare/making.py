"""What the tools that make videos over have in common: options, the videos to read, progress, and what is written."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
import time
from collections.abc import Collection, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from paddlevid.runtime import num_cores

if TYPE_CHECKING:
    from paddlevid.data.records import Record
    from paddlevid.prepare.rewriting import Make, Report

MAX_FPS = 1000
MAX_TOLD = 20  # bad videos on the terminal
FOR_EACH_LIST = (
    "run this for each list of the recipe into the same folder: "
    + "train.list, valid.list and test.list have to be of these"
)


class Outcome(NamedTuple):
    """What a run came to; `list_path` has a line for each video of the set that was made."""

    report: Report
    list_path: Path
    num_lines: int
    is_labelled: bool
    seconds: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of these tools but for those that say what is made."""
    parser.add_argument("input", metavar="LIST", help="a .txt/.csv list, a folder, or a video")
    add_output(parser, type=Path, metavar="DIR", help="the folder to write to")
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


def add_output(parser: argparse.ArgumentParser, **options: Any) -> None:
    """-o, which is no override as it is elsewhere."""
    parser.add_argument("-o", "--output", action=_Output, required=True, **options)


class _Output(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: str | None = None) -> None:
        if re.match(r"[\w.]+=", str(values)):
            parser.error(f"-o {values}: -o is the place to write to, and recipes are changed with --override; such a "
                         f"folder is ./{values}")  # fmt: skip
        if getattr(namespace, self.dest) is not None:
            parser.error("-o can be given once; recipes are changed with --override")
        setattr(namespace, self.dest, values)


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


def make_all(
    args: argparse.Namespace,
    make: Make,
    settings: dict[str, Any],
    suffix: str,
    formats: Collection[str] = ("video",),
) -> Outcome:
    """Make over all videos that `args` name; bad ones are told on stderr as they come. See `rewriting.rewrite`.

    A `suffix` is that of the files that are made; without, folders of frames are. The recipe's `data.format` must be
    one of `formats`.

    Raises:
        DataError, ConfigError: there are no videos, or the output folder has other things in it.
    """
    from tqdm import tqdm

    from paddlevid.prepare.journal import ListNote
    from paddlevid.prepare.lists import BAD_FILE
    from paddlevid.prepare.rewriting import copy_class_names, rewrite, write_bad, write_list

    start = time.monotonic()
    source, is_list, root = Path(args.input), is_list_file(args.input), find_root(args)
    list_path = args.output / (f"{source.stem}.txt" if is_list else "list.txt")
    check_output(list_path, source)
    records = find_videos(args, root, formats)
    note = ListNote(list_path.name, os.path.realpath(source), os.path.realpath(root if is_list else source))
    num_told = 0
    with tqdm(unit="video", disable=not sys.stderr.isatty(), leave=False, smoothing=0.05) as bar:

        def begin(total: int, done: int) -> None:
            bar.reset(total)
            bar.initial = bar.n = done
            bar.refresh()

        def tell(path: str, reason: str) -> None:
            nonlocal num_told
            bar.update()
            if reason and num_told <= MAX_TOLD:
                more = f"more bad videos: {args.output / BAD_FILE} will name them all"
                bar.write(f"{path}: {reason}" if num_told < MAX_TOLD else more, file=sys.stderr)
                num_told += 1

        report = rewrite(
            make,
            records,
            root,
            args.output,
            suffix=suffix,
            settings=settings,
            num_workers=args.workers or num_cores(),
            note=note,
            on_start=begin,
            on_done=tell,
        )
    num_lines = write_list(records, report, list_path, is_frames=not suffix)
    write_bad(records, report, args.output)
    if is_list:
        copy_class_names(source, list_path)
    is_labelled = is_list and (records[0].label is not None or records[0].labels is not None)
    return Outcome(report, list_path, num_lines, is_labelled, time.monotonic() - start)


def is_list_file(path: str) -> bool:
    from paddlevid.deploy.inputs import LIST_SUFFIXES

    return os.path.isfile(path) and os.path.splitext(path)[1].lower() in LIST_SUFFIXES


def find_root(args: argparse.Namespace) -> Path:
    """Where relative names begin: of a list that of the recipe or its folder, else the folder of the videos.

    A recipe of stored flow tells where the flow is, not the videos.
    """
    if args.root is not None:
        return Path(args.root)
    source = Path(args.input)
    if is_list_file(args.input) and args.config:
        from paddlevid.config import load_config

        data = load_config(args.config, args.override).data
        return source.parent if data.format == "flow" else Path(data.root)
    return source if source.is_dir() else source.parent


def check_output(list_path: Path, source: Path) -> None:
    """See before hours of work that the new list takes no other's place."""
    from paddlevid.errors import ConfigError
    from paddlevid.prepare.journal import JOURNAL_FILE

    is_ours = (list_path.parent / JOURNAL_FILE).exists() and list_path.resolve() != source.resolve()
    if list_path.exists() and not is_ours:
        raise ConfigError(f"{list_path}: is there already, and a new list is to take its place; choose another DIR")


def find_videos(args: argparse.Namespace, root: Path, formats: Collection[str]) -> Sequence[Record]:
    """The records of a list, with their labels, of a folder, but for what is in the output, or of a video."""
    from paddlevid.data.annotations import read_list
    from paddlevid.deploy.inputs import find_records
    from paddlevid.errors import ConfigError, DataError
    from paddlevid.schema.data import DataConfig

    data = DataConfig.model_construct(format="video", multi_label=args.multi_label, class_names=None)
    if args.config:
        from paddlevid.config import load_config

        data = load_config(args.config, args.override).data
        if data.format not in formats:
            raise ConfigError(f"{args.config}: data.format is {data.format}; only lists of videos can be made over")
        data = data.model_copy(update={"format": "video"})
    if not is_list_file(args.input):
        output, source = args.output.resolve(), Path(args.input).resolve()
        if source.exists() and output in (source, *source.parents):
            place = "is also" if output == source else "lies in"
            raise ConfigError(f"{args.input}: {place} the folder to write to, {args.output}; choose another DIR")
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
    """How many videos were made, how fast, and how many are bad; without any that are not, why the first ones are."""
    report = outcome.report
    num_new = len(report.made) - report.done_before
    text = f"{count(num_new, 'video')} made in {outcome.seconds:.1f} s"
    if num_new:
        text += f", {num_new / outcome.seconds:.2f} videos/s"
    if report.done_before:
        text += f"; {report.done_before} {'was' if report.done_before == 1 else 'were'} there already"
    if report.bad:
        from paddlevid.prepare.lists import BAD_FILE

        num_bad = len(report.bad)
        text += f"; {num_bad} {'is' if num_bad == 1 else 'are'} bad: see {outcome.list_path.parent / BAD_FILE}"
        if not report.made:
            text += "".join(f"\n  {path}: {reason}" for path, reason in list(report.bad.items())[:3])
    return text


def count(number: int, noun: str) -> str:
    """A number of things.

    >>> count(1, "video"), count(2, "video")
    ('1 video', '2 videos')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def how_to_read(options: Iterable[str], outcome: Outcome) -> str:
    """What to override in a recipe, and with a list that has labels that it takes the place of one of the recipe's."""
    from paddlevid.prepare.naming import override

    options = list(options)
    if outcome.is_labelled:
        key = list_key(outcome.list_path.stem)
        options.append(override(key or "train.list", os.path.abspath(outcome.list_path)))
    text = "read them with " + " ".join(f"-o {shlex.quote(option)}" for option in options)
    return f"{text}\n{FOR_EACH_LIST}" if outcome.is_labelled else text


def list_key(stem: str) -> str | None:
    """Which list of a recipe the name of a list, without its suffix, says that it is; None where it says nothing.

    >>> list_key("kinetics400_val_list"), list_key("testlist01"), list_key("files")
    ('valid.list', 'test.list', None)
    """
    for word in re.split(r"[^a-z]+", stem.lower()):
        for begin, split in (("train", "train"), ("val", "valid"), ("test", "test")):
            if word.startswith(begin):
                return f"{split}.list"
    return None


def as_size(num_bytes: float) -> str:
    """Bytes in a unit that suits them."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if num_bytes < 999.5:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} TB"
