"""Label videos with an exported model: python tools/predict.py -m FOLDER -i VIDEO"""

import argparse
import csv
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlevid.runtime import run_command

if TYPE_CHECKING:
    from paddlevid.data.records import Record
    from paddlevid.deploy.manifest import Manifest, ModelFiles
    from paddlevid.deploy.predictor import Prediction, Predictor


def boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither True nor False")
    return text.lower() == "true"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Label a video, a folder of videos, or a list of them.")
    parser.add_argument(
        "-i", "--input_file", required=True, metavar="INPUT", help="a video, a folder, or a .txt/.csv list"
    )
    parser.add_argument("--root", metavar="DIR", help="where relative paths of a list begin (the folder of the list)")
    parser.add_argument("-m", "--model", metavar="FOLDER", help="what tools/export_model.py wrote")
    parser.add_argument("--runtime", default="auto", help="paddle, onnxruntime, openvino; the fastest one (auto)")
    parser.add_argument("--precision", choices=["fp32", "bf16", "fp16", "int8"], help="by default the safe ones")
    parser.add_argument("--model_file", metavar="FILE", help="in place of -m: NAME.json, .pdmodel, .onnx or .xml")
    parser.add_argument("--params_file", help="NAME.pdiparams; by default the one beside the model")
    parser.add_argument("-c", "--config", help="a recipe; not needed where inference.yml lies beside the model")
    parser.add_argument("--use_gpu", type=boolean, default=False, metavar="True|False")
    parser.add_argument("--use_tensorrt", type=boolean, nargs="?", const=True, default=False, metavar="True|False")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads of the model (all cores)")
    parser.add_argument("--batch_size", type=int, default=8, help="views a run of the model (8)")
    parser.add_argument("--top_k", type=int, default=5, help="classes a video (5)")
    parser.add_argument("--output", metavar="FILE", help="also write the result as .csv or .json")
    args = parser.parse_args()
    if (args.model is None) == (args.model_file is None):
        parser.error("one of -m/--model FOLDER and --model_file FILE is needed")
    if min(args.batch_size, args.top_k, args.threads or 1) < 1:
        parser.error("--batch_size, --top_k and --threads must be at least 1")
    if args.output and Path(args.output).suffix not in (".csv", ".json"):
        parser.error(f"--output {args.output}: the name must end in .csv or .json")
    return args


def main() -> int:
    args = parse_arguments()
    from paddlevid.deploy.inputs import find_records
    from paddlevid.deploy.predictor import Predictor
    from paddlevid.deploy.runtimes import open_runtime

    folder = args.model or Path(args.model_file).parent
    manifest = read_description(args, folder)
    root = manifest.data.root if args.config and args.root is None else args.root
    records = find_records(args.input_file, manifest.data, root)
    runtime = open_runtime(
        folder,
        manifest,
        name=args.runtime,
        precision=args.precision,
        use_gpu=args.use_gpu,
        use_tensorrt=args.use_tensorrt,
        num_threads=args.threads,
    )
    predictor = Predictor.from_parts(manifest, runtime, batch_size=args.batch_size)
    return predict_all(predictor, records, args.top_k, args.output)


def read_description(args: argparse.Namespace, folder: Path) -> "Manifest":
    """What `inference.yml` or the recipe that the user names says; of the models only the file that the user names."""
    import paddlevid
    from paddlevid.config import load_config
    from paddlevid.deploy.manifest import make_manifest, read_manifest

    named = args.model_file and name_files(Path(args.model_file), args.params_file, args.precision or "fp32")
    if args.config is None:
        manifest = read_manifest(folder)
    else:
        manifest = make_manifest(load_config(args.config), version=paddlevid.__version__)
    return manifest.model_copy(update={"models": (named,)}) if named else manifest


