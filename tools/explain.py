"""Show where a model looks: python tools/explain.py -m inference/TimeSformer -i VIDEO -o OUT.mp4"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlevid.runtime import run_command

if TYPE_CHECKING:
    import numpy as np

    from paddlevid.data.records import Record
    from paddlevid.deploy.explain import Explanation, Run
    from paddlevid.deploy.manifest import Manifest


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Write a video beside itself with colours where the model looks: in the first clip of its recipe's "
        "test, the centre of the frames."
    )
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("-m", "--model", metavar="FOLDER", help="an exported folder with an explain graph")
    model.add_argument("-c", "--config", help="a recipe, with -w: the model itself runs, and needs no export")
    parser.add_argument("-w", "--weights", metavar="FILE", help="trained weights of the recipe's model")
    parser.add_argument(
        "--override", action="append", default=[], metavar="KEY=VALUE", help="change a value of the recipe"
    )
    parser.add_argument("-i", "--input_file", required=True, metavar="VIDEO", help="a video, or a folder of its frames")
    parser.add_argument("-o", "--output", metavar="OUT.mp4", help="the video to write")
    parser.add_argument("--png", metavar="OUT.png", help="the frames that the model saw, as one picture (.png, .jpg)")
    parser.add_argument(
        "--class", dest="wanted", metavar="NAME|LABEL", help="what to look for; by default the best class"
    )
    parser.add_argument("--runtime", default="auto", help="auto, paddle, onnxruntime or openvino, with -m (auto)")
    parser.add_argument("--top_k", type=int, default=5, help="classes to print (5)")
    args = parser.parse_args()
    if (args.config is None) != (args.weights is None):
        parser.error("-c CONFIG and -w WEIGHTS go together; an exported folder (-m) needs neither")
    if args.override and args.config is None:
        parser.error("--override changes a recipe: it goes with -c")
    if args.output is None and args.png is None:
        parser.error("say with -o OUT.mp4, --png OUT.png or both what to write")
    if args.output and Path(args.output).suffix not in (".mp4", ".mkv", ".mov"):
        parser.error(f"-o {args.output}: the name must end in .mp4, .mkv or .mov")
    if args.png and Path(args.png).suffix not in (".png", ".jpg"):
        parser.error(f"--png {args.png}: the name must end in .png or .jpg")
    if args.top_k < 1:
        parser.error("--top_k must be at least 1")
    return args


def main() -> None:
    args = parse_arguments()
    from paddlevid.deploy.explain import explain_video, find_class
    from paddlevid.deploy.inputs import find_records
    from paddlevid.deploy.streaming.outputs import check_outputs
    from paddlevid.errors import ConfigError

    outputs = {"-o": args.output, "--png": args.png}
    check_outputs(args.input_file, outputs)
    manifest, run = open_folder(args.model, args.runtime) if args.model else open_model(args)
    names = manifest.class_names
    wanted = None if args.wanted is None else find_class(names, args.wanted)
    records = find_records(args.input_file, manifest.data)
    if len(records) > 1:
        raise ConfigError(f"{args.input_file}: holds {len(records)} videos; explain one at a time")
    check_outputs(records[0].path, outputs)  # which a list may name
    explanation = explain_video(run, manifest, records[0])
    label = int(explanation.logits.argmax()) if wanted is None else wanted
    print_classes(explanation, manifest, args.top_k)
    print_shares(explanation, names[label], label)
    draw(explanation, manifest, records[0], label, args)


def open_folder(folder: str, runtime: str) -> "tuple[Manifest, Run]":
    """An exported folder's description and its explain graph."""
    from paddlevid.deploy.manifest import read_manifest
    from paddlevid.deploy.runtimes import open_runtime

    manifest = read_manifest(folder)
    return manifest, open_runtime(folder, manifest, graph="explain", name=runtime)


def open_model(args: argparse.Namespace) -> "tuple[Manifest, Run]":
    """The same of a recipe and weights, run by Paddle."""
    import paddle

    import paddlevid
    from paddlevid import build
    from paddlevid.config import load_config
    from paddlevid.deploy.manifest import make_manifest
    from paddlevid.models import RawFrameExplainer
    from paddlevid.runtime import set_device
    from paddlevid.weights import load_trained

    cfg = load_config(args.config, args.override)
    set_device(cfg.device)
    manifest = make_manifest(cfg, version=paddlevid.__version__, weights=args.weights)
    model = build.build_model(cfg)
    load_trained(model, args.weights)
    explainer = RawFrameExplainer(build.build_normalize(cfg), model)
    explainer.eval()

    def run(frames_bthwc: "np.ndarray") -> "list[np.ndarray]":
        with paddle.no_grad():
            return [output.numpy() for output in explainer(paddle.to_tensor(frames_bthwc))]

    return manifest, run


def probabilities(explanation: "Explanation", manifest: "Manifest") -> "np.ndarray":
    """Of each class `[K]`, from this one clip."""
    from paddlevid.metrics import class_probabilities

    return class_probabilities(explanation.logits, multi_label=manifest.data.multi_label)


def print_classes(explanation: "Explanation", manifest: "Manifest", top_k: int) -> None:
    scores = probabilities(explanation, manifest)
    for rank, label in enumerate((-explanation.logits).argsort(kind="stable")[:top_k], start=1):
        print(f"top-{rank} class: {label} {manifest.class_names[label]} {scores[label]:.4f}")


def print_shares(explanation: "Explanation", name: str, label: int) -> None:
    from paddlevid.deploy.overlay import frame_shares, maps_of_class

    what = "the attention" if explanation.maps.shape[-1] == 1 else f"what speaks for {name}"
    print(f"share of each frame in {what}:")
    shares = frame_shares(maps_of_class(explanation.maps, label))
    for number, share in zip(explanation.sampled, shares, strict=True):
        print(f"  frame {number:5d}  {number / explanation.fps:7.2f} s  {share:6.1%}  {'#' * round(40 * share)}")


def draw(
    explanation: "Explanation", manifest: "Manifest", record: "Record", label: int, args: argparse.Namespace
) -> None:
    """Write the video and the picture that are asked for."""
    from paddlevid.build import build_source
    from paddlevid.deploy.explain import draw_sheet, draw_video, write_picture
    from paddlevid.deploy.overlay import write_video

    title = f"{manifest.class_names[label]} {probabilities(explanation, manifest)[label]:.3f}"
    if args.output:
        pieces = draw_video(explanation, build_source(manifest.data), record, label, title)
        num_frames = write_video(args.output, pieces, explanation.fps)
        print(f"{args.output}: {num_frames} frames at {explanation.fps:g} a second")
    if args.png:
        write_picture(args.png, draw_sheet(explanation, label, title))
        print(f"{args.png}: the {len(explanation.sampled)} frames that the model saw")


if __name__ == "__main__":
    run_command(main)
