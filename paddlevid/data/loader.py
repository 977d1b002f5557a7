"""Which samples make up each step, and batches of them over workers and processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, TypedDict

import numpy as np

from paddlevid.data.dataset import TrainDataset, TrainSample, ViewDataset
from paddlevid.data.mixing import mix_frames, mix_targets
from paddlevid.data.shards import shuffle_by_shard
from paddlevid.data.workers import read_ahead

# A number of a seed that no epoch reaches: the order within classes is drawn from others than the samples are
BALANCED_STREAM = 0x62616C61
SMALL_ARRAYS_BYTES = 2**16  # of a batch: all but its frames


class Batch(TypedDict):
    """Views of videos, stacked: Paddle tensors, and one error text a sample (empty where it could be read)."""

    frames: Any  # uint8 [B, V, T, H, W, C]
    labels: Any  # int64 [B]
    indices: Any  # int64 [B]
    errors: list[str]


class TrainBatch(TypedDict):
    """Clips to learn from, stacked: Paddle tensors, and what could not be read.

    Each sample of a step tells of its failures once, whichever the processes and micro-batches that read it.
    """

    frames: Any  # uint8 [B, 1, T, H, W, C]
    targets: Any  # float32 [B, K]
    indices: Any  # int64 [B], of the records that are seen
    failures: list[tuple[int, str]]  # index and reason of each record that could not be read and was replaced
    errors: list[str]  # of each sample whose frames are blank because nothing could replace it


class MicroBatch(NamedTuple):
    """What one process sends through the model at once.

    The weights of all samples of a step, over its micro-batches and processes, sum to 1: the step's loss is the
    weighted sum, exactly the mean over the step's samples however they are divided.
    """

    keys: list[tuple[int, int]]  # (epoch, index)
    weights: np.ndarray  # float32 [B], 0 for those that are not learned from
    partners: list[tuple[int, int]]  # what each is mixed with; itself where it stays alone


@dataclass(frozen=True, eq=False)
class TrainPlan:
    """The order of all samples of a run, epoch by epoch, shuffled by (seed, epoch).

    Each sample comes once an epoch or, where `labels` are given, as often as makes the classes equally frequent: each
    of the P classes that have samples gets N / P of an epoch's N draws, rounded up or down. Within a class its samples
    come in turn, and from epoch to epoch this goes on where it was.

    Where `shards` tells in which file each sample lies, int64 `[N]`, those of `shards_at_once` are mixed at any time.
    """

    num_samples: int
    global_batch: int
    batch_size: int
    epochs: int
    seed: int
    labels: Sequence[int] | None = None
    shards: np.ndarray | None = None
    shards_at_once: int = 16

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.num_samples // self.global_batch)

    @property
    def total_steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    def micro_batches(self, step: int, rank: int, world: int) -> list[MicroBatch]:
        """The share of process `rank` of `world` in an optimizer step, in pieces of at most `batch_size`.

        Each process gets equally many pieces of equal size: where the step's samples do not divide, its first sample is
        repeated with weight 0. Partners are neighbours in the step, so that they do not depend on its division.
        """
        epoch, step_in_epoch = divmod(step, self.steps_per_epoch)
        start = step_in_epoch * self.global_batch
        group = [(int(turn), int(index)) for turn, index in _epoch_keys(self, epoch)[start : start + self.global_batch]]
        share = -(-len(group) // world)
        positions = range(rank * share, (rank + 1) * share)
        keys = [group[position] if position < len(group) else group[0] for position in positions]
        partners = [_partner(group, position) for position in positions]
        weights = np.array([1 / len(group) if position < len(group) else 0 for position in positions], np.float32)
        pieces = [slice(start, start + self.batch_size) for start in range(0, share, self.batch_size)]
        return [MicroBatch(keys[piece], weights[piece], partners[piece]) for piece in pieces]


def _partner(group: list[tuple[int, int]], position: int) -> tuple[int, int]:
    """Neighbours are each other's; the last of an odd number has the first, and what is repeated stays alone."""
    neighbour = position ^ 1
    return group[neighbour] if position < len(group) and neighbour < len(group) else group[0]


@lru_cache(maxsize=2)  # workers may be an epoch ahead
def _epoch_keys(plan: TrainPlan, epoch: int) -> np.ndarray:
    """What is drawn in an epoch, int64 `[N, 2]`: the turn, whose number stands for the epoch in a key, and the index.

    No key comes twice in a run: a video that is drawn several times an epoch is augmented differently each time.
    """
    if plan.labels is None:
        keys = np.stack([np.full(plan.num_samples, epoch), np.arange(plan.num_samples)], axis=1)
    else:
        keys = _class_balanced_keys(np.asarray(plan.labels), plan.seed, epoch)
    rng = np.random.default_rng([plan.seed, epoch])
    if plan.shards is None:
        return keys[rng.permutation(plan.num_samples)]
    return keys[shuffle_by_shard(plan.shards[keys[:, 1]], rng, plan.shards_at_once)]


