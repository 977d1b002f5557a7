"""Work on many items in processes of which each may crash or hang: that costs the one item it was busy with."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Generic, NamedTuple, TypeVar

from paddlevid.processes import end_with_starter, signals_held

Item = TypeVar("Item")
Result = TypeVar("Result")

Tick = Callable[[], None]  # called by work now and then: it is alive
_TICK_SEC = 0.5
_LONGEST_LOOK_SEC = 2.0
_START_SEC = 60.0  # that a process may take to begin, beside its work


class NoResult(NamedTuple):
    """Why there is no result for an item, in a few words."""

    reason: str
    is_crash: bool  # else it gave no answer


class Clock:
    """Seconds that its process has seen pass, if it looks each second: not those in which it was suspended.

    The processes that it waits for were suspended then, too, by whoever stops a job to go on with it later.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._looked = time.monotonic()

    def look(self) -> None:
        now = time.monotonic()
        self.seconds += min(now - self._looked, _LONGEST_LOOK_SEC)
        self._looked = now


def run_isolated(
    work: Callable[[Item, Tick], Result], items: Sequence[Item], *, num_workers: int, timeout_sec: float
) -> Iterator[tuple[int, Result | NoResult]]:
    """`work(item, tick)` of each item in `num_workers` processes, with the index of the item, as they are done.

    A process that gives neither an answer nor a tick for `timeout_sec` is killed. An item whose process died is tried
    once more in a new one, so that none is blamed for what another, or a lack of memory, has done. `work` is a function
    of a module, and what it raises ends all.
    """
    context = multiprocessing.get_context("spawn")
    waiting = [(index, 1) for index in reversed(range(len(items)))]  # with the number of the try
    clock = Clock()
    workers = [_Worker(context, work, clock) for _ in range(min(num_workers, len(items)))]
    try:
        while True:
            for worker in workers:
                if worker.job is None and waiting:
                    worker.start(waiting.pop(), items, timeout_sec)
            busy = [worker for worker in workers if worker.job is not None]
            if not busy:
                return
            wait([worker.connection for worker in busy], timeout=1.0)
            clock.look()
            for worker in busy:
                index, number = worker.job or (0, 0)
                answer = worker.answer(timeout_sec)
                if isinstance(answer, NoResult):
                    workers[workers.index(worker)] = _Worker(context, work, clock)
                    if answer.is_crash and number == 1:
                        waiting.append((index, 2))
                        continue
                if answer is not None:
                    yield index, answer if isinstance(answer, NoResult) else answer.value
    finally:
        for worker in workers:
            worker.end()


class _Answer(NamedTuple, Generic[Result]):
    value: Result


class _Worker:
    """One process, and the item that it is busy with."""

    def __init__(self, context: Any, work: Callable[..., Any], clock: Clock) -> None:
        self._clock = clock
        self.connection, other = context.Pipe()
        self._process: SpawnProcess = context.Process(target=_serve, args=(other, work), daemon=True)
        with signals_held("SIGINT"):
            self._process.start()
        other.close()
        self._has_begun = False
        self.job: tuple[int, int] | None = None
        self.deadline = 0.0

    def start(self, job: tuple[int, int], items: Sequence[Any], timeout_sec: float) -> None:
        self.job = job
        self.deadline = self._clock.seconds + timeout_sec + (0.0 if self._has_begun else _START_SEC)
        with contextlib.suppress(OSError):  # it died while it was idle: seen by `answer`
            self.connection.send(items[job[0]])

    def answer(self, timeout_sec: float) -> _Answer[Any] | NoResult | None:
        """What it has to say by now; None if it is still busy."""
        message = None
        try:
            while message is None and self.connection.poll():
                message = self.connection.recv()
                self._has_begun = True
                self.deadline = self._clock.seconds + timeout_sec
        except (EOFError, OSError):
            self._process.join()
            return NoResult(how_it_ended(self._process.exitcode), is_crash=True)
        if isinstance(message, BaseException):
            raise message
        if message is not None:
            self.job = None
            return message
        if self._clock.seconds < self.deadline:
            return None
        self.end()
        return NoResult(f"no answer in {timeout_sec:g} s", is_crash=False)

    def end(self) -> None:
        self._process.kill()
        self._process.join()
        self.connection.close()


def how_it_ended(code: int | None) -> str:
    """What became of a process with this exit code."""
    if code is None or code >= 0:
        return f"its process ended with code {code}"
    with contextlib.suppress(ValueError):
        return f"its process ended by {signal.Signals(-code).name}"
    return f"its process ended by signal {-code}"


def _serve(connection: Connection, work: Callable[..., Any]) -> None:
    """Answer items until the other end closes: None for a tick, an exception, or an _Answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # goes to all processes of a terminal; the first one ends the others
    end_with_starter()
    last = time.monotonic()

    def tick() -> None:
        nonlocal last
        if time.monotonic() - last > _TICK_SEC:
            last = time.monotonic()
            connection.send(None)

    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the other end is gone
        connection.send(None)
        while True:
            item = connection.recv()
            try:
                answer: Any = _Answer(work(item, tick))
            except Exception as error:
                answer = error
            connection.send(answer)
