"""What a test leaves behind: per-video scores by name, and a summary that states the protocol beside the score."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

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
    lines = [
        f"videos:              {len(result.names)} scored, {len(result.failures)} unreadable",
        f"protocol:            {protocol(split)}",
        f"top-1:               {result.top1:.4f}",
        f"top-{min(5, num_classes)}:               {result.top5:.4f}",
        f"mean class accuracy: {result.mean_class_accuracy:.4f}",
    ]
    return "\n".join(lines)


def write_scores(result: Evaluation, class_names: Sequence[str], output_dir: str | Path) -> tuple[Path, Path]:
    """Write `test_scores.npz` (names, labels, scores `[N, K]`) and `test_predictions.csv`; return their paths."""
    scores_path, csv_path = Path(output_dir) / "test_scores.npz", Path(output_dir) / "test_predictions.csv"
    names = np.array(result.names)
    atomic_write(scores_path, lambda path: np.savez(path, names=names, labels=result.labels, scores=result.scores))
    predicted = result.scores.argmax(axis=1)

    def write_csv(path: str) -> None:
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["name", "label", "predicted", "predicted_name", "score", "error"])
            for name, label, best, row in zip(result.names, result.labels, predicted, result.scores, strict=True):
                writer.writerow([name, label, best, class_names[best], f"{row[best]:.6f}", ""])
            for name, reason in result.failures:
                writer.writerow([name, "", "", "", "", reason])

    atomic_write(csv_path, write_csv)
    return scores_path, csv_path
