"""The weighted mean of the scores of several streams, before or after the softmax."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from paddlevid.errors import DataError
from paddlevid.evaluate import Evaluation
from paddlevid.fusion.streams import Streams


def fusable(streams: Streams, *, softmax: bool) -> list[Evaluation]:
    """The results of streams in one unit: logits, or probabilities where `softmax` asks for them.

    Raises:
        DataError: logits are asked for, and a stream has probabilities: means of these over views have no logits.
    """
    if softmax:
        return [replace(result, scores=result.probabilities(), average="probabilities") for result in streams.results]
    for path, result in zip(streams.paths, streams.results, strict=True):
        if result.average != "logits":
            raise DataError(
                f"{path}: holds probabilities, which cannot be fused before the softmax: add --softmax, or test again "
                "with -o test.average=logits"
            )
    return streams.results


def fuse(results: Sequence[Evaluation], weights: Sequence[float] | np.ndarray) -> Evaluation:
    """The mean of scores, weighted: that the weights need not sum to 1 changes nothing.

    Args:
        results: of the same videos in the same order, all logits or all probabilities.
        weights: one for each, none negative, not all 0.
    """
    total = np.zeros(results[0].scores.shape, np.float64)  # [N, K]
    for result, weight in zip(results, weights, strict=True):
        total += float(weight) * result.scores.astype(np.float64)
    return replace(results[0], scores=(total / sum(map(float, weights))).astype(np.float32))
