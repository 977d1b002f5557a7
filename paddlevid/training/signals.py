"""SIGTERM and Ctrl-C while a model trains: the first asks, the second does not."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from types import FrameType

# SIGHUP is that of a closed terminal
ASKS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))
# A terminal sends Ctrl-C to a launcher and to all that it started, and the launcher then sends these SIGTERM as well:
# what comes within this time of the first signal is the same wish.
SAME_WISH_SEC = 2.0


class StopRequest:
    """Within its `with` block the first SIGTERM or Ctrl-C sets `signal_name`; the next one ends the process at once.

    "At once" holds while the main thread is inside a long operation, too, or waits for a process that has died: a
    thread of its own sees the signals. Outside the main thread, where Python has no handlers, it does nothing.
    """

    def __init__(self, *, announce: bool = True) -> None:
        self.signal_name = ""
        self._announce = announce
        self._first_at: float | None = None
        self._before: dict[int, object] = {}
        self._wakeup_before = -1
        self._ends: tuple[socket.socket, socket.socket] | None = None

    def __bool__(self) -> bool:
        return bool(self.signal_name)

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is not threading.main_thread():
            return self
        reads, writes = socket.socketpair()
        writes.setblocking(False)
        self._ends = reads, writes
        for number in ASKS:
            if signal.getsignal(number) is signal.SIG_IGN:  # by nohup, for one
                continue
            self._before[number] = signal.signal(number, self._remember)
            signal.siginterrupt(number, False)  # Paddle's store takes an interrupted call for a broken connection
        self._wakeup_before = signal.set_wakeup_fd(writes.fileno(), warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch, args=(reads,), daemon=True, name="paddlevid-signals")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._ends is None:
            return
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        writes = self._ends[1]
        writes.shutdown(socket.SHUT_RDWR)  # ends the thread, even if a worker process has inherited this end
        writes.close()
        self._thread.join(timeout=1)

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        self.signal_name = self.signal_name or signal.Signals(number).name

    def _watch(self, reads: socket.socket) -> None:
        with reads:
            while numbers := reads.recv(64):
                for number in numbers:
                    if number in ASKS:
                        self._count(number)

    def _count(self, number: int) -> None:
        now = time.monotonic()
        if self._first_at is None:
            self._first_at = now
            if self._announce:
                name = signal.Signals(number).name
                with contextlib.suppress(OSError):
                    text = f"{name}: finishing this step and saving; once more to stop at once"
                    print(text, file=sys.stderr, flush=True)
        elif now - self._first_at > SAME_WISH_SEC:
            os._exit(128 + number)
