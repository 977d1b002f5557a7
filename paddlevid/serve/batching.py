"""One thread runs the model, on views of several requests at a time."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np


class Answer(NamedTuple):
    """Logits float32 `[V, K]` of a request, and the seconds of the runs that its views were in."""

    logits: np.ndarray
    model_sec: float


@dataclass(eq=False)
class _Job:
    """A request: views uint8 `[V, T, H, W, C]`, how many of them are in runs already, and what came back."""

    views: np.ndarray
    arrived: float
    future: Future[Answer] = field(default_factory=Future)
    num_taken: int = 0
    logits: list[np.ndarray] = field(default_factory=list)
    model_sec: float = 0.0

    @property
    def num_left(self) -> int:
        return len(self.views) - self.num_taken


class _Part(NamedTuple):
    """The views `start` to `stop` of a request."""

    job: _Job
    start: int
    stop: int


class Batcher:
    """Collects views until `batch_size` of them wait, or the oldest has waited `wait_sec`, and runs them together.

    First come, first served: a request whose views do not fit in a run keeps its place, and the next run begins with
    the rest of them.

    Args:
        run: uint8 `[V, T, H, W, C]` -> logits `[V, K]`; called in one thread only.
        on_run: called after each run with its views and seconds.
    """

    def __init__(
        self,
        run: Callable[[np.ndarray], np.ndarray],
        *,
        batch_size: int,
        wait_sec: float,
        on_run: Callable[[int, float], None] = lambda views, seconds: None,
    ) -> None:
        self._run, self._batch_size, self._wait_sec, self._on_run = run, batch_size, wait_sec, on_run
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    def submit(self, views: np.ndarray) -> Future[Answer]:
        """Queue the views uint8 `[V, T, H, W, C]` of a request; a future that is cancelled in time is never run."""
        job = _Job(views, time.monotonic())
        with self._changed:
            if self._closed:
                raise RuntimeError("the service is shutting down")
            self._waiting.append(job)
            self._changed.notify()
        return job.future

    def close(self, timeout_sec: float = 2.0) -> None:
        """Cancel what waits, and wait for the run that is under way, as long as it takes up to `timeout_sec`."""
        with self._changed:
            self._closed = True
            for job in self._waiting:
                job.future.cancel()
            self._changed.notify()
        self._thread.join(timeout_sec)

    def _work(self) -> None:
        while parts := self._take():
            started = time.perf_counter()
            try:
                frames = np.concatenate([job.views[start:stop] for job, start, stop in parts])
                logits = self._run(frames)
            except Exception as error:
                self._fail(parts, error)
                continue
            seconds = time.perf_counter() - started
            self._on_run(len(frames), seconds)
            self._hand_out(parts, logits, seconds)

    def _take(self) -> list[_Part]:
        """Wait for the views of the next run; empty when the service ends."""
        with self._changed:
            while not self._closed:
                self._drop_cancelled()
                if not self._waiting:
                    self._changed.wait()
                    continue
                patience = self._waiting[0].arrived + self._wait_sec - time.monotonic()
                if sum(job.num_left for job in self._waiting) < self._batch_size and patience > 0:
                    self._changed.wait(patience)
                elif parts := self._next_parts():
                    return parts
        return []

    def _drop_cancelled(self) -> None:
        self._waiting = deque(job for job in self._waiting if not job.future.cancelled())

    def _next_parts(self) -> list[_Part]:
        parts, room = [], self._batch_size
        while room and self._waiting:
            job = self._waiting[0]
            if job.num_taken == 0 and not job.future.set_running_or_notify_cancel():
                self._waiting.popleft()
                continue
            count = min(room, job.num_left)
            parts.append(_Part(job, job.num_taken, job.num_taken + count))
            job.num_taken += count
            room -= count
            if not job.num_left:
                self._waiting.popleft()
        return parts

    def _hand_out(self, parts: list[_Part], logits: np.ndarray, seconds: float) -> None:
        """Give each request its rows of the logits `[V, K]` of a run."""
        done = 0
        for job, start, stop in parts:
            job.logits.append(logits[done : done + stop - start])
            job.model_sec += seconds
            done += stop - start
            if stop == len(job.views):
                job.future.set_result(Answer(np.concatenate(job.logits), job.model_sec))

    def _fail(self, parts: list[_Part], error: Exception) -> None:
        with self._changed:
            failed = [part.job for part in parts]
            self._waiting = deque(job for job in self._waiting if job not in failed)
        for job in failed:
            job.future.set_exception(error)
