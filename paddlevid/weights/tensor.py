"""Tensors of a file that are read when they are wanted, so that a big file is never in memory as a whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LazyTensor:
    """An array to be: its shape and dtype are known, `read` makes it, anew at each call."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]

    @classmethod
    def of(cls, array: np.ndarray) -> LazyTensor:
        return cls(array.shape, array.dtype, lambda: array)

    def then(self, function: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...]) -> LazyTensor:
        """The tensor that `function` makes of this one once it is read; `shape` is that of the result."""
        return LazyTensor(shape, self.dtype, lambda: function(self.read()))

    def as_float32(self) -> LazyTensor:
        return LazyTensor(self.shape, np.dtype(np.float32), lambda: self.read().astype(np.float32, copy=False))

    def transposed(self) -> LazyTensor:
        """[E, D] -> [D, E]: PyTorch's linear layers keep their weights [out, in], Paddle's [in, out]."""
        return self.then(np.transpose, self.shape[::-1])


State = dict[str, LazyTensor]


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """bfloat16, of which numpy has only the bits as uint16 -> float32: they are its upper half."""
    return (bits.astype(np.uint32)[..., None] << 16).view(np.float32)[..., 0]
