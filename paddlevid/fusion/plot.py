"""A picture of a fusion: each stream and all together, and how the score depends on the weights."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paddlevid.evaluate import Evaluation
from paddlevid.fusion.search import Curve, Search, score_points, top1_curve, weight_grid
from paddlevid.fusion.summary import COLUMNS, FUSED
from paddlevid.pictures import text_fonts
from paddlevid.runtime import atomic_write

STREAM_COLOR, FUSED_COLOR, CHOSEN_COLOR = "#94a3b8", "#2563eb", "#16a34a"
VALID_COLOR, TEST_COLOR = "#2563eb", "#64748b"
PARTS = 20  # of the triangle, where no search has looked at finer ones
MAX_TITLE = 24  # letters


def plot_fusion(
    path: str | Path,
    titles: Sequence[str],
    results: Sequence[Evaluation],
    weights: Sequence[float],
    fused: Evaluation,
    *,
    search: Search | None = None,
) -> None:
    """Write a PNG: a bar for each stream and for all, and beside it the score over the weights of 2 or 3 streams.

    That is the score on the validation set where weights were searched on one, else that of `results`.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shares = np.array(weights, np.float64) / sum(weights)
    titles = [_short(title) for title in titles]
    draw_weights = {2: _draw_curves, 3: _draw_triangle}.get(len(titles))
    with rc_context({"font.family": text_fonts(), "text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=(12 if draw_weights else 7, max(4.6, 1.5 + 0.5 * len(titles))), layout="constrained")
        FigureCanvasAgg(figure)
        if draw_weights:
            bars, axes = figure.subplots(1, 2, width_ratios=[1, 1.25])
            draw_weights(axes, titles, results, shares, fused, search)
        else:
            bars = figure.subplots()
        _draw_bars(bars, titles, results, weights, fused)
        atomic_write(path, lambda temporary: figure.savefig(temporary, dpi=110, format="png"))


def _draw_bars(
    axes: Any, titles: Sequence[str], results: Sequence[Evaluation], weights: Sequence[float], fused: Evaluation
) -> None:
    from matplotlib.ticker import PercentFormatter

    scores = [result.score for result in [*results, fused]]
    labels = [f"{title}\nweight {weight:.4g}" for title, weight in zip(titles, weights, strict=True)] + [FUSED]
    places = np.arange(len(scores))
    axes.barh(places, scores, color=[STREAM_COLOR] * len(results) + [FUSED_COLOR], height=0.62)
    for place, score in enumerate(scores):
        inside = score > 0.5
        color = "white" if inside and place == len(results) else "black"
        x, side = (score - 0.015, "right") if inside else (score + 0.015, "left")
        axes.text(x, place, f"{100 * score:.2f} %", ha=side, va="center", color=color, fontsize=11)
    axes.set_yticks(places, labels, fontsize=10)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    axes.set_title(f"{COLUMNS[fused.score_name]} of {len(fused.names):,} videos", fontsize=11)
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _draw_curves(
    axes: Any,
    titles: Sequence[str],
    results: Sequence[Evaluation],
    shares: np.ndarray,
    fused: Evaluation,
    search: Search | None,
) -> None:
    """The score over the share of the second stream."""
    from matplotlib.ticker import PercentFormatter

    share, score = float(shares[1]), fused.score
    style = {"color": TEST_COLOR, "linewidth": 1.3, "label": "test"}
    if fused.targets is None:
        _draw_steps(axes, top1_curve(results), **style)
    else:
        points = weight_grid(2, PARTS)
        _draw_line(axes, points, score_points(results, points), **style)
    if search is not None:
        style = {"color": VALID_COLOR, "linewidth": 1.8, "label": "validation"}
        if search.curve is not None:
            _draw_steps(axes, search.curve, **style)
        else:
            _draw_line(axes, search.points, search.scores, **style)
        axes.axvspan(*search.ranges[1], color=CHOSEN_COLOR, alpha=0.14, linewidth=0)
        score = search.score
    axes.axvline(share, color=CHOSEN_COLOR, linestyle=":", linewidth=1.2)
    star = {"color": CHOSEN_COLOR, "markersize": 14, "markeredgecolor": "white", "zorder": 5}
    axes.plot(share, score, "*", label="chosen weights", **star)
    _zoom(axes)
    axes.set_xlim(-0.01, 1.01)
    ends = [f"{end}\n{title} alone" for end, title in enumerate(titles)]
    axes.set_xticks(np.linspace(0, 1, 6), [ends[0], "0.2", "0.4", "0.6", "0.8", ends[1]])
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    axes.set_xlabel(f"weight of {titles[1]}, as a share of both")
    axes.set_title(f"{COLUMNS[fused.score_name]} over the weights, star at {_mix(shares)}", fontsize=11)
    axes.grid(alpha=0.25)
    axes.legend(loc="best", fontsize=9, framealpha=0.8)


def _draw_steps(axes: Any, curve: Curve, **style: Any) -> None:
    axes.stairs(curve.values, curve.edges, baseline=None, **style)


def _draw_line(axes: Any, points: np.ndarray, scores: np.ndarray, **style: Any) -> None:
    order = np.argsort(points[:, 1])
    axes.plot(points[order, 1], scores[order], **style)


def _zoom(axes: Any) -> None:
    """Limits of a share at least 2 % apart, with some room at both ends and no ticks beyond 0 and 1."""
    from matplotlib.ticker import MaxNLocator

    low, high = axes.get_ylim()
    room = max(0.08 * (high - low), (0.02 - (high - low)) / 2)
    low, high = max(-0.01, low - room), min(1 + min(room, 0.01), high + room)
    ticks = MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(low, high)
    axes.set_yticks([tick for tick in ticks if max(0, low) <= tick <= min(1, high)])
    axes.set_ylim(low, high)


def _mix(shares: np.ndarray) -> str:
    return " : ".join(f"{share:.3g}" for share in shares)


def _draw_triangle(
    axes: Any,
    titles: Sequence[str],
    results: Sequence[Evaluation],
    shares: np.ndarray,
    fused: Evaluation,
    search: Search | None,
) -> None:
    """The score over the weights of three streams: each alone in a corner, none of it on the opposite side."""
    from matplotlib.ticker import PercentFormatter

    points = weight_grid(3, PARTS) if search is None else search.points
    scores = score_points(results, points) if search is None else search.scores
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 3**0.5 / 2]])  # of each stream, x and y
    places = points @ corners  # [P, 2]
    mesh = axes.tripcolor(*places.T, scores, shading="gouraud", cmap="viridis")
    axes.plot(*corners[[0, 1, 2, 0]].T, color="0.5", linewidth=0.8)
    x, y = shares @ corners
    axes.plot(x, y, "*", color="white", markersize=17, markeredgecolor="black", zorder=5, clip_on=False)
    for number, (title, (x, y)) in enumerate(zip(titles, corners, strict=True)):
        alone = scores[points[:, number] == 1][0]
        side, above = ("bottom", 0.03) if y else ("top", -0.03)
        text = f"{title} alone\n{100 * alone:.2f} %"
        axes.text(x, y + above, text, ha="center", va=side, fontsize=10)
    axes.set_xlim(-0.2, 1.2)
    axes.set_ylim(-0.15, 1.03)
    axes.set_aspect("equal")
    axes.axis("off")
    bar = axes.figure.colorbar(mesh, ax=axes, pad=0.02, fraction=0.04, format=PercentFormatter(1.0, symbol=" %"))
    bar.ax.tick_params(labelsize=9)
    where = "test" if search is None else "validation"
    axes.set_title(f"{COLUMNS[fused.score_name]} over the weights ({where}), star at {_mix(shares)}", fontsize=11)


def _short(title: str) -> str:
    return title if len(title) <= MAX_TITLE else "…" + title[1 - MAX_TITLE :]
