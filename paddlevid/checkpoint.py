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
from typing import Any

import numpy as np
import paddle

from paddlevid.errors import WeightsError
from paddlevid.runtime import atomic_write
from paddlevid.weights import read_state, safe_unpickle

MODEL_FILE, OPTIMIZER_FILE, STATE_FILE = "model.pdparams", "optimizer.pdopt", "state.json"


@dataclass(frozen=True)
class TrainState:
    """Where a run stands: optimizer steps done, the best validation top-1 so far, and the recipe as plain values."""

    step: int
    best_top1: float | None
    config: dict[str, Any]
    data: dict[str, Any]  # of the training list: num_samples, sha256 of its names and labels


def save_weights(model: paddle.nn.Layer, path: str | Path) -> None:
    """Write a flat `.pdparams` that `paddle.load` and `-w` read; an older file is replaced only by a whole one."""
    atomic_write(path, lambda temporary: paddle.save(model.state_dict(), temporary))


def save_checkpoint(
    root: str | Path,
    state: TrainState,
    model: paddle.nn.Layer,
    optimizer: paddle.optimizer.Optimizer,
    scaler: paddle.amp.GradScaler | None = None,
    *,
    keep: int = 1,
) -> Path:
    """Write `root/step_N` and remove all but the newest `keep`."""
    root = Path(root)
    final = root / f"step_{state.step:07d}"
    partial = root / f".{final.name}.{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        atomic_write(partial / MODEL_FILE, lambda path: paddle.save(model.state_dict(), path))
        extra = {"optimizer": optimizer_state(model, optimizer), "scaler": scaler.state_dict() if scaler else {}}
        atomic_write(partial / OPTIMIZER_FILE, lambda path: paddle.save(extra, path))
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
    """Restore model, optimizer and scaler in place and return where the run stood.

    Raises:
        WeightsError: `path` is no checkpoint, or one of another model.
    """
    path = Path(path)
    try:
        fields = json.loads((path / STATE_FILE).read_text())
        state = TrainState(fields["step"], fields["best_top1"], fields["config"], fields["data"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: not a checkpoint to resume from: {STATE_FILE}: {error}") from None
    own = model.state_dict()
    weights = read_state(path / MODEL_FILE)
    differing = [name for name in own if name not in weights or tuple(own[name].shape) != weights[name].shape]
    if differing or len(weights) != len(own):
        name = (differing or [name for name in weights if name not in own])[0]
        raise WeightsError(f"{path}: the checkpoint is of another model than the config describes: {name} differs")
    model.set_state_dict({name: paddle.to_tensor(weights[name]).astype(own[name].dtype) for name in own})
    extra = safe_unpickle(path / OPTIMIZER_FILE)
    optimizer.set_state_dict(_rename_back(model, extra["optimizer"]))
    if scaler is not None and extra["scaler"]:
        scaler.load_state_dict(extra["scaler"])
    return state


def optimizer_state(model: paddle.nn.Layer, optimizer: paddle.optimizer.Optimizer) -> dict[str, Any]:
    """The optimizer's state as arrays under the model's parameter names.

    Paddle keys it by names that count the layers a process has made so far, which another process need not share.
    """
    names = {parameter.name: name for name, parameter in model.named_parameters()}
    return _convert(optimizer.state_dict(), names, lambda value: value.numpy())


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
