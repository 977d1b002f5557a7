"""Checkpoints of a training run: `OUTPUT/checkpoints/step_0000120/` holds all that continuing needs.

A checkpoint is written beside its final place and renamed once it lies whole on the disk, so a directory that bears the
name `step_*` is complete whenever the process died. What happens to it later, a cut-off file or a changed byte, shows
in the sizes and checksums of `state.json`. No random states are kept: all that is random in a step is drawn from the
seed and the number of the step.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import zlib
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import paddle

from paddlevid.ema import EMA
from paddlevid.errors import WeightsError
from paddlevid.optimizer_state import READERS, WRITERS, check_optimizer, lazy_tensor, rename_back
from paddlevid.runtime import atomic_write, fsync_folder
from paddlevid.weights.read import read_state
from paddlevid.weights.write import write_weights

WeightsFormat = Literal["pdparams", "safetensors"]  # also of schema.TrainConfig.checkpoint_format
STATE_FILE = "state.json"
MODEL_FILES: dict[WeightsFormat, str] = {"pdparams": "model.pdparams", "safetensors": "model.safetensors"}
OPTIMIZER_FILES: dict[WeightsFormat, str] = {"pdparams": "optimizer.pdopt", "safetensors": "optimizer.safetensors"}
EMA_FILES: dict[WeightsFormat, str] = {"pdparams": "ema.pdparams", "safetensors": "ema.safetensors"}


@dataclass(frozen=True)
class TrainState:
    """Where a run stands, with the recipe as plain values.

    `updates` are the steps that changed the weights: those whose gradients were no numbers did not. `validated` is
    whether the score of this step's weights is among `best_score` already.
    """

    step: int
    config: dict[str, Any]
    data: dict[str, Any]  # of the training list: num_samples, sha256 of its names and labels
    epoch: float = 0.0
    updates: int = 0
    nonfinite_in_a_row: int = 0
    best_score: float | None = None
    best_step: int | None = None
    validated: bool = True
    bad_videos: dict[str, str] = field(default_factory=dict)  # name -> reason
    class_names: list[str] = field(default_factory=list)  # none where classes are but numbers


def save_weights(model: paddle.nn.Layer, path: str | Path) -> None:
    """Write flat weights that `-w` reads, `.pdparams` or `.safetensors`, the former for `paddle.load` as well.

    An older file is replaced only by a whole one. Raises WeightsError for another suffix.
    """
    write_weights({name: lazy_tensor(tensor) for name, tensor in model.state_dict().items()}, path)


def save_checkpoint(
    root: str | Path,
    state: TrainState,
    model: paddle.nn.Layer,
    optimizer: dict[str, Any],
    scaler: paddle.amp.GradScaler | None = None,
    ema: EMA | None = None,
    *,
    keep: int = 1,
    weights_format: WeightsFormat = "pdparams",
) -> Path:
    """Write `root/step_N` and remove all but the newest `keep`.

    `optimizer` is its state under the model's names, as `optimizer_state` gives it. Raises OSError where the disk
    refuses it; older checkpoints are then still there.
    """
    root = Path(root)
    final = root / f"step_{state.step:07d}"
    partial = root / f".{final.name}.{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        save_weights(model, partial / MODEL_FILES[weights_format])
        if ema is not None:
            tensors = {name: lazy_tensor(tensor) for name, tensor in ema.shadow.items()}
            write_weights(tensors, partial / EMA_FILES[weights_format])
        extra = {"optimizer": optimizer, "scaler": scaler.state_dict() if scaler else {}}
        atomic_write(partial / OPTIMIZER_FILES[weights_format], lambda path: WRITERS[weights_format](extra, path))
        files = {file.name: [file.stat().st_size, _checksum(file)] for file in partial.iterdir()}
        _write_state(partial, state, files)
        if final.is_dir() and not final.is_symlink():  # a damaged one, that resuming passed over
            shutil.rmtree(final)
        partial.rename(final)
        fsync_folder(root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    others = [path for path in list_checkpoints(root) if path != final]
    for old in others[: max(0, len(others) + 1 - keep)]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def update_state(path: str | Path, state: TrainState) -> None:
    """Replace what the checkpoint says of the run, such as the score that its weights turned out to have."""
    path = Path(path)
    _write_state(path, state, json.loads((path / STATE_FILE).read_text())["files"])


def _write_state(folder: Path, state: TrainState, files: dict[str, list[int]]) -> None:
    content = json.dumps({**asdict(state), "files": files}, indent=1)
    atomic_write(folder / STATE_FILE, lambda path: Path(path).write_text(content))


def _checksum(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            value = zlib.crc32(block, value)
    return value


def prepare_root(root: str | Path, *, resumed_step: int | None) -> None:
    """Remove what a killed process left half written, and what a run resumed from an earlier step leaves behind."""
    for torn in Path(root).glob(".step_*"):
        shutil.rmtree(torn, ignore_errors=True)
    if resumed_step is not None:
        for path in list_checkpoints(root):
            if int(path.name.removeprefix("step_")) > resumed_step:
                names = (f"abandoned_{path.name}" + (f"_{n}" if n else "") for n in itertools.count())
                path.rename(next(path.with_name(name) for name in names if not path.with_name(name).exists()))


def list_checkpoints(root: str | Path) -> list[Path]:
    """The checkpoints under `root`, oldest first; copies and links that a user has put there are none."""
    folders = (path.parent for path in Path(root).glob(f"step_*/{STATE_FILE}"))
    return sorted(folder for folder in folders if re.fullmatch(r"step_\d{7,}", folder.name) and not folder.is_symlink())


def what_is_torn(path: str | Path) -> str:
    """Why a checkpoint cannot be resumed from, in a few words; empty where its files are those that were written."""
    path = Path(path)
    try:
        files = json.loads((path / STATE_FILE).read_text())["files"]
        state = read_train_state(path)
        own_number = path.name.removeprefix("step_")
        if own_number.isdigit() and int(own_number) != state.step:
            return f"{STATE_FILE} is of step {state.step}"
        if not any({MODEL_FILES[kind], OPTIMIZER_FILES[kind]} <= files.keys() for kind in MODEL_FILES):
            return f"{STATE_FILE} is damaged"
        for name, (size, checksum) in files.items():
            found = (path / name).stat().st_size
            if found != size:
                return f"{name} has {found} of {size} bytes"
            if _checksum(path / name) != checksum:
                return f"{name} is damaged"
    except OSError as error:
        return f"{Path(error.filename or STATE_FILE).name}: {error.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError, WeightsError):
        return f"{STATE_FILE} is damaged"
    return ""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """What a checkpoint holds, from either format, as nested dicts of arrays and plain values for `restore`.

    Raises:
        WeightsError: `path` is no checkpoint, or a damaged one.
    """
    path = Path(path)
    state = read_train_state(path)
    kind = format_of(path)
    extra = READERS[kind](path / OPTIMIZER_FILES[kind])
    if not (isinstance(extra, dict) and isinstance(extra.get("optimizer"), dict) and "scaler" in extra):
        raise WeightsError(f"{path}: {OPTIMIZER_FILES[kind]} does not hold the state of an optimizer")
    content = {"state": asdict(state), **extra, "model": _read_arrays(path / MODEL_FILES[kind])}
    if (path / EMA_FILES[kind]).exists():
        content["ema"] = _read_arrays(path / EMA_FILES[kind])
    return content


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    return {name: tensor.read() for name, tensor in read_state(path).items()}


def restore(
    content: dict[str, Any],
    model: paddle.nn.Layer,
    optimizer: paddle.optimizer.Optimizer,
    scaler: paddle.amp.GradScaler | None = None,
    ema: EMA | None = None,
    *,
    where: str | Path = "the checkpoint",
    owned: Collection[str] | None = None,
) -> TrainState:
    """Give model, optimizer, scaler and averaged weights what `read_checkpoint` read; return where the run stood.

    `owned` are the parameters whose optimizer state belongs to this process; all of them unless said.

    Raises:
        WeightsError: the checkpoint is of another model or another optimizer.
    """
    state = TrainState(**content["state"])
    own = model.state_dict()
    _check_same_model(content["model"], own, where)
    for name, tensor in own.items():
        tensor.set_value(paddle.to_tensor(content["model"][name]).astype(tensor.dtype))
    if state.updates:  # an optimizer keeps nothing before its first update
        check_optimizer(content["optimizer"], model, optimizer, str(where), owned)
        optimizer.set_state_dict(rename_back(model, content["optimizer"]))
    if scaler is not None and content["scaler"]:
        scaler.load_state_dict(content["scaler"])
    if ema is not None:
        averages = content.get("ema", content["model"])  # a run that had none so far begins with its weights
        _check_same_model(averages, own, where)
        ema.load(averages)
    return state


def read_train_state(path: Path) -> TrainState:
    """Where the run of a checkpoint stood. Raises WeightsError where `path` is no checkpoint."""
    try:
        content = json.loads((path / STATE_FILE).read_text())
        known = {entry.name for entry in fields(TrainState)}
        state = TrainState(**{name: value for name, value in content.items() if name in known})
        counts = (state.step, state.updates, state.nonfinite_in_a_row, state.best_step or 0)
        if not all(isinstance(count, int) and count >= 0 for count in counts):
            raise ValueError("a count is no number")
        if not isinstance(state.config, dict) or not isinstance(state.bad_videos, dict):
            raise ValueError("a part is missing")
        if not isinstance(state.best_score, float | int | None) or not isinstance(state.data, dict):
            raise ValueError("a part is missing")
        if not isinstance(state.class_names, list):
            raise ValueError("a part is missing")
        return state
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path}: not a checkpoint to resume from: {STATE_FILE}: {error}") from None


def _check_same_model(arrays: dict[str, np.ndarray], own: dict[str, paddle.Tensor], where: str | Path) -> None:
    """All tensors of the model must be there, in the same shapes, and no other."""
    differing = [name for name in own if name not in arrays or tuple(own[name].shape) != arrays[name].shape]
    if differing or len(arrays) != len(own):
        name = (differing or [name for name in arrays if name not in own])[0]
        raise WeightsError(f"{where}: the checkpoint is of another model than the config describes: {name} differs")


def format_of(path: str | Path) -> WeightsFormat:
    """In which format the checkpoint `path` was written. Raises WeightsError where it holds no model."""
    for kind, name in MODEL_FILES.items():
        if (Path(path) / name).exists():
            return kind
    raise WeightsError(f"{path}: not a checkpoint to resume from: it has no {' or '.join(MODEL_FILES.values())}")
