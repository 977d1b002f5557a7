"""Lists of HMDB51's three splits: python tools/prepare_hmdb51.py DIR"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlevid.prepare.command import TIMESFORMER_UNMIRRORED, Recipe, add_arguments, prepare
from paddlevid.runtime import run_command

RECIPE = Recipe(
    "configs/timesformer_ucf101.yaml",
    "timesformer_k400",
    ("output_dir=output/timesformer_hmdb51",),
    TIMESFORMER_UNMIRRORED,
)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Match the official splits of HMDB51 with the videos under a folder, check these, and write "
        "train_split1.txt, test_split1.txt, ..., class_names.txt, missing.txt and bad_videos.txt. Started again, it "
        "goes on where it was."
    )
    parser.add_argument("videos", metavar="DIR", help="where the videos are, in folders of their classes")
    parser.add_argument("--annotations", metavar="DIR", help="where the files CLASS_test_split1.txt are (found in DIR)")
    add_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    from paddlevid.prepare.hmdb51 import draft_hmdb51

    prepare(args.videos, args, RECIPE, lambda tree: draft_hmdb51(tree, args.annotations))


if __name__ == "__main__":
    run_command(main)
