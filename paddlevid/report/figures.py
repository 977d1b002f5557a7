"""Figures of the page as HTML and SVG: the confusion matrix and the reliability of confidences."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape

import numpy as np

from paddlevid.pictures import data_url, encode_png
from paddlevid.report.numbers import Calibration

MAX_IN_TABLE = 24  # classes; more are a picture
MANY_IN_TABLE = 12  # classes; the cells of more are smaller
MAX_WITH_NAMES = 120  # classes; the axes of a picture of more have no room for names
CELL = 12  # pixels of a class in a picture with names
MARGIN = 150  # for the names
MAX_NAME = 24  # letters
RIGHT, WRONG = (59, 130, 246), (239, 68, 68)  # visible on white and on black


def confusion_figure(matrix: np.ndarray, names: Sequence[str]) -> str:
    """`matrix` `[K, K]` of numbers of videos: as a table of few classes, as a picture of many."""
    if len(names) <= MAX_IN_TABLE:
        return _table(matrix, names)
    return _picture(matrix, names)


def _table(matrix: np.ndarray, names: Sequence[str]) -> str:
    heads = "".join(f'<th scope="col" title="{escape(name)}"><span>{escape(name)}</span></th>' for name in names)
    rows = []
    for label, row in enumerate(matrix):
        cells = [_cell(int(count), int(row.sum()), label, predicted, names) for predicted, count in enumerate(row)]
        name = escape(names[label])
        rows.append(f'<tr><th scope="row" title="{name}">{name}</th>{"".join(cells)}</tr>')
    corner = '<th class="axis">true &darr;&ensp;predicted &rarr;</th>'
    body = f"<thead><tr>{corner}{heads}</tr></thead><tbody>{''.join(rows)}</tbody>"
    kind = "cells many" if len(names) > MANY_IN_TABLE else "cells"
    return f'<div class="scroll"><table class="{kind}">{body}</table></div>'


def _cell(count: int, total: int, label: int, predicted: int, names: Sequence[str]) -> str:
    if not count:
        return "<td></td>"
    share = count / total
    kind = ("g" if label == predicted else "b") + (" deep" if share >= 0.45 else "")
    what = "right" if label == predicted else f"taken for {names[predicted]}"
    title = escape(f"{names[label]}: {count} of {total} {what}")
    return f'<td class="{kind}" style="--p:{share:.3f}" title="{title}">{count}</td>'


def _picture(matrix: np.ndarray, names: Sequence[str]) -> str:
    num_classes = len(names)
    url = data_url(encode_png(heat_picture(matrix)), "png")
    labelled = num_classes <= MAX_WITH_NAMES
    cell, margin = (CELL, MARGIN) if labelled else (1, 0)
    side = num_classes * cell
    parts = [
        f'<image href="{url}" x="{margin}" y="{margin}" width="{side}" height="{side}" preserveAspectRatio="none"/>',
        f'<rect class="wall" x="{margin}" y="{margin}" width="{side}" height="{side}" '
        'vector-effect="non-scaling-stroke"/>',
    ]
    if labelled:
        for number, name in enumerate(names):
            centre = margin + (number + 0.5) * cell
            text = escape(_short(name))
            parts.append(f'<text x="{margin - 5}" y="{centre + 3.2:g}" text-anchor="end">{text}</text>')
            parts.append(f'<text transform="translate({centre + 3.2:g} {margin - 5}) rotate(-90)">{text}</text>')
    total = margin + side + (2 if labelled else 0)
    size = f'width="{total}" height="{total}"' if labelled else ""
    kind = "heat" if labelled else "heat whole"
    svg = (
        f'<svg class="{kind}" viewBox="0 0 {total} {total}" {size} role="img" '
        f'aria-label="confusion matrix of {num_classes} classes">{"".join(parts)}</svg>'
    )
    hint = "Point at a place to read it here."
    return (
        f'<p class="axis">rows: true class, columns: predicted class, both in the order of the labels</p>'
        f'<div class="scroll">{svg}</div><p class="read" id="read" aria-live="polite">{hint}</p>'
        f'<script type="application/json" id="cells">{_cells_json(matrix, names)}</script>'
    )


def heat_picture(matrix: np.ndarray) -> np.ndarray:
    """A pixel a cell, RGBA `[K, K, 4]`: blue right, red wrong; the more of its row, the more opaque, by square root.

    By the square root, because one video of fifty would not be seen otherwise.
    """
    totals = np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    shares = matrix / totals
    opacity = np.where(matrix > 0, 0.25 + 0.75 * np.sqrt(shares), 0.0)
    picture = np.empty((*matrix.shape, 4), np.uint8)
    picture[..., :3] = WRONG
    picture[np.arange(len(matrix)), np.arange(len(matrix)), :3] = RIGHT
    picture[..., 3] = (255 * opacity).round()
    return picture


def _cells_json(matrix: np.ndarray, names: Sequence[str]) -> str:
    cells = [[int(row), int(column), int(matrix[row, column])] for row, column in zip(*np.nonzero(matrix), strict=True)]
    data = {"names": list(names), "totals": matrix.sum(axis=1).tolist(), "cells": cells}
    # No name may end the script that this stands in
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def reliability_figure(calibration: Calibration) -> str:
    """Accuracy over confidence as an SVG; what lies between a bar and the diagonal is red."""
    left, top, side = 34, 8, 240
    parts = []
    for tick in range(0, 101, 20):
        offset = side * tick / 100
        x, y = left + offset, top + side - offset
        parts.append(f'<line class="grid" x1="{left}" x2="{left + side}" y1="{y:g}" y2="{y:g}"/>')
        parts.append(f'<text x="{left - 5}" y="{y + 3.5:g}" text-anchor="end">{tick}</text>')
        parts.append(f'<text x="{x:g}" y="{top + side + 14}" text-anchor="middle">{tick}</text>')
    most = max(bin_.predictions for bin_ in calibration.bins)
    for bin_ in calibration.bins:
        x, width = left + side * bin_.low + 1, side * (bin_.high - bin_.low) - 2
        title = (
            f"{100 * bin_.low:.0f} to {100 * bin_.high:.0f} %: {bin_.predictions} predictions, "
            f"mean confidence {100 * bin_.confidence:.1f} %, {100 * bin_.accuracy:.1f} % right"
        )
        low, high = sorted((bin_.accuracy, bin_.confidence))
        parts.append(
            f'<g opacity="{0.35 + 0.65 * (bin_.predictions / most) ** 0.5:.2f}"><title>{title}</title>'
            f"{_rect('acc', x, width, 0, bin_.accuracy, top + side, side)}"
            f"{_rect('gap', x, width, low, high, top + side, side)}</g>"
        )
    parts.append(f'<line class="ideal" x1="{left}" y1="{top + side}" x2="{left + side}" y2="{top}"/>')
    parts.append(f'<text x="{left + side / 2}" y="{top + side + 30}" text-anchor="middle">confidence, %</text>')
    parts.append(f'<text transform="translate(9 {top + side / 2}) rotate(-90)" text-anchor="middle">right, %</text>')
    label = "share of right predictions over their confidence"
    return (
        f'<svg class="reliability" viewBox="0 0 {left + side + 12} {top + side + 36}" role="img" '
        f'aria-label="{label}">{"".join(parts)}</svg>'
    )


def _rect(kind: str, x: float, width: float, low: float, high: float, bottom: float, scale: float) -> str:
    y, height = bottom - scale * high, scale * (high - low)
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"
