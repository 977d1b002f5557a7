"""Weights -> files that paddle.load or safetensors read, one tensor at a time."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from paddlevid.errors import WeightsError
from paddlevid.runtime import atomic_write
from paddlevid.weights.safetensors_file import write_safetensors
from paddlevid.weights.tensor import LazyTensor

KINDS = (".pdparams", ".safetensors")


def write_weights(state: Mapping[str, LazyTensor], path: str | Path) -> None:
    """Write tensors by name, `.pdparams` or `.safetensors`; an older file is replaced only by a whole one.

    Raises WeightsError for another suffix.
    """
    check_destination(path)
    write = _WRITERS[Path(path).suffix]
    atomic_write(path, lambda temporary: write(state, Path(temporary)))


def check_destination(path: str | Path) -> None:
    """Raise WeightsError where `write_weights` could not write a file of this name."""
    if Path(path).suffix not in KINDS:
        raise WeightsError(f"{path}: weights are written as {' or '.join(KINDS)}")
    if Path(path).is_dir():
        raise WeightsError(f"{path} is a folder; name a file in it")


class _Streamed:
    """A tensor that is read when the pickler comes to it, and pickled as the array it is."""

    def __init__(self, tensor: LazyTensor) -> None:
        self.tensor = tensor

    def __reduce__(self) -> Any:
        return np.ascontiguousarray(self.tensor.read()).__reduce__()


def _write_pdparams(state: Mapping[str, LazyTensor], path: Path) -> None:
    with path.open("wb") as file:
        pickler = pickle.Pickler(file, protocol=4)
        pickler.fast = True  # without the memo, which would keep every array until the end
        pickler.dump({name: _Streamed(tensor) for name, tensor in state.items()})


_WRITERS: dict[str, Callable[[Mapping[str, LazyTensor], Path], None]] = {
    ".pdparams": _write_pdparams,
    ".safetensors": lambda state, path: write_safetensors(path, state),
}
