"""All views of each video through a model, each video once over all processes; returns numbers, prints nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import paddle

from paddlevid.data.annotations import multi_hot
from paddlevid.data.dataset import UNLABELLED, ViewDataset
from paddlevid.data.loader import Batch, view_batches
from paddlevid.metrics import (
    average_precision,
    average_views,
    mean_average_precision,
    mean_class_accuracy,
    score_probabilities,
    top_k_accuracy,
)
from paddlevid.precision import FULL_PRECISION, Precision
from paddlevid.ranks import meet
from paddlevid.runtime import ALONE, Ranks


@dataclass(frozen=True)
class Evaluation:
    """Scores of the videos that could be read, in the order of the list, and what became of the others."""

    names: list[str]
    labels: np.ndarray  # int64 [N]; -1 where videos have several labels
    scores: np.ndarray  # float32 [N, K], the mean over views of logits or probabilities
    failures: list[tuple[str, str]]  # name and reason of each unreadable video
    targets: np.ndarray | None = None  # bool [N, K] where videos have several labels
    average: str = "logits"  # what `scores` are means of

    @property
    def top1(self) -> float:
        """Of videos with one label; so are the next two."""
        return top_k_accuracy(self.scores, self.labels, 1)

    @property
    def top5(self) -> float:
        """Top-k' with k' = min(5, K)."""
        return top_k_accuracy(self.scores, self.labels, 5)

    @property
    def mean_class_accuracy(self) -> float:
        return mean_class_accuracy(self.scores, self.labels)

    @cached_property
    def average_precision(self) -> np.ndarray:
        """Of each class, float64 `[K]`; not a number for a class without positives. For videos with several labels."""
        assert self.targets is not None
        return average_precision(self.scores, self.targets)

    @property
    def mean_average_precision(self) -> float:
        """Over the classes that have positives. For videos with several labels."""
        return mean_average_precision(self.average_precision)

    @property
    def score_name(self) -> str:
        """The name, among `scalars()`, of the number that the best weights are chosen by."""
        return "top1" if self.targets is None else "mAP"

    @property
    def score(self) -> float:
        return self.scalars()[self.score_name]

    def scalars(self) -> dict[str, float]:
        """All numbers that sum the scores up."""
        if self.targets is not None:
            return {"mAP": self.mean_average_precision}
        return {"top1": self.top1, "top5": self.top5, "mean_class_accuracy": self.mean_class_accuracy}

    def probabilities(self) -> np.ndarray:
        """Of each class, float32 `[N, K]`; they sum to 1 where videos have one label."""
        return score_probabilities(self.scores, average=self.average, multi_label=self.targets is not None)


def evaluate(
    model: paddle.nn.Layer,
    normalize: paddle.nn.Layer,
    dataset: ViewDataset,
    *,
    batch_size: int,
    average: str = "logits",
    num_workers: int = 0,
    ranks: Ranks = ALONE,
    precision: Precision = FULL_PRECISION,
    on_progress: Callable[[int], object] | None = None,
) -> Evaluation:
    """Score a dataset. Every process returns the whole result, the same whatever their number.

    Args:
        model: float32 `[N, T, C, H, W]` -> logits `[N, K]` (or `[N, T, K]`, averaged over T).
        normalize: uint8 `[N, T, H, W, C]` -> float32 `[N, T, C, H, W]`.
        batch_size: clips a forward pass; the views of a video may spread over several.
        average: `logits` or `probabilities`, what is averaged over the views of a video.
        on_progress: called with the number of videos done since the last call.
    """
    videos_per_batch = max(1, batch_size // dataset.views.num_views)
    multi_label = any(record.labels is not None for record in dataset.records)
    rows: dict[int, np.ndarray] = {}
    errors: dict[int, str] = {}
    was_training = model.training
    model.eval()
    for batch in view_batches(
        dataset, videos_per_batch=videos_per_batch, rank=ranks.rank, world=ranks.world, num_workers=num_workers
    ):
        logits = _view_logits(model, normalize, batch, batch_size, precision)  # [B, V, K]
        scores = average_views(logits, average=average, multi_label=multi_label)  # [B, K]
        for index, row, error in zip(batch["indices"].numpy().tolist(), scores, batch["errors"], strict=True):
            if error:
                errors[index] = error
            else:
                rows[index] = row
        if on_progress is not None:
            on_progress(len(scores))
    if was_training:
        model.train()
    rows, errors = _gather(rows, ranks), _gather(errors, ranks)
    done = sorted(rows)
    records = [dataset.records[index] for index in done]
    scores = np.stack([rows[index] for index in done]) if done else np.zeros((0, 1), np.float32)
    return Evaluation(
        names=[record.name for record in records],
        labels=np.array([UNLABELLED if record.label is None else record.label for record in records], np.int64),
        scores=scores,
        failures=[(dataset.records[index].name, errors[index]) for index in sorted(errors)],
        targets=multi_hot(records, scores.shape[1]) if multi_label else None,
        average=average,
    )


@paddle.no_grad()
def _view_logits(
    model: paddle.nn.Layer, normalize: paddle.nn.Layer, batch: Batch, batch_size: int, precision: Precision
) -> np.ndarray:
    """Logits of each view of each video of a batch: float32 `[B, V, K]`."""
    num_videos, num_views, num_frames, height, width, channels = batch["frames"].shape
    clips = batch["frames"].reshape([-1, num_frames, height, width, channels])  # [B*V, T, H, W, C]
    logits = []
    for start in range(0, clips.shape[0], batch_size):
        video = normalize(clips[start : start + batch_size])
        with precision.autocast():
            piece = model(video)
        piece = piece.astype("float32")
        logits.append(piece.mean(axis=1) if piece.ndim == 3 else piece)
    return paddle.concat(logits).reshape([num_videos, num_views, -1]).numpy()  # [B, V, K]


def _gather(mine: dict, ranks: Ranks) -> dict:
    """The union of what the processes hold."""
    if ranks.world == 1:
        return mine
    meet(ranks)  # one may have had longer videos than the others
    parts: list[dict] = []
    paddle.distributed.all_gather_object(parts, mine)
    return {key: value for part in parts for key, value in part.items()}
