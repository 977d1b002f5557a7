"""Convert weights of other packages: python tools/convert_weights.py TSM_kinetics.pth tsm.pdparams"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlevid.runtime import run_command


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Write weights of PaddleVideo, MMAction2, Hugging Face or the authors of TimeSformer and TSM under "
        "the names of paddlevid. main.py and export_model.py take all of them as they are; a converted file is smaller "
        "where the original holds an optimizer, and plain Paddle can load it."
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
        "--model", choices=("tsn", "tsm"), help="which one a file of PaddleVideo is of; its names are the same"
    )
    return parser.parse_args()


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
    print(f"written: {args.destination}")


if __name__ == "__main__":
    run_command(main)
