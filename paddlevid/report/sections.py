"""The sections of the page as HTML. All names and paths go through `escape`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from paddlevid.data.dataset import ViewDataset
from paddlevid.evaluate import Evaluation
from paddlevid.report.figures import MAX_IN_TABLE, confusion_figure, reliability_figure
from paddlevid.report.frames import describe_strip, frames_of
from paddlevid.report.numbers import (
    Calibration,
    Mistake,
    accuracy_interval,
    confusion_matrix,
    worst_confusions,
)

TITLES = {"mean_class_accuracy": "mean class accuracy", "mAP": "mean average precision"}
MAX_PAIRS = 24
MAX_FAILED = 200
MAX_CLASSES_OF_VIDEO = 6
BESIDE = 12  # classes; the matrix of more takes the whole width
LONG_TABLE = 24  # rows; more scroll, and can be filtered


def tiles(result: Evaluation, calibration: Calibration | None) -> str:
    """The headline numbers."""
    found = []
    if result.names:
        for name, value in result.scalars().items():
            k = min(5, result.scores.shape[1])
            title = {"top1": "top-1 accuracy", "top5": f"top-{k} accuracy"}.get(name, TITLES.get(name, name))
            lines = [title]
            if name == "top1":
                low, high = accuracy_interval(value, len(result.names))
                lines.append(f"95 % CI {100 * low:.1f} to {100 * high:.1f}")
            found.append(_tile(_percent(value), *lines, kind="first" if name == result.score_name else ""))
    found.append(_tile(f"{len(result.names):,}", "videos scored"))
    if result.failures:
        found.append(_tile(f"{len(result.failures):,}", "videos unreadable,", "in no score", kind="alarm"))
    if calibration is not None:
        found.append(_tile(_percent(calibration.error), "expected calibration error"))
    return f'<div class="tiles">{"".join(found)}</div>'


def tested(facts: Mapping[str, str], recipe: str) -> str:
    """What was tested, and the whole configuration folded away."""
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    folded = f"<details><summary>The whole configuration</summary><pre>{escape(recipe)}</pre></details>"
    return f'<section><h2>What was tested</h2><dl class="facts">{rows}</dl>{folded if recipe else ""}</section>'


def confusions(result: Evaluation, predicted: np.ndarray, names: Sequence[str]) -> str:
    """The confusion matrix, and in words which class is taken for which other."""
    matrix = confusion_matrix(result.labels, predicted, len(names))
    note = (
        "Numbers of videos; colours by their share of a true class (a row), right in blue, wrong in red."
        if len(names) <= MAX_IN_TABLE
        else "The more of a true class (a row), the stronger, by the square root; right in blue, wrong in red."
    )
    figure = confusion_figure(matrix, names)
    section = f'<section class="matrix"><h2>Confusion matrix</h2><p class="note">{note}</p>{figure}</section>'
    pairs = worst_confusions(matrix, MAX_PAIRS if len(names) > BESIDE else MAX_PAIRS // 3)
    if not pairs:
        return section
    items = []
    for pair in pairs:
        text = f"<b>{escape(names[pair.label])}</b> taken for <b>{escape(names[pair.predicted])}</b>"
        count = f"{pair.videos} of {pair.total}"
        items.append(f"<li>{text}{_bar(pair.videos / pair.total, count, 'bad')}</li>")
    worst = f'<section><h2>Worst confusions</h2><ol class="pairs">{"".join(items)}</ol></section>'
    return f'<div class="pair">{section}{worst}</div>' if len(names) <= BESIDE else section + worst


def classes_by_accuracy(result: Evaluation, predicted: np.ndarray, names: Sequence[str]) -> str:
    """Accuracy of each class with its number of videos; the worst first, classes without videos last."""
    matrix = confusion_matrix(result.labels, predicted, len(names))
    totals = matrix.sum(axis=1)
    shares = np.where(totals > 0, np.diag(matrix) / np.maximum(totals, 1), np.inf)
    rows = []
    for label in np.lexsort((-totals, shares)):
        count, right = int(totals[label]), int(matrix[label, label])
        others = matrix[label].copy()
        others[label] = 0
        other = int(others.argmax())
        taken = f'{escape(names[other])} <span class="soft">({others[other]})</span>' if others[other] else ""
        bar = _bar(right / count, _percent(right / count)) if count else '<span class="soft">no videos</span>'
        value = f"{right / count:.6f}" if count else ""
        rows.append(
            f'<tr><td class="num soft" data-v="{label}">{label}</td><td class="name">{escape(names[label])}</td>'
            f'<td class="num" data-v="{count}">{count}</td><td class="num wide" data-v="{right}">{right}</td>'
            f'<td data-v="{value}">{bar}</td><td class="wide">{taken}</td></tr>'
        )
    heads = [("#", ""), ("class", ""), ("videos", ""), ("right", "wide"), ("accuracy", ""), ("most taken for", "wide")]
    absent = int((totals == 0).sum())
    note = f"{absent} of {len(names)} classes have no video in this list." if absent else ""
    return _class_table("Classes", note, heads, rows, sorted_by="accuracy")


def classes_by_average_precision(result: Evaluation, names: Sequence[str]) -> str:
    """Average precision of each class with its number of videos; the worst first, classes without videos last."""
    assert result.targets is not None
    totals, precisions = result.targets.sum(axis=0), result.average_precision
    rows = []
    for label in np.lexsort((-totals, np.where(totals > 0, precisions, np.inf))):
        count = int(totals[label])
        bar = _bar(precisions[label], _percent(precisions[label])) if count else '<span class="soft">no videos</span>'
        value = f"{precisions[label]:.6f}" if count else ""
        share = count / len(result.names)
        rows.append(
            f'<tr><td class="num soft" data-v="{label}">{label}</td><td class="name">{escape(names[label])}</td>'
            f'<td class="num" data-v="{count}">{count}</td>'
            f'<td class="num wide" data-v="{share:.6f}">{_percent(share)}</td><td data-v="{value}">{bar}</td></tr>'
        )
    heads = [("#", ""), ("class", ""), ("videos", ""), ("of all", "wide"), ("average precision", "")]
    note = "A model that guesses has the average precision of the share of videos that have the class."
    return _class_table("Classes", note, heads, rows, sorted_by="average precision")


def worst_classes(result: Evaluation, names: Sequence[str]) -> str:
    """In short, the classes of the lowest average precision."""
    assert result.targets is not None
    totals, precisions = result.targets.sum(axis=0), result.average_precision
    present = np.flatnonzero(totals)
    worst = present[np.argsort(precisions[present], kind="stable")][:12]
    items = [
        f"<li><b>{escape(names[label])}</b> <span class='soft'>{_count(int(totals[label]), 'video')}</span>"
        f"{_bar(precisions[label], _percent(precisions[label]), 'bad')}</li>"
        for label in worst
    ]
    note = '<p class="note">Those of the lowest average precision.</p>'
    return f'<section><h2>Worst classes</h2>{note}<ol class="pairs">{"".join(items)}</ol></section>'


def reliability(calibration: Calibration) -> str:
    difference = calibration.confidence - calibration.accuracy
    tendency = "overconfident" if difference > 0 else "underconfident"
    by = f"{tendency} by {100 * abs(difference):.1f} points on average" if abs(difference) >= 0.001 else "in balance"
    means = f"Mean confidence {_percent(calibration.confidence)}, accuracy {_percent(calibration.accuracy)}: {by}."
    note = (
        "Of predictions with a confidence of 80 %, 80 % should be right: bars should end at the diagonal, and red is "
        f"what lies between. Pale bars stand for few predictions. {means}"
    )
    figure = reliability_figure(calibration)
    return f'<section><h2>Calibration</h2><p class="note">{note}</p>{figure}</section>'


def gallery(
    result: Evaluation,
    probabilities: np.ndarray,
    mistakes: Sequence[Mistake],
    names: Sequence[str],
    dataset: ViewDataset,
    limit: int,
) -> str:
    """The most confident mistakes, with frames of their videos."""
    if not mistakes:
        note = '<p class="note">None: there is nothing to show.</p>' if result.names else ""
        return f"<section><h2>Most confident mistakes</h2>{note}</section>" if note else ""
    records = {record.name: record for record in dataset.records}
    cards = []
    for mistake in mistakes[:limit]:
        name = result.names[mistake.row]
        addresses, reason = frames_of(dataset, records[name])
        frames = "".join(
            f'<img src="{address}" alt="frame {number + 1}" decoding="async">'
            for number, address in enumerate(addresses)
        )
        said = _said(result, probabilities[mistake.row], mistake, names)
        cards.append(
            f'<article class="mistake"><div class="frames">{frames or f"<p>{escape(reason)}</p>"}</div>'
            f'{said}<p class="path soft">{escape(name)}</p></article>'
        )
    shown = "" if len(mistakes) <= limit else f", the {limit} most confident of them"
    note = f"{_count(len(mistakes), 'video')} with a wrong class{shown}; {describe_strip(dataset)}."
    if result.targets is None:
        note += " All are in test_predictions.csv."
    return (
        f'<section><h2>Most confident mistakes</h2><p class="note">{note}</p>'
        f'<div class="gallery">{"".join(cards)}</div></section>'
    )


def _said(result: Evaluation, row: np.ndarray, mistake: Mistake, names: Sequence[str]) -> str:
    """What was predicted and what is true of a video, with probabilities `[K]`."""
    lines = [("predicted", "wrong", mistake.predicted)]
    if result.targets is None:
        own = [int(result.labels[mistake.row])]
    else:
        own = [int(label) for label in np.flatnonzero(result.targets[mistake.row])]
    lines += [("true" if number == 0 else "", "right", label) for number, label in enumerate(own)]
    rows = "".join(
        f'<dt>{what}</dt><dd class="{kind}">{escape(names[label])}</dd><dd class="num">{_percent(row[label])}</dd>'
        for what, kind, label in lines[: 1 + MAX_CLASSES_OF_VIDEO]
    )
    if not own:
        rows += "<dt>true</dt><dd>none of the classes</dd><dd></dd>"
    if len(own) > MAX_CLASSES_OF_VIDEO:
        rows += f"<dt></dt><dd>and {len(own) - MAX_CLASSES_OF_VIDEO} more</dd><dd></dd>"
    return f'<dl class="said">{rows}</dl>'


def unreadable(result: Evaluation) -> str:
    """The videos that are in no score, with reasons."""
    if not result.failures:
        return ""
    items = [
        f'<li><p class="path">{escape(name)}</p><p class="soft">{escape(reason)}</p></li>'
        for name, reason in result.failures[:MAX_FAILED]
    ]
    rest = len(result.failures) - MAX_FAILED
    if rest > 0:
        items.append(f'<li class="soft">and {rest:,} more</li>')
    note = f"{_count(len(result.failures), 'video')} could not be read; the scores above are without them."
    return (
        f'<section><h2>Unreadable videos</h2><p class="note">{note}</p>'
        f'<ul class="failed long">{"".join(items)}</ul></section>'
    )


def _class_table(
    title: str, note: str, heads: Sequence[tuple[str, str]], rows: Sequence[str], *, sorted_by: str
) -> str:
    cells = []
    for head, kind in heads:
        order = ' aria-sort="ascending"' if head == sorted_by else ""
        cells.append(f'<th class="{kind}" scope="col"{order}><button type="button">{escape(head)}</button></th>')
    is_long = len(rows) > LONG_TABLE
    field = '<input type="search" placeholder="Find a class" aria-label="Find a class" data-filters="classes">'
    table = f"<thead><tr>{''.join(cells)}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return (
        f"<section><h2>{title}</h2>{f'<p class=note>{note}</p>' if note else ''}{field if is_long else ''}"
        f'<div class="{"long" if is_long else ""}"><table class="classes" id="classes">{table}</table></div></section>'
    )


def _tile(number: str, *lines: str, kind: str = "") -> str:
    below = "".join(f"<span>{escape(line)}</span>" for line in lines)
    return f'<div class="tile {kind}"><b>{escape(number)}</b>{below}</div>'


def _bar(share: float, text: str, kind: str = "") -> str:
    return f'<div class="bar {kind}"><i style="--p:{share:.3f}"></i><span class="num">{escape(text)}</span></div>'


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if np.isfinite(share) else "not a number"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("s" if number != 1 else "")
