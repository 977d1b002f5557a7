"""ZeRO stage 1: each process keeps the optimizer's state of its own share of the parameters.

https://arxiv.org/abs/1910.02054. DataParallel gives every process every gradient. Each then updates its own share alone
and hands the new values to the others: the weights are those of a run without shares, bit for bit, and the state takes
up the memory of one optimizer in all instead of one a process. Paddle's own sharding needs a GPU, or knows no groups of
parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import paddle

from paddlevid.optimizer_state import optimizer_state
from paddlevid.ranks import ArrayKind, Path, broadcast_array
from paddlevid.runtime import Ranks
from paddlevid.weights.tensor import LazyTensor


def deal(sizes: Mapping[str, int], world: int) -> dict[str, int]:
    """Name -> the process that it goes to: the largest first, each to the process that has least so far."""
    loads = [0] * world
    owners = {}
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        owners[name] = loads.index(min(loads))
        loads[owners[name]] += sizes[name]
    return owners


class Shards:
    """Who updates which of a model's parameters.

    In each step, once gradients are clipped: `drop_gradients`, then the step of the optimizer (or of a scaler that has
    unscaled them already), which passes over parameters without a gradient and keeps nothing for them, then
    `share_parameters`.
    """

    def __init__(self, model: paddle.nn.Layer, ranks: Ranks) -> None:
        self._model = model
        self._ranks = ranks
        self._parameters = {name: item for name, item in model.named_parameters() if not item.stop_gradient}
        self.owners = deal({name: item.size for name, item in self._parameters.items()}, ranks.world)
        self.owned_names = frozenset(name for name, owner in self.owners.items() if owner == ranks.rank)

    def drop_gradients(self) -> None:
        """Forget the gradients of what others update."""
        for name, parameter in self._parameters.items():
            if name not in self.owned_names:
                parameter.clear_gradient(False)  # not to zero: gone. Paddle ignores the keyword

    def share_parameters(self) -> None:
        """Give each process's new values to all the others."""
        for name, parameter in self._parameters.items():
            paddle.distributed.broadcast(parameter, src=self.owners[name])

    def keeps(self, path: Path) -> bool:
        """Whether this process keeps what a checkpoint has under `path`, for `broadcast_state`.

        Of what lies under `optimizer`, such as `head.weight_moment1_0`, that is its own share, and what belongs to no
        parameter; of all else, everything.
        """
        if path[0] != "optimizer":
            return True
        key = path[-1]
        names = (name for name in self.owners if key == name or key.startswith(f"{name}_"))
        owner = max(names, key=len, default=None)
        return owner is None or owner in self.owned_names

    def gather(self, optimizer: paddle.optimizer.Optimizer) -> dict[str, Any]:
        """The state of a whole optimizer, under the model's names, on the first process; `{}` on the others.

        Tensors come one by one: a device holds one more at a time. All of them lie in the memory of the first host.
        """
        own = _flat(optimizer_state(self._model, optimizer))
        kinds: list[dict[Path, Any]] = []
        paddle.distributed.all_gather_object(kinds, {path: _kind(value) for path, value in own.items()})
        whole: dict[Path, Any] = {}
        for source, parts in enumerate(kinds):
            for path, kind in parts.items():
                value: Any = kind
                if isinstance(kind, ArrayKind):
                    array = own[path].read() if source == self._ranks.rank else None
                    value = broadcast_array(array, kind, source=source, ranks=self._ranks)
                if self._ranks.rank == 0:
                    whole[path] = value
        return _nested({path: whole[path] for path in sorted(whole)})


def _kind(value: Any) -> Any:
    return ArrayKind(value.shape, np.dtype(value.dtype).str) if isinstance(value, LazyTensor) else value


def _flat(state: dict[str, Any], path: Path = ()) -> dict[Path, Any]:
    flat: dict[Path, Any] = {}
    for key, value in state.items():
        flat |= _flat(value, (*path, key)) if isinstance(value, dict) else {(*path, key): value}
    return flat


def _nested(flat: dict[Path, Any]) -> dict[str, Any]:
    state: dict[str, Any] = {}
    for (*parents, key), value in flat.items():
        place = state
        for parent in parents:
            place = place.setdefault(parent, {})
        place[key] = value
    return state
