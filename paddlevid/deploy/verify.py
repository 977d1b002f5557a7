"""Whether exported graphs answer like the model that they came from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from paddlevid import build
from paddlevid.data.annotations import multi_hot
from paddlevid.data.records import Record
from paddlevid.deploy.manifest import Manifest
from paddlevid.deploy.predictor import Predictor
from paddlevid.deploy.runtimes import Runtime
from paddlevid.errors import DataError
from paddlevid.metrics import average_precision, mean_average_precision, top_k_accuracy
from paddlevid.schema import Config

CHECKED_BATCHES = (1, 3)
RTOL, ATOL = 1e-3, 1e-5  # of a number, and of the largest one where that is above 1
TOLERANCE = 1e-4  # of the largest number: rounding stays below, a wrong layer does not


class Difference(NamedTuple):
    """The largest difference of an output, relative to its largest number, and whether all are within rounding."""

    largest: float
    is_rounding: bool


def difference(actual: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> Difference:
    """Compare the outputs of two runs on the same frames."""
    largest, is_rounding = 0.0, True
    for one, other in zip(actual, expected, strict=True):
        size = float(np.abs(other).max())
        apart = float(np.abs(one - other).max()) / max(size, 1e-30)
        close = np.allclose(one, other, rtol=RTOL, atol=ATOL * max(size, 1.0)) and apart <= TOLERANCE
        largest, is_rounding = max(largest, apart), is_rounding and bool(close)
    return Difference(largest, is_rounding)


def compare_batches(
    runtime: Callable[..., tuple[np.ndarray, ...]], inputs: Sequence[np.ndarray], answers: dict[int, list[np.ndarray]]
) -> Difference:
    """Compare with the model's answers to the first B of `inputs`, for each B of `answers`."""
    found = [difference(runtime(*(array[:batch] for array in inputs)), expected) for batch, expected in answers.items()]
    return Difference(max(one.largest for one in found), all(one.is_rounding for one in found))


def frames_to_check(cfg: Config, manifest: Manifest, count: int) -> tuple[np.ndarray, str]:
    """Frames uint8 `[count, T, H, W, C]` of a video of the recipe, or noise where none of its first can be read."""
    views = build.build_views(manifest.data, manifest.views)
    shape = (count, views.num_frames, views.size, views.size, views.channels)
    frames, origin = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8), "random frames"
    for record in spread(recipe_records(cfg), 10):
        try:
            frames, origin = views(record), record.path
            break
        except DataError:
            continue
    repeats = -(-count // len(frames))
    return np.concatenate([frames] * repeats)[:count], origin


def recipe_records(cfg: Config, list_path: str | None = None) -> Sequence[Record]:
    """The videos of the recipe's test list, or of another one; none where it cannot be read on this machine."""
    split = cfg.test or cfg.valid
    assert split is not None
    try:
        return build.read_recipe_list(cfg.data, list_path or split.list)
    except DataError:
        if list_path is not None:
            raise
        return []


def spread(records: Sequence[Record], count: int) -> list[Record]:
    """At most `count` records from all over a list, which may be sorted by class."""
    if len(records) <= count:
        return list(records)
    return [records[index] for index in np.linspace(0, len(records) - 1, count).astype(int)]


class Agreement(NamedTuple):
    """Of `videos` videos: how many have the best class of fp32, and how right both are.

    That is the top-1 accuracy or, where videos have several labels, the mean average precision over classes.
    """

    videos: int
    same_top1: float
    accuracy: float | None = None
    accuracy_fp32: float | None = None
    mean_average_precision: float | None = None
    mean_average_precision_fp32: float | None = None


def compare_videos(
    manifest: Manifest, reference: Runtime, reduced: Sequence[Runtime], records: Iterable[Record]
) -> list[Agreement]:
    """Compare each of `reduced` with `reference` over whole videos, all views of each; unreadable ones do not count."""
    predictors = [Predictor.from_parts(manifest, runtime) for runtime in (reference, *reduced)]
    rows: list[list[np.ndarray]] = []
    found: list[Record] = []
    for record, views in predictors[0].read_ahead(records):
        if isinstance(views, DataError):
            continue
        rows.append([p.average(p.run(views).logits) for p in predictors])
        found.append(record)
    if not rows:
        return []
    scores = np.array(rows).swapaxes(0, 1)  # [1 + reduced, N, K]
    best = scores.argmax(axis=2)  # [1 + reduced, N]
    rightness = [_rightness(one, found) for one in scores]
    return [
        Agreement(
            videos=len(found),
            same_top1=float((best[i] == best[0]).mean()),
            **rightness[i],
            **{f"{name}_fp32": value for name, value in rightness[0].items()},
        )
        for i in range(1, len(predictors))
    ]


def _rightness(scores: np.ndarray, records: Sequence[Record]) -> dict[str, float]:
    """What can be said of scores `[N, K]` with the labels of these records, by its name in `Agreement`."""
    if all(record.labels is not None for record in records):
        precisions = average_precision(scores, multi_hot(records, scores.shape[1]))
        return {} if np.isnan(precisions).all() else {"mean_average_precision": mean_average_precision(precisions)}
    labels = [record.label for record in records]
    return {} if None in labels else {"accuracy": top_k_accuracy(scores, np.array(labels), 1)}


def calibration_views(cfg: Config, manifest: Manifest, records: Iterable[Record], count: int) -> Iterator[np.ndarray]:
    """One view uint8 `[1, T, H, W, C]` of each of the first `count` records that can be read."""
    views = build.build_views(manifest.data, manifest.views)
    for record in records:
        if count == 0:
            return
        try:
            view = views(record)
        except DataError:
            continue
        count -= 1
        yield view[len(view) // 2 :][:1]
