"""Find broken videos ahead of training: python tools/check_videos.py LIST"""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlevid.runtime import num_cores, run_command

if TYPE_CHECKING:
    from paddlevid.data.check import Finding
    from paddlevid.data.dataset import FrameSource
    from paddlevid.data.records import Record
    from paddlevid.schema.data import DataConfig


MAX_TIMEOUT_SEC = 86_400
BAD_FILE = "bad_videos.txt"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Decode each video of a list, or under a folder, from its first frame to its last, and name those "
        "that are broken: missing, unreadable, truncated, damaged, without frames or with too few, of changing size; "
        "with a recipe that computes flow also those that have none. Exit code 1 if there are any."
    )
    parser.add_argument("input", metavar="LIST", help="a .txt/.csv list, a folder, or a video")
    parser.add_argument(
        "--root", metavar="DIR", help="where relative paths of LIST begin (its folder; data.root of the recipe with -c)"
    )
    parser.add_argument("-c", "--config", help="a recipe: how its lists are written, frames named and videos decoded")
    parser.add_argument("-o", "--override", action="append", default=[], metavar="KEY=VALUE", help="change the recipe")
    parser.add_argument("--format", choices=("video", "frames", "flow", "shards"), help="of LIST, without -c (video)")
    parser.add_argument("--multi_label", action="store_true", help="LIST has several labels a video; without -c")
    parser.add_argument("--workers", type=int, metavar="N", help="processes that decode at once (one a core)")
    parser.add_argument(
        "--timeout",
        type=float,
        default=120.0,
        metavar="SEC",
        help="give a video up that does not go on for so long (120)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="a line for each; beside LIST, and only where there are any, unless given (LIST_bad_videos.txt)",
    )
    parser.add_argument("--good", type=Path, metavar="FILE", help="also write LIST without the lines of broken videos")
    args = parser.parse_args()
    if args.config is None and args.override:
        parser.error("--override changes a recipe, and needs -c")
    if args.config and (args.format or args.multi_label):
        parser.error("--format and --multi_label are told by the recipe of -c")
    if args.workers is not None and args.workers < 1:
        parser.error("--workers must be at least 1")
    if not 0 < args.timeout <= MAX_TIMEOUT_SEC:
        parser.error(f"--timeout must be more than 0 and at most {MAX_TIMEOUT_SEC}")
    return args


def main() -> int:
    args = parse_arguments()
    from paddlevid.deploy.inputs import find_records

    data = read_data(args)
    source = make_source(args, data)
    root = data.root if args.config and args.root is None else args.root
    records = find_records(args.input, data, root)
    output = args.output or default_output(Path(args.input))
    check_outputs(args, output, data, len(records))
    found = scan(records, source, args.workers or num_cores(), args.timeout)
    if found or args.output:
        write_bad(output, records, found)
    else:
        output.unlink(missing_ok=True)  # of an earlier look
    if args.good:
        write_good(args, [record.path not in found for record in records])
    print(summary(records, found, output))
    return int(bool(found))


def read_data(args: argparse.Namespace) -> "DataConfig":
    """How lists are written and folders of frames named; those of stored flow as its note says, where there is one."""
    from paddlevid.config import load_config
    from paddlevid.data.flow.note import find_note
    from paddlevid.schema.data import DataConfig

    if args.config:
        return load_config(args.config, args.override).data
    pictures: dict[str, Any] = {}
    if args.format == "flow":
        folder = Path(args.root or args.input)
        found = find_note(folder / "_" if folder.is_dir() else folder)  # looks above what it is given
        if found is not None:
            pictures = {"frame_template": found[1].template, "frame_start_index": found[1].start_index}
    return DataConfig.model_construct(format=args.format or "video", multi_label=args.multi_label, **pictures)


def make_source(args: argparse.Namespace, data: "DataConfig") -> "FrameSource":
    """How they are read: with a recipe as in training."""
    if args.config:
        from paddlevid.build import build_source

        return build_source(data)
    from paddlevid.data.dataset import FrameSource

    return FrameSource(data.decoder, data.template, data.frame_start_index, stored_flow=data.format == "flow")


