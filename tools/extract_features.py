"""Features of videos, for other models to learn from: python tools/extract_features.py -m FOLDER LIST OUT"""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlevid.runtime import run_command

if TYPE_CHECKING:
    from paddlevid.deploy.features.extract import Report
    from paddlevid.deploy.features.files import Item, Shard
    from paddlevid.deploy.predictor import Predictor
    from paddlevid.errors import DataError
    from paddlevid.schema.data import DataConfig


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Write the features of each video, float32 [clips, D], the mean over the crops of each clip: "
        "a/b/x.mp4 -> OUT/a/b/x.npy. A run that was stopped goes on where it was. Exit code 1 if videos could not be "
        "read; OUT/failed.csv names them, and the next run tries them again."
    )
    parser.add_argument("input", metavar="LIST", help="a .txt/.csv list, a folder, or a video")
    parser.add_argument("output", metavar="OUT", type=Path, help="the folder to write to")
    parser.add_argument(
        "--root", metavar="DIR", help="where relative paths of LIST begin (its folder; data.root of the recipe with -c)"
    )
    model = parser.add_argument_group("model: either -m, or -c and -w")
    model.add_argument("-m", "--model", metavar="FOLDER", help="what tools/export_model.py wrote")
    model.add_argument(
        "--runtime",
        default="auto",
        help="of -m: paddle, onnxruntime, openvino, or auto: that of the features in OUT, else the first "
        "installed of openvino, onnxruntime and paddle",
    )
    model.add_argument(
        "--precision", choices=("fp32", "bf16", "fp16", "int8"), help="of -m, if it was exported so (fp32)"
    )
    model.add_argument("--use_gpu", action="store_true", help="of -m; -c and -w use a GPU where the recipe does")
    model.add_argument("-c", "--config", help="a recipe")
    model.add_argument("-w", "--weights", help="its trained weights")
    model.add_argument("--override", action="append", default=[], metavar="KEY=VALUE", help="change the recipe")
    views = parser.add_argument_group("what a video's features are")
    views.add_argument("--num_clips", type=int, help="clips a video (as the model is tested)")
    views.add_argument("--crop", choices=("center", "three", "ten"), help="crops a clip (as the model is tested)")
    views.add_argument("--dtype", choices=("float32", "float16"), default="float32")
    views.add_argument(
        "--format", choices=("npy", "npz", "parquet"), default="npy", help="also OUT/features.npz or .parquet with all"
    )
    work = parser.add_argument_group("work")
    work.add_argument("--overwrite", action="store_true", help="compute what is there already anew")
    work.add_argument(
        "--shard", metavar="I/N", help="do part I, from 1, of N; shards may share OUT, on a network disk as well"
    )
    work.add_argument("--batch_size", type=int, default=8, help="views a run of the model, all of one video (8)")
    work.add_argument("--num_workers", type=int, help="threads that read videos ahead (one a core, at most 8)")
    work.add_argument("--num_threads", type=int, help="CPU threads of the model (all cores)")
    args = parser.parse_args()
    if bool(args.model) == bool(args.config) or bool(args.config) != bool(args.weights):
        parser.error("give either -m FOLDER or -c CONFIG -w WEIGHTS")
    if args.config and (args.runtime != "auto" or args.precision or args.use_gpu):
        parser.error("--runtime, --precision and --use_gpu are of -m; -c and -w run in Paddle, on the recipe's device")
    if args.model and args.override:
        parser.error("--override changes a recipe, and needs -c")
    for name in ("num_clips", "batch_size", "num_workers", "num_threads"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1")
    return args


def main() -> int:
    args = parse_arguments()
    if args.config and args.num_threads:
        os.environ["OMP_NUM_THREADS"] = str(args.num_threads)  # Paddle reads it when it is imported
    from paddlevid.deploy.features.extract import extract, shard_of
    from paddlevid.deploy.features.files import plan_files
    from paddlevid.deploy.features.joined import SET_FORMATS, check_set_format
    from paddlevid.deploy.inputs import find_records

    shard = shard_of(args.shard)
    set_format = args.format if args.format in SET_FORMATS else None
    if set_format:
        check_set_format(set_format)
    data = read_data(args)
    root = data.root if args.config and args.root is None else args.root
    items = plan_files(find_records(args.input, data, root), args.input)
    predictor, device = open_predictor(args)
    with Progress(shard) as progress:
        report = extract(
            predictor,
            items,
            args.output,
            dtype=args.dtype,
            device=device,
            shard=shard,
            overwrite=args.overwrite,
            set_format=set_format,
            on_start=progress.start,
            on_video=progress.add,
        )
    print(summary(report, progress.seconds, args.output, set_format))
    # Under paddle.distributed.launch a process that fails ends the others: the one that ends last says so for all
    failed = report.failed if args.shard or shard.total == 1 else report.failed_of_all * (report.untried == 0)
    if failed:
        print(f"{failed} videos have no features: {args.output}/failed*.csv", file=sys.stderr)
    return int(failed > 0)


def read_data(args: argparse.Namespace) -> "DataConfig":
    """How lists are written and folders of frames named."""
    if args.model:
        from paddlevid.deploy.manifest import read_manifest

        return read_manifest(args.model).data
    from paddlevid.config import load_config

    return load_config(args.config, args.override).data


def open_predictor(args: argparse.Namespace) -> "tuple[Predictor, str]":
    """The model, and the device that it runs on."""
    from paddlevid.deploy.features.extract import open_folder, open_model, settle_runtime

    common = {name: getattr(args, name) for name in ("num_clips", "crop", "batch_size", "num_workers")}
    if args.model:
        runtime, precision = args.runtime, args.precision
        if runtime == "auto":
            runtime, precision = settle_runtime(args.model, args.output, precision, args.use_gpu)
        own = {name: getattr(args, name) for name in ("use_gpu", "num_threads")}
        predictor = open_folder(args.model, runtime=runtime, precision=precision, **own, **common)
        return predictor, "gpu" if args.use_gpu else "cpu"
    from paddlevid.config import load_config
    from paddlevid.runtime import set_device

    cfg = load_config(args.config, args.override)
    device = set_device(cfg.device).partition(":")[0]
    return open_model(cfg, args.weights, **common), device


class Progress:
    """A bar on a terminal, and unreadable videos on stderr as they come."""

    def __init__(self, shard: "Shard") -> None:
        self.shard, self.seconds, self.started = shard, 0.0, time.perf_counter()

    def __enter__(self) -> "Progress":
        from tqdm import tqdm

        title = f"shard {self.shard.number}/{self.shard.total}" if self.shard.total > 1 else None
        self.bar = tqdm(desc=title, unit="video", disable=not sys.stderr.isatty(), leave=False, smoothing=0.05)
        return self

    def start(self, total: int, done: int) -> None:
        self.bar.reset(total)
        self.bar.initial = self.bar.n = done
        self.bar.refresh()
        self.started = time.perf_counter()

    def add(self, item: "Item", error: "DataError | None") -> None:
        if error is not None:
            self.bar.write(f"unreadable: {item.name}: {error}", file=sys.stderr)
        self.bar.update()

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self.started
        self.bar.close()


def summary(report: "Report", seconds: float, output: Path, set_format: str | None) -> str:
    text = f"{output}: {report.computed} videos in {seconds:.1f} s"
    if report.computed:
        text += f", {report.computed / seconds:.2f} videos/s"
    if report.found:
        text += f"; {report.found} were there already"
    if report.written_set:
        text += f"; all in {report.written_set}"
    elif set_format:
        text += f"; features.{set_format} follows when all are done: {report.untried} are left to other shards"
    return text


if __name__ == "__main__":
    run_command(main)
