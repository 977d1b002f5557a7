"""Export a trained model: python tools/export_model.py -c CONFIG -p WEIGHTS -o inference/TimeSformer"""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlevid.runtime import run_command

if TYPE_CHECKING:
    from paddlevid.deploy.export import ExportReport
    from paddlevid.deploy.manifest import ModelFiles


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
    parser.add_argument(
        "--format",
        nargs="+",
        default=["paddle"],
        choices=["paddle", "onnx", "openvino"],
        help="what to write, several at once (paddle)",
    )
    parser.add_argument(
        "--precision",
        nargs="+",
        default=["fp32"],
        choices=["fp32", "bf16", "fp16", "int8"],
        help="several at once (fp32); a format is written in those that it has: onnx fp16 and int8, openvino all",
    )
    parser.add_argument("--explain", action="store_true", help="also write a graph that shows where the model looks")
    parser.add_argument("--calibration", metavar="LIST", help="videos that set the ranges of int8 (the training list)")
    parser.add_argument("--calibration_videos", type=int, default=100, metavar="N", help="how many of them (100)")
    parser.add_argument(
        "--check_videos",
        type=int,
        default=100,
        metavar="N",
        help="videos of the test list on which precisions below fp32 are compared with it (100)",
    )
    parser.add_argument("--pdmodel", action="store_true", help="write NAME.pdmodel, as before Paddle 3, for NAME.json")
    args = parser.parse_args()
    if "=" in args.output_path:
        parser.error(f"-o is the folder to write to; to change a value of the recipe: --override {args.output_path}")
    if args.calibration_videos < 1 or args.check_videos < 1:
        parser.error("--calibration_videos and --check_videos must be at least 1")
    return args


def main() -> None:
    args = parse_arguments()
    if args.pdmodel:
        os.environ["FLAGS_enable_pir_api"] = "0"  # Paddle reads it once, when it is imported
    from paddlevid.config import load_config
    from paddlevid.runtime import set_device, setup_logging

    cfg = load_config(args.config, args.override)
    set_device("cpu")  # where the exported model is checked, too
    setup_logging(None, rank=0)
    from paddlevid.deploy.export import ExportOptions, export_model

    options = ExportOptions(
        formats=tuple(dict.fromkeys(args.format)),
        precisions=tuple(dict.fromkeys(args.precision)),
        pdmodel=args.pdmodel,
        explain=args.explain,
        calibration=args.calibration,
        calibration_videos=args.calibration_videos,
        check_videos=args.check_videos,
    )
    report = export_model(cfg, args.pretrained_params, args.output_path, options)
    print(report.weights)
    if warning := report.weights.norm_warning(cfg.data.mean, cfg.data.std):
        print(f"warning: {warning}", file=sys.stderr)
    print_report(report)


def print_report(report: "ExportReport") -> None:
    print(f"exported to {report.folder}, compared with the model on frames of {report.frames_from}:")
    for files in report.models:
        size = sum((report.folder / name).stat().st_size for name in files.files) / 2**20
        kind = f"{files.graph} {files.format} {files.precision}"
        print(f"  {kind:24} {size:7.1f} MiB  {', '.join(files.files)}: {describe(files)}")
    if any(files.precision != "fp32" and not files.videos for files in report.models):
        print(
            "warning: no video of the test list could be read here, so the best classes of lower precisions are "
            "unknown; --runtime auto will not choose them",
            file=sys.stderr,
        )


def describe(files: "ModelFiles") -> str:
    text = f"largest difference {files.difference:.1e} of the largest number"
    if files.same_top1 is not None:
        text += f"; best class of fp32 in {100 * files.same_top1:.1f} % of {files.videos} videos"
    if files.accuracy is not None and files.accuracy_fp32 is not None:
        text += f"; top-1 {100 * files.accuracy:.1f} %, fp32 {100 * files.accuracy_fp32:.1f} %"
    if files.mean_average_precision is not None and files.mean_average_precision_fp32 is not None:
        text += (
            f"; mAP {100 * files.mean_average_precision:.1f} %, fp32 {100 * files.mean_average_precision_fp32:.1f} %"
        )
    return text


if __name__ == "__main__":
    run_command(main)
