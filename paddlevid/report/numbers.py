"""What a test says beyond its headline: confusions, classes one by one, calibration, and the most confident mistakes.

N videos, K classes. A probability that is not a number, of a model that has diverged, counts as none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Confusion(NamedTuple):
    """`videos` of the `total` ones of class `label` were taken for class `predicted`."""

    label: int
    predicted: int
    videos: int
    total: int


class Bin(NamedTuple):
    """The predictions whose confidence lies in a tenth of the scale."""

    low: float
    high: float
    predictions: int
    confidence: float  # their mean
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """Whether the probability of the predicted class is the share of right predictions."""

    bins: list[Bin]  # those with predictions, by confidence
    error: float  # expected calibration error: mean of |confidence - accuracy| over predictions, by bins
    confidence: float  # mean over all
    accuracy: float


class Mistake(NamedTuple):
    """A video (`row` of the scores) and the class that it is wrongly said to show."""

    row: int
    predicted: int
    probability: float


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Number of videos of each class (row) predicted as each class (column): int64 `[K, K]`."""
    pairs = np.bincount(labels * num_classes + predicted, minlength=num_classes * num_classes)
    return pairs.reshape(num_classes, num_classes)


def worst_confusions(matrix: np.ndarray, limit: int) -> list[Confusion]:
    """Those of most videos first; among equals those of the larger share of their class."""
    totals = matrix.sum(axis=1)
    found = [
        Confusion(int(label), int(predicted), int(matrix[label, predicted]), int(totals[label]))
        for label, predicted in zip(*np.nonzero(matrix), strict=True)
        if label != predicted
    ]
    return sorted(found, key=lambda pair: (-pair.videos, -pair.videos / pair.total, pair.label, pair.predicted))[:limit]


def accuracy_interval(accuracy: float, count: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share of `count` videos (Wilson, 1927, Journal of the ASA 22)."""
    z = 1.96
    centre = (accuracy + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(accuracy * (1 - accuracy) / count + z * z / (4 * count * count))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def calibrate(confidence: np.ndarray, correct: np.ndarray, num_bins: int = 10) -> Calibration | None:
    """Reliability in bins of equal width and the expected calibration error (Guo et al., 2017, arXiv:1706.04599).

    Args:
        confidence: `[N]`, the probability of the predicted class.
        correct: bool `[N]`.

    Returns:
        None where no confidence is a number.
    """
    known = np.isfinite(confidence)
    confidence, correct = confidence[known].astype(np.float64), correct[known]
    if not len(confidence):
        return None
    places = np.clip((confidence * num_bins).astype(np.int64), 0, num_bins - 1)
    bins = []
    for place in np.unique(places):
        inside = places == place
        bins.append(
            Bin(
                place / num_bins,
                (place + 1) / num_bins,
                int(inside.sum()),
                float(confidence[inside].mean()),
                float(correct[inside].mean()),
            )
        )
    error = sum(b.predictions * abs(b.confidence - b.accuracy) for b in bins) / len(confidence)
    return Calibration(bins, error, float(confidence.mean()), float(correct.mean()))


def find_mistakes(predicted: np.ndarray, confidence: np.ndarray, labels: np.ndarray) -> list[Mistake]:
    """Videos whose predicted class is not theirs, the most confident first; all arrays `[N]`."""
    rows = np.flatnonzero(predicted != labels)
    return _by_confidence([Mistake(int(row), int(predicted[row]), float(confidence[row])) for row in rows])


def find_multi_label_mistakes(probabilities: np.ndarray, targets: np.ndarray) -> list[Mistake]:
    """Videos with their likeliest wrong class, where it has 50 % or is likelier than a class that the video has.

    Args:
        probabilities: `[N, K]`.
        targets: bool `[N, K]`.
    """
    found = []
    for row, (chances, own) in enumerate(zip(np.nan_to_num(probabilities, nan=-1.0), targets, strict=True)):
        if own.all():
            continue
        wrong = int(np.where(own, -np.inf, chances).argmax())
        if chances[wrong] >= 0.5 or (own.any() and chances[wrong] > chances[own].min()):
            found.append(Mistake(row, wrong, float(chances[wrong])))
    return _by_confidence(found)


def _by_confidence(mistakes: list[Mistake]) -> list[Mistake]:
    cleaned = [Mistake(row, predicted, float(np.nan_to_num(p, nan=0.0))) for row, predicted, p in mistakes]
    return sorted(cleaned, key=lambda mistake: (-mistake.probability, mistake.row))
