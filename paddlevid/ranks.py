"""What the processes of a launch tell each other, apart from gradients."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np

from paddlevid.errors import UserError
from paddlevid.runtime import Ranks

T = TypeVar("T")
Path = tuple[str, ...]  # of a value in nested dicts
POLL_SEC = 0.02
_meetings = itertools.count()


def meet(ranks: Ranks) -> None:
    """Wait until every process has come here, however long that takes.

    Gloo gives up a collective operation after 30 seconds, and Paddle has no setting for it. So processes that wait for
    one that writes a checkpoint, or has longer videos to score, ask the store of the launch instead.
    """
    if ranks.world == 1:
        return
    import paddle

    store = paddle.base.core.create_or_get_global_tcp_store()
    key = f"paddlevid/meeting_{next(_meetings)}"

    def count(more: int) -> int:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        try:
            return store.add(key, more)  # an error where a signal comes in between, handled or not
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    present = count(1)
    while present < ranks.world:
        time.sleep(POLL_SEC)
        present = count(0)


def any_rank(ranks: Ranks, *flags: bool) -> list[bool]:
    """Each flag: whether it is true on any process. On a GPU this waits for what the device has been given to do."""
    if ranks.world == 1:
        return list(flags)
    import paddle

    shared = paddle.to_tensor(flags, dtype="int32")
    paddle.distributed.all_reduce(shared, op=paddle.distributed.ReduceOp.MAX)
    return [bool(flag) for flag in shared.numpy()]


def on_first(ranks: Ranks, function: Callable[[], T]) -> T:
    """What `function` returns on the first process, where alone it is called, on all of them; it must be picklable.

    Raises:
        UserError, OSError: those that it raised there, on all of them.
    """
    if ranks.world == 1:
        return function()
    import paddle

    outcome: list[Any] = [None]
    if ranks.rank == 0:
        try:
            outcome = [(function(), None)]
        except (UserError, OSError) as error:
            outcome = [(None, error)]
    meet(ranks)
    paddle.distributed.broadcast_object_list(outcome, src=0)
    value, failure = outcome[0]
    if failure is not None:
        raise failure
    return value


class ArrayKind(NamedTuple):
    """An array without its numbers."""

    shape: tuple[int, ...]
    dtype: str

    @classmethod
    def of(cls, array: np.ndarray) -> ArrayKind:
        return cls(array.shape, array.dtype.str)


def broadcast_state(
    state: dict[str, Any] | None, ranks: Ranks, keep: Callable[[Path], bool] = lambda path: True
) -> dict[str, Any]:
    """The first process's nested dict of arrays and plain values, on all of them.

    Arrays travel one by one, so that a device holds one of them at a time. `state` is not looked at but on the first
    process. `keep` says for the path of an array whether this process wants it; others are left out of its result.
    """
    own = (state or {}) if ranks.rank == 0 else None
    return _broadcast(on_first(ranks, lambda: _outline(own or {})), own, (), ranks, keep)


def _outline(state: dict[str, Any]) -> dict[str, Any]:
    kinds: dict[str, Any] = {}
    for key, value in state.items():
        if isinstance(value, dict):
            kinds[key] = _outline(value)
        else:
            kinds[key] = ArrayKind.of(value) if isinstance(value, np.ndarray) else value
    return kinds


def _broadcast(
    outline: dict[str, Any], state: dict[str, Any] | None, path: Path, ranks: Ranks, keep: Callable[[Path], bool]
) -> dict[str, Any]:
    received: dict[str, Any] = {}
    for key, kind in outline.items():
        own = None if state is None else state[key]
        if isinstance(kind, dict):
            received[key] = _broadcast(kind, own, (*path, key), ranks, keep)
        elif not isinstance(kind, ArrayKind):
            received[key] = kind
        else:
            array = broadcast_array(own, kind, source=0, ranks=ranks)
            if keep((*path, key)):
                received[key] = array
    return received


def broadcast_array(array: np.ndarray | None, kind: ArrayKind, *, source: int, ranks: Ranks) -> np.ndarray:
    """The array of the process `source`, of which all know the kind, on all of them."""
    count = int(np.prod(kind.shape, dtype=np.int64)) * np.dtype(kind.dtype).itemsize
    if ranks.world == 1 or count == 0:
        return np.zeros(kind.shape, kind.dtype) if array is None else array
    import paddle

    if ranks.rank == source:
        assert array is not None
        bytes_ = paddle.to_tensor(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    else:
        bytes_ = paddle.empty([count], dtype="uint8")
    paddle.distributed.broadcast(bytes_, src=source)
    if ranks.rank == source:
        assert array is not None
        return array
    return bytes_.numpy().view(kind.dtype).reshape(kind.shape)
