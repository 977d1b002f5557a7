"""What a worker does: read batches of a dataset for the process that started it, into the memory that they share."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

from paddlevid.data.shared_memory import SharedBytes
from paddlevid.errors import DataError
from paddlevid.processes import end_with_starter, keep_freed_memory

Read = Callable[[Any, Any], dict[str, Any]]  # of a dataset and a key

NOTHING = -1  # is being read
HEADER_BYTES = 64  # of each worker in the shared memory: the record that it reads, and how many it has begun
ALIGNMENT = 64
NOTICED_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


class Placed(NamedTuple):
    """An array that lies in the shared memory."""

    offset: int
    shape: tuple[int, ...]
    dtype: str


class Raised(NamedTuple):
    """What reading a batch raised, and where; a bug, or an error that ends the run."""

    error: BaseException
    trace: str


def serve(
    connection: Connection, memory: SharedBytes, place: int, layout: tuple[int, int], read: Read, dataset: Any
) -> None:
    """A worker: read what is asked for until the other end closes."""
    import cv2

    for name in set(NOTICED_SIGNALS) & set(dir(signal)):  # of a process of the user's own that workers come from
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    end_with_starter()
    keep_freed_memory()
    cv2.setNumThreads(0)  # workers share the cores among themselves already
    progress = memory.array(place * HEADER_BYTES, (2,), np.int64)
    banned: dict[int, str] = {}

    def before_reading(record: int) -> None:
        if record in banned:
            raise DataError(banned[record])
        progress[0] = record
        progress[1] += 1

    dataset = dataclasses.replace(dataset, before_reading=before_reading)
    slots_at, slot_bytes = layout
    with contextlib.suppress(EOFError, ConnectionError):  # the other end is gone
        connection.send(None)
        while True:
            key, slot, banned = connection.recv()
            try:
                batch = read(dataset, key)
                answer: Any = place_arrays(batch, memory, slots_at + slot * slot_bytes, slot_bytes)
            except Exception as error:
                answer = Raised(error, traceback.format_exc())
            progress[0] = NOTHING
            _send(connection, answer)


def place_arrays(batch: dict[str, Any], memory: SharedBytes, offset: int, num_bytes: int) -> dict[str, Any]:
    """Put arrays into the shared memory as far as there is room."""
    end = offset + num_bytes
    placed = {}
    for name, value in batch.items():
        if isinstance(value, np.ndarray) and value.size and offset + value.nbytes <= end:
            memory.array(offset, value.shape, value.dtype)[...] = value
            placed[name] = Placed(offset, value.shape, value.dtype.str)
            offset += -(-value.nbytes // ALIGNMENT) * ALIGNMENT
        else:
            placed[name] = value
    return placed


def _send(connection: Connection, answer: Any) -> None:
    try:
        connection.send(answer)
    except (OSError, EOFError):
        raise
    except Exception as error:  # an error of a library that cannot be pickled
        text = traceback.format_exc() if not isinstance(answer, Raised) else answer.trace
        connection.send(Raised(RuntimeError(f"{type(error).__name__}: {error}"), text))
