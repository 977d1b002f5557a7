"""`main.py --test`: a recipe and its weights -> scores on the test list."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import paddle
from tqdm import tqdm

from paddlevid import __version__, build, modality
from paddlevid.config import dump_section
from paddlevid.data.class_names import read_class_names
from paddlevid.data.dataset import ViewDataset
from paddlevid.errors import ConfigError, DataError
from paddlevid.evaluate import Evaluation, evaluate
from paddlevid.precision import Precision, choose_precision
from paddlevid.report import protocol, summarize, write_report, write_scores
from paddlevid.runtime import init_ranks, logger, set_device, setup_logging, show_progress
from paddlevid.schema import Config, EvalConfig
from paddlevid.weights import load_trained
from paddlevid.weights.download import locate
from paddlevid.weights.read import checksum

MODEL_NAMES = {"tsn": "TSN", "tsm": "TSM", "timesformer": "TimeSformer"}


def test(cfg: Config, weights: str | None, *, weights_skip: Sequence[str]) -> Evaluation:
    """Score `test.list`, print the summary, and write the scores of each video and a report of all.

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
    device = set_device(cfg.device)
    ranks = init_ranks()  # before what may fail on one host alone, so that the others hear of it
    dataset = build.build_eval_dataset(cfg, split, weights=weights)
    class_names = read_class_names(
        cfg.data.class_names,
        cfg.data.num_classes,
        weights=weights,
        train_list=cfg.train.list,
        list_path=split.list,
    )
    setup_logging(None, ranks.rank)
    precision = choose_precision(cfg.train.amp, device)
    model = build.build_model(cfg)
    load_trained(model, weights, skip=weights_skip).log(cfg.data.mean, cfg.data.std)
    if ranks.rank == 0:
        modality.warn_of_other_clips(cfg, weights)
    facts = _facts(cfg, split, weights, device, precision) if ranks.rank == 0 else {}
    with tqdm(total=len(dataset), unit="video", disable=not show_progress(ranks.rank), leave=False) as bar:
        result = evaluate(
            model,
            build.build_normalize(cfg),
            dataset,
            batch_size=split.batch_size,
            average=split.average,
            num_workers=split.num_workers,
            ranks=ranks,
            precision=precision,
            on_progress=bar.update,
        )
    if ranks.rank == 0:
        _write(result, dataset, class_names, cfg, split, facts)
    if result.failures:
        raise DataError(f"{split.list}: {len(result.failures)} of {len(dataset)} videos could not be read")
    return result


def _write(
    result: Evaluation,
    dataset: ViewDataset,
    class_names: Sequence[str],
    cfg: Config,
    split: EvalConfig,
    facts: dict[str, str],
) -> None:
    """Print the summary, and write the scores and the report."""
    for _, reason in result.failures:
        print(f"unreadable: {reason}", file=sys.stderr)
    if result.names:
        logger.info(summarize(result, split))
        scores_path, csv_path = write_scores(result, class_names, cfg.output_dir)
        logger.info(f"scores: {scores_path}\npredictions: {csv_path}")
    title = f"{MODEL_NAMES[cfg.model.name]} on {Path(split.list).name}"
    recipe = dump_section(cfg)
    report_path = write_report(result, dataset, class_names, cfg.output_dir, title=title, facts=facts, recipe=recipe)
    logger.info(f"report: {report_path}")


def _facts(cfg: Config, split: EvalConfig, weights: str, device: str, precision: Precision) -> dict[str, str]:
    """What was tested, how, when and with what, for the report."""
    data = cfg.data
    return {
        "Model": f"{MODEL_NAMES[cfg.model.name]}, {data.num_classes} classes",
        "Weights": f"{weights} (sha256 {checksum(locate(weights))[:16]})",
        "List": split.list,
        "Protocol": protocol(split),
        "Clip": modality.describe_clip(data, split.num_frames or data.num_frames),
        "Device": f"{device}, {precision.dtype if precision.enabled else 'float32'}",
        "Date": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "Versions": f"paddlevid {__version__}, PaddlePaddle {paddle.__version__}, Python {platform.python_version()}",
    }
