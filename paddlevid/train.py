"""The training loop.

B clips, V = 1 view, T frames, C H W, K classes. A step is one update of the weights: a global batch, divided over
processes and, within each, over micro-batches whose gradients add up. What happens in a step depends on the seed and
the step's number alone.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import paddle
import paddle.nn.functional as F
from tqdm import tqdm

from paddlevid.checkpoint import (
    MODEL_FILES,
    TrainState,
    save_checkpoint,
    save_weights,
)
from paddlevid.data.dataset import ViewDataset
from paddlevid.data.loader import Batch, MicroBatch, train_batches
from paddlevid.errors import DataError, TrainingError
from paddlevid.evaluate import evaluate
from paddlevid.journal import Journal
from paddlevid.run import Run, describe_data, prepare_run
from paddlevid.runtime import atomic_write, logger, show_progress
from paddlevid.schema import Config


@dataclass
class Meter:
    """What happened since the last log line; losses and hits stay on the device until they are read."""

    losses: list[paddle.Tensor] = field(default_factory=list)
    hits: list[paddle.Tensor] = field(default_factory=list)
    clips: int = 0
    steps: int = 0
    data_wait_sec: float = 0.0
    errors: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)


def train(
    cfg: Config,
    *,
    weights: str | None = None,
    weights_skip: Sequence[str] = (),
    resume: str | None = None,
    validate: bool = False,
    max_iters: int | None = None,
) -> Path:
    """Train a recipe, alone or as one process of a launch, and return its output directory.

    Args:
        weights: what to start from: a file, a URL, or a name of public weights.
        weights_skip: regular expressions for names of weights to leave out.
        resume: `auto` (the newest checkpoint of the output directory, if any) or the path of a checkpoint.
        validate: score `valid.list` after each epoch, and keep the best weights.
        max_iters: stop after this many steps in all.

    Raises:
        UserError: whatever a user can cause; see `paddlevid.errors`.
    """
    run = prepare_run(
        cfg, weights=weights, weights_skip=weights_skip, resume=resume, validate=validate, max_iters=max_iters
    )
    ranks, plan = run.ranks, run.plan
    journal = Journal(run.out, run.step) if ranks.rank == 0 else None
    batches = train_batches(
        run.dataset, plan, start_step=run.step, rank=ranks.rank, world=ranks.world, num_workers=cfg.train.num_workers
    )
    meter = Meter()
    run.parallel.train()
    with tqdm(
        total=run.total_steps, initial=run.step, unit="step", disable=not show_progress(ranks.rank), leave=False
    ) as bar:
        while run.step < run.total_steps:
            lr = run.schedule(run.step)
            _train_step(run, lr, batches, meter)
            run.step += 1
            bar.update()
            epoch_ends = run.step % plan.steps_per_epoch == 0 or run.step == run.total_steps
            every = cfg.train.checkpoint_every_steps
            saves = epoch_ends or (every is not None and run.step % every == 0)
            if saves or run.step % cfg.train.log_every_steps == 0:
                # Before anything is kept: a loss that is no number, or a video that no process could read, ends the run
                bar.set_postfix_str(_log(run, meter, lr, journal))
                meter = Meter()
            if epoch_ends and run.valid_set is not None:
                started = time.perf_counter()
                _validate(run, run.valid_set, journal)
                meter.started += time.perf_counter() - started
            if saves:
                _save_checkpoint(run)
            if epoch_ends and journal is not None:
                journal.plot()
    if journal is not None:
        journal.close()
        logger.info(f"trained to step {run.step}: weights, log and curves.png are in {run.out}")
    return run.out


def _train_step(run: Run, lr: float, batches: Iterator[Batch], meter: Meter) -> None:
    """One update of the weights from one global batch."""
    rank, world = run.ranks
    # Dropout and drop path draw from the step and the rank, so that a resumed run draws what it would have drawn.
    paddle.seed(((run.cfg.seed * 1_000_003 + run.step) * 1009 + rank) % (2**31 - 1))
    pieces = run.plan.micro_batches(run.step, rank, world)
    for number, piece in enumerate(pieces, 1):
        batch = _next_batch(batches, meter)
        if meter.errors and world == 1:
            raise DataError(meter.errors[0])
        waits_for_more = world > 1 and number < len(pieces)
        with run.parallel.no_sync() if waits_for_more else nullcontext():
            loss = _forward(run, batch, piece, meter)
            scaled = loss * world  # DataParallel divides by the number of processes
            (scaled if run.scaler is None else run.scaler.scale(scaled)).backward()
    run.optimizer.set_lr(lr)
    if run.scaler is None:
        run.optimizer.step()
    else:
        run.scaler.step(run.optimizer)
        run.scaler.update()
    run.optimizer.clear_grad()
    meter.steps += 1


def _next_batch(batches: Iterator[Batch], meter: Meter) -> Batch:
    started = time.perf_counter()
    batch = next(batches)
    meter.data_wait_sec += time.perf_counter() - started
    meter.errors += filter(None, batch["errors"])
    return batch


def _forward(run: Run, batch: Batch, piece: MicroBatch, meter: Meter) -> paddle.Tensor:
    """This micro-batch's part of the step's mean loss, a scalar."""
    labels, weights = batch["labels"], paddle.to_tensor(piece.weights)  # [B], [B]
    video = run.normalize(batch["frames"])  # [B*1, T, C, H, W] in float32, whatever the precision
    with run.precision.autocast():
        logits = run.parallel(video)  # [B*1, K], or [B*1, T, K] without consensus
    logits = logits.astype("float32")
    frames = logits.unsqueeze(1) if logits.ndim == 2 else logits  # [B, 1 or T, K]
    targets = F.one_hot(labels, frames.shape[-1])  # [B, K]
    smoothing = run.cfg.train.label_smoothing
    if smoothing:
        targets = F.label_smooth(targets, epsilon=smoothing)
    log_probs = F.log_softmax(frames, axis=-1).mean(axis=1)  # [B, K]
    loss = -((targets * log_probs).sum(axis=1) * weights).sum()
    counted = weights > 0
    hits = (frames.mean(axis=1).argmax(axis=1) == labels).logical_and(counted)
    meter.losses.append(loss.detach())
    meter.hits.append(hits.astype("float32").sum())
    meter.clips += int((piece.weights > 0).sum())
    return loss


def _log(run: Run, meter: Meter, lr: float, journal: Journal | None) -> str:
    """Average over processes and steps, write a line and the scalars, and return a short form for the bar."""
    counts = paddle.to_tensor([float(meter.clips), float(len(meter.errors))])
    sums = paddle.concat([paddle.stack([paddle.add_n(meter.losses), paddle.add_n(meter.hits)]), counts])
    if run.ranks.world > 1:
        paddle.distributed.all_reduce(sums)
    loss_sum, hits, clips, num_errors = sums.numpy().tolist()
    if num_errors:
        # Only now do all processes know; had the one that met the video left at once, the others would wait for it
        errors: list[list[str]] = []
        paddle.distributed.all_gather_object(errors, meter.errors)
        raise DataError(next(error for part in errors for error in part))
    loss, top1 = loss_sum / meter.steps, hits / clips
    if not math.isfinite(loss):
        raise TrainingError(
            f"the loss is {loss} at step {run.step} (learning rate {lr:g}); try a lower optimizer.lr, "
            "train.clip_grad_norm, or a longer schedule.warmup_epochs"
        )
    elapsed = time.perf_counter() - meter.started
    if journal is not None:
        epoch = -(-run.step // run.plan.steps_per_epoch)
        journal.write(
            "train",
            run.step,
            loss=loss,
            lr=lr,
            top1=top1,
            clips_per_second=clips / elapsed,
            data_wait_seconds=meter.data_wait_sec,
        )
        logger.info(
            f"epoch {epoch}/{run.cfg.train.epochs} step {run.step}/{run.total_steps} loss {loss:.4f} top1 {top1:.4f} "
            f"lr {lr:.3g} {clips / elapsed:.1f} clips/s, {meter.data_wait_sec / elapsed:.0%} of it waiting for data"
        )
    return f"loss {loss:.3f} top1 {top1:.3f}"


def _validate(run: Run, valid_set: ViewDataset, journal: Journal | None) -> None:
    """Score the validation list with fixed sampling, and keep the weights if they are the best so far."""
    split = run.cfg.valid
    assert split is not None
    _share_buffers(run)
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
    if not result.names:
        raise DataError(f"{split.list}: none of its {len(valid_set)} videos can be read")
    is_best = run.best_top1 is None or result.top1 > run.best_top1
    if is_best:
        run.best_top1 = result.top1
    if journal is None:
        return
    scores = {"top1": result.top1, "top5": result.top5, "mean_class_accuracy": result.mean_class_accuracy}
    journal.write("valid", run.step, **scores)
    logger.info(f"valid: {len(result.names)} videos, " + ", ".join(f"{k} {v:.4f}" for k, v in scores.items()))
    if is_best:
        _write_only(run, "best", lambda path: save_weights(run.model, path))
        logger.info(f"Already save the best model (top1 acc){result.top1:.4f}")


def _share_buffers(run: Run) -> None:
    """Batch statistics differ between processes; all take those of the first, which is what checkpoints hold."""
    if run.ranks.world > 1:
        for buffer in run.model.buffers():
            paddle.distributed.broadcast(buffer, src=0)


def _save_checkpoint(run: Run) -> None:
    if run.ranks.rank != 0:
        return
    state = TrainState(run.step, run.best_top1, run.cfg.model_dump(mode="json"), describe_data(run.dataset))
    train = run.cfg.train
    saved = save_checkpoint(
        run.out / "checkpoints",
        state,
        run.model,
        run.optimizer,
        run.scaler,
        keep=train.keep_checkpoints,
        weights_format=train.checkpoint_format,
    )
    model_file = saved / MODEL_FILES[train.checkpoint_format]
    _write_only(run, "last", lambda path: atomic_write(path, lambda temporary: _link_or_copy(model_file, temporary)))


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
