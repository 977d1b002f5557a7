"""Processes that end with the one that started them, get no signals that are meant for it, and keep their memory."""

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


def keep_freed_memory() -> None:
    """Have this process not give back to the system what it frees: the next frame or flow takes as much again.

    Each page that comes anew costs a fault. With the C library of GNU; without effect elsewhere.
    """
    if sys.platform != "linux":
        return
    import ctypes

    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(trim_threshold, 1 << 28)
        library.mallopt(mmap_threshold, 1 << 25)  # the most that it takes


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
