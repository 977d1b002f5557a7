"""Folders of numbered pictures from videos: python tools/extract_frames.py LIST -o DIR"""

import argparse
import os
import sys
from collections import Counter
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
)
from paddlevid.runtime import run_command

if TYPE_CHECKING:
    from paddlevid.prepare.frames import Pictures
    from paddlevid.prepare.making import Outcome

TEMPLATES = {"jpg": "img_{:05d}.jpg", "png": "img_{:05d}.png"}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Write the frames of each video, upright: a/b/x.mp4 -> DIR/a/b/x/img_00001.jpg and so on, and a "
        "list of them, DIR/LIST.txt, with the same labels. A run that was stopped goes on where it was. Exit code 1 if "
        "videos could not be read; DIR/bad_videos.txt names them, and the next run tries them again."
    )
    add_arguments(parser)
    parser.add_argument("--short_side", type=positive, metavar="N", help="pixels; scale larger frames down (as is)")
    parser.add_argument("--enlarge", action="store_true", help="scale smaller frames up to --short_side as well")
    parser.add_argument("--format", choices=tuple(TEMPLATES), help="of the pictures (jpg, or that of --template)")
    parser.add_argument("--quality", type=int, default=95, help="of jpg, 0 to 100 (95)")
    parser.add_argument("--template", help="names of the pictures (that of the recipe with -c, else img_{:05d}.jpg)")
    args = parser.parse_args()
    check_arguments(parser, args)
    if not 0 <= args.quality <= 100:
        parser.error("--quality must be 0 to 100")
    if args.enlarge and args.short_side is None:
        parser.error("--enlarge needs --short_side")
    if args.template and args.format and not args.template.lower().endswith(f".{args.format}"):
        parser.error(f"--template {args.template} does not end in .{args.format}")
    return args


def main() -> int:
    args = parse_arguments()
    from paddlevid.prepare.frames import extract_video

    pictures = read_pictures(args)
    outcome = make_all(args, partial(extract_video, pictures), pictures.settings(), suffix="")
    made = outcome.report.made.values()
    num_pictures, num_bytes = sum(video.num_frames for video in made), sum(video.num_bytes for video in made)
    print(f"{args.output}: {describe(outcome)}")
    if made:
        lines = count(outcome.num_lines, "line")
        print(f"{count(num_pictures, 'picture')}, {as_size(num_bytes)}; {lines} in {outcome.list_path}")
        print(how_to_use(args.output, outcome, pictures))
    return int(bool(outcome.report.bad))


def read_pictures(args: argparse.Namespace) -> "Pictures":
    """What to write, as the options and the recipe say."""
    from paddlevid.prepare.frames import Pictures

    template, start_index = args.template or TEMPLATES[args.format or "jpg"], 1
    if args.config:
        from paddlevid.config import load_config

        data = load_config(args.config, args.override).data
        start_index = data.frame_start_index
        template = args.template or (TEMPLATES[args.format] if args.format else data.template)
    return Pictures(template, start_index, args.short_side, args.enlarge, args.fps, args.quality)


def how_to_use(folder: Path, outcome: "Outcome", pictures: "Pictures") -> str:
    """What to override in a recipe."""
    from paddlevid.prepare.naming import override

    rates = Counter(round(video.fps, 3) for video in outcome.report.made.values())
    (fps, _), *others = rates.most_common()
    options = [
        override("data.format", "frames"),
        override("data.root", os.path.abspath(folder)),
        override("data.frame_template", pictures.template),
        override("data.frame_fps", int(fps) if fps % 1 == 0 else fps),
    ]
    if pictures.start_index != 1:
        options.append(override("data.frame_start_index", pictures.start_index))
    text = how_to_read(options, outcome)
    if others:
        text += (
            f"\nnote: frame rates differ ({min(rates):g} to {max(rates):g} a second), and data.frame_fps holds one: "
            "where clips are sampled by time (sampling.kind: clip), extract with --fps"
        )
    return text


if __name__ == "__main__":
    run_command(main)
