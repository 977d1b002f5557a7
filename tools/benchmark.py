"""How fast an exported model is, by runtime, precision and threads: python tools/benchmark.py FOLDER"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlevid.runtime import run_command

if TYPE_CHECKING:
    from paddlevid.data.records import Record
    from paddlevid.deploy.manifest import Manifest
    from paddlevid.deploy.measure.benchmark import Times
    from paddlevid.deploy.measure.flops import Cost

RUNTIMES = ("paddle", "onnxruntime", "openvino")
PRECISIONS = ("fp32", "bf16", "fp16", "int8")
COLUMNS = {
    "runtime": ("runtime", "{}"),
    "precision": ("precision", "{}"),
    "threads": ("threads", "{}"),
    "batch_size": ("batch", "{}"),
    "median_ms": ("median ms", "{:.1f}"),
    "p95_ms": ("p95 ms", "{:.1f}"),
    "clips_per_s": ("clips/s", "{:.2f}"),
    "model_videos_per_s": ("videos/s", "{:.2f}"),
    "end_to_end_videos_per_s": ("end to end", "{:.2f}"),
    "gflops_per_s": ("GFLOP/s", "{:.0f}"),
    "model_ratio": ("x model", "{:.2f}"),
    "end_to_end_ratio": ("x end to end", "{:.2f}"),
}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Time an exported folder in each runtime: the model alone, and from video files to labels, where "
        "the next videos are read while the model runs. Each way has as many cores as threads, and they take turns."
    )
    parser.add_argument("folder", metavar="FOLDER", help="what tools/export_model.py wrote")
    parser.add_argument(
        "-i", "--input", metavar="VIDEO|LIST", help="videos to read; by default one of 10 s, 340x256, made for this"
    )
    parser.add_argument("--runtimes", type=names_of(RUNTIMES), default=RUNTIMES, metavar="A,B", help="default: all")
    parser.add_argument(
        "--precisions", type=names_of(PRECISIONS), metavar="A,B", help="default: all that the folder was exported in"
    )
    parser.add_argument("--threads", type=numbers, metavar="1,2", help="default: all cores")
    parser.add_argument("--batch_sizes", type=numbers, default=(1,), metavar="1,8", help="clips a run (1)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each way (3)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of the model alone in a turn, at least (2)")
    parser.add_argument("--videos", type=int, default=16, help="from files to labels in a turn (16)")
    parser.add_argument("--baseline", choices=RUNTIMES, help="also show how many times as fast as this one in fp32")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all numbers and what this machine is")
    args = parser.parse_args()
    if args.rounds < 1 or args.videos < 1 or args.seconds < 0:
        parser.error("--rounds and --videos must be at least 1, and --seconds at least 0")
    if args.baseline and args.baseline not in args.runtimes:
        parser.error(f"--baseline {args.baseline}: is not one of --runtimes {','.join(args.runtimes)}")
    return args


def names_of(allowed: Sequence[str]) -> Any:
    """A parser of a list of some of these, parted by commas."""

    def parse(text: str) -> tuple[str, ...]:
        names = tuple(dict.fromkeys(text.split(",")))
        for name in names:
            if name not in allowed:
                raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(allowed)}")
        return names

    return parse


def numbers(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) >= 1 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers from 1, such as 1,2")
    return tuple(dict.fromkeys(map(int, parts)))


def main() -> None:
    args = parse_arguments()
    from paddlevid.deploy.manifest import read_manifest
    from paddlevid.deploy.measure import benchmark
    from paddlevid.deploy.measure.flops import count_cost
    from paddlevid.deploy.measure.machine import describe_machine
    from paddlevid.deploy.measure.timing import Plan, Way
    from paddlevid.errors import ConfigError
    from paddlevid.runtime import num_cores

    manifest = read_manifest(args.folder)
    held = {files.precision for files in manifest.models if files.graph == "classify"}
    precisions = args.precisions or [precision for precision in PRECISIONS if precision in held]
    threads = args.threads or (num_cores(),)
    ways = [Way(r, p, n) for n in threads for r in args.runtimes for p in precisions]
    with tempfile.TemporaryDirectory() as made:
        records = find_videos(args.input, manifest, Path(made))
        plan = Plan(
            folder=Path(args.folder),
            records=tuple(records[: args.videos]),
            ways=tuple(ways),
            batch_sizes=args.batch_sizes,
            rounds=args.rounds,
            seconds=args.seconds,
            num_videos=args.videos,
        )
        cost = count_cost(args.folder, manifest)
        reading, workers = benchmark.measure(plan, show_turn if sys.stderr.isatty() else None)
    if all(worker.reason for worker in workers):
        raise ConfigError(f"{args.folder}: none of these ways runs here: {workers[0].reason}")
    flops = None if isinstance(cost, str) else cost.flops
    rows = benchmark.summarize(plan, manifest, workers, flops)
    if args.baseline:
        rows = benchmark.add_ratios(rows, args.baseline)
    machine = describe_machine()
    print("\n".join([*heading(machine, manifest, cost, reading), "", *table(rows)]))
    if args.json:
        write_json(args.json, machine, manifest, cost, reading, rows)
        print(f"written to {args.json}")


def find_videos(source: str | None, manifest: "Manifest", made: Path) -> "Sequence[Record]":
    from paddlevid.data.records import Record
    from paddlevid.deploy.inputs import find_records
    from paddlevid.deploy.measure.sample_video import write_video

    if source is not None:
        return find_records(source, manifest.data)
    path = write_video(made / "made.mp4")
    return [Record(path=str(path), name=path.name)]


def show_turn(what: str) -> None:
    print(f"\r{what[:100]:100}\r", end="", file=sys.stderr, flush=True)


def heading(machine: dict[str, Any], manifest: "Manifest", cost: "Cost | str", reading: "Times") -> list[str]:
    from statistics import median

    from paddlevid.build import build_views

    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    size, num_views = manifest.data.image_size, build_views(manifest.data, manifest.views).num_views
    if isinstance(cost, str):
        told = f"size unknown: {cost}"
    else:
        told = f"{cost.params / 1e6:.2f} M parameters, {cost.flops / 1e9:.2f} GFLOPs a clip (a multiply-add is 2)"
    return [
        f"{machine['cpu']}, {machine['cores']} cores, {' '.join(machine['cpu_flags'])}; Python {machine['python']}",
        versions,
        f"{manifest.model}: clips of {manifest.num_frames} frames of {size} pixels, {num_views} a video; {told}",
        f"reading a video: median {1e3 * median(reading.reading):.1f} ms on one core",
    ]


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Aligned columns, and below what could not run and why."""
    done = [row for row in rows if "reason" not in row]
    keys = [key for key in COLUMNS if any(key in row for row in done)]
    cells = [[COLUMNS[key][0] for key in keys]]
    cells += [[COLUMNS[key][1].format(row[key]) if key in row else "-" for key in keys] for row in done]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells if line]
    if done:
        lines += ["", "videos/s: of the model alone; end to end: videos a second from files to labels"]
    failed = {
        f"not run: {row['runtime']} {row['precision']} on {row['threads']} threads: {row['reason']}": None
        for row in rows
        if "reason" in row
    }
    return lines + list(failed)


def write_json(
    path: Path,
    machine: dict[str, Any],
    manifest: "Manifest",
    cost: "Cost | str",
    reading: "Times",
    rows: Sequence[dict[str, Any]],
) -> None:
    from paddlevid.runtime import atomic_write

    result = {
        "machine": machine,
        "model": manifest.model,
        "weights_sha256": manifest.weights_sha256,
        "num_frames": manifest.num_frames,
        "image_size": manifest.data.image_size,
        "views": manifest.views.model_dump(mode="json"),
        "cost": {"unknown": cost} if isinstance(cost, str) else cost._asdict(),
        "reading_ms": [1e3 * seconds for seconds in reading.reading],
        "results": list(rows),
    }
    atomic_write(path, lambda temporary: Path(temporary).write_text(json.dumps(result, indent=1), encoding="utf-8"))


if __name__ == "__main__":
    run_command(main)
