"""Views of several requests share runs, in turn, and each request gets its own results."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError

import numpy as np
import pytest

from paddlevid.serve.batching import Batcher


def views_of(*values: int) -> np.ndarray:
    """A request whose views are filled with these values: `[V, 1, 2, 2, 3]`."""
    return np.array(values, np.uint8)[:, None, None, None, None] * np.ones((1, 1, 2, 2, 3), np.uint8)


class Model:
    """Gives back the value of each view, and a second column of ten times it; waits for `go` before its first run."""

    def __init__(self) -> None:
        self.runs: list[list[int]] = []
        self.go = threading.Event()

    def __call__(self, views: np.ndarray) -> np.ndarray:
        assert self.go.wait(10)
        values = views[:, 0, 0, 0, 0]
        self.runs.append(values.tolist())
        if 255 in values:
            raise ValueError("255 is refused")
        return np.stack([values, 10.0 * values], axis=1).astype(np.float32)


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def make(model: Model) -> Iterator[Callable[..., Batcher]]:
    made: list[Batcher] = []

    def make_batcher(**options: float) -> Batcher:
        made.append(Batcher(model, **{"batch_size": 4, "wait_sec": 0.0, **options}))  # type: ignore[arg-type]
        return made[-1]

    yield make_batcher
    model.go.set()
    for batcher in made:
        batcher.close()


def logits(*values: int) -> list[list[float]]:
    return [[value, 10.0 * value] for value in values]


def test_requests_keep_their_turn_and_share_runs(make, model):
    batcher = make()
    first = batcher.submit(views_of(1))
    while batcher._waiting:  # the first run has begun, with one view
        time.sleep(0.001)
    others = [batcher.submit(views_of(*values)) for values in ([2, 3, 4], [5, 6, 7], [8], [9, 10])]
    model.go.set()
    assert first.result(5).logits.tolist() == logits(1)
    expected = [logits(2, 3, 4), logits(5, 6, 7), logits(8), logits(9, 10)]
    assert [future.result(5).logits.tolist() for future in others] == expected
    assert model.runs == [[1], [2, 3, 4, 5], [6, 7, 8, 9], [10]]


def test_a_request_larger_than_a_run_is_put_together_again(make, model):
    model.go.set()
    values = list(range(11))
    assert make().submit(views_of(*values)).result(5).logits.tolist() == logits(*values)
    assert model.runs == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]


def test_a_run_waits_for_company_but_not_for_long(make, model):
    model.go.set()
    batcher = make(wait_sec=1.0)
    started = time.monotonic()
    first = batcher.submit(views_of(1))
    time.sleep(0.8)
    companion = batcher.submit(views_of(2))
    first.result(5)
    companion.result(5)
    assert 1.0 <= time.monotonic() - started < 1.7, "1 s after the first came, not the second"
    assert model.runs == [[1, 2]]
    started = time.monotonic()
    batcher.submit(views_of(1, 2, 3, 4)).result(5)
    assert time.monotonic() - started < 0.9, "a full run waits for nobody"


def test_what_is_cancelled_is_not_run(make, model):
    batcher = make()
    busy = batcher.submit(views_of(1))
    while batcher._waiting:
        time.sleep(0.001)
    cancelled, kept = batcher.submit(views_of(2)), batcher.submit(views_of(3))
    assert cancelled.cancel()
    model.go.set()
    busy.result(5)
    assert kept.result(5).logits.tolist() == logits(3)
    assert model.runs == [[1], [3]]


def test_a_run_that_fails_takes_nobody_else_along(make, model):
    batcher = make()
    busy = batcher.submit(views_of(1))
    while batcher._waiting:
        time.sleep(0.001)
    bad = batcher.submit(views_of(255, 2, 3, 4, 5))  # its rest must not run
    other = batcher.submit(views_of(6))
    model.go.set()
    with pytest.raises(ValueError, match="255"):
        bad.result(5)
    assert busy.result(5).logits.tolist() == logits(1)
    assert other.result(5).logits.tolist() == logits(6)
    assert model.runs == [[1], [255, 2, 3, 4], [6]]


def test_the_seconds_are_those_of_the_own_runs():
    durations = iter([0.05, 0.1, 0.2])

    def run(views: np.ndarray) -> np.ndarray:
        time.sleep(next(durations))
        return np.zeros((len(views), 2), np.float32)

    seen: list[tuple[int, float]] = []
    batcher = Batcher(run, batch_size=2, wait_sec=0.0, on_run=lambda *numbers: seen.append(numbers))
    first = batcher.submit(views_of(1, 2, 3, 4)).result(5)  # runs 1 and 2
    second = batcher.submit(views_of(5)).result(5)  # run 3
    batcher.close()
    assert [num_views for num_views, _ in seen] == [2, 2, 1]
    seconds = [seconds for _, seconds in seen]
    assert first.model_sec == pytest.approx(seconds[0] + seconds[1])
    assert second.model_sec == seconds[2]
    assert all(found >= slept for found, slept in zip(seconds, (0.05, 0.1, 0.2), strict=True))


def test_closing_cancels_what_waits(make, model):
    batcher = make()
    batcher.submit(views_of(1))
    while batcher._waiting:
        time.sleep(0.001)
    waiting = batcher.submit(views_of(2))
    batcher.close(timeout_sec=0.1)
    with pytest.raises(CancelledError):
        waiting.result(5)
    with pytest.raises(RuntimeError, match="shutting down"):
        batcher.submit(views_of(3))
