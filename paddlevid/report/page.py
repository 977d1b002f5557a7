"""`report.html`: all that a test tells, in one file that needs no other and no network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from paddlevid.data.dataset import ViewDataset
from paddlevid.evaluate import Evaluation
from paddlevid.report import sections
from paddlevid.report.numbers import calibrate, find_mistakes, find_multi_label_mistakes
from paddlevid.report.style import CSS, JS
from paddlevid.runtime import atomic_write

MAX_MISTAKES = 24


def write_report(
    result: Evaluation,
    dataset: ViewDataset,
    class_names: Sequence[str],
    output_dir: str | Path,
    *,
    title: str,
    facts: Mapping[str, str],
    recipe: str = "",
) -> Path:
    """Write `report.html` into a folder and return its path.

    Args:
        result: the scores, maybe of no video at all.
        dataset: what was scored; the frames of the mistakes are read from it again.
        facts: what was tested, name by name.
        recipe: the whole configuration as text.
    """
    path = Path(output_dir) / "report.html"
    text = make_page(result, dataset, class_names, title=title, facts=facts, recipe=recipe)
    # A path that is no text is shown with question marks
    atomic_write(path, lambda temporary: Path(temporary).write_bytes(text.encode("utf-8", "replace")))
    return path


def make_page(
    result: Evaluation,
    dataset: ViewDataset,
    class_names: Sequence[str],
    *,
    title: str,
    facts: Mapping[str, str],
    recipe: str = "",
) -> str:
    """The page; the arguments are those of `write_report`."""
    below = escape(facts.get("Protocol", ""))
    head = f'<p class="axis">Test report</p><h1>{escape(title)}</h1><p class="soft">{below}</p>'
    what = sections.tested(facts, recipe)
    if not result.names:
        parts = [sections.tiles(result, None), what, sections.unreadable(result)]
    elif result.targets is None:
        parts = _one_label(result, dataset, class_names, what)
    else:
        parts = _multi_label(result, dataset, class_names, what)
    version = facts.get("Versions", "paddlevid")
    return _frame(title, head + "".join(parts) + f"<footer>{escape(version)}</footer>")


def _one_label(result: Evaluation, dataset: ViewDataset, class_names: Sequence[str], what: str) -> list[str]:
    probabilities = result.probabilities()
    predicted = result.scores.argmax(axis=1)
    confidence = np.take_along_axis(probabilities, predicted[:, None], axis=1)[:, 0]
    calibration = calibrate(confidence, predicted == result.labels)
    mistakes = find_mistakes(predicted, confidence, result.labels)
    right = sections.reliability(calibration) if calibration else ""
    return [
        sections.tiles(result, calibration),
        f'<div class="pair">{what}{right}</div>',
        sections.confusions(result, predicted, class_names),
        sections.classes_by_accuracy(result, predicted, class_names),
        sections.gallery(result, probabilities, mistakes, class_names, dataset, MAX_MISTAKES),
        sections.unreadable(result),
    ]


def _multi_label(result: Evaluation, dataset: ViewDataset, class_names: Sequence[str], what: str) -> list[str]:
    assert result.targets is not None
    probabilities = result.probabilities()
    mistakes = find_multi_label_mistakes(probabilities, result.targets)
    return [
        sections.tiles(result, None),
        what,
        sections.worst_classes(result, class_names),
        sections.classes_by_average_precision(result, class_names),
        sections.gallery(result, probabilities, mistakes, class_names, dataset, MAX_MISTAKES),
        sections.unreadable(result),
    ]


def _frame(title: str, body: str) -> str:
    digest = base64.b64encode(hashlib.sha256(JS.encode()).digest()).decode()
    # No other script than ours runs, whatever the names of classes and files
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head>\n"
        f"<body><main>{body}</main><script>{JS}</script></body></html>\n"
    )
