"""Lists of Something-Something V2: python tools/prepare_ssv2.py DIR"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlevid.prepare.command import Recipe, add_arguments, prepare
from paddlevid.runtime import run_command

RECIPE = Recipe("configs/tsm_ssv2.yaml", "resnet50_imagenet_torchvision", ("data.format=video",))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Match the official JSON files of Something-Something V2 with the videos under a folder, check "
        "these, and write train.txt, valid.txt, test.txt, class_names.txt, missing.txt and bad_videos.txt. Started "
        "again, it goes on where it was."
    )
    parser.add_argument("videos", metavar="DIR", help="where the videos are, in whatever folders")
    parser.add_argument("--annotations", metavar="DIR", help="where labels.json and train.json are (found in DIR)")
    add_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    from paddlevid.prepare.ssv2 import draft_ssv2

    prepare(args.videos, args, RECIPE, lambda tree: draft_ssv2(tree, args.annotations))


if __name__ == "__main__":
    run_command(main)
