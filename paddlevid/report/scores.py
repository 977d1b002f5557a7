"""The scores of a test: a summary that states the protocol beside them, and files with those of each video."""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paddlevid.data.class_names import number_names
from paddlevid.data.transforms import VIEW_CROPS
from paddlevid.errors import DataError
from paddlevid.evaluate import Evaluation
from paddlevid.runtime import atomic_write
from paddlevid.schema import EvalConfig

AVERAGES = ("logits", "probabilities")


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


def write_scores(
    result: Evaluation,
    class_names: Sequence[str],
    output_dir: str | Path,
    *,
    prefix: str = "test",
    extra: Mapping[str, np.ndarray] | None = None,
) -> tuple[Path, Path]:
    """Write `test_scores.npz`, which `read_scores` reads, and `test_predictions.csv`; return their paths.

    The first has names `[N]`, labels `[N]`, scores `[N, K]`, average (what the scores are means of) and class_names
    `[K]`; where videos have several labels, also targets, bool `[N, K]`. The table has the likeliest class of each
    video and its probability; several labels are joined by commas there.

    Args:
        prefix: in place of `test` in the names of the files.
        extra: more arrays for the first file.
    """
    scores_path = Path(output_dir) / f"{prefix}_scores.npz"
    csv_path = Path(output_dir) / f"{prefix}_predictions.csv"
    arrays: dict[str, Any] = {
        "names": np.array(result.names),
        "labels": result.labels,
        "scores": result.scores,
        "average": np.array(result.average),
        "class_names": np.array(class_names),
        **(extra or {}),
    }
    if result.targets is not None:
        arrays["targets"] = result.targets
    atomic_write(scores_path, lambda path: np.savez(path, **arrays))
    predicted, probabilities = result.scores.argmax(axis=1), result.probabilities()

    def write_csv(path: str) -> None:
        # Names of files may be bytes that are no text
        with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file)
            writer.writerow(["name", "label", "predicted", "predicted_name", "score", "error"])
            for row, (name, best) in enumerate(zip(result.names, predicted, strict=True)):
                score = f"{probabilities[row, best]:.6f}"
                writer.writerow([name, _label_field(result, row), best, class_names[best], score, ""])
            for name, reason in result.failures:
                writer.writerow([name, "", "", "", "", reason])

    atomic_write(csv_path, write_csv)
    return scores_path, csv_path


def read_scores(path: str | Path) -> tuple[Evaluation, list[str]]:
    """Read a file of `write_scores` -> the scores, and the class names: the bare numbers where it has none.

    Files of before `average` was written are taken for probabilities where all rows are such, else for logits.

    Raises:
        DataError: the file cannot be read, is no file of scores, or has scores or labels that cannot be used.
    """
    arrays = _read_arrays(path)
    missing = [key for key in ("names", "labels", "scores") if key not in arrays]
    if missing:
        raise DataError(f"{path}: no file of scores, such as test_scores.npz of main.py --test: no {missing[0]} in it")
    names, labels, scores, targets = arrays["names"], arrays["labels"], arrays["scores"], arrays.get("targets")
    _check_shapes(path, names, labels, scores, targets)
    labels, num_classes = labels.astype(np.int64), scores.shape[1]
    if not np.isfinite(scores).all():
        bad = np.flatnonzero(~np.isfinite(scores).all(axis=1))
        raise DataError(
            f"{path}: the scores of {len(bad)} of {len(scores)} videos, such as {names[bad[0]]}, are not finite: the "
            "model has diverged"
        )
    if targets is None and not (labels.min() >= 0 and labels.max() < num_classes):
        wrong = labels[(labels < 0) | (labels >= num_classes)][0]
        raise DataError(f"{path}: label {wrong} must be 0 to {num_classes - 1} for {num_classes} classes")
    average = str(arrays["average"]) if "average" in arrays else _guess_average(scores, targets)
    if average not in AVERAGES:
        raise DataError(f"{path}: scores are means of {average!r}; expected one of {', '.join(AVERAGES)}")
    class_names = [str(name) for name in arrays.get("class_names", number_names(num_classes))]
    if len(class_names) != num_classes:
        raise DataError(f"{path}: {len(class_names)} class names for {num_classes} classes")
    result = Evaluation(names.tolist(), labels, scores, [], targets=targets, average=average)
    return result, class_names


def _read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    wanted = "no file of scores, such as test_scores.npz of main.py --test"
    try:
        with open(path, "rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                raise DataError(f"{path}: {wanted}: one array, without names")
            with loaded:
                return {key: loaded[key] for key in loaded.files}
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, EOFError, KeyError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error):
        raise DataError(f"{path}: {wanted}, or a damaged one") from None


def _check_shapes(
    path: str | Path, names: np.ndarray, labels: np.ndarray, scores: np.ndarray, targets: np.ndarray | None
) -> None:
    expected = scores.ndim == 2 and scores.dtype.kind == "f" and min(scores.shape) > 0
    expected &= names.shape == labels.shape == scores.shape[:1]
    expected &= names.dtype.kind == "U" and labels.dtype.kind in "iu"
    if targets is not None:
        expected &= targets.shape == scores.shape and targets.dtype == bool
    if not expected:
        found = {"names": names, "labels": labels, "scores": scores, "targets": targets}
        text = ", ".join(f"{key} {a.dtype} {list(a.shape)}" for key, a in found.items() if a is not None)
        raise DataError(
            f"{path}: expected names of N videos, N integer labels and float scores [N, K], and for several labels a "
            f"video bool targets [N, K]; found {text}"
        )


def _guess_average(scores: np.ndarray, targets: np.ndarray | None) -> str:
    are_probabilities = scores.min() >= 0 and scores.max() <= 1 + 1e-4
    if targets is None:  # a softmax each
        are_probabilities &= bool(np.abs(scores.sum(axis=1, dtype=np.float64) - 1).max() < 1e-3)
    return "probabilities" if are_probabilities else "logits"


def _label_field(result: Evaluation, row: int) -> str:
    if result.targets is None:
        return str(result.labels[row])
    return ",".join(map(str, np.flatnonzero(result.targets[row])))
