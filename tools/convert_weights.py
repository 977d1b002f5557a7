"""Convert weights of other packages: python tools/convert_weights.py TSM_kinetics.pth tsm.pdparams"""

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlevid.runtime import run_command


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Write weights of PaddleVideo, MMAction2, Hugging Face or the authors of TimeSformer, TSN and TSM "
        "under the names of paddlevid. main.py and export_model.py take all of them as they are; a converted file is "
        "smaller where the original holds an optimizer, and plain Paddle can load it."
    )
    parser.add_argument(
        "source", metavar="SRC", help="a file, a folder of Hugging Face, a URL, or a name of public weights"
    )
    parser.add_argument("destination", metavar="DST", help="the file to write, .pdparams or .safetensors")
    parser.add_argument(
        "-c", "--config", help="the recipe whose model takes them; needed for weights of image networks"
    )
    parser.add_argument(
        "--override", action="append", default=[], metavar="KEY=VALUE", help="change a value of the recipe"
    )
    parser.add_argument(
        "--model",
        choices=("tsn", "tsm"),
        help="which one a file of PaddleVideo or paddlevid is of, where both have the same names",
    )
    args = parser.parse_args()
    if args.override and not args.config:
        parser.error("--override changes a recipe, and needs -c")
    if args.model and args.config:
        parser.error("--model is told by the recipe of -c")
    return args


def main() -> None:
    args = parse_arguments()
    from paddlevid.runtime import set_device

    set_device("cpu")
    from paddlevid.weights import convert_weights

    model = None
    if args.config:
        from paddlevid import build
        from paddlevid.config import load_config

        model = build.build_model(load_config(args.config, args.override))
    conversion = convert_weights(args.source, args.destination, model=model, name=args.model)
    print(conversion.report)
    if conversion.options is not None:
        options = ", ".join(f"{key}={value!r}" for key, value in conversion.options.items() if key != "name")
        print(f"model: create_model({conversion.options['name']!r}, {options})")
        print("weights do not show, so check: " + not_shown(conversion.options))
    if conversion.report.image_norm is not None:
        mean, std = ([float(f"{number:.6g}") for number in numbers] for numbers in conversion.report.image_norm)
        numbers = f"mean {mean}, std {std}" if mean else f"std {std}, and any mean,"
        print(f"frames: {numbers} on a scale of 0 to 1, as the source trains its models")
    print(f"written: {args.destination}")


def not_shown(options: dict[str, Any]) -> str:
    """What of the arguments of `create_model` the names and shapes of weights cannot tell."""
    if options["name"] == "timesformer":
        return f"num_heads={options['num_heads']}, and of a space-only model its num_frames"
    unseen = (
        ["num_segments"] if options.get("modality", "rgb") == "rgb" else ["num_segments", "modality of 5 a snippet"]
    )
    if options["name"] == "tsm":
        unseen += ["shift_div and, for files of paddlevid, shift_place"]
    return ", ".join(unseen)


if __name__ == "__main__":
    run_command(main)
