"""What a run keeps: checkpoints to go on from, its last and its best weights, each replaced by a whole one only."""

from __future__ import annotations

import errno
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import paddle

from paddlevid.checkpoint import (
    EMA_FILES,
    MODEL_FILES,
    TrainState,
    list_checkpoints,
    save_checkpoint,
    save_weights,
    update_state,
)
from paddlevid.data.loader import train_batches
from paddlevid.evaluate import evaluate
from paddlevid.journal import Journal
from paddlevid.models.batch_norm import precise_statistics
from paddlevid.optimizer_state import optimizer_state
from paddlevid.ranks import on_first
from paddlevid.runtime import atomic_write, logger
from paddlevid.training.run import Run

# A score over a smaller share of the validation list is not compared with others
MIN_READABLE = 0.9


def end_epoch(run: Run) -> None:
    """Bring the weights that are tested and kept into their final form: exact statistics of batch norms."""
    run.share_statistics()
    run.validated = run.valid_set is None
    num_steps = run.cfg.train.precise_bn_steps
    if not num_steps:
        return
    with _tested_weights(run):
        precise_statistics(run.model, _clips_of_epoch(run, num_steps), run.held, run.ranks.world)
        if run.ema is not None:
            run.ema.keep(run.model)


def _clips_of_epoch(run: Run, num_steps: int) -> Iterator[paddle.Tensor]:
    """The clips of the first steps of the epoch that ends, unmixed, as the model takes them: [B, T, C, H, W]."""
    plan, (rank, world) = run.plan, run.ranks
    start = (run.step - 1) // plan.steps_per_epoch * plan.steps_per_epoch
    end = start + min(num_steps, plan.steps_per_epoch)
    batches = train_batches(
        replace(run.dataset, mixing=None),
        plan,
        start_step=start,
        end_step=end,
        rank=rank,
        world=world,
        num_workers=run.cfg.train.num_workers,
    )
    pieces = (piece for step in range(start, end) for piece in plan.micro_batches(step, rank, world))
    for piece, batch in zip(pieces, batches, strict=True):
        num_learned = int((piece.weights > 0).sum())  # what fills up a process's share stands at the end
        if num_learned == 0 and run.cfg.train.sync_bn:
            num_learned = 1  # such batch norms wait for all processes
        if num_learned:
            yield run.normalize(batch["frames"][:num_learned])


def _tested_weights(run: Run) -> AbstractContextManager[None]:
    """The averaged weights where the run has them, else those that it trains."""
    return run.ema.applied(run.model) if run.ema is not None else nullcontext()


def save(run: Run) -> None:
    """Write a checkpoint and `last`. What the disk refuses is told, and tried again the next time."""
    if run.saved_step == run.step:
        return
    run.saved_step = run.step
    run.saved_at = time.monotonic()
    shards = run.shards
    optimizer = optimizer_state(run.model, run.optimizer) if shards is None else shards.gather(run.optimizer)
    # All processes know whether it failed, so that they end alike
    run.save_failure = on_first(run.ranks, lambda: _write_checkpoint(run, optimizer))


def _write_checkpoint(run: Run, optimizer: dict[str, Any]) -> OSError | None:
    """Write a checkpoint and `last`, older checkpoints making room; what the disk said, where it refused them."""
    root = run.out / "checkpoints"
    while True:
        try:
            _write_checkpoint_and_last(run, root, optimizer)
            return None
        except OSError as error:
            older = list_checkpoints(root)[:-1]
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not older:
                logger.warning(
                    f"warning: step {run.step} is not saved: {error.filename or run.out}: {error.strerror or error}; "
                    "going on, and trying again at the next one"
                )
                return error
            logger.warning(f"warning: the disk of {root} is full: {older[0].name} makes room for step {run.step}")
            shutil.rmtree(older[0], ignore_errors=True)
            if older[0].exists():
                return error


