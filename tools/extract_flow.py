"""Pictures of optical flow from videos: python tools/extract_flow.py LIST -o DIR"""

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlevid.prepare.making import (
    add_arguments,
    as_size,
    check_arguments,
    count,
    describe,
    how_to_read,
    make_all,
    positive,
    positive_fraction,
)
from paddlevid.runtime import run_command

if TYPE_CHECKING:
    from paddlevid.prepare.flow import FlowPictures
    from paddlevid.prepare.making import Outcome

PREVIEW_FILE, PREVIEW_VIDEOS = "flow.png", 4


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Write the optical flow between each two consecutive frames of each video, which of N frames is "
        "N - 1 flows: a/b/x.mp4 -> DIR/a/b/x/flow_x_00001.jpg, flow_y_00001.jpg and so on; a list of the folders, "
        "DIR/LIST.txt, with the number of flows of each and the same labels; and DIR/flow.json, which says what the "
        "pictures are. 128 is no motion, 0 and 255 are --bound pixels to the left (up) and to the right (down). A run "
        "that was stopped goes on where it was. Exit code 1 if videos could not be read; DIR/bad_videos.txt names "
        "them, and the next run tries them again."
    )
    add_arguments(parser)
    parser.add_argument(
        "--algorithm",
        choices=("auto", "tvl1", "dis", "farneback"),
        help="TV-L1, DIS or Farneback's (that of the recipe with -c, else auto: tvl1 where this OpenCV has it, or dis)",
    )
    parser.add_argument(
        "--bound",
        type=positive_fraction,
        metavar="PIXELS",
        help="fastest motion that is told apart (recipe, or 20)",
    )
    parser.add_argument(
        "--short_side", type=positive, metavar="N", help="pixels; scale frames before (recipe, or as is)"
    )
    parser.add_argument(
        "--warp", action="store_true", help="take out the motion of the camera: warped flow (as the recipe with -c)"
    )
    parser.add_argument(
        "--layout",
        choices=("pair", "one"),
        help="two grey pictures a flow, x and y (pair), or one in colour, flow_00001.png: x in red, y in green, and "
        "blue 0 (that of the recipe with -c, or pair)",
    )
    parser.add_argument(
        "--format",
        choices=("jpg", "png"),
        help="png, the default of one, is exact; jpg, that of pair, is half as large and off by 0.1 grey levels on "
        "average, in one picture, whose colours it mixes, by 0.4",
    )
    parser.add_argument("--quality", type=int, default=95, help="of jpg, 0 to 100 (95)")
    parser.add_argument(
        "--preview", type=Path, metavar="FILE", help=f"a picture of some flows of the first videos (DIR/{PREVIEW_FILE})"
    )
    args = parser.parse_args()
    check_arguments(parser, args)
    if not 0 <= args.quality <= 100:
        parser.error("--quality must be 0 to 100")
    if args.preview and args.preview.suffix.lower() != ".png":
        parser.error(f"--preview {args.preview} must end in .png")
    return args


def main() -> int:
    args = parse_arguments()
    from paddlevid.prepare.flow import extract_flow, write_note

    pictures = read_pictures(args)
    formats = ("video", "flow")
    outcome = make_all(args, partial(extract_flow, pictures), pictures.settings(), suffix="", formats=formats)
    report = outcome.report
    print(f"{args.output}: {describe(outcome)}")
    if report.made:
        write_note(args.output, pictures)
        print(describe_flows(outcome))
        print(f"{show(args, pictures, outcome)} shows some of them")
        print(how_to_use(args.output, outcome, pictures))
    else:  # an empty list is of no use, and would be in the way of one of the same name
        outcome.list_path.unlink(missing_ok=True)
    return int(bool(report.bad))


def read_pictures(args: argparse.Namespace) -> "FlowPictures":
    """What to write, as the options and the recipe say; which algorithm that is, is printed where it was left open."""
    from paddlevid.data.flow.method import FlowMethod, choose_algorithm, tvl1_hint
    from paddlevid.errors import ConfigError
    from paddlevid.prepare.flow import FORMATS, TEMPLATES, FlowPictures

    algorithm, bound, short_side, warp = "auto", 20.0, None, False
    template, start_index = None, 1
    if args.config:
        from paddlevid.config import load_config
        from paddlevid.schema.data import FlowConfig

        data = load_config(args.config, args.override).data
        flow = data.flow or FlowConfig()
        algorithm, bound, short_side = flow.algorithm, flow.bound, flow.short_side
        warp, start_index = data.modality == "warped_flow", data.frame_start_index
        template = data.template if data.format == "flow" else None
    algorithm = args.algorithm or algorithm
    chosen = choose_algorithm(algorithm)
    if algorithm == "auto":
        hint = tvl1_hint()
        print(f"flow is computed by {chosen}" + (f"; {hint}" if hint else ""), flush=True)
    if template is None or args.layout or args.format:
        layout = args.layout or ("one" if template and "{axis" not in template else "pair")
        template = f"{TEMPLATES[layout]}.{args.format or FORMATS[layout]}"
    try:
        method = FlowMethod(
            algorithm=chosen,
            bound=bound if args.bound is None else float(args.bound),
            short_side=args.short_side or short_side,
            warp=args.warp or warp,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return FlowPictures(method, template, start_index, args.fps, args.quality)


def describe_flows(outcome: "Outcome") -> str:
    """How many flows there are, how large they are, and how fast the new ones came."""
    made = outcome.report.made.values()
    num_flows, num_bytes = sum(video.num_frames for video in made), sum(video.num_bytes for video in made)
    text = f"{count(num_flows, 'flow')}, {as_size(num_bytes)}"
    num_new = num_flows - outcome.report.frames_before
    if num_new:
        text += f", {num_new / outcome.seconds:.1f} flows/s"
    return f"{text}; {count(outcome.num_lines, 'line')} in {outcome.list_path}"


def show(args: argparse.Namespace, pictures: "FlowPictures", outcome: "Outcome") -> Path:
    """Write a picture of the first videos and their flow; where it is."""
    from paddlevid.prepare.flow import write_preview

    path = args.preview or args.output / PREVIEW_FILE
    report = outcome.report
    first = sorted(report.made, key=report.names.__getitem__)[:PREVIEW_VIDEOS]
    videos = [(source, args.output / report.names[source], report.made[source]) for source in first]
    write_preview(path, pictures, videos)
    return path


def how_to_use(folder: Path, outcome: "Outcome", pictures: "FlowPictures") -> str:
    """What to override in a recipe."""
    from paddlevid.prepare.naming import override

    method = pictures.method
    bound = int(method.bound) if method.bound % 1 == 0 else method.bound
    options = [
        override("data.modality", "warped_flow" if method.warp else "flow"),
        override("data.format", "flow"),
        override("data.root", os.path.abspath(folder)),
        override("data.frame_template", pictures.template),
        override("data.flow.bound", bound),
    ]
    if method.short_side is not None:
        options.append(override("data.flow.short_side", method.short_side))
    if pictures.start_index != 1:
        options.append(override("data.frame_start_index", pictures.start_index))
    return how_to_read(options, outcome)


if __name__ == "__main__":
    run_command(main)
