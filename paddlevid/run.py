"""A training run before its first step: everything checked and built, from scratch or from a checkpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import paddle

from paddlevid import build
from paddlevid.checkpoint import (
    list_checkpoints,
    load_checkpoint,
    prepare_root,
)
from paddlevid.config import dump_section
from paddlevid.data.dataset import TrainDataset, ViewDataset, read_class_names
from paddlevid.data.loader import TrainPlan
from paddlevid.errors import ConfigError, WeightsError
from paddlevid.optim import Schedule
from paddlevid.precision import Precision, choose_precision
from paddlevid.runtime import Ranks, atomic_write, init_ranks, logger, set_device, setup_logging
from paddlevid.schema import Config
from paddlevid.weights import load_weights
from paddlevid.weights.transfer import shown

# What a resumed run may change and still end with the same weights.
WITHOUT_EFFECT = {
    "output_dir",
    "data.root",  # what is on the list is compared by itself
    "train.list",
    "train.num_workers",
    "train.log_every_steps",
    "train.checkpoint_every_steps",
    "train.keep_checkpoints",
    "train.checkpoint_format",
    "valid.num_workers",
    "test.num_workers",
}


@dataclass
class Run:
    """All that a training run is made of; only `step` and `best_top1` change."""

    cfg: Config
    out: Path
    ranks: Ranks
    dataset: TrainDataset
    valid_set: ViewDataset | None
    plan: TrainPlan
    total_steps: int
    schedule: Schedule
    model: paddle.nn.Layer
    parallel: paddle.nn.Layer  # the model, or DataParallel around it
    normalize: paddle.nn.Layer
    optimizer: paddle.optimizer.Optimizer
    precision: Precision
    scaler: paddle.amp.GradScaler | None
    step: int = 0
    best_top1: float | None = None


def prepare_run(
    cfg: Config,
    *,
    weights: str | None,
    weights_skip: Sequence[str],
    resume: str | None,
    validate: bool,
    max_iters: int | None,
) -> Run:
    """Check and build everything; the arguments are those of `paddlevid.train.train`."""
    out = Path(cfg.output_dir)
    if validate and cfg.valid is None:
        raise ConfigError("--validate needs a valid section in the config")
    checkpoint = _find_checkpoint(out / "checkpoints", resume)
    read_class_names(cfg.data.class_names, cfg.data.num_classes)
    dataset = build.build_train_dataset(cfg)
    valid_set = build.build_eval_dataset(cfg, cfg.valid) if validate and cfg.valid else None
    device = set_device(cfg.device)
    ranks = init_ranks()
    setup_logging(out, ranks.rank)
    plan = TrainPlan(len(dataset), cfg.train.global_batch, cfg.train.batch_size, cfg.train.epochs, cfg.seed)
    precision = choose_precision(cfg.train.amp, device)

    paddle.seed(cfg.seed)
    model = build.build_model(cfg)
    if checkpoint is None and weights is not None:
        load_weights(model, weights, skip=weights_skip).log(cfg.data.mean, cfg.data.std)
    model, optimizer = precision.decorate(model, build.build_optimizer(cfg, model))
    run = Run(
        cfg=cfg,
        out=out,
        ranks=ranks,
        dataset=dataset,
        valid_set=valid_set,
        plan=plan,
        total_steps=min(plan.total_steps, max_iters or plan.total_steps),
        schedule=build.build_schedule(cfg, plan.steps_per_epoch),
        model=model,
        parallel=model,
        normalize=build.build_normalize(cfg),
        optimizer=optimizer,
        precision=precision,
        scaler=precision.scaler(),
    )
    if checkpoint is not None:
        state = load_checkpoint(checkpoint, model, optimizer, run.scaler)
        run.step, run.best_top1 = state.step, state.best_top1
        logger.info(f"resumed from {checkpoint} at step {state.step}")
        if weights is not None:
            logger.warning(f"warning: -w {shown(weights)} has no effect on a resumed run")
        if run.step >= run.total_steps:
            logger.warning(f"warning: all {run.total_steps} steps were done already")
        _warn_of_changes(state.config, cfg.model_dump(mode="json"))
        _compare_data(state.data, describe_data(dataset))
    if ranks.rank == 0:
        # Export and test take the recipe from here, with all that -o changed
        atomic_write(out / "config.yaml", lambda path: Path(path).write_text(dump_section(cfg), encoding="utf-8"))
        prepare_root(out / "checkpoints", resumed_step=run.step if checkpoint is not None else None)
    if ranks.world > 1:
        run.parallel = paddle.DataParallel(model)
    logger.info(
        f"{cfg.model.name} with {sum(p.size for p in model.parameters()) / 1e6:.2f} M parameters on {device}, "
        f"{ranks.world} process(es); {len(dataset)} videos, {plan.steps_per_epoch} steps of "
        f"{min(plan.global_batch, len(dataset))} clips an epoch, {cfg.train.epochs} epochs"
    )
    return run


def _find_checkpoint(root: Path, resume: str | None) -> Path | None:
    existing = list_checkpoints(root)
    if resume is None:
        if existing:
            raise ConfigError(
                f"{root.parent} already holds a run ({existing[-1].name}): continue it with --resume, or choose "
                "another one with -o output_dir=..."
            )
        return None
    if resume == "auto":
        return existing[-1] if existing else None
    path = Path(resume)
    inside = list_checkpoints(path) or list_checkpoints(path / "checkpoints")
    if inside:
        return inside[-1]
    if not path.is_dir():
        raise WeightsError(f"--resume {resume}: no such checkpoint directory")
    return path


def _warn_of_changes(old: dict, new: dict, prefix: str = "") -> None:
    """Name what differs from the checkpoint's recipe: such a run continues, but not as it would have."""
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            _warn_of_changes(before, after, f"{prefix}{key}.")
        elif before != after and prefix + key not in WITHOUT_EFFECT:
            logger.warning(f"warning: {prefix}{key} is {after!r}, the checkpoint was trained with {before!r}")


def describe_data(dataset: TrainDataset) -> dict:
    """What tells one training list from another, for checkpoints."""
    lines = "".join(f"{record.name} {record.label}\n" for record in dataset.records)
    return {"num_samples": len(dataset), "sha256": hashlib.sha256(lines.encode()).hexdigest()}


def _compare_data(old: dict, new: dict) -> None:
    """Steps count through the samples of a list: on another list a run cannot go on where it was."""
    if old["num_samples"] != new["num_samples"]:
        raise ConfigError(
            f"train.list has {new['num_samples']} videos, the run to resume has {old['num_samples']}; start another "
            "run from its weights instead: -w .../last.pdparams -o output_dir=..."
        )
    if old["sha256"] != new["sha256"]:
        logger.warning("warning: train.list names other videos or labels than those of the run to resume")
