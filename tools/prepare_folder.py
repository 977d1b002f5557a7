"""Lists of a folder with a folder of videos for each class: python tools/prepare_folder.py DIR"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlevid.prepare.command import TIMESFORMER_UNMIRRORED, Recipe, add_arguments, prepare
from paddlevid.runtime import run_command


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Split the videos of class folders into train.txt, valid.txt and test.txt, each class by the same "
        "shares, check them, and write class_names.txt and bad_videos.txt, too. Where the class folders lie in folders "
        "train, val and test, that split is taken. Started again, it goes on where it was."
    )
    parser.add_argument("videos", metavar="DIR", help="a folder with a folder for each class")
    parser.add_argument("--valid_share", type=float, metavar="SHARE", help="of each class (0.1)")
    parser.add_argument("--test_share", type=float, metavar="SHARE", help="of each class (0)")
    parser.add_argument("--seed", type=int, help="another one draws other videos (0)")
    parser.add_argument(
        "--group",
        metavar="REGEX",
        help="videos in whose names this finds the same text are of one source and stay in one list, such as '_g\\d+'",
    )
    add_arguments(parser)
    args = parser.parse_args()
    if args.seed is not None and args.seed < 0:
        parser.error("--seed must be at least 0")
    return args


def main() -> None:
    args = parse_arguments()
    from paddlevid.prepare.folder import draft_folder
    from paddlevid.prepare.stratify import Shares

    name = Path(args.videos).resolve().name
    overrides = (f"output_dir=output/{name}",)
    recipe = Recipe("configs/timesformer_ucf101.yaml", "timesformer_k400", overrides, TIMESFORMER_UNMIRRORED)
    given = {"valid": args.valid_share, "test": args.test_share, "seed": args.seed}
    given = {name: value for name, value in given.items() if value is not None}
    shares = Shares(**given) if given else None
    prepare(args.videos, args, recipe, lambda tree: draft_folder(tree, shares, group=args.group, output=args.output))


if __name__ == "__main__":
    run_command(main)
