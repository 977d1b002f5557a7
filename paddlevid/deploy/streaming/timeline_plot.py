"""A picture of a timeline: the scores of the classes over time, and the segments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paddlevid.deploy.streaming.streams import format_time
from paddlevid.deploy.streaming.timeline import ScoreHistory, Segment, core
from paddlevid.runtime import atomic_write

STEPS_SEC = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400)
MAX_TICKS = 10
MAX_NAME = 32  # letters


def plot_timeline(
    path: str | Path,
    history: ScoreHistory,
    segments: Sequence[Segment],
    class_names: Sequence[str],
    *,
    num_classes: int = 8,
    title: str = "",
) -> None:
    """Write a PNG with a heat row for each of the `num_classes` classes of the highest peaks, and segments below.

    Classes stand in the order in which they are first seen. Segments of other classes share a row.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = history.rows()
    scores = np.array([row for _, _, row in rows], np.float32).reshape(len(rows), len(class_names))  # [windows, K]
    shown = _top_classes(scores, num_classes)
    found = {segment.label for segment in segments}
    barred = [label for label in shown if label in found]
    num_bars = max(1, len(barred) + bool(found - set(barred)))
    figure = Figure(figsize=(12, 1.9 + 0.3 * (len(shown) + num_bars)), layout="constrained")
    FigureCanvasAgg(figure)
    heat, bars = figure.subplots(2, 1, sharex=True, height_ratios=[max(1, len(shown)), num_bars])
    names = [_short(class_names[label]) for label in shown]
    if rows:
        _draw_heat(figure, heat, [(start, end) for start, end, _ in rows], scores[:, shown], names)
        _set_time_axis(bars, rows[0][0], rows[-1][1])
    _draw_segments(bars, segments, barred, class_names)
    heat.set_title(title, loc="left", fontsize=11)
    bars.set_title("segments", loc="left", fontsize=9, color="0.3")
    bars.set_xlabel("time (mm:ss)" if not rows or rows[-1][1] < 3600 else "time (h:mm:ss)")
    atomic_write(path, lambda temporary: figure.savefig(temporary, dpi=110, format="png"))


def _top_classes(scores: np.ndarray, num_classes: int) -> list[int]:
    """The classes of the highest peaks, in the order of the times at which they first reach half of their peak."""
    if not len(scores):
        return []
    peaks = scores.max(axis=0)  # [K]
    best = np.argsort(-peaks, kind="stable")[:num_classes]
    return sorted(best.tolist(), key=lambda label: (int((scores[:, label] >= peaks[label] / 2).argmax()), label))


def _draw_heat(figure: Any, axes: Any, spans: list[tuple[float, float]], scores: np.ndarray, names: list[str]) -> None:
    """`scores` [windows, rows]; each window is painted where it alone stands."""
    cores = [core(spans, place) for place in range(len(spans))]
    edges, columns = [cores[0][0]], []
    for (start_sec, end_sec), column in zip(cores, scores, strict=True):
        if start_sec > edges[-1]:  # nothing was looked at here
            edges.append(start_sec)
            columns.append(np.full(len(names), np.nan))
        edges.append(end_sec)
        columns.append(column)
    places = np.arange(len(names) + 1) - 0.5
    mesh = axes.pcolormesh(edges, places, np.array(columns).T, vmin=0, vmax=1, cmap="Blues", rasterized=True)
    axes.set_facecolor("0.6")
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.invert_yaxis()
    axes.tick_params(axis="both", length=0)
    axes.tick_params(axis="x", labelbottom=False)
    for place in places[1:-1]:
        axes.axhline(place, color="0.8", linewidth=0.8)
    bar = figure.colorbar(mesh, ax=axes, pad=0.01, fraction=0.03)
    bar.set_label("probability", fontsize=9)
    bar.ax.tick_params(labelsize=8)


def _draw_segments(axes: Any, segments: Sequence[Segment], barred: list[int], class_names: Sequence[str]) -> None:
    """A row for each of the classes `barred`, and one more for the segments of all others."""
    names = [_short(class_names[label]) for label in barred]
    for segment in segments:
        is_named = segment.label in barred
        row = barred.index(segment.label) if is_named else len(barred)
        length_sec = segment.end_sec - segment.start_sec
        axes.barh(row, length_sec, left=segment.start_sec, height=0.62, color="tab:blue" if is_named else "0.5")
    if any(segment.label not in barred for segment in segments):
        names.append("other classes")
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_ylim(max(1, len(names)) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    if not segments:
        axes.text(0.5, 0.5, "none", transform=axes.transAxes, ha="center", va="center", color="0.5", fontsize=9)


def _set_time_axis(axes: Any, start_sec: float, end_sec: float) -> None:
    span_sec = end_sec - start_sec
    step_sec = next((step for step in STEPS_SEC if span_sec / step <= MAX_TICKS), span_sec / MAX_TICKS)
    ticks = np.arange(np.ceil(start_sec / step_sec) * step_sec, end_sec + 1e-6, step_sec)
    axes.set_xticks(ticks, [format_time(tick) for tick in ticks], fontsize=9)
    axes.set_xlim(start_sec, end_sec)


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"