def _class_balanced_keys(labels: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """As many keys as there are labels, class by class: int64 `[N, 2]`."""
    classes, counts = np.unique(labels, return_counts=True)
    per_class, left_over = divmod(len(labels), len(classes))
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    keys = []
    for rank, (label, samples) in enumerate(zip(classes, by_class, strict=True)):
        # What is left over goes round the classes, one each, from epoch to epoch
        first, end = (e * per_class + -(-(e * left_over - rank) // len(classes)) for e in (epoch, epoch + 1))
        turns = range(first // len(samples), -(-end // len(samples)))
        drawn = [np.random.default_rng([seed, BALANCED_STREAM, label, turn]).permutation(samples) for turn in turns]
        offset = turns.start * len(samples)
        indices = np.concatenate([samples[:0], *drawn])[first - offset : end - offset]
        keys.append(np.stack([np.arange(first, end) // len(samples), indices], axis=1))
    return np.concatenate(keys)


def train_batches(
    dataset: TrainDataset,
    plan: TrainPlan,
    *,
    start_step: int,
    end_step: int | None = None,
    rank: int,
    world: int,
    num_workers: int,
) -> Generator[TrainBatch, None, None]:
    """The micro-batches of this process from `start_step` to `end_step`, or to the end of the run, in the plan's order.

    Workers end with the iterator: at its end, or when it is let go or its `close()` is called.
    """
    steps = range(start_step, plan.total_steps if end_step is None else end_step)
    pieces = (piece for step in steps for piece in plan.micro_batches(step, rank, world))
    return _load(read_micro_batch, dataset, pieces, num_workers, plan.batch_size, dataset.source.timeout_sec)


def read_micro_batch(dataset: TrainDataset, piece: MicroBatch) -> TrainBatch:
    """Read, mix and stack samples, as arrays; a partner from outside the micro-batch is read besides."""
    read = lru_cache(maxsize=None)(dataset.__getitem__)
    samples = [read(key) for key in piece.keys]
    clips = [_mixed(dataset, key, partner, read) for key, partner in zip(piece.keys, piece.partners, strict=True)]
    learned = [sample for sample, weight in zip(samples, piece.weights, strict=True) if weight > 0]
    return TrainBatch(
        frames=np.stack([frames for frames, _ in clips]),
        targets=np.stack([target for _, target in clips]),
        indices=np.array([sample["index"] for sample in samples], np.int64),
        failures=[failure for sample in learned for failure in sample["failures"]],
        errors=[sample["error"] for sample in learned if sample["error"]],
    )


def _mixed(
    dataset: TrainDataset,
    key: tuple[int, int],
    partner: tuple[int, int],
    read: Callable[[tuple[int, int]], TrainSample],
) -> tuple[np.ndarray, np.ndarray]:
    """The frames uint8 `[1, T, H, W, C]` and the target float32 `[K]` of a key, mixed with those of its partner."""
    sample = read(key)
    frames, target = sample["frames"], sample["target"]
    if dataset.mixing is None or partner == key:
        return frames, target
    mix = dataset.mixing.draw(key, *frames.shape[2:4])
    if mix is None:
        return frames, target
    other = read(partner)
    return mix_frames(frames, other["frames"], mix), mix_targets(target, other["target"], mix)


def view_batches(
    dataset: ViewDataset, *, videos_per_batch: int, rank: int, world: int, num_workers: int
) -> Iterator[Batch]:
    """Batches of whole videos; each is read by one process, and no batch depends on how many processes there are."""
    starts = range(0, len(dataset), videos_per_batch)[rank::world]
    keys = [range(start, min(start + videos_per_batch, len(dataset))) for start in starts]
    timeout_sec = dataset.views.source.timeout_sec
    return _load(_read_views, dataset, keys, min(num_workers, len(keys)), videos_per_batch, timeout_sec)


def _read_views(dataset: ViewDataset, indices: Sequence[int]) -> Batch:
    samples = [dataset[index] for index in indices]
    return Batch(
        frames=np.stack([sample["frames"] for sample in samples]),
        labels=np.array([sample["label"] for sample in samples], np.int64),
        indices=np.array([sample["index"] for sample in samples], np.int64),
        errors=[sample["error"] for sample in samples],
    )


def _load(
    read: Callable[[Any, Any], Any],
    dataset: TrainDataset | ViewDataset,
    keys: Iterable[Any],
    num_workers: int,
    batch_size: int,
    timeout_sec: float,
) -> Generator[Any, None, None]:
    """What `read` makes of each key, in order, with its arrays as tensors."""
    if num_workers == 0:
        batches: Iterator[Any] = (read(dataset, key) for key in keys)
        yield from map(_to_tensors, batches)
        return
    batch_bytes = batch_size * math.prod(dataset.sample_shape) + SMALL_ARRAYS_BYTES
    ahead = read_ahead(read, dataset, keys, num_workers=num_workers, batch_bytes=batch_bytes, timeout_sec=timeout_sec)
    with closing(ahead):
        yield from map(_to_tensors, ahead)


def _to_tensors(batch: dict[str, Any]) -> dict[str, Any]:
    """Copies of the arrays, on the device; to a GPU they go by way of pinned memory, which it reads by itself."""
    import paddle

    pinned = paddle.CUDAPinnedPlace() if paddle.get_device().startswith("gpu") else None

    def to_tensor(array: np.ndarray) -> Any:
        return paddle.to_tensor(array) if pinned is None else paddle.to_tensor(array, place=pinned).cuda()

    return {name: to_tensor(value) if isinstance(value, np.ndarray) else value for name, value in batch.items()}
