"""Export a trained model: python tools/export_model.py -c CONFIG -p WEIGHTS -o inference/TimeSformer"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlevid.runtime import run_command


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Write a folder that turns videos into labels by itself.")
    parser.add_argument("-c", "--config", required=True, help="the recipe that the model was trained with")
    parser.add_argument(
        "-p",
        "--pretrained_params",
        required=True,
        metavar="FILE",
        help="trained weights: a file, a URL, or a name that tools/list_weights.py shows",
    )
    parser.add_argument(
        "-o", "--output_path", required=True, metavar="FOLDER", help="where to write; its last part names the model"
    )
    parser.add_argument(
        "--override", action="append", default=[], metavar="KEY=VALUE", help="change a value of the recipe"
    )
    parser.add_argument("--pdmodel", action="store_true", help="write NAME.pdmodel, as before Paddle 3, for NAME.json")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    if args.pdmodel:
        os.environ["FLAGS_enable_pir_api"] = "0"  # Paddle reads it once, when it is imported
    from paddlevid.config import load_config
    from paddlevid.runtime import set_device

    cfg = load_config(args.config, args.override)
    set_device("cpu")  # where the exported model is checked, too
    from paddlevid.deploy.export import export_model

    report = export_model(cfg, args.pretrained_params, args.output_path, pdmodel=args.pdmodel)
    print(report.weights)
    if warning := report.weights.norm_warning(cfg.data.mean, cfg.data.std):
        print(f"warning: {warning}", file=sys.stderr)
    print(f"exported to {report.folder}: {', '.join(report.files)}")
    print(
        f"largest difference from the model: {report.max_difference:.3g}, where the largest logit is "
        f"{report.max_logit:.3g} ({report.frames_from})"
    )


if __name__ == "__main__":
    run_command(main)
