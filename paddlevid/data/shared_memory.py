"""Memory that a process and its workers share, and that goes with the last of them, however they end."""

from __future__ import annotations

import mmap
import multiprocessing
import os
from multiprocessing import reduction
from multiprocessing.context import assert_spawning
from typing import Any

import numpy as np


class SharedBytes:
    """Bytes `[size]`, zero at first, for workers that get it as an argument of their process.

    Where the system has them they lie in memory without a name, not in /dev/shm: containers often have only 64 MB of
    that, and what a killed process leaves there stays.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._fd = -1
        if hasattr(os, "memfd_create"):
            self._fd = os.memfd_create("paddlevid")
            os.ftruncate(self._fd, size)
            self._memory: Any = mmap.mmap(self._fd, size)
        else:
            self._memory = multiprocessing.get_context("spawn").RawArray("B", size)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._fd < 0:
            return _rebuild, (self._memory, self._size)
        assert_spawning(self)
        return _attach, (reduction.DupFd(self._fd), self._size)

    def array(self, offset: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array that lies in the memory, `offset` bytes behind its beginning."""
        count = int(np.prod(shape, dtype=np.int64))
        return np.frombuffer(self._memory, dtype, count, offset).reshape(shape)

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)  # what arrays still look at stays mapped
            self._fd = -1


def _attach(duplicate: Any, size: int) -> SharedBytes:
    shared = SharedBytes.__new__(SharedBytes)
    shared._size, shared._fd = size, duplicate.detach()
    shared._memory = mmap.mmap(shared._fd, size)
    return shared


def _rebuild(memory: Any, size: int) -> SharedBytes:
    shared = SharedBytes.__new__(SharedBytes)
    shared._size, shared._fd, shared._memory = size, -1, memory
    return shared
