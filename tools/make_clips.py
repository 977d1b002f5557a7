"""Small videos that are quick to read from, for training: python tools/make_clips.py LIST -o DIR"""

import argparse
import os
import sys
from functools import partial
from pathlib import Path

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


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Encode each video anew, small and with many key frames, as H.264 in MP4 without sound: "
        "a/b/x.avi -> DIR/a/b/x.mp4, and a list of them, DIR/LIST.txt, with the same labels. Frames, their order and "
        "their times stay. A run that was stopped goes on where it was. Exit code 1 if videos could not be read; "
        "DIR/bad_videos.txt names them, and the next run tries them again."
    )
    add_arguments(parser)
    parser.add_argument(
        "--short_side", type=positive, default=256, metavar="N", help="pixels; larger frames are scaled down (256)"
    )
    parser.add_argument(
        "--keyframe_every",
        type=positive,
        default=8,
        metavar="N",
        help="frames; less is quicker to read from and larger (8; 1: key frames only)",
    )
    parser.add_argument(
        "--crf", type=float, default=18.0, help="quality, 0 to 51: less is better and larger; eyes hardly see 18 (18)"
    )
    parser.add_argument(
        "--seconds", type=positive_fraction, metavar="SEC", help="keep only the first SEC of each (all)"
    )
    args = parser.parse_args()
    check_arguments(parser, args)
    if not 0 <= args.crf <= 51:
        parser.error("--crf must be 0 to 51")
    if args.short_side < 16:
        parser.error("--short_side must be at least 16")
    return args


def main() -> int:
    args = parse_arguments()
    from paddlevid.prepare.clips import Encoding, check_encoder, make_clip
    from paddlevid.prepare.naming import override

    check_encoder()
    encoding = Encoding(args.short_side, args.keyframe_every, crf=args.crf, fps=args.fps, seconds=args.seconds)
    outcome = make_all(args, partial(make_clip, encoding), encoding.settings(), suffix=".mp4")
    made = outcome.report.made.values()
    print(f"{args.output}: {describe(outcome)}")
    if made:
        before, after = outcome.report.source_bytes, sum(clip.num_bytes for clip in made)
        print(
            f"{as_size(before)} before, {as_size(after)} after ({after / before:.2f} times); "
            f"{count(outcome.num_lines, 'line')} in {outcome.list_path}"
        )
        print(how_to_read([override("data.root", os.path.abspath(args.output))], outcome))
    return int(bool(outcome.report.bad))


if __name__ == "__main__":
    run_command(main)
