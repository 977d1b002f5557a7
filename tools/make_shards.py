"""Pack the videos of a list into tar shards: python tools/make_shards.py LIST -o DIR/train-%06d.tar"""

import argparse
import importlib.util
import re
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlevid.errors import ConfigError
from paddlevid.prepare.making import FOR_EACH_LIST, add_output, as_size, count, list_key
from paddlevid.runtime import num_cores, run_command

if TYPE_CHECKING:
    from paddlevid.data.records import Records
    from paddlevid.prepare.shards import Plan

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Pack the videos of a list into tar shards as WebDataset has them, for network disks, where few "
        "large files are read faster than many small ones. Shards that are whole are kept: a run that was stopped goes "
        "on where it was. Exit code 1 if videos are missing or cut off; DIR/missing.txt names them, and no shard has "
        "them. Needs the package webdataset."
    )
    parser.add_argument("input", metavar="LIST", help="a list of videos with labels")
    add_output(parser, metavar="PATTERN", help="such as DIR/train-%%06d.tar")
    parser.add_argument(
        "--root", metavar="DIR", help="where relative paths of LIST begin (its folder; data.root of the recipe with -c)"
    )
    parser.add_argument("-c", "--config", help="a recipe: how its lists are written, and how many classes it has")
    parser.add_argument("--override", action="append", default=[], metavar="KEY=VALUE", help="change the recipe")
    parser.add_argument("--multi_label", action="store_true", help="LIST has several labels a video; without -c")
    parser.add_argument("--unlabelled", action="store_true", help="LIST has no labels, or not of all videos")
    parser.add_argument("--max_size", type=parse_size, default="1GB", metavar="SIZE", help="of a shard (1GB)")
    parser.add_argument("--max_count", type=int, default=1000, metavar="N", help="of videos in a shard (1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the order in which videos are written (0)")
    parser.add_argument("--keep_order", action="store_true", help="write them in the order of LIST: classes unmixed")
    parser.add_argument("--workers", type=int, metavar="N", help="shards written at once (one a core)")
    args = parser.parse_args()
    if not re.fullmatch(r"[^%]*%0?\d*d[^%/]*\.tar", args.output):
        parser.error("--output needs one place for a number, and the suffix .tar: DIR/train-%06d.tar")
    if args.config is None and args.override:
        parser.error("--override changes a recipe, and needs -c")
    if args.config and args.multi_label:
        parser.error("--multi_label is told by the recipe of -c")
    if min(args.max_count, args.workers or 1) < 1 or args.seed < 0:
        parser.error("--max_count and --workers must be at least 1, --seed at least 0")
    return args


def parse_size(text: str) -> int:
    """Bytes of a size such as 500MB or 1.5GB."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([KMGT]?)B?", text.upper())
    size = int(float(match[1]) * UNITS[match[2]]) if match else 0
    if size < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 500MB or 1GB")
    return size


def main() -> int:
    args = parse_arguments()
    from paddlevid.prepare.journal import check_class_names
    from paddlevid.prepare.shards import find_whole, plan_shards, write_shards

    if importlib.util.find_spec("webdataset") is None:
        raise ConfigError('webdataset is not installed: pip install -e ".[shards]"')
    began = time.monotonic()
    records = read_records(args)
    seed = None if args.keep_order else args.seed
    check_class_names(Path(args.input), Path(args.output).parent)
    plan = plan_shards(records, args.output, max_bytes=args.max_size, max_count=args.max_count, seed=seed)
    whole = find_whole(plan, args.output)
    Path(args.output).parent.mkdir(parents=True, exist_ok=True)
    write_shards([shard for shard in plan.shards if shard.path not in whole], num_workers=args.workers or num_cores())
    copy_class_names(args)
    write_left_out(args, records, plan)
    print(summary(args, plan, len(whole), time.monotonic() - began))
    return int(bool(plan.left_out))


def read_records(args: argparse.Namespace) -> "Records":
    from paddlevid.config import load_config
    from paddlevid.data.annotations import read_list

    data = load_config(args.config, args.override).data if args.config else None
    if data is not None and data.format != "video":
        raise ConfigError(f"{args.config}: data.format is {data.format}; shards are made of lists of videos")
    root = args.root if args.root is not None else data.root if data else Path(args.input).parent
    return read_list(
        args.input,
        format="video",
        root=root,
        labelled=not args.unlabelled,
        num_classes=data.num_classes if data else None,
        multi_label=data.multi_label if data else args.multi_label,
        class_names=lambda: class_names(args),
    )


def class_names(args: argparse.Namespace) -> "list[str] | None":
    """Those that the recipe gives, or that lie beside the list; None where classes have no names."""
    from paddlevid.config import load_config
    from paddlevid.data.class_names import CLASS_NAMES_FILE, number_names, read_class_names

    if args.config:
        data = load_config(args.config, args.override).data
        names = read_class_names(data.class_names, data.num_classes, list_path=args.input)
        return None if names == number_names(data.num_classes) else names
    beside = Path(args.input).parent / CLASS_NAMES_FILE
    lines = beside.read_text(encoding="utf-8-sig").splitlines() if beside.is_file() else []
    return [line.strip() for line in lines if line.strip()] or None


def copy_class_names(args: argparse.Namespace) -> None:
    from paddlevid.data.class_names import CLASS_NAMES_FILE

    source = Path(args.input).parent / CLASS_NAMES_FILE
    target = Path(args.output).parent / CLASS_NAMES_FILE
    if source.is_file() and source.resolve() != target.resolve():
        shutil.copyfile(source, target)


def write_left_out(args: argparse.Namespace, records: "Records", plan: "Plan") -> None:
    from paddlevid.prepare.lists import MISSING_FILE
    from paddlevid.prepare.rewriting import write_reasons

    names = ((record.name, plan.left_out.get(record.name)) for record in records)
    write_reasons(Path(args.output).parent / MISSING_FILE, names)


def summary(args: argparse.Namespace, plan: "Plan", num_kept: int, seconds: float) -> str:
    from paddlevid.prepare.naming import override

    num_clips = sum(len(shard.clips) for shard in plan.shards)
    size = as_size(sum(shard.num_bytes for shard in plan.shards))
    kept = f", {num_kept} of them there already" if num_kept else ""
    lines = [f"{count(num_clips, 'video')}, {size}, in {count(len(plan.shards), 'shard')}{kept}; {seconds:.1f} s"]
    if plan.left_out:
        name, reason = next(iter(plan.left_out.items()))
        place = Path(args.output).parent / "missing.txt"
        lines.append(f"left out: {len(plan.left_out)}, the first {name}: {reason}; see {place}")
    key = list_key(Path(args.input).stem) or list_key(Path(args.output).stem) or "train.list"
    options = ["data.format=shards", override(key, shards_pattern(args.output, len(plan.shards)))]
    lines.append("read them with " + " ".join(f"-o {shlex.quote(option)}" for option in options))
    lines.append(FOR_EACH_LIST)
    return "\n".join(lines)


def shards_pattern(output: str, count: int) -> str:
    """All shards in one word: train-{000000..000099}.tar."""
    place = re.search(r"%0?\d*d", output)
    assert place is not None
    first, last = place[0] % 0, place[0] % (count - 1)
    braces = f"{{{first}..{last}}}" if count > 1 else first
    return output[: place.start()] + braces + output[place.end() :]


if __name__ == "__main__":
    run_command(main)
