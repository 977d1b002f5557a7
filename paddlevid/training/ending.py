"""How a run ends before its last step."""

from __future__ import annotations

from collections.abc import Sequence

import paddle

from paddlevid.errors import Interrupted, TrainingError
from paddlevid.runtime import logger
from paddlevid.training.run import Run
from paddlevid.training.saving import save
from paddlevid.training.signals import StopRequest

MAX_NAMES = 20


def gave_up(run: Run) -> bool:
    """Whether the score has not risen for `train.early_stop_epochs` epochs."""
    patience = run.cfg.train.early_stop_epochs
    if patience is None or run.best_step is None:
        return False
    if (run.step - run.best_step) / run.plan.steps_per_epoch < patience:
        return False
    best_epoch = -(-run.best_step // run.plan.steps_per_epoch)
    logger.info(f"stopping early: no epoch since epoch {best_epoch} was better than its {run.best_score:.4f}")
    return True


def leave(run: Run, stop: StopRequest) -> None:
    """End a run that was asked to stop, unless it is done anyway.

    Raises:
        Interrupted: it is saved.
        OSError: it could not be.
    """
    if run.step >= run.total_steps:
        return
    save(run)  # where the end of an epoch has not
    if run.save_failure is not None:
        raise run.save_failure
    raise Interrupted(
        f"stopped by {stop.signal_name or 'another process'} after step {run.step} of {run.total_steps}, which is "
        "saved; the same command with --resume auto goes on from there"
    )


def end_of_numbers(run: Run, suspects: Sequence[int]) -> None:
    """End a run of too many steps without numbers; `suspects` are the indices of this process's clips in the last one.

    Raises:
        TrainingError: always, with the names of the clips, of all processes.
    """
    found = [suspects]
    if run.ranks.world > 1:
        found = []
        paddle.distributed.all_gather_object(found, suspects)
    indices = sorted({index for part in found for index in part})
    of_what = "the losses"
    if not indices:  # finite ones, but not their gradients: any of the step's clips may be the one
        pieces = run.plan.micro_batches(run.step, 0, 1)
        indices, of_what = [index for piece in pieces for _, index in piece.keys], "the gradients"
    names = [run.dataset.records[index].name for index in indices]
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    whose = f"{of_what} of {', '.join(names[:MAX_NAMES])}{more} were not"
    raise TrainingError(
        f"no finite loss and gradients in {run.nonfinite_in_a_row} steps in a row, up to step {run.step + 1} (learning "
        f"rate {run.schedule(run.step):g}); in the last one {whose}. Try a lower optimizer.lr, train.clip_grad_norm, "
        "or a longer schedule.warmup_epochs; checkpoints are of earlier steps, --resume PATH goes back to one"
    )