def default_output(source: Path) -> Path:
    """A file beside a list, a folder or a video, by their name; in the current folder where that cannot be written."""
    source = source.resolve() if source.name in ("", "..") else source
    name = f"{source.stem.split('{')[0].rstrip('-_.') or 'shards'}_{BAD_FILE}"  # a pattern of shards has braces
    try:
        with tempfile.TemporaryFile(dir=source.parent):
            return source.parent / name
    except OSError:
        return Path(name)


def check_outputs(args: argparse.Namespace, output: Path, data: "DataConfig", num_records: int) -> None:
    """See now, not after hours, that the results can be written."""
    from paddlevid.deploy.inputs import LIST_SUFFIXES
    from paddlevid.errors import ConfigError

    source = Path(args.input)
    if args.good and data.format == "shards":
        raise ConfigError("--good is for lists of videos: what is bad in a shard stays in it")
    if args.good and not (source.is_file() and source.suffix.lower() in LIST_SUFFIXES):
        raise ConfigError(f"--good {args.good}: needs a list, and {source} is none")
    if args.good and not 0 <= len(list_lines(source)) - num_records <= 1:
        raise ConfigError(f"--good {args.good}: rows of {source} go over several lines; write each in one")
    outputs = [path for path in (output, args.good) if path]
    if len({path.resolve() for path in (*outputs, source)}) <= len(outputs):
        raise ConfigError("LIST, --output and --good must be different files")
    for path in outputs:
        if path.is_dir():
            raise ConfigError(f"{path}: is a folder; give the name of a file to write")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path.parent):
                pass
        except OSError as error:
            raise ConfigError(f"{path}: cannot write there: {error.strerror}") from None


def scan(
    records: "Sequence[Record]", source: "FrameSource", num_workers: int, timeout_sec: float
) -> "dict[str, Finding]":
    """What is wrong, by the path of the record; told on stderr as it is found."""
    from tqdm import tqdm

    from paddlevid.data.check import check_videos

    found = {}
    total = len({record.path for record in records})
    with tqdm(total=total, unit="video", disable=not sys.stderr.isatty(), leave=False, smoothing=0.05) as bar:
        for record, finding in check_videos(records, source, num_workers=num_workers, timeout_sec=timeout_sec):
            bar.update()
            if finding is not None:
                found[record.path] = finding
                bar.write(f"{record.path}: {finding}", file=sys.stderr)
    return found


def write_bad(output: Path, records: "Sequence[Record]", found: "dict[str, Finding]") -> None:
    from paddlevid.runtime import atomic_write

    bad = {record.name: found[record.path] for record in records if record.path in found}
    text = "".join(f"{name}\t{finding}\n" for name, finding in bad.items())
    atomic_write(output, lambda path: Path(path).write_text(text, encoding="utf-8", errors="surrogateescape"))


def write_good(args: argparse.Namespace, is_good: list[bool]) -> None:
    """The lines of a list less those of bad records, byte for byte; a header and empty lines stay."""
    from paddlevid.data.class_names import CLASS_NAMES_FILE
    from paddlevid.prepare.rewriting import copy_class_names
    from paddlevid.runtime import atomic_write

    lines = list_lines(Path(args.input), with_blank=True)
    has_header = len(list_lines(Path(args.input))) > len(is_good)
    answers = iter([True] * has_header + is_good)
    good = b"".join(line for line in lines if not line.strip(b" \t\r\n") or next(answers))
    atomic_write(args.good, lambda path: Path(path).write_bytes(good))
    if not (args.good.parent / CLASS_NAMES_FILE).exists():
        copy_class_names(Path(args.input), args.good)


def list_lines(path: Path, *, with_blank: bool = False) -> list[bytes]:
    """The lines of a list, with their ends."""
    lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines(keepends=True)
    return [line for line in lines if with_blank or line.strip(b" \t\r\n")]


def summary(records: "Sequence[Record]", found: "dict[str, Finding]", output: Path) -> str:
    total = len({record.path for record in records})
    if not found:
        return f"{total} videos, all good"
    kinds = Counter(finding.kind for finding in found.values())
    parts = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
    return f"{total} videos, {len(found)} of them bad: {parts}; see {output}"


if __name__ == "__main__":
    run_command(main)
