"""Processes that end with the one that started them, and get no signals that are meant for it."""

from __future__ import annotations

import contextlib
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker

PR_SET_PDEATHSIG = 1  # of Linux's prctl


def end_with_parent(number: int) -> None:
    """Have the system send this process a signal when the one that started it dies; on Linux alone."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def end_with_starter() -> None:
    """Call in a process of `multiprocessing`: it ends, whatever it is doing, once the one that started it is gone."""
    starter = multiprocessing.parent_process()
    if starter is not None:
        threading.Thread(target=_end_after, args=(starter.sentinel,), daemon=True).start()


def _end_after(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


@contextlib.contextmanager
def signals_held(*names: str) -> Iterator[None]:
    """Processes of `multiprocessing` started meanwhile never get these signals; this one gets them afterwards.

    Without effect on Windows.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # else it is started with the first process, and lets signals through meanwhile
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {getattr(signal, name) for name in names})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
