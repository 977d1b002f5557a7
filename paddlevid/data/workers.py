"""Batches read ahead by processes of which each may crash, hang or be killed: that costs the video it was busy with.

What decodes videos is native code, which damaged files can crash. A worker says which record it is about to read; when
it dies, or does not go on for too long, another one takes its place and reads the batch again. A record on which
workers crashed twice counts as unreadable from then on, as one does that made a worker hang; so what is read does not
depend on a worker that was killed for other reasons.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import sys
import threading
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator
from multiprocessing.connection import wait
from typing import Any, NamedTuple

import numpy as np

from paddlevid.data.isolated import Clock, how_it_ended
from paddlevid.data.shared_memory import SharedBytes
from paddlevid.data.worker_process import (
    ALIGNMENT,
    HEADER_BYTES,
    NOTHING,
    NOTICED_SIGNALS,
    Placed,
    Raised,
    Read,
    serve,
)
from paddlevid.processes import signals_held

BATCHES_A_WORKER = 2  # one that is read, and one that is ready or comes next
MAX_CRASHES = 2  # on one record
MAX_KILLS = 5  # on one record, by a SIGKILL: not the decoder's own doing, unless it takes all memory
MAX_IDLE_DEATHS = 3  # of workers that were not reading a video, in a row
START_SEC = 120.0  # that a worker may take to begin, beside its work
KILLED = -9  # the exit code of a process that was sent SIGKILL


class _Job(NamedTuple):
    number: int  # in the order of delivery
    key: Any
    slot: int  # where its arrays go


class _RemoteTraceback(Exception):
    """Shown as the cause of an error that a worker raised."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def read_ahead(
    read: Read,
    dataset: Any,
    keys: Iterable[Any],
    *,
    num_workers: int,
    batch_bytes: int,
    timeout_sec: float,
) -> Generator[dict[str, Any], None, None]:
    """`read(dataset, key)` of each key, in order, read by `num_workers` processes, which end with the iterator.

    Args:
        read: a function of a module, that makes a dict of arrays and other values that can be pickled.
        dataset: a dataclass with `records` and `before_reading`, both as in `paddlevid.data.dataset`.
        batch_bytes: of the arrays of a batch; larger ones come too, more slowly.
        timeout_sec: that a worker may take for one record.

    Arrays are valid until the next batch is asked for. What `read` raises is raised here.
    """
    pool = _Pool(read, dataset, keys, num_workers, batch_bytes, timeout_sec)
    atexit.register(pool.stop)  # for an iterator that is held by the error that ends the process
    try:
        yield from pool.batches()
    finally:
        atexit.unregister(pool.stop)
        pool.stop()


