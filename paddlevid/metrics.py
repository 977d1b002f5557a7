"""Scores of a whole test set, from one row of class scores a video; and how logits become scores and probabilities."""

from __future__ import annotations

import numpy as np


def top_k_accuracy(scores: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Share of videos whose label is among the k' = min(k, K) best classes; ties go to the lower class.

    Args:
        scores: `[N, K]`, in any unit that orders classes.
        labels: `[N]` integers in 0..K-1.
    """
    if not len(labels):
        return float("nan")
    best = np.argsort(-scores, axis=1, kind="stable")[:, : min(k, scores.shape[1])]  # [N, k']
    return float((best == labels[:, None]).any(axis=1).mean())


def mean_class_accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    """Top-1 accuracy of each class that has videos, averaged over these classes.

    Args:
        scores: `[N, K]`.
        labels: `[N]` integers in 0..K-1.
    """
    if not len(labels):
        return float("nan")
    correct = scores.argmax(axis=1) == labels  # [N]
    totals = np.bincount(labels)
    hits = np.bincount(labels, weights=correct, minlength=len(totals))
    present = totals > 0
    return float((hits[present] / totals[present]).mean())


def average_precision(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Average precision of each class over all videos: float64 `[K]`, not a number for a class without positives.

    AP is the sum over thresholds of (gain in recall) x precision, without interpolation. There is a threshold at each
    distinct score, so videos with equal scores count together and their order does not matter: as scikit-learn's
    `average_precision_score`. MMAction2's `mean_average_precision` is the mean of the same; its `mmit` variant, the
    mean over videos of the AP over classes, is another number, and so is PaddleVideo's GAP, which ranks the best
    classes of all videos in one list and breaks ties by chance. A score that is not a number counts as the lowest.

    Args:
        scores: `[N, K]`, in any unit that orders the videos of a class.
        targets: bool `[N, K]`.
    """
    num_classes = targets.shape[1]
    precisions = np.full(num_classes, np.nan)
    for label in np.flatnonzero(targets.any(axis=0)):
        column = np.where(np.isnan(scores[:, label]), -np.inf, scores[:, label])  # [N]
        order = np.argsort(-column)
        column, hits = column[order], np.cumsum(targets[order, label])
        ends = np.append(np.flatnonzero(column[1:] != column[:-1]), len(column) - 1)  # the last video of each threshold
        gains = np.diff(hits[ends], prepend=0) / hits[-1]
        precisions[label] = (gains * (hits[ends] / (ends + 1))).sum()
    return precisions


def mean_average_precision(precisions: np.ndarray) -> float:
    """The mean of `average_precision` over the classes that have positives."""
    present = precisions[~np.isnan(precisions)]
    return float(present.mean()) if len(present) else float("nan")


def class_probabilities(logits: np.ndarray, *, multi_label: bool) -> np.ndarray:
    """Logits `[..., K]` -> probabilities: of each class by itself (sigmoid), or of one class among all (softmax)."""
    if multi_label:
        return np.exp(-np.logaddexp(0, -logits))  # neither overflows nor loses small ones to 1 - 1
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def average_views(logits: np.ndarray, *, average: str, multi_label: bool) -> np.ndarray:
    """Logits of views `[..., V, K]` -> scores of the video `[..., K]`: means of `average`, logits or probabilities."""
    if average == "probabilities":
        logits = class_probabilities(logits, multi_label=multi_label)
    return logits.mean(axis=-2)


def score_probabilities(scores: np.ndarray, *, average: str, multi_label: bool) -> np.ndarray:
    """Scores `[..., K]` of `average_views` -> probabilities `[..., K]`."""
    return scores if average == "probabilities" else class_probabilities(scores, multi_label=multi_label)
