"""A training run before its first step: everything checked and built, from scratch or from a checkpoint."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from paddlevid import build, modality
from paddlevid.checkpoint import prepare_root, read_checkpoint, restore
from paddlevid.config import dump_section
from paddlevid.data.class_names import check_same_classes, number_names, read_class_names
from paddlevid.data.dataset import TrainDataset, ViewDataset
from paddlevid.data.loader import TrainPlan
from paddlevid.ema import EMA
from paddlevid.errors import ConfigError
from paddlevid.losses import ClipLoss
from paddlevid.models.batch_norm import (
    held_batch_norms,
    partial_bn,
    running_statistics,
    synchronize_batch_norms,
    train_mode,
)
from paddlevid.models.freeze import freeze_parameters
from paddlevid.optim import Schedule
from paddlevid.precision import Precision, choose_precision
from paddlevid.ranks import broadcast_state, on_first
from paddlevid.runtime import Ranks, atomic_write, init_ranks, logger, set_device, setup_logging
from paddlevid.schema import Config
from paddlevid.sharding import Shards
from paddlevid.training.bad_videos import BadVideos
from paddlevid.training.folder import KEPT, check_folder, check_room, write_class_names
from paddlevid.training.lock import FolderLock
from paddlevid.training.resume import (
    check_steps,
    compare_data,
    describe_data,
    find_checkpoint,
    names_to_go_on_with,
    warn_of_changes,
)
from paddlevid.weights import load_weights
from paddlevid.weights.transfer import shown

# Options of training that the log names where they are not as usual
TOLD = (
    "class_balanced",
    "mixing",
    "label_smoothing",
    "class_weights",
    "freeze",
    "partial_bn",
    "sync_bn",
    "precise_bn_steps",
    "clip_grad_norm",
    "ema_decay",
    "early_stop_epochs",
    "compile",
    "shard_optimizer",
    "histograms",
)


@dataclass
class Run:
    """All that a training run is made of; what changes while it goes on stands below `step`."""

    cfg: Config
    out: Path
    ranks: Ranks
    dataset: TrainDataset
    valid_set: ViewDataset | None
    class_names: list[str]
    plan: TrainPlan
    total_steps: int
    schedule: Schedule
    model: paddle.nn.Layer
    parallel: paddle.nn.Layer  # the model, or DataParallel around it
    held: list[paddle.nn.Layer]  # batch norms whose statistics do not change
    statistics: list[paddle.Tensor]  # means and variances of all batch norms
    normalize: paddle.nn.Layer
    loss: ClipLoss
    optimizer: paddle.optimizer.Optimizer
    precision: Precision
    scaler: paddle.amp.GradScaler | None
    shards: Shards | None
    ema: EMA | None
    bad_videos: BadVideos
    data_identity: dict[str, Any]

    step: int = 0
    updates: int = 0
    nonfinite_in_a_row: int = 0
    best_score: float | None = None
    best_step: int | None = None
    validated: bool = True
    shown: bool = False
    starved_logs: int = 0  # lines of the log in a row that tell of more waiting for data than computing
    saved_step: int | None = None
    saved_at: float = field(default_factory=time.monotonic)
    checkpoint: Path | None = None
    save_failure: OSError | None = None

    @property
    def known_names(self) -> list[str]:
        """The class names; none where classes are but numbers."""
        return [] if self.class_names == number_names(self.cfg.data.num_classes) else self.class_names

    def train_mode(self) -> None:
        train_mode(self.parallel, self.held)

    def share_statistics(self) -> None:
        """Batch statistics differ between processes; all take those of the first, which is what checkpoints hold."""
        if self.ranks.world > 1:
            for tensor in self.statistics:
                paddle.distributed.broadcast(tensor, src=0)

    def time_to_save(self) -> bool:
        minutes = self.cfg.train.checkpoint_every_minutes
        return minutes is not None and time.monotonic() - self.saved_at > 60 * minutes

    def captions(self, targets: np.ndarray) -> list[str]:
        """What the clips of a batch with the targets `[B, K]` show, in words."""
        return [
            ", ".join(
                self.class_names[label] + (f" {row[label]:.2f}" if row[label] < 1 else "")
                for label in np.flatnonzero(row)
            )
            for row in targets
        ]


def prepare_run(
    cfg: Config,
    lock: FolderLock,
    *,
    weights: str | None,
    weights_skip: Sequence[str],
    resume: str | None,
    validate: bool,
    max_iters: int | None,
) -> Run:
    """Check and build everything, and take the output folder; other arguments are those of `paddlevid.train.train`."""
    out = Path(cfg.output_dir)
    if validate and cfg.valid is None:
        raise ConfigError("--validate needs a valid section in the config")
    if cfg.train.early_stop_epochs is not None and not validate:
        raise ConfigError("train.early_stop_epochs needs --validate: it is the score that has to rise")
    device = set_device(cfg.device)
    ranks = init_ranks()  # before what may fail on one host alone, so that the others hear of it
    class_names = read_class_names(cfg.data.class_names, cfg.data.num_classes, list_path=cfg.train.list)
    dataset = build.build_train_dataset(cfg)
    valid_set = build.build_eval_dataset(cfg, cfg.valid) if validate and cfg.valid else None
    # The first process alone reads and writes: the folder of a host may be its own
    on_first(ranks, lambda: check_folder(out))
    on_first(ranks, lambda: lock.take(out))
    setup_logging(out, ranks.rank)
    checkpoint = on_first(ranks, lambda: find_checkpoint(out / "checkpoints", resume))
    plan = build.build_plan(cfg, dataset)
    precision = choose_precision(cfg.train.amp, device)

    paddle.seed(cfg.seed)
    model = build.build_model(cfg)
    if checkpoint is None and weights is not None:
        load_weights(model, weights, skip=weights_skip).log(cfg.data.mean, cfg.data.std)
    if cfg.train.sync_bn and ranks.world > 1:
        model = synchronize_batch_norms(model)
    held = _choose_what_learns(cfg, model)
    model, optimizer = precision.decorate(model, build.build_optimizer(cfg, model))
    run = Run(
        cfg=cfg,
        out=out,
        ranks=ranks,
        dataset=dataset,
        valid_set=valid_set,
        class_names=class_names,
        plan=plan,
        total_steps=min(plan.total_steps, max_iters or plan.total_steps),
        schedule=build.build_schedule(cfg, plan.steps_per_epoch),
        model=model,
        parallel=model,
        held=held,
        statistics=running_statistics(model),
        normalize=build.build_normalize(cfg),
        loss=build.build_loss(cfg, dataset),
        optimizer=optimizer,
        precision=precision,
        scaler=precision.scaler(),
        shards=Shards(model, ranks) if cfg.train.shard_optimizer and ranks.world > 1 else None,
        ema=EMA(model, cfg.train.ema_decay) if cfg.train.ema_decay else None,
        bad_videos=BadVideos(dataset.records, cfg.train.list, out, ranks, cfg.train.max_bad_share),
        data_identity=describe_data(dataset),
    )
    if checkpoint is None:
        _begin(run, resume, weights)
    else:
        _resume(run, checkpoint, weights)
    _prepare_folder(run, resumed=checkpoint is not None)
    if cfg.train.compile:
        run.parallel = Compiled(model)
    if ranks.world > 1:
        run.parallel = paddle.DataParallel(run.parallel)
    _tell_sizes(run, device)
    _tell_options(run)
    return run


def _prepare_folder(run: Run, *, resumed: bool) -> None:
    """Write the recipe and the class names, and remove what a killed run left half done; see that there is room."""
    on_first(run.ranks, lambda: check_room(run))
    if run.ranks.rank != 0:
        return
    # Export and test take the recipe from here, with all that -o changed
    recipe = dump_section(run.cfg)
    atomic_write(run.out / "config.yaml", lambda path: Path(path).write_text(recipe, encoding="utf-8"))
    write_class_names(run, resumed=resumed)
    for left_behind in (path for name in KEPT for path in run.out.glob(f".{name}.*")):
        left_behind.unlink(missing_ok=True)
    prepare_root(run.out / "checkpoints", resumed_step=run.step if resumed else None)


def _tell_sizes(run: Run, device: str) -> None:
    model, cfg, dataset = run.model, run.cfg, run.dataset
    # To Paddle, the statistics of batch norms are parameters that do not learn
    sizes = [(p.size, p.stop_gradient) for p in model.parameters() if all(p is not tensor for tensor in run.statistics)]
    frozen = sum(size for size, stops in sizes if stops)
    logger.info(
        f"{cfg.model.name} with {sum(size for size, _ in sizes) / 1e6:.2f} M parameters "
        f"{f'({frozen / 1e6:.2f} M of them frozen) ' if frozen else ''}on {device}, {run.ranks.world} process(es); "
        f"{len(dataset)} videos, {run.plan.steps_per_epoch} steps of up to "
        f"{min(run.plan.global_batch, len(dataset))} clips an epoch, {cfg.train.epochs} epochs"
    )
    if cfg.data.modality != "rgb":
        logger.info(f"clips: {modality.describe_clip(cfg.data, cfg.data.num_frames)}")


def _tell_options(run: Run) -> None:
    """What is not as usual in this run, and what has no effect in it."""
    cfg, world = run.cfg, run.ranks.world
    sizes = [len(piece.keys) for piece in run.plan.micro_batches(0, 0, world)]
    told = [f"micro-batches of {max(sizes)}"] if len(sizes) > 1 else []
    options = {
        "train": cfg.train.model_dump(include=set(TOLD), exclude_defaults=True),
        "optimizer": cfg.optimizer.model_dump(include={"lr_mult", "layer_decay", "no_decay"}, exclude_defaults=True),
        "model": cfg.model.model_dump(include={"recompute"}, exclude_defaults=True),
    }
    told += [f"{section}.{name} {value}" for section, values in options.items() for name, value in values.items()]
    if told:
        logger.info(f"with {', '.join(told)}")
    for name in ("sync_bn", "shard_optimizer"):
        if world == 1 and getattr(cfg.train, name):
            logger.warning(f"warning: train.{name} has no effect in one process")


class Compiled(paddle.nn.Layer):
    """A model whose forward and backward passes run as a static graph in training; the model itself stays as it is."""

    def __init__(self, model: paddle.nn.Layer) -> None:
        super().__init__()
        self.model = model
        self.run = paddle.jit.to_static(model.forward, full_graph=True)

    def forward(self, video: paddle.Tensor) -> paddle.Tensor:
        return self.run(video)


def _choose_what_learns(cfg: Config, model: paddle.nn.Layer) -> list[paddle.nn.Layer]:
    """Freeze what the recipe wants frozen, and return the batch norms that keep their statistics."""
    if cfg.train.freeze:
        freeze_parameters(model, cfg.train.freeze)
    if cfg.train.partial_bn:
        partial_bn(model)
    return held_batch_norms(model)


def _begin(run: Run, resume: str | None, weights: str | None) -> None:
    if run.cfg.train.partial_bn and weights is None:
        logger.warning(
            "warning: train.partial_bn holds batch norms that nothing has trained; start from weights with -w"
        )
    if resume is not None:
        logger.info(f"no checkpoint in {run.out} yet: starting at step 0")
    if run.ranks.rank == 0:
        (run.out / "bad_videos.txt").unlink(missing_ok=True)  # of a run that kept nothing else


def _resume(run: Run, checkpoint: Path, weights: str | None) -> None:
    content: dict[str, Any] = {}
    on_first(run.ranks, lambda: content.update(read_checkpoint(checkpoint)))
    shards = run.shards
    if run.ranks.world > 1:
        content = broadcast_state(content, run.ranks, **({} if shards is None else {"keep": shards.keeps}))
    owned = None if shards is None else shards.owned_names
    state = restore(content, run.model, run.optimizer, run.scaler, run.ema, where=checkpoint, owned=owned)
    run.step, run.updates, run.nonfinite_in_a_row = state.step, state.updates, state.nonfinite_in_a_row
    run.best_score, run.best_step, run.validated = state.best_score, state.best_step, state.validated
    run.bad_videos.restore(state.bad_videos)
    run.saved_step, run.checkpoint, run.shown = state.step, checkpoint, True
    logger.info(f"resumed from {checkpoint} at step {state.step}")
    if weights is not None:
        logger.warning(f"warning: -w {shown(weights)} has no effect on a resumed run")
    if run.step >= run.total_steps:
        logger.warning(f"warning: all {run.total_steps} steps were done already")
    check_steps(state.config, run.cfg.model_dump(mode="json"))
    warn_of_changes(state.config, run.cfg.model_dump(mode="json"))
    compare_data(state.data, run.data_identity)
    if run.valid_set is not None and run.cfg.valid and state.class_names and not run.known_names:
        check_same_classes(state.class_names, checkpoint, run.cfg.valid.list)
    run.class_names = names_to_go_on_with(state.class_names, run.class_names)
