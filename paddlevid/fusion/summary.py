"""What a fusion says of itself, in lines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from paddlevid.evaluate import Evaluation
from paddlevid.fusion.search import Search
from paddlevid.fusion.streams import Streams, some

FUSED = "fused"
WIDEST_TITLE = 40
COLUMNS = {"top1": "top-1", "top5": "top-5", "mean_class_accuracy": "mean class accuracy", "mAP": "mAP"}


def describe_fusion(
    titles: Sequence[str], results: Sequence[Evaluation], weights: Sequence[float], fused: Evaluation
) -> list[str]:
    """A table of the scores of each stream and of all together, and what became of single videos."""
    num_videos, num_classes = fused.scores.shape
    unit = "sigmoid" if fused.targets is not None else "softmax"
    when = "before" if fused.average == "logits" else "after"
    lines = [f"{num_videos:,} videos, {num_classes:,} classes, fused {when} the {unit}", ""]
    lines += _table(titles, results, weights, fused)
    best = best_stream(results)
    compare = _compare_labels if fused.targets is None else _compare_classes
    return [*lines, "", *compare(titles[best], results, best, fused)]


def describe_left_out(titles: Sequence[str], streams: Streams, *, where: str = "") -> list[str]:
    """How many videos of each stream are not those of all; nothing where none are left out."""
    if not streams.missing:
        return []
    num_shared = len(streams.results[0].names)
    parts = [
        f"{number:,} of {number + num_shared:,} of {title}"
        for title, number in zip(titles, streams.left_out, strict=True)
    ]
    names = some([name for name, _ in streams.missing])
    return [f"left out{where}, as not all streams hold them: {', '.join(parts)} ({names})"]


def best_stream(results: Sequence[Evaluation]) -> int:
    """The number of the stream with the best score, the first of equals."""
    return max(range(len(results)), key=lambda number: results[number].score)


def describe_search(titles: Sequence[str], search: Search, results: Sequence[Evaluation]) -> list[str]:
    """The weights found, how good they are where they were searched, and within which bounds others are as good.

    Args:
        results: of the streams on the videos of the search.
    """
    weights = ", ".join(f"{title} {weight:.6g}" for title, weight in zip(titles, search.weights, strict=True))
    best = best_stream(results)
    name = COLUMNS[results[0].score_name]
    lines = [
        f"weights searched on {len(results[0].names):,} videos of the validation: {weights}",
        f"{name} there: {search.score:.4f}; {titles[best]}, the best stream, alone: {results[best].score:.4f}",
    ]
    if search.curve is not None:
        low, high = search.ranges[1]
        lines.append(f"the same {name} with {low:.4f} to {high:.4f} of {titles[1]}, as a share of both weights")
    else:
        pairs = zip(titles, search.ranges, strict=True)
        ranges = [f"{title} {low:.6g}" + (f" to {high:.6g}" if high > low else "") for title, (low, high) in pairs]
        lines.append(f"the same {name} at weights of {', '.join(ranges)}")
    return lines


def _table(
    titles: Sequence[str], results: Sequence[Evaluation], weights: Sequence[float], fused: Evaluation
) -> list[str]:
    heads = dict(COLUMNS, top5=f"top-{min(5, fused.scores.shape[1])}")
    names = list(fused.scalars())
    rows = [["stream", "weight", *(heads[name] for name in names)]]
    for title, result, weight in zip(titles, results, weights, strict=True):
        rows.append([_short(title), f"{weight:.6g}", *(f"{value:.4f}" for value in result.scalars().values())])
    rows.append([FUSED, "", *(f"{value:.4f}" for value in fused.scalars().values())])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def _compare_labels(title: str, results: Sequence[Evaluation], best: int, fused: Evaluation) -> list[str]:
    right = [result.scores.argmax(axis=1) == fused.labels for result in [*results, fused]]
    gained, lost = (right[-1] & ~right[best]).sum(), (right[best] & ~right[-1]).sum()
    some = np.any(right[:-1], axis=0)
    return [
        f"against {title}, the best stream: {_videos(gained)} put right, {_videos(lost)} put wrong",
        f"at least one stream is right on {_videos(some.sum())} ({some.mean():.4f})",
    ]


def _compare_classes(title: str, results: Sequence[Evaluation], best: int, fused: Evaluation) -> list[str]:
    before, after = results[best].average_precision, fused.average_precision
    with np.errstate(invalid="ignore"):
        better, worse = (after > before).sum(), (after < before).sum()
    known = (~np.isnan(after)).sum()
    return [f"against {title}, the best stream: AP is better in {better} of {known} classes, and worse in {worse}"]


def _videos(number: int) -> str:
    return f"{number:,} video{'' if number == 1 else 's'}"


def _short(title: str) -> str:
    return title if len(title) <= WIDEST_TITLE else "…" + title[1 - WIDEST_TITLE :]
