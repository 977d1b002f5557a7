"""The training loop.

B clips, V = 1 view, T frames, C H W, K classes. A step is one update of the weights: a global batch, divided over
processes and, within each, over micro-batches whose gradients add up. What happens in a step depends on the seed and
the step's number alone, so a run that was stopped anywhere goes on as if nothing had happened.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from datetime import timedelta
from pathlib import Path

import paddle
from tqdm import tqdm

from paddlevid.data.loader import MicroBatch, TrainBatch, train_batches
from paddlevid.errors import DataError
from paddlevid.journal import Journal
from paddlevid.ranks import any_rank
from paddlevid.runtime import local_processes, logger, show_progress
from paddlevid.schema import Config
from paddlevid.training.ending import end_of_numbers, gave_up, leave
from paddlevid.training.lock import FolderLock
from paddlevid.training.meter import Meter, advice_on_waiting
from paddlevid.training.run import Run, prepare_run
from paddlevid.training.saving import end_epoch, save, validate_and_keep
from paddlevid.training.signals import StopRequest


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
        resume: `auto` (the newest whole checkpoint of the output directory, if any) or the path of a checkpoint.
        validate: score `valid.list` after each epoch, and keep the best weights.
        max_iters: stop after this many steps in all.

    Raises:
        UserError: whatever a user can cause; see `paddlevid.errors`.
        Interrupted: SIGTERM or Ctrl-C came, and a checkpoint was saved.
    """
    with FolderLock() as lock:
        run = prepare_run(
            cfg,
            lock,
            weights=weights,
            weights_skip=weights_skip,
            resume=resume,
            validate=validate,
            max_iters=max_iters,
        )
        journal = None
        if run.ranks.rank == 0:
            journal = Journal(run.out, run.step, keep_valid_at_start=run.validated)
        with StopRequest(announce=run.ranks.rank == 0) as stop:
            try:
                _loop(run, journal, stop)
            finally:
                if journal is not None:
                    journal.close()
    logger.info(f"trained to step {run.step}: weights, log and curves.png are in {run.out}")
    return run.out


def _loop(run: Run, journal: Journal | None, stop: StopRequest) -> None:
    train_cfg, plan = run.cfg.train, run.plan
    if run.valid_set is not None and not run.validated:  # the run ended between an epoch and its validation
        validate_and_keep(run, journal)
    batches = train_batches(
        run.dataset,
        plan,
        start_step=run.step,
        rank=run.ranks.rank,
        world=run.ranks.world,
        num_workers=train_cfg.num_workers,
    )
    meter = Meter()
    run.train_mode()
    hidden = not show_progress(run.ranks.rank)
    with (
        closing(batches),
        tqdm(total=run.total_steps, initial=run.step, unit="step", disable=hidden, leave=False) as bar,
    ):
        while run.step < run.total_steps and not gave_up(run):
            stops, time_to_save = _train_step(run, batches, meter, journal, stop)
            bar.update()
            epoch_ends = run.step % plan.steps_per_epoch == 0 or run.step == run.total_steps
            every = train_cfg.checkpoint_every_steps
            saves = epoch_ends or stops or time_to_save or (every is not None and run.step % every == 0)
            if saves or run.step % train_cfg.log_every_steps == 0:
                bar.set_postfix_str(_log(run, meter, journal))
                meter = Meter()
            # A run in trouble keeps the checkpoints from before it
            saves = saves and (run.nonfinite_in_a_row == 0 or stops or run.step == run.total_steps)
            if epoch_ends:
                started = time.perf_counter()
                end_epoch(run)
                if saves:
                    save(run)
                if run.valid_set is not None:
                    validate_and_keep(run, journal)
                if journal is not None:
                    journal.plot()
                run.train_mode()
                meter.pause(time.perf_counter() - started)
            elif saves:
                save(run)
            if stops or (epoch_ends and any_rank(run.ranks, bool(stop))[0]):
                leave(run, stop)
    if run.save_failure is not None:
        raise run.save_failure


