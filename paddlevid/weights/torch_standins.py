"""What PyTorch's names in a pickle stand for here: kinds of numbers, storages, and tensors as views of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from paddlevid.weights.files import DamagedError, Stretch, one_line
from paddlevid.weights.standins import MOST_ELEMENTS, PLAIN, Ignored, checked_shape, native
from paddlevid.weights.tensor import LazyTensor, from_bfloat16

_MOST_REPEATED = 1 << 24  # elements that a tensor may have beyond those stored, by repeating them (Tensor.expand)


@dataclass(frozen=True)
class Kind:
    """How the elements of a storage are written; numpy has no bfloat16, whose bits come as uint16."""

    stored: str
    is_bfloat16: bool = False

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.float32) if self.is_bfloat16 else np.dtype(self.stored).newbyteorder("=")


_KINDS = {
    "float32": Kind("<f4"),
    "float16": Kind("<f2"),
    "float64": Kind("<f8"),
    "bfloat16": Kind("<u2", is_bfloat16=True),
    "int64": Kind("<i8"),
    "int32": Kind("<i4"),
    "int16": Kind("<i2"),
    "int8": Kind("|i1"),
    "uint8": Kind("|u1"),
    "uint16": Kind("<u2"),
    "uint32": Kind("<u4"),
    "uint64": Kind("<u8"),
    "bool": Kind("|b1"),
    "complex64": Kind("<c8"),
    "complex128": Kind("<c16"),
}
_STORAGES = {
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "DoubleStorage": "float64",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}
_UNTYPED = Kind("|u1")


@dataclass(frozen=True)
class Storage:
    """Elements in a row, of which tensors are views."""

    kind: Kind
    count: int
    bytes: Stretch
    first: int = 0

    def view(self, kind: Kind, first: Any, shape: Any, strides: Any) -> LazyTensor:
        """A tensor of it; all numbers are in elements. Raises DamagedError for one that passes its ends."""
        shape, strides = checked_shape(shape), tuple(strides)
        numbers = (first, *strides)
        if len(shape) != len(strides) or not all(type(n) is int and 0 <= n <= MOST_ELEMENTS for n in numbers):
            raise DamagedError("a tensor lies in its storage in no possible way")
        size = np.dtype(kind.stored).itemsize
        available = self.count * np.dtype(self.kind.stored).itemsize // size
        count = math.prod(shape)
        length = 1 + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True)) if count else 0
        if first + length > available:
            raise DamagedError(f"a tensor asks for elements {first} to {first + length} of {available}")
        if count > max(available, _MOST_REPEATED):
            raise DamagedError(f"a tensor repeats {available} elements {count} times in all")
        start = self.first * np.dtype(self.kind.stored).itemsize + first * size

        def read() -> np.ndarray:
            array = self.bytes.read(start, length * size).view(kind.stored)
            if count:
                array = np.lib.stride_tricks.as_strided(array, shape, [stride * size for stride in strides])
            array = np.ascontiguousarray(array).reshape(shape)
            return from_bfloat16(array) if kind.is_bfloat16 else native(array)

        return LazyTensor(shape, kind.dtype, read)


def _tensor(storage: Any, first: Any, shape: Any, strides: Any, *_: Any) -> LazyTensor:
    if not isinstance(storage, Storage) or storage.kind is _UNTYPED:
        raise DamagedError("a tensor is made of what is no storage")
    return storage.view(storage.kind, first, shape, strides)


def _tensor_of_dtype(
    storage: Any, first: Any, shape: Any, strides: Any, _grad: Any, _hooks: Any, kind: Any, _metadata: Any = None
) -> LazyTensor:
    if not isinstance(storage, Storage) or not isinstance(kind, Kind):
        raise DamagedError("a tensor is made of what is no storage")
    return storage.view(kind, first, shape, strides)


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _tensor_with_attributes(function: Any, _type: Any, arguments: Any, _attributes: Any) -> LazyTensor:
    if function not in (_tensor, _tensor_of_dtype, _parameter):
        raise DamagedError("a tensor is made by what makes none")
    return function(*arguments)


def _size(sizes: Any = ()) -> tuple[Any, ...]:
    return tuple(sizes)


# What stands beside the weights in checkpoints of PySlowFast, MMEngine, timm and plain scripts
_BESIDE = (
    ("argparse", "Namespace"),
    ("builtins", "bool"),
    ("builtins", "float"),
    ("builtins", "getattr"),
    ("builtins", "int"),
    ("builtins", "str"),
    ("collections", "Counter"),
    ("fvcore.common.config", "CfgNode"),
    ("mmengine.logging.history_buffer", "HistoryBuffer"),
    ("pathlib", "PosixPath"),
    ("pathlib", "WindowsPath"),
    ("pathlib._local", "PosixPath"),
    ("pathlib._local", "WindowsPath"),
    ("torch", "device"),
    ("yacs.config", "CfgNode"),
)

TORCH: dict[tuple[str, str], Any] = {
    **PLAIN,
    **dict.fromkeys(_BESIDE, Ignored),
    **{("torch", name): kind for name, kind in _KINDS.items()},
    **{("torch", name): _KINDS[kind] for name, kind in _STORAGES.items()},
    ("torch", "UntypedStorage"): _UNTYPED,
    ("torch.storage", "UntypedStorage"): _UNTYPED,
    ("torch", "Size"): _size,
    ("torch", "Tensor"): _parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _tensor_with_attributes,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_of_dtype,
    ("torch.nn.parameter", "Parameter"): _parameter,
}


def unread_kind(module: str, name: str) -> str:
    """What a name is of that is known but not read; empty for all else."""
    if module not in ("torch", "torch._utils", "torch.storage"):
        return ""
    if name == "_rebuild_sparse_tensor":
        return "a sparse tensor"
    if name == "_rebuild_qtensor" or (name.startswith("Q") and name.endswith("Storage")) or name.startswith("q"):
        return f"a quantised tensor ({one_line(name, 40)})"
    if name.startswith("float8") or name.startswith("float4"):
        return f"a tensor of {one_line(name, 40)}"
    if name == "_rebuild_meta_tensor_no_storage":
        return "a tensor without contents"
    return ""
