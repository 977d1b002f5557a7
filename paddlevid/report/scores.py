"""The scores of a test: a summary that states the protocol beside them, and files with those of each video."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paddlevid.data.transforms import VIEW_CROPS
from paddlevid.evaluate import Evaluation
from paddlevid.runtime import atomic_write
from paddlevid.schema import EvalConfig


def protocol(split: EvalConfig) -> str:
    """The views of a video as papers write them: temporal clips x spatial crops."""
    return f"{split.num_clips} clip(s) x {VIEW_CROPS[split.crop].num_crops} crop(s), mean of {split.average}"


def summarize(result: Evaluation, split: EvalConfig) -> str:
    """A few lines: how many videos, how they were looked at, how many were right."""
    num_classes = result.scores.shape[1]
    titles = {"top1": "top-1", "top5": f"top-{min(5, num_classes)}", "mean_class_accuracy": "mean class accuracy"}
    lines = [
        f"{'videos:':<20} {len(result.names)} scored, {len(result.failures)} unreadable",
        f"{'protocol:':<20} {protocol(split)}",
        *(f"{titles.get(name, name) + ':':<20} {value:.4f}" for name, value in result.scalars().items()),
    ]
    return "\n".join(lines)


def write_scores(result: Evaluation, class_names: Sequence[str], output_dir: str | Path) -> tuple[Path, Path]:
    """Write `test_scores.npz` (names, labels, scores `[N, K]`) and `test_predictions.csv`; return their paths.

    The table has the likeliest class of each video and its probability. Where videos have several labels, they are
    joined by commas there, and `targets`, bool `[N, K]`, are in the other file as well.
    """
    scores_path, csv_path = Path(output_dir) / "test_scores.npz", Path(output_dir) / "test_predictions.csv"
    arrays: dict[str, Any] = {"names": np.array(result.names), "labels": result.labels, "scores": result.scores}
    if result.targets is not None:
        arrays["targets"] = result.targets
    atomic_write(scores_path, lambda path: np.savez(path, **arrays))
    predicted, probabilities = result.scores.argmax(axis=1), result.probabilities()

    def write_csv(path: str) -> None:
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["name", "label", "predicted", "predicted_name", "score", "error"])
            for row, (name, best) in enumerate(zip(result.names, predicted, strict=True)):
                score = f"{probabilities[row, best]:.6f}"
                writer.writerow([name, _label_field(result, row), best, class_names[best], score, ""])
            for name, reason in result.failures:
                writer.writerow([name, "", "", "", "", reason])

    atomic_write(csv_path, write_csv)
    return scores_path, csv_path


def _label_field(result: Evaluation, row: int) -> str:
    if result.targets is None:
        return str(result.labels[row])
    return ",".join(map(str, np.flatnonzero(result.targets[row])))
