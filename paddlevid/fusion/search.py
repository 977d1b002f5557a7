"""The weights that are best on a validation set.

N videos, S streams, P points: weights `[S]` that sum to 1. Whether a video is right depends on them by its rivals only,
the classes that some stream puts before its own. Between two streams each rival is ahead up to some share of the second
or from some share on, so that the top-1 accuracy is a step function whose steps are known exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np

from paddlevid.errors import ConfigError, DataError
from paddlevid.evaluate import Evaluation
from paddlevid.fusion.fuse import fuse

PARTS = (100, 50, 20, 10, 5)  # into which the sum of all weights is divided
MAX_POINTS = 4000
NARROWEST = 1e-6  # of a step; the float32 of the scores tells no finer weights apart

Track = Callable[[Sequence[np.ndarray]], Iterable[np.ndarray]]


class Rivals(NamedTuple):
    """Pairs of a video and a class whose score is not below that of the video's own in every stream."""

    videos: np.ndarray  # int64 [M]
    leads: np.ndarray  # float64 [M, S], how far the own class is ahead
    wins_ties: np.ndarray  # bool [M], the own class is the lower of the two, which is predicted of equals


class Curve(NamedTuple):
    """A step function of the share of the second stream."""

    edges: np.ndarray  # [E+1], from 0 to 1
    values: np.ndarray  # [E], between them


@dataclass(frozen=True)
class Search:
    """The best weights, which sum to 1, and what was looked at."""

    weights: tuple[float, ...]
    score: float  # top-1, or mAP where videos have several labels
    ranges: list[tuple[float, float]]  # of each weight, over the points, or around the point, of this score
    points: np.ndarray  # [P, S]
    scores: np.ndarray  # [P]
    curve: Curve | None  # of two streams with one label a video


def search_weights(results: Sequence[Evaluation], *, track: Track = iter) -> Search:
    """Find the weights of the best score; of equals those of the lowest cross-entropy, then the most even ones.

    Two streams with one label a video are searched exactly; others on a grid with a step of 0.01 to 0.2, the finest of
    which MAX_POINTS allow. Each stream alone, and all with the same weight, are among the points.

    Args:
        results: of the same videos in the same order, all logits or all probabilities.
        track: passes the points on, such as a progress bar.

    Raises:
        ConfigError: there are too many streams.
        DataError: no video has any of the classes.
    """
    num_streams, targets = len(results), results[0].targets
    if targets is not None and not targets.any():
        raise DataError("weights cannot be searched on these videos: none of them has any of the classes")
    points = weight_grid(num_streams)
    curve = None
    if targets is None and num_streams == 2:
        curve = top1_curve(results)
        points = np.concatenate([points, _inside_best_steps(curve, points[:, 1])])
    scores = score_points(results, points, track)
    # Measured as they will be reported; each stream alone is among them in case that rounding makes the others worse
    corners = np.concatenate([np.eye(num_streams), np.full((1, num_streams), 1 / num_streams)])
    best = np.concatenate([points[scores == scores.max()], corners])
    measures = [_measure(results, point) for point in best]
    score = max(measures)[0]
    weights = best[measures.index(max(measures))]
    if curve is not None:
        low, high = _step_around(curve, float(weights[1]), score)
        ranges = [(1 - high, 1 - low), (low, high)]
    else:
        equals = best[[measure[0] == score for measure in measures]]
        ranges = list(zip(equals.min(axis=0).tolist(), equals.max(axis=0).tolist(), strict=True))
    return Search(tuple(weights.tolist()), score, ranges, points, scores, curve)


def _measure(results: Sequence[Evaluation], weights: np.ndarray) -> tuple[float, float, float]:
    """What the best weights have the most of: score, negative cross-entropy, evenness; less the noise of rounding."""
    fused = fuse(results, weights)
    score = fused.score
    if fused.targets is None:  # the same, without the sorting that top-5 asks for
        score = float((fused.scores.argmax(axis=1) == fused.labels).mean())
    return round(score, 12), -round(cross_entropy(fused), 9), -round(float((weights**2).sum()), 9)


def weight_grid(num_streams: int, parts: int | None = None) -> np.ndarray:
    """All weights `[P, S]` that sum to 1 and are multiples of 1/parts, and the even ones.

    Without `parts`, those of PARTS that make the most points up to MAX_POINTS.

    Raises:
        ConfigError: the fewest parts make more, of so many streams.
    """
    if parts is None:
        few_enough = (n for n in PARTS if comb(n + num_streams - 1, num_streams - 1) <= MAX_POINTS)
        parts = next(few_enough, None)
    if parts is None:
        raise ConfigError(f"the weights of {num_streams} streams are too many to search: fuse some of them first")
    # Stars and bars: the parts in a row, divided among the streams by bars
    length = parts + num_streams - 1
    bars = np.array(list(combinations(range(length), num_streams - 1)), np.int64).reshape(-1, num_streams - 1)
    ends = np.pad(bars, ((0, 0), (1, 1)), constant_values=((0, 0), (-1, length)))
    grid = (np.diff(ends, axis=1) - 1) / parts
    return np.concatenate([grid, np.full((1, num_streams), 1 / num_streams)])


