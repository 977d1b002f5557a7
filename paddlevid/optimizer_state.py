"""The state of an optimizer as a file: under the model's names, checked against the optimizer that is to take it."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from paddlevid.errors import WeightsError
from paddlevid.weights.files import DamagedError
from paddlevid.weights.pickles import safe_unpickle
from paddlevid.weights.safetensors_file import read_safetensors, write_safetensors
from paddlevid.weights.tensor import LazyTensor

# What Paddle's optimizers keep of each parameter; they stop in the first step where a part of it is missing
_KEPT = {
    "SGD": (),
    "Momentum": ("velocity_0",),
    "AdamW": ("moment1_0", "moment2_0"),
}


def check_optimizer(
    state: dict[str, Any],
    model: paddle.nn.Layer,
    optimizer: paddle.optimizer.Optimizer,
    where: str,
    owned: Collection[str] | None = None,
) -> None:
    """Raises WeightsError where the state is not that of this optimizer for this model, or for the `owned` part."""
    kind = type(optimizer).__name__
    for name, parameter in model.named_parameters():
        if parameter.stop_gradient or (owned is not None and name not in owned):
            continue
        for part in _KEPT[kind]:
            kept = state.get(f"{name}_{part}", state.get(f"{name}_fp32_master_0_{part}"))
            if kept is None or tuple(kept.shape) != tuple(parameter.shape):
                moment = part.removesuffix("_0")
                raise WeightsError(
                    f"{where}: the optimizer's state does not hold {moment} of {name}, which {kind} needs; resume "
                    "with the optimizer of the checkpoint, or start a new run from its weights"
                )


def optimizer_state(model: paddle.nn.Layer, optimizer: paddle.optimizer.Optimizer) -> dict[str, Any]:
    """The optimizer's state under the model's parameter names, its tensors lazily.

    Paddle keys it by names that count the layers a process has made so far, which another process need not share, and
    in the order of the first updates. Here it is sorted.
    """
    names = {parameter.name: name for name, parameter in model.named_parameters()}
    return _sorted(_convert(optimizer.state_dict(), names, lazy_tensor))


def _sorted(state: dict[str, Any]) -> dict[str, Any]:
    return {key: _sorted(state[key]) if isinstance(state[key], dict) else state[key] for key in sorted(state)}


def rename_back(model: paddle.nn.Layer, state: dict[str, Any]) -> dict[str, Any]:
    names = {name: parameter.name for name, parameter in model.named_parameters()}
    renamed = _convert(state, names, paddle.to_tensor)
    for name, master in renamed.get("master_weights", {}).items():
        master.name = f"{name}_fp32_master_0"  # Paddle finds the moments of a master weight by this name
    return renamed


def _convert(state: dict[str, Any], names: dict[str, str], array: Callable[[Any], Any]) -> dict[str, Any]:
    """Replace the parameter's name at the start of each key: `linear_3.w_0_moment1_0` <-> `head.weight_moment1_0`."""
    converted: dict[str, Any] = {}
    for key, value in state.items():
        if isinstance(value, dict):  # the master weights of mixed precision
            converted[key] = _convert(value, names, array)
            continue
        owner = max((name for name in names if key == name or key.startswith(f"{name}_")), key=len, default=None)
        renamed = key if owner is None else names[owner] + key[len(owner) :]
        converted[renamed] = array(value) if isinstance(value, paddle.Tensor | np.ndarray) else value
    return converted


def lazy_tensor(tensor: paddle.Tensor | np.ndarray) -> LazyTensor:
    """A tensor that comes to numpy when it is written; numpy has no bfloat16, Paddle gives its bits as uint16."""
    if isinstance(tensor, np.ndarray):
        return LazyTensor.of(tensor)
    name = str(tensor.dtype).rpartition(".")[2]
    return LazyTensor(tuple(tensor.shape), np.dtype("uint16" if name == "bfloat16" else name), tensor.numpy)


def _write_pickle(state: dict[str, Any], path: str) -> None:
    paddle.save(_map_tensors(state, lambda tensor: tensor.read()), path)


def _map_tensors(value: Any, function: Callable[[LazyTensor], Any]) -> Any:
    if isinstance(value, dict):
        return {key: _map_tensors(inner, function) for key, inner in value.items()}
    return function(value) if isinstance(value, LazyTensor) else value


def _write_safetensors(state: dict[str, Any], path: str) -> None:
    """Tensors under the path of their keys, `optimizer/head.weight_moment1_0`, and the rest as JSON."""
    tensors: dict[str, LazyTensor] = {}
    rest = _take_tensors(state, "", tensors)
    write_safetensors(path, tensors, {"state": json.dumps(rest, default=lambda number: number.item())})


def _take_tensors(state: dict[str, Any], prefix: str, tensors: dict[str, LazyTensor]) -> dict[str, Any]:
    """What is left of `state` without its tensors, which go to `tensors`."""
    rest: dict[str, Any] = {}
    for key, value in state.items():
        if isinstance(value, dict):
            rest[key] = _take_tensors(value, f"{prefix}{key}/", tensors)
        elif isinstance(value, LazyTensor | paddle.Tensor | np.ndarray):
            tensors[prefix + key] = value if isinstance(value, LazyTensor) else lazy_tensor(value)
        else:
            rest[key] = value
    return rest


def _read_safetensors(path: Path) -> Any:
    tensors, metadata = read_safetensors(path, bfloat16_bits=True)
    try:
        state = json.loads(metadata["state"])
        for name, tensor in tensors.items():
            *parents, key = name.split("/")
            place = state
            for parent in parents:
                place = place[parent]
            place[key] = tensor.read()
    except (DamagedError, LookupError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} does not hold the state of an optimizer") from error
    return state


WRITERS = {"pdparams": _write_pickle, "safetensors": _write_safetensors}
READERS = {"pdparams": safe_unpickle, "safetensors": _read_safetensors}
