"""Processes that crash and hang in earnest."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time

import pytest

from paddlevid.data import isolated
from paddlevid.data.isolated import NoResult, Tick, run_isolated


def square(item: int, tick: Tick) -> int:
    return item * item


def misbehave(item: str, tick: Tick) -> str:
    if item == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if item == "exit":
        os._exit(3)
    if item == "hang":
        time.sleep(60)
    if item == "slow":
        for _ in range(30):
            time.sleep(0.1)
            tick()
    if item == "bug":
        raise ZeroDivisionError("of the work")
    if item == "full":
        raise OSError(28, "No space left on device")
    return item.upper()


def crash_once(folder: str, tick: Tick) -> str:
    mark = os.path.join(folder, "crashed")
    if not os.path.exists(mark):
        open(mark, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


@pytest.mark.parametrize("num_workers", [1, 3])
def test_every_item_once(num_workers: int) -> None:
    results = list(run_isolated(square, range(20), num_workers=num_workers, timeout_sec=60))
    assert sorted(results) == [(i, i * i) for i in range(20)]
    assert not multiprocessing.active_children()


def test_nothing_to_do() -> None:
    assert list(run_isolated(square, [], num_workers=2, timeout_sec=1)) == []


def test_crashes_and_hangs_cost_their_item_alone() -> None:
    items = ["a", "crash", "b", "hang", "c", "exit", "d", "slow"]
    results = dict(run_isolated(misbehave, items, num_workers=2, timeout_sec=1.5))
    assert results == {
        0: "A",
        1: NoResult("its process ended by SIGSEGV", is_crash=True),
        2: "B",
        3: NoResult("no answer in 1.5 s", is_crash=False),
        4: "C",
        5: NoResult("its process ended with code 3", is_crash=True),
        6: "D",
        7: "SLOW",  # takes 3 s, and ticks
    }
    assert not multiprocessing.active_children()


def test_a_crash_that_does_not_come_again_is_forgiven(tmp_path: pytest.TempPathFactory) -> None:
    assert list(run_isolated(crash_once, [str(tmp_path)], num_workers=1, timeout_sec=60)) == [(0, "done")]


@pytest.mark.parametrize(
    ("item", "error", "words"), [("bug", ZeroDivisionError, "of the work"), ("full", OSError, "No space")]
)
def test_an_error_ends_all(item: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        list(run_isolated(misbehave, ["a", item, "b"], num_workers=1, timeout_sec=60))
    assert not multiprocessing.active_children()


def test_no_process_is_left_when_the_caller_leaves() -> None:
    results = run_isolated(misbehave, ["a", "hang", "hang"], num_workers=3, timeout_sec=60)
    assert next(results) == (0, "A")
    results.close()  # type: ignore[attr-defined]
    assert not multiprocessing.active_children()


def test_time_in_which_the_process_was_suspended_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(isolated.time, "monotonic", lambda: now)
    clock = isolated.Clock()
    for step in (0.5, 1.0, 3600.0, 1.0):
        now += step
        clock.look()
    assert clock.seconds == 0.5 + 1.0 + 2.0 + 1.0
