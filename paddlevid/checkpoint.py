"""Checkpoints of a training run: `OUTPUT/checkpoints/step_0000120/` holds all that continuing needs.

A checkpoint is written beside its final place and renamed once it is whole, so a directory that bears the name
`step_*` is complete whenever the process died.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import paddle

from paddlevid.errors import WeightsError
from paddlevid.runtime import atomic_write
from paddlevid.weights.files import DamagedError
from paddlevid.weights.pickles import safe_unpickle
from paddlevid.weights.read import read_state
from paddlevid.weights.safetensors_file import read_safetensors, write_safetensors
from paddlevid.weights.tensor import LazyTensor
from paddlevid.weights.write import write_weights

WeightsFormat = Literal["pdparams", "safetensors"]  # also of schema.TrainConfig.checkpoint_format
STATE_FILE = "state.json"
MODEL_FILES: dict[WeightsFormat, str] = {"pdparams": "model.pdparams", "safetensors": "model.safetensors"}
OPTIMIZER_FILES: dict[WeightsFormat, str] = {"pdparams": "optimizer.pdopt", "safetensors": "optimizer.safetensors"}


@dataclass(frozen=True)
class TrainState:
    """Where a run stands: optimizer steps done, the best validation top-1 so far, and the recipe as plain values."""

    step: int
    best_top1: float | None
    config: dict[str, Any]
    data: dict[str, Any]  # of the training list: num_samples, sha256 of its names and labels


def save_weights(model: paddle.nn.Layer, path: str | Path) -> None:
    """Write flat weights that `-w` reads, `.pdparams` or `.safetensors`, the former for `paddle.load` as well.

    An older file is replaced only by a whole one. Raises WeightsError for another suffix.
    """
    write_weights({name: _lazy(tensor) for name, tensor in model.state_dict().items()}, path)


def save_checkpoint(
    root: str | Path,
    state: TrainState,
    model: paddle.nn.Layer,
    optimizer: paddle.optimizer.Optimizer,
    scaler: paddle.amp.GradScaler | None = None,
    *,
    keep: int = 1,
    weights_format: WeightsFormat = "pdparams",
) -> Path:
    """Write `root/step_N` and remove all but the newest `keep`."""
    root = Path(root)
    final = root / f"step_{state.step:07d}"
    partial = root / f".{final.name}.{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        save_weights(model, partial / MODEL_FILES[weights_format])
        extra = {"optimizer": optimizer_state(model, optimizer), "scaler": scaler.state_dict() if scaler else {}}
        atomic_write(partial / OPTIMIZER_FILES[weights_format], lambda path: _WRITERS[weights_format](extra, path))
        atomic_write(partial / STATE_FILE, lambda path: Path(path).write_text(json.dumps(asdict(state), indent=1)))
        if final.exists():
            shutil.rmtree(final)
        partial.rename(final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    others = [path for path in list_checkpoints(root) if path != final]
    for old in others[: max(0, len(others) + 1 - keep)]:
        shutil.rmtree(old)
    return final


def prepare_root(root: str | Path, *, resumed_step: int | None) -> None:
    """Remove what a killed process left half written, and what a run resumed from an earlier step leaves behind."""
    for torn in Path(root).glob(".step_*"):
        shutil.rmtree(torn)
    if resumed_step is not None:
        for path in list_checkpoints(root):
            if int(path.name.removeprefix("step_")) > resumed_step:
                path.rename(path.with_name(f"abandoned_{path.name}"))


def list_checkpoints(root: str | Path) -> list[Path]:
    """The whole checkpoints under `root`, oldest first."""
    return sorted(path.parent for path in Path(root).glob(f"step_*/{STATE_FILE}"))


def load_checkpoint(
    path: str | Path,
    model: paddle.nn.Layer,
    optimizer: paddle.optimizer.Optimizer,
    scaler: paddle.amp.GradScaler | None = None,
) -> TrainState:
    """Restore model, optimizer and scaler in place, from either format, and return where the run stood.

    Raises:
        WeightsError: `path` is no checkpoint, a damaged one, or one of another model.
    """
    path = Path(path)
    try:
        fields = json.loads((path / STATE_FILE).read_text())
        state = TrainState(int(fields["step"]), fields["best_top1"], fields["config"], fields["data"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: not a checkpoint to resume from: {STATE_FILE}: {error}") from None
    kind = format_of(path)
    own = model.state_dict()
    weights = read_state(path / MODEL_FILES[kind])
    differing = [name for name in own if name not in weights or tuple(own[name].shape) != weights[name].shape]
    if differing or len(weights) != len(own):
        name = (differing or [name for name in weights if name not in own])[0]
        raise WeightsError(f"{path}: the checkpoint is of another model than the config describes: {name} differs")
    for name, tensor in own.items():
        tensor.set_value(paddle.to_tensor(weights[name].read()).astype(tensor.dtype))
    extra = _READERS[kind](path / OPTIMIZER_FILES[kind])
    if not (isinstance(extra, dict) and isinstance(extra.get("optimizer"), dict) and "scaler" in extra):
        raise WeightsError(f"{path}: {OPTIMIZER_FILES[kind]} does not hold the state of an optimizer")
    _check_optimizer(extra["optimizer"], model, optimizer, f"{path}: {OPTIMIZER_FILES[kind]}")
    optimizer.set_state_dict(_rename_back(model, extra["optimizer"]))
    if scaler is not None and extra["scaler"]:
        scaler.load_state_dict(extra["scaler"])
    return state


# What Paddle's optimizers keep of each parameter; they stop in the first step where a part of it is missing
_KEPT = {
    "SGD": (),
    "Momentum": ("velocity_0",),
    "AdamW": ("moment1_0", "moment2_0"),
}


def _check_optimizer(
    state: dict[str, Any], model: paddle.nn.Layer, optimizer: paddle.optimizer.Optimizer, where: str
) -> None:
    """Raises WeightsError where the state is not that of this optimizer for this model."""
    kind = type(optimizer).__name__
    for name, parameter in model.named_parameters():
        if parameter.stop_gradient:
            continue
        for part in _KEPT[kind]:
            kept = state.get(f"{name}_{part}", state.get(f"{name}_fp32_master_0_{part}"))
            if kept is None or tuple(kept.shape) != tuple(parameter.shape):
                raise WeightsError(
                    f"{where} does not hold {part.removesuffix('_0')} of {name}, which {kind} needs; resume with the "
                    "optimizer of the checkpoint, or start a new run from its weights"
                )


def format_of(path: str | Path) -> WeightsFormat:
    """In which format the checkpoint `path` was written. Raises WeightsError where it holds no model."""
    for kind, name in MODEL_FILES.items():
        if (Path(path) / name).exists():
            return kind
    raise WeightsError(f"{path}: not a checkpoint to resume from: it has no {' or '.join(MODEL_FILES.values())}")


def optimizer_state(model: paddle.nn.Layer, optimizer: paddle.optimizer.Optimizer) -> dict[str, Any]:
    """The optimizer's state under the model's parameter names, its tensors lazily.

    Paddle keys it by names that count the layers a process has made so far, which another process need not share.
    """
    names = {parameter.name: name for name, parameter in model.named_parameters()}
    return _convert(optimizer.state_dict(), names, _lazy)


def _rename_back(model: paddle.nn.Layer, state: dict[str, Any]) -> dict[str, Any]:
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


def _lazy(tensor: paddle.Tensor | np.ndarray) -> LazyTensor:
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
            tensors[prefix + key] = value if isinstance(value, LazyTensor) else _lazy(value)
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


_WRITERS = {"pdparams": _write_pickle, "safetensors": _write_safetensors}
_READERS = {"pdparams": safe_unpickle, "safetensors": _read_safetensors}