def name_files(model_file: Path, params_file: str | None, precision: str) -> "ModelFiles":
    """A graph with the weights beside it, or those that are named."""
    from paddlevid.deploy.manifest import ModelFiles
    from paddlevid.errors import ConfigError

    kinds = {
        ".json": ("paddle", ".pdiparams"),
        ".pdmodel": ("paddle", ".pdiparams"),
        ".onnx": ("onnx", ""),
        ".xml": ("openvino", ".bin"),
    }
    if model_file.suffix not in kinds:
        raise ConfigError(f"--model_file {model_file}: the name must end in {', '.join(kinds)}; for a folder use -m")
    form, suffix = kinds[model_file.suffix]
    weights = [str(Path(params_file).absolute()) if params_file else model_file.with_suffix(suffix).name]
    if params_file and not suffix:
        raise ConfigError(f"--params_file {params_file}: {model_file.name} holds its weights itself")
    files = (model_file.name, *(weights if suffix else []))
    return ModelFiles.model_validate({"format": form, "precision": precision, "files": files})


def predict_all(predictor: "Predictor", records: "Sequence[Record]", top_k: int, output: str | None) -> int:
    """Print each video's classes and write them to `output`; 1 if one of several could not be read, else 0."""
    from tqdm import tqdm

    from paddlevid.errors import DataError

    if output:
        check_place(Path(output))
    results: list[tuple[Record, list[Prediction], str]] = []  # with the reason where there are no predictions
    bar = tqdm(records, unit="video", disable=len(records) == 1 or not sys.stderr.isatty(), leave=False)
    try:
        for record, predictions in predictor.predict_many(bar, top_k):
            if isinstance(predictions, DataError):
                if len(records) == 1:
                    raise predictions
                tqdm.write(f"unreadable: {predictions}", file=sys.stderr)
                results.append((record, [], str(predictions)))
                continue
            results.append((record, predictions, ""))
            say(describe(record, predictions), or_go_on=output is not None)
    finally:
        if output and results:  # after Ctrl-C as well
            write_results(Path(output), results)
            say(f"written to {output}: {len(results)} of {len(records)} videos", or_go_on=True)
    num_failed = sum(bool(error) for _, _, error in results)
    if num_failed:
        print(f"error: {num_failed} of {len(records)} videos could not be read", file=sys.stderr)
    return 1 if num_failed else 0


def say(text: str, *, or_go_on: bool) -> None:
    """Print above the progress bar. A reader that has left a pipe ends the command, or only the printing."""
    from tqdm import tqdm

    try:
        tqdm.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        if not or_go_on:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def check_place(path: Path) -> None:
    """Refuse a place that cannot be written to before the work, not after it."""
    from paddlevid.errors import ConfigError

    if path.is_dir() or not os.access(path.parent, os.W_OK):
        what = "is a folder" if path.is_dir() else f"cannot be written into {path.parent}"
        raise ConfigError(f"--output {path}: {what}; name a file in a folder that is there")


def describe(record: "Record", predictions: "list[Prediction]") -> str:
    best = predictions[0]
    lines = [f"Current video file: {record.path}", f"top-1 class: {best.label}", f"top-1 score: {best.score:.4f}"]
    lines += [f"  {p.score:6.4f} {'#' * round(20 * p.score):20} {p.name} ({p.label})" for p in predictions]
    return "\n".join(lines)


def write_results(path: Path, results: "list[tuple[Record, list[Prediction], str]]") -> None:
    """One row a class of a video, best first; a video that could not be read has one row with the reason."""
    from paddlevid.runtime import atomic_write

    def write(temporary: str) -> None:
        with open(temporary, "w", newline="", encoding="utf-8") as file:
            if path.suffix == ".json":
                rows = [
                    {"name": record.name, "predictions": [p._asdict() for p in found], "error": error}
                    for record, found, error in results
                ]
                json.dump(rows, file, indent=1, ensure_ascii=False)
                return
            writer = csv.writer(file)
            writer.writerow(["name", "rank", "label", "class_name", "score", "error"])
            for record, found, error in results:
                writer.writerows([record.name, rank, *p[:2], f"{p.score:.6f}", ""] for rank, p in enumerate(found, 1))
                if error:
                    writer.writerow([record.name, "", "", "", "", error])

    atomic_write(path, write)


if __name__ == "__main__":
    run_command(main)