def _train_step(
    run: Run, batches: Iterator[TrainBatch], meter: Meter, journal: Journal | None, stop: StopRequest
) -> tuple[bool, bool]:
    """One update of the weights from one global batch; whether to stop, and whether it is time to save."""
    rank, world = run.ranks
    # Dropout and drop path draw from the step and the rank, so that a resumed run draws what it would have drawn.
    paddle.seed(((run.cfg.seed * 1_000_003 + run.step) * 1009 + rank) % (2**31 - 1))
    pieces = run.plan.micro_batches(run.step, rank, world)
    statistics = [tensor.clone() for tensor in run.statistics]
    losses: list[tuple[list[int], paddle.Tensor]] = []
    errors: list[str] = []
    for number, piece in enumerate(pieces, 1):
        batch = _next_batch(run, batches, meter)
        errors += batch["errors"]
        if journal is not None and not run.shown:
            run.shown = True
            journal.clips(batch["frames"].numpy(), run.captions(batch["targets"].numpy()))
        waits_for_more = world > 1 and number < len(pieces)
        with run.parallel.no_sync() if waits_for_more else nullcontext():
            loss, sample_losses = _forward(run, batch, piece, meter)
            losses.append((batch["indices"].numpy().tolist(), sample_losses.detach()))
            scaled = loss * world  # DataParallel divides by the number of processes
            (scaled if run.scaler is None else run.scaler.scale(scaled)).backward()
    suspects = [index for indices, values in losses for index in _not_finite(indices, values)]
    # The only word that processes have with each other in a step: none may leave alone, the others would wait for it
    stops, time_to_save, nonfinite, no_video = any_rank(
        run.ranks, bool(stop), run.time_to_save(), bool(suspects), bool(errors)
    )
    if no_video:
        raise DataError(errors[0] if errors else "another process found no video that it could read")
    grad_norm, good = _update(run, not nonfinite, journal)
    meter.end_step(grad_norm, good=good)
    if good:
        run.nonfinite_in_a_row = 0
        if run.ema is not None:
            run.ema.update(run.model, run.updates)
        run.updates += 1
    else:
        for tensor, before in zip(run.statistics, statistics, strict=True):
            tensor.set_value(before)
        run.nonfinite_in_a_row += 1
        if run.nonfinite_in_a_row >= run.cfg.train.max_nonfinite_steps:
            end_of_numbers(run, suspects)
    run.step += 1
    return stops, time_to_save


def _next_batch(run: Run, batches: Iterator[TrainBatch], meter: Meter) -> TrainBatch:
    started = time.perf_counter()
    batch = next(batches)
    meter.data_wait_sec += time.perf_counter() - started
    run.bad_videos.add(batch["failures"])
    return batch


def _forward(run: Run, batch: TrainBatch, piece: MicroBatch, meter: Meter) -> tuple[paddle.Tensor, paddle.Tensor]:
    """This micro-batch's part of the step's mean loss, a scalar, and the loss of each clip, [B]."""
    targets, weights = batch["targets"], paddle.to_tensor(piece.weights)  # [B, K], [B]
    video = run.normalize(batch["frames"])  # [B*1, T, C, H, W] in float32, whatever the precision
    with run.precision.autocast():
        logits = run.parallel(video)  # [B*1, K], or [B*1, T, K] without consensus
    logits = logits.astype("float32")
    losses = run.loss(logits, targets)  # [B]
    counted = (weights > 0).astype("float32")
    loss = (paddle.where(weights > 0, losses, paddle.zeros_like(losses)) * weights).sum()
    best = (logits.mean(axis=1) if logits.ndim == 3 else logits).argmax(axis=1, keepdim=True)  # [B, 1]
    hits = (paddle.take_along_axis(targets, best, axis=1).squeeze(1) * counted).sum()  # a mixed clip is right in part
    meter.add(loss, hits, int((piece.weights > 0).sum()))
    return loss, losses


