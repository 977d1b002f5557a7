"""Which samples make up each step, and batches of them over workers and processes."""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, TypedDict

import numpy as np

from paddlevid.data.dataset import Sample, TrainDataset, ViewDataset

PR_SET_PDEATHSIG = 1  # of Linux's prctl: the signal that a process gets when its parent dies


class Batch(TypedDict):
    """Samples stacked: Paddle tensors, and one error text a sample (empty where it could be read)."""

    frames: Any  # uint8 [B, V, T, H, W, C]
    labels: Any  # int64 [B]
    indices: Any  # int64 [B]
    errors: list[str]


class MicroBatch(NamedTuple):
    """What one process sends through the model at once.

    The weights of all samples of a step, over its micro-batches and processes, sum to 1: the step's loss is the
    weighted sum, exactly the mean over the step's samples however they are divided.
    """

    keys: list[tuple[int, int]]  # (epoch, index)
    weights: np.ndarray  # float32 [B]


@dataclass(frozen=True)
class TrainPlan:
    """The order of all samples of a run: epoch by epoch, each sample once an epoch, shuffled by (seed, epoch)."""

    num_samples: int
    global_batch: int
    batch_size: int
    epochs: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.num_samples // self.global_batch)

    @property
    def total_steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    def micro_batches(self, step: int, rank: int, world: int) -> list[MicroBatch]:
        """The share of process `rank` of `world` in an optimizer step, in pieces of at most `batch_size`.

        Each process gets equally many pieces of equal size: where the step's samples do not divide, its first sample is
        repeated with weight 0.
        """
        epoch, step_in_epoch = divmod(step, self.steps_per_epoch)
        start = step_in_epoch * self.global_batch
        group = _shuffled(self.num_samples, self.seed, epoch)[start : start + self.global_batch]
        share = -(-len(group) // world)
        padding = share * world - len(group)
        indices = np.concatenate([group, np.repeat(group[:1], padding)])[rank * share : (rank + 1) * share]
        weights = np.full(share * world, 1 / len(group), np.float32)
        weights[len(group) :] = 0
        weights = weights[rank * share : (rank + 1) * share]
        pieces = range(0, share, self.batch_size)
        return [
            MicroBatch(
                [(epoch, int(index)) for index in indices[piece : piece + self.batch_size]],
                weights[piece : piece + self.batch_size],
            )
            for piece in pieces
        ]


@lru_cache(maxsize=2)
def _shuffled(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(num_samples)


def train_batches(
    dataset: TrainDataset, plan: TrainPlan, *, start_step: int, rank: int, world: int, num_workers: int
) -> Iterator[Batch]:
    """The micro-batches of this process from `start_step` to the end of the run, in the order of `plan`."""
    steps = range(start_step, plan.total_steps)
    keys = (piece.keys for step in steps for piece in plan.micro_batches(step, rank, world))
    return _load(dataset, keys, num_workers)


def view_batches(
    dataset: ViewDataset, *, videos_per_batch: int, rank: int, world: int, num_workers: int
) -> Iterator[Batch]:
    """Batches of whole videos; each is read by one process, and no batch depends on how many processes there are."""
    starts = range(0, len(dataset), videos_per_batch)[rank::world]
    keys = [list(range(start, min(start + videos_per_batch, len(dataset)))) for start in starts]
    return _load(dataset, keys, min(num_workers, len(keys)))


def _load(dataset: TrainDataset | ViewDataset, keys: Iterable[list[Any]], num_workers: int) -> Iterator[Batch]:
    import paddle

    if num_workers == 0:  # Paddle's loader without workers waits for ever for a dataset that raised an error
        return (_to_tensors(collate([dataset[key] for key in batch])) for batch in keys)
    return iter(
        paddle.io.DataLoader(
            dataset,
            batch_sampler=keys,
            collate_fn=collate,
            num_workers=num_workers,
            worker_init_fn=_start_worker,
        )
    )


def _to_tensors(batch: Batch) -> Batch:
    import paddle

    return Batch(
        frames=paddle.to_tensor(batch["frames"]),
        labels=paddle.to_tensor(batch["labels"]),
        indices=paddle.to_tensor(batch["indices"]),
        errors=batch["errors"],
    )


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples; the arrays become tensors on their way through the loader."""
    return Batch(
        frames=np.stack([sample["frames"] for sample in samples]),
        labels=np.array([sample["label"] for sample in samples], np.int64),
        indices=np.array([sample["index"] for sample in samples], np.int64),
        errors=[sample["error"] for sample in samples],
    )


def _start_worker(worker: int) -> None:
    """Workers share the cores among themselves already, and must not outlive a process that was killed."""
    import cv2

    cv2.setNumThreads(0)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