def _write_checkpoint_and_last(run: Run, root: Path, optimizer: dict[str, Any]) -> None:
    weights_format = run.cfg.train.checkpoint_format
    run.checkpoint = save_checkpoint(
        root,
        train_state(run),
        run.model,
        optimizer,
        run.scaler,
        run.ema,
        keep=run.cfg.train.keep_checkpoints,
        weights_format=weights_format,
    )
    source = run.checkpoint / (MODEL_FILES if run.ema is None else EMA_FILES)[weights_format]
    _write_only(run, "last", lambda path: atomic_write(path, lambda temporary: _link_or_copy(source, temporary)))


def train_state(run: Run) -> TrainState:
    return TrainState(
        step=run.step,
        config=run.cfg.model_dump(mode="json"),
        data=run.data_identity,
        epoch=run.step / run.plan.steps_per_epoch,
        updates=run.updates,
        nonfinite_in_a_row=run.nonfinite_in_a_row,
        best_score=run.best_score,
        best_step=run.best_step,
        validated=run.validated,
        bad_videos=run.bad_videos.reasons,
        class_names=run.known_names,
    )


def validate_and_keep(run: Run, journal: Journal | None) -> None:
    """Score the validation list with fixed sampling, and keep the weights if they are the best so far."""
    split, valid_set = run.cfg.valid, run.valid_set
    assert split is not None
    assert valid_set is not None
    with _tested_weights(run):
        result = evaluate(
            run.model,
            run.normalize,
            valid_set,
            batch_size=split.batch_size,
            average=split.average,
            num_workers=split.num_workers,
            ranks=run.ranks,
            precision=run.precision,
        )
        for _, reason in result.failures:
            logger.info(f"unreadable, left out of the score: {reason}")
        scores = result.scalars() if result.names else {}
        if journal is not None:
            journal.write("valid", run.step, **scores)
        unread = f" ({len(result.failures)} unreadable)" if result.failures else ""
        logger.info(
            ", ".join([f"valid: {len(result.names)} videos{unread}", *(f"{k} {v:.4f}" for k, v in scores.items())])
        )
        readable = len(result.names) / len(valid_set)
        if readable < MIN_READABLE:
            logger.warning(f"warning: only {readable:.0%} of {split.list} could be read: this score counts for nothing")
            scores = {}
        score, before = scores.get(result.score_name, math.nan), (run.best_score, run.best_step)
        is_best = not math.isnan(score) and (run.best_score is None or score > run.best_score)
        if is_best:
            run.best_score, run.best_step = score, run.step
        run.validated = True
        failure = on_first(run.ranks, lambda: _keep_if_best(run, is_best, result.score_name))
    if failure is not None:
        run.save_failure = failure
        run.best_score, run.best_step = before  # of the weights that are there


def _keep_if_best(run: Run, is_best: bool, score_name: str) -> OSError | None:
    """Write the model as `best`, and the score into the checkpoint; what the disk said, where it refused them."""
    try:
        if is_best:
            _write_only(run, "best", lambda path: save_weights(run.model, path))
            name = "top1 acc" if score_name == "top1" else score_name
            logger.info(f"Already save the best model ({name}){run.best_score:.4f}")
        if run.checkpoint is not None and run.saved_step == run.step and run.save_failure is None:
            update_state(run.checkpoint, train_state(run))
    except OSError as error:
        logger.warning(f"warning: {error.filename or run.out}: {error.strerror}; the best weights may be missing")
        return error
    return None


def _write_only(run: Run, name: str, write: Callable[[Path], None]) -> None:
    """Write `OUTPUT/name.FORMAT`, and remove the older one of a run that was resumed in the other format."""
    path = run.out / f"{name}.{run.cfg.train.checkpoint_format}"
    write(path)
    for other in MODEL_FILES:
        if path.suffix != f".{other}":
            path.with_suffix(f".{other}").unlink(missing_ok=True)


def _link_or_copy(source: Path, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)