class _Pool:
    """The workers, and the thread that gives them work and watches them."""

    def __init__(
        self, read: Read, dataset: Any, keys: Iterable[Any], num_workers: int, batch_bytes: int, timeout_sec: float
    ) -> None:
        num_slots = BATCHES_A_WORKER * num_workers
        self._slot_bytes = -(-batch_bytes // ALIGNMENT) * ALIGNMENT
        self._memory = SharedBytes(num_workers * HEADER_BYTES + num_slots * self._slot_bytes)
        self._slots_at = num_workers * HEADER_BYTES
        self._read, self._dataset, self._timeout_sec = read, dataset, timeout_sec
        self._keys = iter(keys)
        self._free = deque(range(num_slots))
        self._again: list[_Job] = []  # of workers that died
        self._crashes: Counter[int] = Counter()  # by record
        self._idle_deaths = 0
        self._banned: dict[int, str] = {}
        self._ready: dict[int, tuple[_Job, dict[str, Any]]] = {}
        self._num_taken = 0  # of the keys
        self._num_jobs: int | None = None  # once all keys were taken
        self._failure: BaseException | None = None
        self._stopping = False
        self._changed = threading.Condition()
        self._bell, self._rung = multiprocessing.Pipe(duplex=False)
        self._clock = Clock()
        self._context = _context()
        self._workers = [self._start_worker(place) for place in range(num_workers)]
        self._thread = threading.Thread(target=self._run, name="paddlevid-workers", daemon=True)
        self._thread.start()

    # ---- what the process that uses the batches calls ----------------------------------------------------------------

    def batches(self) -> Iterator[dict[str, Any]]:
        for number in range(sys.maxsize):
            with self._changed:
                while number not in self._ready and self._failure is None and number != self._num_jobs:
                    self._changed.wait()
                if number not in self._ready:
                    break
                job, batch = self._ready.pop(number)
            yield batch
            with self._changed:
                self._free.append(job.slot)
            self._ring()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """End the workers at once, whatever they are doing. What they do, they only read."""
        self._stopping = True
        self._ring()
        self._thread.join()
        for worker in self._workers:
            worker.end()

    def _ring(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._rung.send_bytes(b"!")

    # ---- what the thread does ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._give_work()
                wait([self._bell, *(worker.connection for worker in self._workers)], timeout=self._patience())
                self._clock.look()
                while self._bell.poll():
                    self._bell.recv_bytes()
                for worker in self._workers:
                    self._listen(worker)
        except BaseException as error:
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _patience(self) -> float | None:
        return 1.0 if any(worker.jobs for worker in self._workers) else None

    def _give_work(self) -> None:
        """Keep each worker busy, as long as there is a slot for what it reads."""
        for _ in range(BATCHES_A_WORKER):
            for worker in self._workers:
                if len(worker.jobs) < BATCHES_A_WORKER and (job := self._next_job()) is not None:
                    worker.give(job, self._banned)

    def _next_job(self) -> _Job | None:
        if self._again:
            return self._again.pop(0)
        with self._changed:
            if self._num_jobs is not None or not self._free:
                return None
            slot = self._free.popleft()
        for key in self._keys:
            self._num_taken += 1
            return _Job(self._num_taken - 1, key, slot)
        with self._changed:
            self._num_jobs = self._num_taken
            self._changed.notify_all()
        return None

    def _listen(self, worker: _Worker) -> None:
        """Take what a worker has read; put another in its place if it died or hangs."""
        answers = []
        try:
            while worker.connection.poll():
                answers.append(worker.connection.recv())
        except (EOFError, ConnectionError):
            died = True
        else:
            died = False
        for answer in answers:
            worker.has_begun = True
            if isinstance(answer, Raised):
                raise answer.error from _RemoteTraceback(answer.trace)
            if answer is not None:
                self._take(worker.jobs.popleft(), answer)
        if died or (worker.jobs and worker.is_stuck(self._timeout_sec)):
            self._replace(worker, died=died)

    def _take(self, job: _Job, batch: dict[str, Any]) -> None:
        arrays = {
            name: self._memory.array(*value) if isinstance(value, Placed) else value for name, value in batch.items()
        }
        self._idle_deaths = 0
        with self._changed:
            self._ready[job.number] = (job, arrays)
            self._changed.notify_all()

    def _replace(self, worker: _Worker, *, died: bool) -> None:
        if died:
            worker.process.join(1.0)  # then its exit code tells how
        worker.end()
        record, how = worker.reading, how_it_ended(worker.process.exitcode)
        if record != NOTHING:
            self._crashes[record] += 1
            if not died:
                self._ban(record, f"gave no answer in {self._timeout_sec:g} s (data.read_timeout_sec)")
            elif self._crashes[record] >= (MAX_KILLS if worker.process.exitcode == KILLED else MAX_CRASHES):
                self._ban(record, f"died {self._crashes[record]} times ({how})")
        elif worker.jobs or not worker.has_begun:
            self._idle_deaths += 1
            if self._idle_deaths >= MAX_IDLE_DEATHS:
                raise RuntimeError(f"a process that reads videos does not run: {how} (is there enough memory?)")
        self._again = sorted([*self._again, *worker.jobs])
        self._workers[self._workers.index(worker)] = self._start_worker(worker.place)

    def _ban(self, record: int, what: str) -> None:
        self._banned[record] = f"{self._dataset.records[record].path}: the process that read this video {what}"

    def _start_worker(self, place: int) -> _Worker:
        layout = (self._slots_at, self._slot_bytes)
        return _Worker(self._context, self._clock, place, self._memory, layout, self._read, self._dataset)


class _Worker:
    """One process, and what it was asked to read."""

    def __init__(
        self,
        context: Any,
        clock: Clock,
        place: int,
        memory: SharedBytes,
        layout: tuple[int, int],
        read: Read,
        dataset: Any,
    ) -> None:
        self.place = place
        self._clock = clock
        self.jobs: deque[_Job] = deque()
        self.has_begun = False
        self._progress = memory.array(place * HEADER_BYTES, (2,), np.int64)
        self._progress[0] = NOTHING
        self._seen = int(self._progress[1])
        self._since = self._clock.seconds
        self.connection, other = context.Pipe()
        arguments = (other, memory, place, layout, read, dataset)
        self.process = context.Process(target=serve, args=arguments, daemon=True)
        # They go to all processes of a terminal, or of a job: the one that trains decides what becomes of the workers
        with signals_held(*NOTICED_SIGNALS):
            self.process.start()
        other.close()

    @property
    def reading(self) -> int:
        return int(self._progress[0])

    def give(self, job: _Job, banned: dict[int, str]) -> None:
        if not self.jobs:
            self._since = self._clock.seconds
        self.jobs.append(job)
        with contextlib.suppress(OSError):  # it died: seen when it is listened to
            self.connection.send((job.key, job.slot, banned))

    def is_stuck(self, timeout_sec: float) -> bool:
        count = int(self._progress[1])
        if count != self._seen:
            self._seen, self._since = count, self._clock.seconds
        patience = timeout_sec + (0.0 if self.has_begun else START_SEC)
        return self._clock.seconds - self._since > patience

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def _context() -> Any:
    """Workers come from a process that has loaded what they need, and neither Paddle nor threads, which do not fork."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cv2", "av", "paddlevid.data.loader"])
    return context
