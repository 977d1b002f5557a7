"""All views of each video through a model, each video once over all processes; returns numbers, prints nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import paddle
import paddle.nn.functional as F

from paddlevid.data.dataset import ViewDataset
from paddlevid.data.loader import Batch, view_batches
from paddlevid.metrics import mean_class_accuracy, top_k_accuracy
from paddlevid.precision import FULL_PRECISION, Precision
from paddlevid.runtime import ALONE, Ranks


@dataclass(frozen=True)
class Evaluation:
    """Scores of the videos that could be read, in the order of the list, and what became of the others."""

    names: list[str]
    labels: np.ndarray  # int64 [N]
    scores: np.ndarray  # float32 [N, K], the mean over views of logits or probabilities
    failures: list[tuple[str, str]]  # name and reason of each unreadable video

    @property
    def top1(self) -> float:
        return top_k_accuracy(self.scores, self.labels, 1)

    @property
    def top5(self) -> float:
        """Top-k' with k' = min(5, K)."""
        return top_k_accuracy(self.scores, self.labels, 5)

    @property
    def mean_class_accuracy(self) -> float:
        return mean_class_accuracy(self.scores, self.labels)


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
    rows: dict[int, np.ndarray] = {}
    errors: dict[int, str] = {}
    was_training = model.training
    model.eval()
    for batch in view_batches(
        dataset, videos_per_batch=videos_per_batch, rank=ranks.rank, world=ranks.world, num_workers=num_workers
    ):
        scores = _score(model, normalize, batch, batch_size, average, precision)  # [B, K]
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
    return Evaluation(
        names=[dataset.records[index].name for index in done],
        labels=np.array([dataset.records[index].label for index in done], np.int64),
        scores=np.stack([rows[index] for index in done]) if done else np.zeros((0, 1), np.float32),
        failures=[(dataset.records[index].name, errors[index]) for index in sorted(errors)],
    )


@paddle.no_grad()
def _score(
    model: paddle.nn.Layer,
    normalize: paddle.nn.Layer,
    batch: Batch,
    batch_size: int,
    average: str,
    precision: Precision,
) -> np.ndarray:
    """Mean scores over the views of each video of a batch: float32 `[B, K]`."""
    num_videos, num_views, num_frames, height, width, channels = batch["frames"].shape
    clips = batch["frames"].reshape([-1, num_frames, height, width, channels])  # [B*V, T, H, W, C]
    logits = []
    for start in range(0, clips.shape[0], batch_size):
        video = normalize(clips[start : start + batch_size])
        with precision.autocast():
            piece = model(video)
        piece = piece.astype("float32")
        logits.append(piece.mean(axis=1) if piece.ndim == 3 else piece)
    scores = paddle.concat(logits)  # [B*V, K]
    if average == "probabilities":
        scores = F.softmax(scores, axis=1)
    return scores.reshape([num_videos, num_views, -1]).mean(axis=1).numpy()


def _gather(mine: dict, ranks: Ranks) -> dict:
    """The union of what the processes hold."""
    if ranks.world == 1:
        return mine
    parts: list[dict] = []
    paddle.distributed.all_gather_object(parts, mine)
    return {key: value for part in parts for key, value in part.items()}