def score_points(results: Sequence[Evaluation], points: np.ndarray, track: Track = iter) -> np.ndarray:
    """Top-1, or mAP where videos have several labels, of each of the weights `[P, S]`: float64 `[P]`."""
    if results[0].targets is not None:
        return np.array([round(fuse(results, point).score, 12) for point in track(list(points))])
    rivals, num_videos = find_rivals(results), len(results[0].labels)
    scores = []
    for point in track(list(points)):
        lead = rivals.leads @ point  # [M]
        lost = (lead < 0) | ((lead == 0) & ~rivals.wins_ties)
        right = np.ones(num_videos, bool)
        right[rivals.videos[lost]] = False
        scores.append(right.mean())
    return np.array(scores)


def find_rivals(results: Sequence[Evaluation]) -> Rivals:
    labels = results[0].labels
    rows = np.arange(len(labels))
    is_rival = np.zeros(results[0].scores.shape, bool)  # [N, K]
    for result in results:
        is_rival |= result.scores >= result.scores[rows, labels][:, None]
    is_rival[rows, labels] = False
    videos, classes = np.nonzero(is_rival)
    leads = [
        result.scores[videos, labels[videos]].astype(np.float64) - result.scores[videos, classes] for result in results
    ]
    return Rivals(videos, np.stack(leads, axis=1), labels[videos] < classes)


def top1_curve(results: Sequence[Evaluation]) -> Curve:
    """The top-1 accuracy of two streams over the share of the second."""
    rivals, num_videos = find_rivals(results), len(results[0].labels)
    first, second = rivals.leads.T  # [M]
    slope = second - first  # the lead is first + share * slope
    crossing = np.divide(-first, slope, out=np.zeros_like(first), where=slope != 0)
    low, high = np.zeros(num_videos), np.ones(num_videos)  # a video is right between them
    np.maximum.at(low, rivals.videos[slope > 0], crossing[slope > 0])
    np.minimum.at(high, rivals.videos[slope < 0], crossing[slope < 0])
    lost = (slope == 0) & ((first < 0) | ((first == 0) & ~rivals.wins_ties))
    high[rivals.videos[lost]] = -1
    low, high = low[low < high], high[low < high]
    edges = np.unique(np.concatenate([[0.0, 1.0], low, high]))
    changes = np.bincount(np.searchsorted(edges, low), minlength=len(edges))
    changes -= np.bincount(np.searchsorted(edges, high), minlength=len(edges))
    return Curve(edges, changes.cumsum()[:-1] / num_videos)


def _inside_best_steps(curve: Curve, shares: np.ndarray) -> np.ndarray:
    """Weights `[P, 2]` within each of the best steps that none of `shares` lies in, with few decimals."""
    found = []
    for place in np.flatnonzero(curve.values == curve.values.max()):
        low, high = float(curve.edges[place]), float(curve.edges[place + 1])
        if high - low > NARROWEST and not ((shares > low) & (shares < high)).any():
            middles = (round((low + high) / 2, decimals) for decimals in range(3, 9))
            share = next(middle for middle in middles if low < middle < high)
            found.append((round(1 - share, 8), share))
    return np.array(found, np.float64).reshape(-1, 2)


def _step_around(curve: Curve, share: float, score: float) -> tuple[float, float]:
    """The ends of the step of a share, with those beside it that are as high; the share itself where it alone is."""
    start = end = min(int(np.searchsorted(curve.edges, share, side="right")) - 1, len(curve.values) - 1)
    as_good = np.isclose(curve.values, score, rtol=0, atol=1e-9)
    if not as_good[start]:  # classes have equal scores at this very share
        return share, share
    while start > 0 and as_good[start - 1]:
        start -= 1
    while end < len(as_good) - 1 and as_good[end + 1]:
        end += 1
    return float(curve.edges[start]), float(curve.edges[end + 1])


def cross_entropy(result: Evaluation) -> float:
    """The mean of the negative logarithm of the probabilities of what is true, over videos (and over classes)."""
    probabilities = np.clip(result.probabilities().astype(np.float64), 1e-12, 1.0)
    if result.targets is None:
        return float(-np.log(probabilities[np.arange(len(result.labels)), result.labels]).mean())
    others = np.clip(1 - probabilities, 1e-12, 1.0)
    return float(-np.where(result.targets, np.log(probabilities), np.log(others)).mean())
