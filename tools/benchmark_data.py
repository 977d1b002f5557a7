"""How fast records become batches, and what takes the time: python tools/benchmark_data.py CONFIG"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlevid.runtime import num_cores, run_command

if TYPE_CHECKING:
    from paddlevid.data.speed.measure import Effort, Throughput, Workload
    from paddlevid.schema import Config

MAX_WORKERS = 256


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Load the data of a recipe as a run does, without a model: clips a second for each number of "
        "workers, and, for one process, the time of a clip in opening, decoding, transforms and hand-over, beside what "
        "the bare decoder takes for the same frames. What comes before all workers are under way is not counted."
    )
    recipe = parser.add_mutually_exclusive_group(required=True)
    recipe.add_argument("recipe", nargs="?", metavar="CONFIG", help="a recipe")
    recipe.add_argument("-c", "--config", help="the same")
    parser.add_argument("-o", "--override", action="append", default=[], metavar="KEY=VALUE", help="change the recipe")
    parser.add_argument("--workers", type=counts, metavar="0,1,2,4", help="(0, 1, 2, 4 and so on, up to the cores)")
    parser.add_argument("--split", choices=("train", "valid", "test"), default="train", help="whose data (train)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--seconds", type=float, default=10.0, help="of each measurement, at least (10)")
    length.add_argument("--samples", type=int, metavar="N", help="clips of each measurement (videos, of test), instead")
    parser.add_argument(
        "--clips_per_second", type=float, metavar="N", help="the model's own speed: how many workers does it need?"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also draw it, as a PNG")
    args = parser.parse_args()
    args.config = args.config or args.recipe
    if not 0 < args.seconds < float("inf") or (args.samples is not None and args.samples < 1):
        parser.error("--seconds must be more than 0, and --samples at least 1")
    if args.clips_per_second is not None and not 0 < args.clips_per_second < float("inf"):
        parser.error("--clips_per_second must be more than 0")
    if args.plot is not None and args.plot.suffix.lower() != ".png":
        parser.error(f"--plot {args.plot}: give the name of a .png file")
    return args


def counts(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) <= MAX_WORKERS for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers from 0 to {MAX_WORKERS}, such as 0,1,2")
    return tuple(dict.fromkeys(map(int, parts)))


def default_workers() -> tuple[int, ...]:
    cores = num_cores()
    return (0, *dict.fromkeys([number for number in (1, 2, 4, 8, 16, 32, 64, 128) if number < cores] + [cores]))


def main() -> None:
    args = parse_arguments()
    from paddlevid.config import load_config
    from paddlevid.data.speed import report
    from paddlevid.data.speed.measure import Effort, stage_times
    from paddlevid.runtime import set_device

    cfg = load_config(args.config, args.override)
    device = set_device(cfg.device)
    work = build_workload(cfg, args.split)
    print("\n".join(heading(cfg, args.split, work, device)), flush=True)
    effort = Effort(args.seconds, args.samples)
    times = stage_times(work, effort)
    speeds = measure_workers(work, args.workers or default_workers(), effort)
    source = report.what_is_read(cfg.data.format, work.source)
    advice = report.advice(
        times,
        speeds,
        unit=work.unit,
        source=source,
        cores=num_cores(),
        model_clips_per_second=args.clips_per_second,
    )
    print("\n".join(["", *report.table(times, speeds, work.unit, source), "", *advice]))
    if args.plot:
        report.plot(times, speeds, work.unit, args.plot, f"{Path(args.config).name}, {args.split}")
        print(f"drawn to {args.plot}")


def build_workload(cfg: "Config", split: str) -> "Workload":
    from paddlevid import build
    from paddlevid.data.speed.measure import Workload
    from paddlevid.errors import ConfigError

    if split == "train":
        dataset = build.build_train_dataset(cfg)
        return Workload(dataset, cfg.train.batch_size, build.build_plan(cfg, dataset))
    section = getattr(cfg, split)
    if section is None:
        raise ConfigError(f"--split {split}: the recipe has no section {split}")
    return Workload(build.build_eval_dataset(cfg, section), section.batch_size)


def heading(cfg: "Config", split: str, work: "Workload", device: str) -> list[str]:
    from paddlevid.modality import describe_clip

    views = getattr(work.dataset, "views", None)
    clip = describe_clip(cfg.data, getattr(getattr(cfg, split), "num_frames", None) or cfg.data.num_frames)
    each = f"{views.num_views} views of {clip}" if views else clip
    return [
        f"{split}: {len(work.dataset)} {work.unit}s, each {each}; format {cfg.data.format}, batches of "
        f"{work.batch_size}; {device}, {num_cores()} cores"
    ]


def measure_workers(work: "Workload", numbers: tuple[int, ...], effort: "Effort") -> "list[Throughput]":
    from tqdm import tqdm

    from paddlevid.data.speed.measure import throughput

    bar: Any = tqdm(numbers, unit="measurement", disable=not sys.stderr.isatty(), leave=False)
    return [throughput(work, number, effort) for number in bar]


if __name__ == "__main__":
    run_command(main)
