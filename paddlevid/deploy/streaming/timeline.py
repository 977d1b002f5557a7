"""What was seen when: rows of windows as CSV and JSON, segments of classes, and a picture of both."""

from __future__ import annotations

import csv
import json
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TextIO

import numpy as np

from paddlevid.deploy.predictor import Prediction
from paddlevid.deploy.streaming.streams import format_time
from paddlevid.deploy.streaming.windows import Scored
from paddlevid.errors import ConfigError

KEEP_SHARE = 0.6  # of the threshold: a segment goes on while its class stays above


class Row(NamedTuple):
    """A window and its best classes, best first."""

    start_sec: float
    end_sec: float
    predictions: list[Prediction]


def best_of(scored: Scored, class_names: Sequence[str], top_k: int) -> Row:
    """The `top_k` most probable classes of a window."""
    best = np.argsort(-scored.probabilities, kind="stable")[:top_k]
    found = [Prediction(int(label), class_names[label], float(scored.probabilities[label])) for label in best]
    return Row(scored.start_sec, scored.end_sec, found)


class Segment(NamedTuple):
    """A stretch of consecutive windows that show a class, with the mean and the largest of its scores."""

    start_sec: float
    end_sec: float
    label: int
    mean_score: float
    peak_score: float


class _RowFile:
    """A file that gets whole lines, each at once, so that a process that is killed leaves all but the last whole."""

    def __init__(self, path: str | Path) -> None:
        self._file: TextIO = open(path, "w", newline="", encoding="utf-8", buffering=1)  # noqa: SIM115

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


class CsvTimeline(_RowFile):
    """`start_sec,end_sec,label_1,name_1,score_1,label_2,...`, a line a window."""

    def __init__(self, path: str | Path, top_k: int) -> None:
        super().__init__(path)
        self._writer = csv.writer(self._file)
        columns = [f"{column}_{rank}" for rank in range(1, top_k + 1) for column in ("label", "name", "score")]
        self._writer.writerow(["start_sec", "end_sec", *columns])

    def write(self, row: Row) -> None:
        cells: list[object] = [f"{row.start_sec:.3f}", f"{row.end_sec:.3f}"]
        for label, name, score in row.predictions:
            cells += [label, name, f"{score:.6f}"]
        self._writer.writerow(cells)


class JsonTimeline(_RowFile):
    """JSON lines: an object a window, with `start_sec`, `end_sec` and `predictions` (`label`, `name`, `score`).

    One array could only be read once it is closed; lines can be read while they are being written.
    """

    def write(self, row: Row) -> None:
        found = [{**p._asdict(), "score": round(p.score, 6)} for p in row.predictions]
        row_json = {"start_sec": round(row.start_sec, 3), "end_sec": round(row.end_sec, 3), "predictions": found}
        self._file.write(json.dumps(row_json, ensure_ascii=False) + "\n")


class CsvSegments(_RowFile):
    """`start_sec,end_sec,label,name,mean_score,peak_score`, a line a segment, in the order of their ends."""

    def __init__(self, path: str | Path, class_names: Sequence[str]) -> None:
        super().__init__(path)
        self._class_names = class_names
        self._writer = csv.writer(self._file)
        self._writer.writerow(["start_sec", "end_sec", "label", "name", "mean_score", "peak_score"])

    def write(self, segment: Segment) -> None:
        times = [f"{segment.start_sec:.3f}", f"{segment.end_sec:.3f}"]
        scores = [f"{segment.mean_score:.6f}", f"{segment.peak_score:.6f}"]
        self._writer.writerow([*times, segment.label, self._class_names[segment.label], *scores])


def core(windows: Sequence[tuple[float, float]], place: int) -> tuple[float, float]:
    """What a window alone stands for: where it overlaps with its neighbours, the half that is nearer to it."""
    start_sec, end_sec = windows[place]
    if place > 0:
        start_sec = max(start_sec, (windows[place - 1][1] + start_sec) / 2)
    if place + 1 < len(windows):
        end_sec = min(end_sec, (end_sec + windows[place + 1][0]) / 2)
    return start_sec, end_sec


