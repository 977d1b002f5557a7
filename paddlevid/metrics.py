"""Scores of a whole test set, from one row of class scores a video."""

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
