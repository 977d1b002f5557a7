"""The curves of a training run as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paddlevid.runtime import atomic_write

Row = Mapping[str, Any]  # of metrics.jsonl: split, step, and the scalars

# By which of the scalars of a validation its weights are the best, the first that there is.
CHOSEN_BY = ("mAP", "top1")
SHARES = ("top1", "top5", "mean_class_accuracy", "mAP")
TITLES = {"top1": "top-1", "top5": "top-5", "mean_class_accuracy": "mean class accuracy", "mAP": "mAP"}
TRAIN_COLOR, VALID_COLOR, BEST_COLOR = "#64748b", "#2563eb", "#16a34a"
SMOOTH_FROM = 40  # points; a curve of more is noise without its running median


def plot_curves(rows: Sequence[Row], png_path: str | Path, title: str = "") -> None:
    """Draw loss, accuracy, learning rate and gradient norm over steps into a PNG, with the best validation marked."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(12.5, 7.2), layout="constrained")
    FigureCanvasAgg(figure)
    (loss_axes, share_axes), (lr_axes, norm_axes) = figure.subplots(2, 2, sharex=True)
    _draw_train(loss_axes, rows, "loss", "training loss")
    _draw_shares(share_axes, rows)
    _draw_train(lr_axes, rows, "lr", "learning rate")
    _draw_train(norm_axes, rows, "grad_norm", "gradient norm")
    _set_norm_scale(norm_axes, rows)
    for axes in (lr_axes, norm_axes):
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    best = best_validation(rows)
    if best is not None:
        step, name, value = best
        for axes in (loss_axes, share_axes, lr_axes, norm_axes):
            axes.axvline(step, color=BEST_COLOR, linestyle=":", linewidth=1.2, zorder=0)
        share_axes.plot(step, value, "*", color=BEST_COLOR, markersize=14, markeredgecolor="white", zorder=5)
        share_axes.set_title(f"accuracy: best {TITLES[name]} {value:.4f} at step {step}", fontsize=11)
    figure.suptitle(title, fontsize=11)
    atomic_write(png_path, lambda path: figure.savefig(path, dpi=100))


def best_validation(rows: Sequence[Row]) -> tuple[int, str, float] | None:
    """Step, name and value of the best validation so far, the earliest of equals; None before the first."""
    valid = [row for row in rows if row["split"] == "valid"]
    for name in CHOSEN_BY:
        scored = [(row["step"], row[name]) for row in valid if name in row]
        if scored:
            step, value = max(scored, key=lambda point: (point[1], -point[0]))
            return step, name, value
    return None


def _points(rows: Sequence[Row], split: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    points = [(row["step"], row[name]) for row in rows if row["split"] == split and name in row]
    steps, values = np.array(points, np.float64).reshape(-1, 2).T
    return steps, values


def _draw_train(axes: Any, rows: Sequence[Row], name: str, title: str) -> None:
    steps, values = _points(rows, "train", name)
    axes.set_title(title, fontsize=11)
    axes.grid(alpha=0.25)
    if not len(steps):
        axes.text(0.5, 0.5, "not recorded", ha="center", va="center", color="0.6", transform=axes.transAxes)
        return
    noisy = name != "lr" and len(steps) >= SMOOTH_FROM
    marker = "." if len(steps) == 1 else ""
    axes.plot(steps, values, color=TRAIN_COLOR, alpha=0.35 if noisy else 1.0, linewidth=1.2, marker=marker)
    if noisy:
        axes.plot(*_running_median(steps, values), color=TRAIN_COLOR, linewidth=1.8)
    finite = values[np.isfinite(values)]
    if name != "grad_norm" and finite.size and finite.min() >= 0:
        axes.set_ylim(0, 1.05 * finite.max() or 1)
    if name == "lr":
        axes.ticklabel_format(axis="y", scilimits=(-2, 2))


def _set_norm_scale(axes: Any, rows: Sequence[Row]) -> None:
    """A few steps with large gradients would flatten all others: then by powers of ten."""
    _, values = _points(rows, "train", "grad_norm")
    positive = values[np.isfinite(values) & (values > 0)]
    if positive.size and positive.max() > 20 * np.median(positive):
        axes.set_yscale("log")
    elif positive.size:
        axes.set_ylim(bottom=0)


def _draw_shares(axes: Any, rows: Sequence[Row]) -> None:
    """Whatever shares of right answers there are, of training and of each validation split."""
    axes.set_title("accuracy", fontsize=11)
    axes.grid(alpha=0.25)
    axes.set_ylim(0, 1.02)
    splits = list(dict.fromkeys(row["split"] for row in rows))
    chosen = best_validation(rows)
    for split in splits:
        names = [name for name in SHARES if any(name in row for row in rows if row["split"] == split)]
        for name in names:
            steps, values = _points(rows, split, name)
            label = f"{split} {TITLES[name]}"
            if split == "train":
                noisy = len(steps) >= SMOOTH_FROM
                axes.plot(steps, values, color=TRAIN_COLOR, alpha=0.3 if noisy else 0.9, linewidth=1.2)
                smooth = _running_median(steps, values) if noisy else (steps, values)
                axes.plot(*smooth, color=TRAIN_COLOR, linewidth=1.8, label=label)
            elif chosen is None or name == chosen[1]:
                color = VALID_COLOR if split == "valid" else None
                axes.plot(steps, values, "o-", color=color, markersize=4, linewidth=1.6, label=label)
            else:
                axes.plot(steps, values, "--" if name == "top5" else ":", color=VALID_COLOR, alpha=0.6, label=label)
    if axes.lines:
        axes.legend(loc="best", fontsize=9, framealpha=0.6)
    else:
        axes.text(0.5, 0.5, "not recorded", ha="center", va="center", color="0.6", transform=axes.transAxes)


def _running_median(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of a twentieth of the curve around each of at most 400 of its points; a few wild steps do not show in it."""
    half = max(1, len(values) // 40)
    places = np.unique(np.linspace(0, len(values) - 1, 400).round().astype(np.int64))
    windows = [values[max(0, place - half) : place + half + 1] for place in places]
    finite = [window[np.isfinite(window)] for window in windows]
    return steps[places], np.array([np.median(window) if window.size else np.nan for window in finite])