class SegmentFinder:
    """Merges consecutive windows into segments, for each class by itself, while they come.

    A segment is a run of windows whose score stays at `keep` or above and reaches `threshold` in one of them: a score
    that flickers about the threshold makes one segment. It begins and ends with the cores of its windows (see `core`),
    so that where one class follows another their segments meet. Scores are first averaged over `smooth` windows around
    each (fewer at the ends); those averages are what `mean_score` and `peak_score` tell of.

    Args:
        threshold: probability, over 0 and up to 1.
        keep: at most `threshold`; by default 0.6 of it.
        smooth: odd; 1 leaves scores as they are.
        min_sec: shorter segments are left out.

    Raises:
        ConfigError: an argument is out of its range.
    """

    def __init__(
        self, threshold: float = 0.5, *, keep: float | None = None, smooth: int = 1, min_sec: float = 0.0
    ) -> None:
        self._threshold, self._keep = threshold, KEEP_SHARE * threshold if keep is None else keep
        if not 0 < threshold <= 1 or not 0 < self._keep <= threshold:
            raise ConfigError(f"threshold {threshold:g}, keep {self._keep:g}: both must be over 0, up to 1, keep first")
        if smooth < 1 or smooth % 2 == 0:
            raise ConfigError(f"smooth {smooth}: it must be 1, 3, 5, ... windows")
        if min_sec < 0:
            raise ConfigError(f"a least length of {min_sec:g} s: it must not be negative")
        self._min_sec = min_sec
        self._half = smooth // 2
        self._recent: deque[Scored] = deque(maxlen=smooth)
        self._num_pushed = self._num_judged = 0
        self._runs: dict[int, list[float]] = {}  # label -> start, sum of scores, windows, peak
        self._last: Scored | None = None  # judged

    def push(self, window: Scored) -> list[Segment]:
        """The segments that end before this window, or before one that smoothing was waiting for."""
        self._recent.append(window)
        self._num_pushed += 1
        return self._judge_next() if self._num_pushed > self._half else []

    def finish(self) -> list[Segment]:
        """The segments that the end of the stream ends, and those that were waiting for it."""
        ended: list[Segment] = []
        while self._num_judged < self._num_pushed:
            ended += self._judge_next()
        for label in sorted(self._runs, key=lambda label: (self._runs[label][0], label)):
            ended += self._end(label, self._last.end_sec if self._last else 0.0)
        return ended

    def _judge_next(self) -> list[Segment]:
        """Judge the oldest window that was not yet, by the mean around it."""
        first = self._num_pushed - len(self._recent)
        place = self._num_judged - first
        window = self._recent[place]
        around = list(self._recent)[max(0, place - self._half) : place + self._half + 1]
        scores = np.mean([near.probabilities for near in around], axis=0)  # [K]
        self._num_judged += 1
        start_sec, ended_sec = window.start_sec, window.start_sec
        if self._last is not None:
            spans = [(self._last.start_sec, self._last.end_sec), (window.start_sec, window.end_sec)]
            ended_sec, start_sec = core(spans, 0)[1], core(spans, 1)[0]
        self._last = window
        above = set(np.flatnonzero(scores >= self._keep).tolist())
        ended = [segment for label in sorted(set(self._runs) - above) for segment in self._end(label, ended_sec)]
        for label in above:
            score = float(scores[label])
            run = self._runs.setdefault(label, [start_sec, 0.0, 0, 0.0])
            run[1:] = run[1] + score, run[2] + 1, max(run[3], score)
        return ended

    def _end(self, label: int, end_sec: float) -> list[Segment]:
        start_sec, total, num_windows, peak = self._runs.pop(label)
        if peak < self._threshold or end_sec - start_sec < self._min_sec:
            return []
        return [Segment(start_sec, end_sec, label, total / num_windows, peak)]


class ScoreHistory:
    """The scores of a whole stream for a plot, in bounded memory: when there are too many windows, pairs are merged.

    Of two windows that are merged the larger score of each class is kept.
    """

    def __init__(self, max_windows: int = 1024) -> None:
        self._max_windows = max_windows
        self._rows: list[tuple[float, float, np.ndarray]] = []
        self._waiting: list[Scored] = []
        self._merged = 1  # windows a row

    def push(self, window: Scored) -> None:
        self._waiting.append(window)
        if len(self._waiting) < self._merged:
            return
        self._rows.append(self._merge([(w.start_sec, w.end_sec, w.probabilities) for w in self._waiting]))
        self._waiting = []
        if len(self._rows) >= self._max_windows:
            pairs = zip(self._rows[::2], self._rows[1::2], strict=True)
            self._rows = [self._merge(list(pair)) for pair in pairs]
            self._merged *= 2

    def rows(self) -> list[tuple[float, float, np.ndarray]]:
        """Start, end, probabilities `[K]`, in the order of time."""
        rest = [(w.start_sec, w.end_sec, w.probabilities) for w in self._waiting]
        return [*self._rows, *([self._merge(rest)] if rest else [])]

    @staticmethod
    def _merge(rows: list[tuple[float, float, np.ndarray]]) -> tuple[float, float, np.ndarray]:
        scores = np.max([scores for _, _, scores in rows], axis=0).astype(np.float16)
        return rows[0][0], rows[-1][1], scores


def describe_segment(segment: Segment, class_names: Sequence[str]) -> str:
    span = f"{format_time(segment.start_sec, tenths=True)} - {format_time(segment.end_sec, tenths=True)}"
    scores = f"mean {segment.mean_score:.3f}, peak {segment.peak_score:.3f}"
    return f"{span:>21}  {class_names[segment.label]} ({segment.label}), {scores}"
