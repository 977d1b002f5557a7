"""What happened in the steps since the last line of the log."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import paddle

from paddlevid.runtime import Ranks, num_cores


@dataclass(frozen=True)
class Averages:
    """Over the samples of all processes, in the steps that changed the weights; NaN where there were none."""

    loss: float
    top1: float
    grad_norm: float
    clips_per_second: float
    data_wait_share: float
    data_wait_seconds: float
    nonfinite_steps: int
    num_new_bad_videos: int


@dataclass
class Meter:
    """Losses and hits of a step stay on the device until they are read, and count once the step is known to be good."""

    _step_losses: list[paddle.Tensor] = field(default_factory=list)
    _step_hits: list[paddle.Tensor] = field(default_factory=list)
    _losses: list[paddle.Tensor] = field(default_factory=list)
    _hits: list[paddle.Tensor] = field(default_factory=list)
    _good_clips: int = 0
    _step_clips: int = 0
    _clips: int = 0
    _grad_norms: list[float] = field(default_factory=list)
    _nonfinite_steps: int = 0
    _started: float = field(default_factory=time.perf_counter)
    data_wait_sec: float = 0.0

    def add(self, loss: paddle.Tensor, hits: paddle.Tensor, num_clips: int) -> None:
        """Take in a micro-batch: its part of the step's loss, and how many of its clips the model gets right."""
        self._step_losses.append(loss.detach())
        self._step_hits.append(hits.detach())
        self._step_clips += num_clips

    def end_step(self, grad_norm: float, *, good: bool) -> None:
        """Keep what the step's micro-batches gave, or drop it where its gradients were no numbers."""
        if good:
            self._losses += self._step_losses
            self._hits += self._step_hits
            self._good_clips += self._step_clips
            self._grad_norms.append(grad_norm)
        else:
            self._nonfinite_steps += 1
        self._clips += self._step_clips
        self._step_losses, self._step_hits, self._step_clips = [], [], 0

    def pause(self, seconds: float) -> None:
        """Leave out time that was not spent on training."""
        self._started += seconds

    def average(self, ranks: Ranks, num_new_bad_videos: int) -> Averages:
        """All processes together."""
        counts = paddle.to_tensor([float(self._good_clips), float(self._clips), float(num_new_bad_videos)])
        sums = [paddle.add_n(values) if values else paddle.zeros([]) for values in (self._losses, self._hits)]
        total = paddle.concat([paddle.stack(sums), counts])
        if ranks.world > 1:
            paddle.distributed.all_reduce(total)
        loss_sum, hits, good_clips, clips, num_bad = total.numpy().tolist()
        steps = len(self._grad_norms)  # the same in all processes
        elapsed = time.perf_counter() - self._started
        nan = float("nan")
        return Averages(
            loss=loss_sum / steps if steps else nan,
            top1=hits / good_clips if steps else nan,
            grad_norm=sum(self._grad_norms) / steps if steps else nan,
            clips_per_second=clips / elapsed,
            data_wait_share=self.data_wait_sec / elapsed,
            data_wait_seconds=self.data_wait_sec,
            nonfinite_steps=self._nonfinite_steps,
            num_new_bad_videos=int(num_bad),
        )


def advice_on_waiting(mean: Averages, num_workers: int, processes: int) -> str:
    """What to tell a user whose model waits for data: how fast it is read, how fast it could be used, what to do.

    `processes` are those of the run on this host, each with `num_workers` workers.
    """
    could = mean.clips_per_second / max(1 - mean.data_wait_share, 1e-3)
    cores = num_cores()
    readers = f"{num_workers} workers a process" if num_workers else "no workers"
    if (num_workers + 1) * processes < cores:
        enough = math.ceil(max(num_workers, 1) * could / mean.clips_per_second - 1e-6)
        fits = max(num_workers + 1, min(enough, cores // processes))
        cure = f"set train.num_workers={fits} ({cores} cores here; {enough} would be enough)"
    else:
        cure = f"with {cores} cores here, more workers would hardly help: make reading cheaper (tools/make_clips.py)"
    rate = f"{mean.clips_per_second:.3g} clips a second are read with {readers}, and the model could take {could:.3g}"
    waits = f"training waits for data {mean.data_wait_share:.0%} of the time"
    return f"{waits}: {rate}; {cure}. python tools/benchmark_data.py shows where the time goes"
