"""A bounded number of threads, each with a process of its own that decodes, which is replaced when it dies."""

from __future__ import annotations

import json
import logging
import multiprocessing
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from multiprocessing.connection import Connection
from typing import NamedTuple

import numpy as np

from paddlevid.serve import decoding
from paddlevid.serve.decoding import ClipInfo, DecoderSettings
from paddlevid.serve.limits import Refused, unavailable

logger = logging.getLogger("uvicorn.error")

START_TIMEOUT_SEC = 120.0
RETRY_START_SEC = 1.0


class Decoded(NamedTuple):
    """Views uint8 `[V, T, H, W, C]` of a video, what it is, and the seconds that reading it took."""

    views: np.ndarray
    clip: ClipInfo
    decode_sec: float


class _Job(NamedTuple):
    path: str
    deadline: float  # of time.monotonic()
    future: Future[Decoded]


class DecoderPool:
    """`num_decoders` processes that decode; the first come is the first served.

    Args:
        on_restart: called when a process crashed or had to be stopped, and is replaced.
    """

    def __init__(
        self, settings: DecoderSettings, num_decoders: int, on_restart: Callable[[], None] = lambda: None
    ) -> None:
        self._settings, self._on_restart = settings, on_restart
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._decoders = [Decoder(settings) for _ in range(num_decoders)]
        self._threads = [
            threading.Thread(target=self._work, args=[decoder], name="decoder", daemon=True)
            for decoder in self._decoders
        ]

    @property
    def is_ready(self) -> bool:
        return not self._closed.is_set() and any(decoder.is_alive for decoder in self._decoders)

    def start(self) -> None:
        """Return when all processes wait for work.

        Raises:
            RuntimeError: one did not start.
        """
        for decoder in self._decoders:
            decoder.launch()
        for decoder in self._decoders:
            decoder.wait_until_ready()
        for thread in self._threads:
            thread.start()

    def submit(self, path: str, deadline: float) -> Future[Decoded]:
        """Decode a file before `deadline`, in seconds of `time.monotonic()`; fails with `Refused`."""
        job = _Job(path, deadline, Future())
        self._jobs.put(job)
        return job.future

    def close(self, timeout_sec: float = 2.0) -> None:
        """Stop all processes at once; what they were reading fails."""
        self._closed.set()
        for _ in self._threads:
            self._jobs.put(None)
        for decoder in self._decoders:
            decoder.stop()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout_sec)

    def _work(self, decoder: Decoder) -> None:
        while (job := self._jobs.get()) is not None:
            if not job.future.set_running_or_notify_cancel():
                continue
            try:
                decoded = decoder.decode(job.path, job.deadline)
            except BaseException as error:
                job.future.set_exception(unavailable("shutting down") if self._closed.is_set() else error)
            else:
                job.future.set_result(decoded)
            while not decoder.is_alive and not self._closed.is_set():
                self._replace(decoder)
        decoder.kill()

    def _replace(self, decoder: Decoder) -> None:
        self._on_restart()
        try:
            decoder.launch()
            decoder.wait_until_ready()
        except (OSError, RuntimeError) as error:
            logger.error("a decoding process does not start: %s", error)
            self._closed.wait(RETRY_START_SEC)


class Decoder:
    """A process that decodes, as the one thread sees it that talks to it; others may call `stop` and `is_alive`."""

    def __init__(self, settings: DecoderSettings) -> None:
        self._settings = settings
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None

    @property
    def is_alive(self) -> bool:
        return self._connection is not None and self._process is not None and self._process.is_alive()

    def launch(self) -> None:
        # A fork of a process with threads may hang in a lock that another thread held.
        context = multiprocessing.get_context("spawn")
        connection, other_end = context.Pipe()
        process = context.Process(
            target=decoding.run, args=(other_end, self._settings), name="paddlevid decoder", daemon=True
        )
        process.start()
        other_end.close()
        self._process, self._connection = process, connection

    def wait_until_ready(self) -> None:
        assert self._connection is not None
        try:
            is_ready = self._connection.poll(START_TIMEOUT_SEC) and self._connection.recv_bytes() == decoding.READY
        except (EOFError, OSError):
            is_ready = False
        if not is_ready:
            self.kill()
            raise RuntimeError(f"it ended, or was silent for {START_TIMEOUT_SEC:g} s")

    def decode(self, path: str, deadline: float) -> Decoded:
        """Views of a file.

        Raises:
            Refused: the file is at fault (422), asks for too much (413), or takes longer than until `deadline` (504).
        """
        connection = self._connection
        if connection is None:
            raise unavailable("no decoder is running")
        if time.monotonic() >= deadline:  # it has waited so long for a decoder: this one is not to blame
            raise Refused(504, "no decoder was free in time")
        try:
            connection.send_bytes(json.dumps(path).encode())
            if not connection.poll(max(0.0, deadline - time.monotonic())):
                self.kill()
                raise Refused(504, "decoding this video took too long")
            answer = json.loads(connection.recv_bytes())
            if "error" in answer:
                raise Refused(answer["status"], answer["error"])
            frames = np.frombuffer(connection.recv_bytes(), np.uint8).reshape(answer["shape"])
        except (EOFError, OSError, ValueError, TypeError, KeyError):  # it ended, or what it says makes no sense
            reason = self._why_it_ended()
            self.kill()
            logger.error("a decoding process ended while it read a video: %s", reason)
            raise Refused(422, f"the decoder crashed on this video ({reason})") from None
        return Decoded(frames, ClipInfo(**answer["clip"]), answer["decode_sec"])

    def stop(self) -> None:
        """End the process; the thread that waits for it sees the end of the connection."""
        if self._process is not None:
            self._process.kill()

    def kill(self) -> None:
        connection, self._connection = self._connection, None
        if self._process is not None:
            self._process.kill()
            self._process.join(1.0)
        if connection is not None:
            connection.close()

    def _why_it_ended(self) -> str:
        if self._process is None:
            return "stopped"
        self._process.join(1.0)
        code = self._process.exitcode
        return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
