"""Lists of Kinetics-400, -600 or -700: python tools/prepare_kinetics.py train.csv validate.csv --videos DIR"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlevid.prepare.command import TIMESFORMER_UNMIRRORED, Recipe, add_arguments, prepare
from paddlevid.runtime import run_command

RECIPE = Recipe("configs/timesformer_k400.yaml", "vit_b16_imagenet_timm", unmirrored=TIMESFORMER_UNMIRRORED)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Match the official CSV files of Kinetics with the clips under a folder, named like "
        "ID_000010_000020.mp4 or ID.mp4, check these, and write train.txt, valid.txt, test.txt, class_names.txt, "
        "missing.txt and bad_videos.txt. Started again, it goes on where it was."
    )
    parser.add_argument("csv", nargs="+", metavar="CSV", help="label,youtube_id,time_start,time_end,split")
    parser.add_argument("--videos", required=True, metavar="DIR", help="where the clips are, in whatever folders")
    add_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    from paddlevid.prepare.kinetics import draft_kinetics

    prepare(args.videos, args, RECIPE, lambda tree: draft_kinetics(tree, args.csv))


if __name__ == "__main__":
    run_command(main)
