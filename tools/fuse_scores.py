"""Fuse the scores of several models on the same videos: python tools/fuse_scores.py rgb.npz flow.npz"""

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlevid.runtime import run_command

if TYPE_CHECKING:
    from paddlevid.evaluate import Evaluation
    from paddlevid.fusion import Search, Streams

MAX_WEIGHT = 1e6
PREFIX = "fused"

DESCRIPTION = """\
The weighted mean of the class scores of several models, such as the streams of a two-stream
network, for the same videos; these are matched by name, whatever their order. Writes
fused_scores.npz, which can be fused again, fused_predictions.csv and fused.png. A video that
a stream could not read is not in its file: see --common."""
EPILOG = """\
SCORES is the test_scores.npz that main.py --test writes to the output_dir of a recipe:

  python main.py --test -c configs/tsn_ucf101_rgb.yaml -w RGB_WEIGHTS -o output_dir=output/rgb
  python main.py --test -c configs/tsn_ucf101_flow.yaml -w FLOW_WEIGHTS -o output_dir=output/flow
  python tools/fuse_scores.py output/rgb/test_scores.npz output/flow/test_scores.npz --weights 1 1.5

The scores of a validation list, for --search, are those of a test of that list:

  python main.py --test -c configs/tsn_ucf101_rgb.yaml -w RGB_WEIGHTS \\
      -o test.list=VALID_LIST -o output_dir=output/rgb_valid
  python tools/fuse_scores.py output/rgb/test_scores.npz output/flow/test_scores.npz \\
      --search output/rgb_valid/test_scores.npz output/flow_valid/test_scores.npz

The authors of TSN fuse before the softmax with 1 of RGB and 1.5 of flow, or 1, 1 and 0.5 of RGB, flow and warped flow.
"""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scores", nargs="+", metavar="SCORES", help="the files of two streams or more")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--weights", nargs="+", type=float, metavar="W", help="one for each stream, in the same order (1 each)"
    )
    choice.add_argument(
        "--search",
        nargs="+",
        metavar="SCORES",
        help="take the weights that are best on a validation set: its scores by each stream, in the same order",
    )
    parser.add_argument(
        "--softmax",
        action="store_true",
        help="fuse probabilities; without, the scores before the softmax (of several labels a video: the sigmoid)",
    )
    parser.add_argument(
        "--common",
        action="store_true",
        help="fuse the videos that all streams hold, and leave out the others, such as those that one could not read; "
        "how many is printed, and fused_predictions.csv names them",
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("output/fused"), metavar="DIR", help="where to write (output/fused)"
    )
    args = parser.parse_args()
    number = len(args.scores)
    if number < 2:
        parser.error("give the scores of two streams or more")
    for option in ("weights", "search"):
        given = getattr(args, option)
        if given is not None and len(given) != number:
            parser.error(f"--{option} has {len(given)} for {number} streams: one for each is needed, in the same order")
    weights = args.weights or [1.0]
    if not all(0 <= weight <= MAX_WEIGHT for weight in weights) or math.fsum(weights) < 1 / MAX_WEIGHT:
        parser.error(f"--weights must be 0 to {MAX_WEIGHT:g} each, and not all 0")
    return args


def main() -> None:
    args = parse_arguments()
    from paddlevid.errors import ConfigError
    from paddlevid.fusion import fusable, fuse, load_streams
    from paddlevid.fusion.summary import describe_fusion, describe_left_out

    inputs = [*args.scores, *(args.search or [])]
    if (args.output / f"{PREFIX}_scores.npz").resolve() in [Path(path).resolve() for path in inputs]:
        raise ConfigError(
            f"--output {args.output}: {PREFIX}_scores.npz there is one of the streams; give another folder"
        )
    streams = load_streams(args.scores, common=args.common)
    results = fusable(streams, softmax=args.softmax)
    search = search_on(args, streams) if args.search else None
    weights = search.weights if search else args.weights or [1.0] * len(results)
    fused = fuse(results, weights)
    left_out = describe_left_out(streams.titles, streams)
    print("\n".join([*left_out, *describe_fusion(streams.titles, results, weights, fused)]))
    write(args.output, streams, results, weights, fused, search)


def search_on(args: argparse.Namespace, streams: "Streams") -> "Search":
    """The weights that are best on the files of --search."""
    from tqdm import tqdm

    from paddlevid.fusion import check_same_classes, fusable, load_streams, search_weights, shared_videos
    from paddlevid.fusion.summary import describe_left_out, describe_search

    valid = load_streams(args.search, common=args.common)
    check_same_classes(streams, valid)
    shared = shared_videos(streams, valid)
    if shared:
        print(
            f"warning: {shared} of the {len(streams.results[0].names)} videos are those of --search, too: weights "
            "chosen on the videos that they are reported on make the figure no test figure",
            file=sys.stderr,
        )
    results = fusable(valid, softmax=args.softmax)
    search = search_weights(
        results, track=lambda points: tqdm(points, unit="weights", disable=not sys.stderr.isatty(), leave=False)
    )
    left_out = describe_left_out(streams.titles, valid, where=" of the validation")
    print("\n".join([*left_out, *describe_search(streams.titles, search, results), ""]))
    return search


def write(
    folder: Path,
    streams: "Streams",
    results: "list[Evaluation]",
    weights: "list[float] | tuple[float, ...]",
    fused: "Evaluation",
    search: "Search | None",
) -> None:
    from dataclasses import replace

    import numpy as np

    from paddlevid.fusion.plot import plot_fusion
    from paddlevid.report import write_scores

    extra = {
        "streams": np.array(streams.paths),
        "weights": np.array(weights, np.float64),
        "left_out": np.array(streams.left_out, np.int64),  # how many videos of each
    }
    told = replace(fused, failures=streams.missing)
    scores_path, csv_path = write_scores(told, streams.class_names, folder, prefix=PREFIX, extra=extra)
    png_path = folder / f"{PREFIX}.png"
    plot_fusion(png_path, streams.titles, results, weights, fused, search=search)
    print(f"\nscores: {scores_path}\npredictions: {csv_path}\npicture: {png_path}")


if __name__ == "__main__":
    run_command(main)
