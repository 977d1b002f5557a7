"""Train or test a recipe: python main.py -c configs/quickstart.yaml --validate"""

import argparse

from paddlevid.runtime import run_command


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a video classifier, or test one with --test.")
    parser.add_argument("-c", "--config", required=True, help="a recipe, such as configs/timesformer_k400.yaml")
    parser.add_argument(
        "-o",
        "--override",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a value of the recipe, such as data.num_classes=2; may be repeated",
    )
    parser.add_argument("--test", action="store_true", help="test the weights of -w instead of training")
    parser.add_argument(
        "-w",
        "--weights",
        metavar="FILE",
        help="weights to start from, or to test: a file, a URL, or a name that tools/list_weights.py shows",
    )
    parser.add_argument(
        "--weights-skip",
        action="append",
        default=[],
        metavar="PATTERN",
        help="leave out the weights whose name this regular expression is found in, such as ^head; may be repeated",
    )
    parser.add_argument("--validate", action="store_true", help="validate after each epoch and keep the best weights")
    parser.add_argument("--amp", action="store_true", help="train in mixed precision (GPU)")
    parser.add_argument("--amp_level", choices=("O1", "O2"), help="O1: by operator; O2: nearly everything")
    parser.add_argument("--amp_dtype", choices=("float16", "bfloat16"))
    parser.add_argument("--seed", type=int, help="seed of data order, augmentation and initialisation")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="PATH",
        help="continue from the newest whole checkpoint of the output directory (auto), or from the one at PATH",
    )
    parser.add_argument("--max_iters", type=int, metavar="N", help="stop after N steps in all")
    args = parser.parse_args()
    if args.max_iters is not None and args.max_iters < 1:
        parser.error("--max_iters must be at least 1")
    if args.weights_skip and not args.weights:
        parser.error("--weights-skip needs -w")
    if (args.amp_level or args.amp_dtype) and not args.amp:
        parser.error("--amp_level and --amp_dtype need --amp")
    return args


def overrides_of(args: argparse.Namespace) -> list[str]:
    """The options that stand for a key of the recipe, after the overrides typed out."""
    overrides = list(args.override)
    if args.amp:
        overrides.append("train.amp.enabled=true")
    for key, value in (("train.amp.level", args.amp_level), ("train.amp.dtype", args.amp_dtype), ("seed", args.seed)):
        if value is not None:
            overrides.append(f"{key}={value}")
    return overrides


def main() -> None:
    args = parse_arguments()
    from paddlevid.config import load_config

    cfg = load_config(args.config, overrides_of(args))
    if args.test:
        from paddlevid.testing import test

        test(cfg, args.weights, weights_skip=args.weights_skip)
    else:
        from paddlevid.train import train

        train(
            cfg,
            weights=args.weights,
            weights_skip=args.weights_skip,
            resume=args.resume,
            validate=args.validate,
            max_iters=args.max_iters,
        )


if __name__ == "__main__":
    run_command(main)
