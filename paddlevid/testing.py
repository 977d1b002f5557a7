"""`main.py --test`: a recipe and its weights -> scores on the test list."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tqdm import tqdm

from paddlevid import build
from paddlevid.data.dataset import read_class_names
from paddlevid.errors import ConfigError, DataError
from paddlevid.evaluate import Evaluation, evaluate
from paddlevid.precision import choose_precision
from paddlevid.report import summarize, write_scores
from paddlevid.runtime import init_ranks, logger, set_device, setup_logging, show_progress
from paddlevid.schema import Config
from paddlevid.weights import load_trained


def test(cfg: Config, weights: str | None, *, weights_skip: Sequence[str]) -> Evaluation:
    """Score `test.list`, print the summary, and write the scores of each video into the output directory.

    Raises:
        DataError: a video cannot be read. It is raised last, when the scores of all others are written: a score
            over fewer videos than the list names must not look like one over all of them.
    """
    split = cfg.test
    if split is None:
        raise ConfigError("--test needs a test section in the config")
    if weights is None:
        raise ConfigError(
            "--test needs the weights to test: -w FILE, or the name of public ones (tools/list_weights.py)"
        )
    dataset = build.build_eval_dataset(cfg, split)
    class_names = read_class_names(cfg.data.class_names, cfg.data.num_classes)
    device = set_device(cfg.device)
    ranks = init_ranks()
    setup_logging(None, ranks.rank)
    model = build.build_model(cfg)
    load_trained(model, weights, skip=weights_skip).log(cfg.data.mean, cfg.data.std)
    with tqdm(total=len(dataset), unit="video", disable=not show_progress(ranks.rank), leave=False) as bar:
        result = evaluate(
            model,
            build.build_normalize(cfg),
            dataset,
            batch_size=split.batch_size,
            average=split.average,
            num_workers=split.num_workers,
            ranks=ranks,
            precision=choose_precision(cfg.train.amp, device),
            on_progress=bar.update,
        )
    if ranks.rank == 0:
        for _, reason in result.failures:
            print(f"unreadable: {reason}", file=sys.stderr)
        if result.names:
            logger.info(summarize(result, split))
            scores_path, csv_path = write_scores(result, class_names, cfg.output_dir)
            logger.info(f"scores: {scores_path}\npredictions: {csv_path}")
    if result.failures:
        raise DataError(f"{split.list}: {len(result.failures)} of {len(dataset)} videos could not be read")
    return result