def _not_finite(indices: list[int], losses: paddle.Tensor) -> list[int]:
    if bool(paddle.isfinite(losses).all()):
        return []
    finite = paddle.isfinite(losses).numpy()
    return [index for index, fine in zip(indices, finite, strict=True) if not fine]


@paddle.no_grad()
def _update(run: Run, losses_are_finite: bool, journal: Journal | None) -> tuple[float, bool]:
    """Apply the gradients where all of them are numbers; return their norm before clipping, and whether they were.

    All processes have the same gradients here, so they decide alike.
    """
    if run.scaler is not None:
        run.scaler.unscale_(run.optimizer)
    gradients = [parameter.grad for parameter in run.model.parameters() if parameter.grad is not None]
    norms = [paddle.linalg.norm(gradient.astype("float32")) for gradient in gradients]
    norm = float(paddle.linalg.norm(paddle.stack(norms)))
    good = losses_are_finite and math.isfinite(norm)
    if journal is not None and run.cfg.train.histograms and (run.step + 1) % run.plan.steps_per_epoch == 0:
        named = dict(run.model.named_parameters())
        with_gradients = {name: parameter.grad for name, parameter in named.items() if parameter.grad is not None}
        journal.histograms(run.step + 1, named.items(), with_gradients)
    limit = run.cfg.train.clip_grad_norm
    if good and limit is not None and norm > limit:
        for gradient in gradients:
            gradient.scale_(limit / norm)
    run.optimizer.set_lr(run.schedule(run.step))
    if good:
        if run.shards is not None:
            run.shards.drop_gradients()
        run.optimizer.step() if run.scaler is None else run.scaler.step(run.optimizer)
        if run.shards is not None:
            run.shards.share_parameters()
    if run.scaler is not None:
        run.scaler.update()
    run.optimizer.clear_grad(set_to_zero=False)  # gives their memory back until the next step
    return norm, good


def _log(run: Run, meter: Meter, journal: Journal | None) -> str:
    """Average over processes and steps, write a line and the scalars, and return a short form for the bar.

    Raises DataError where too many videos turned out unreadable.
    """
    mean = meter.average(run.ranks, run.bad_videos.num_new)
    if mean.num_new_bad_videos:
        run.bad_videos.report()
    if journal is None:
        return ""
    scalars = {
        "loss": mean.loss,
        "lr": run.schedule(run.step - 1),
        "top1": math.nan if run.cfg.data.multi_label else mean.top1,
        "grad_norm": mean.grad_norm,
        "clips_per_second": mean.clips_per_second,
        "data_wait_seconds": mean.data_wait_seconds,
        "nonfinite_steps": float(mean.nonfinite_steps),
    }
    journal.write("train", run.step, **{name: value for name, value in scalars.items() if math.isfinite(value)})
    epoch = -(-run.step // run.plan.steps_per_epoch)
    clips_left = (run.total_steps - run.step) * run.plan.num_samples / run.plan.steps_per_epoch
    eta = timedelta(seconds=round(clips_left / mean.clips_per_second))
    skipped = f", {mean.nonfinite_steps} step(s) without finite numbers skipped" if mean.nonfinite_steps else ""
    run.starved_logs = run.starved_logs + 1 if mean.data_wait_share > 0.5 else 0
    if run.starved_logs == 2:  # at first the workers have to start
        logger.warning(advice_on_waiting(mean, run.cfg.train.num_workers, local_processes()))
    top1 = "" if run.cfg.data.multi_label else f"top1 {mean.top1:.4f} "
    logger.info(
        f"epoch {epoch}/{run.cfg.train.epochs} step {run.step}/{run.total_steps} loss {mean.loss:.4f} "
        f"{top1}lr {scalars['lr']:.3g} grad norm {mean.grad_norm:.3g} "
        f"{mean.clips_per_second:.1f} clips/s, {mean.data_wait_share:.0%} of it waiting for data, eta {eta}{skipped}"
    )
    return f"loss {mean.loss:.3f} {top1}"
