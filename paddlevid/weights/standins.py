"""What the names in a pickle stand for here: functions and classes of ours, in place of those that the file names."""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import numpy as np

from paddlevid.weights.files import DamagedError, Source, one_line
from paddlevid.weights.tensor import LazyTensor

MOST_ELEMENTS = 1 << 40  # of one tensor: beyond any, and far from where products overflow
_PLAIN_DTYPE = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248]|c8|c16)")
_SCALARS = (str, bytes, int, float, complex, type(None), np.generic)


class FileBytes:
    """A byte string left in its file; with `latin1` it is written as a text, as protocols before 3 do."""

    def __init__(self, source: Source, start: int, length: int, *, latin1: bool = False) -> None:
        self._source, self._start, self.length, self.latin1 = source, start, length, latin1

    def read(self) -> np.ndarray:
        """The bytes, uint8."""
        data = self._source.read(self._start, self.length)
        if not self.latin1:
            return data
        try:
            return np.frombuffer(bytearray(str(data.data, "utf-8").encode("latin-1")), np.uint8)
        except UnicodeError as error:
            raise DamagedError("a text that should hold its bytes does not") from error


class FileText:
    """A long text left in its file."""

    def __init__(self, source: Source, start: int, length: int) -> None:
        self.source, self.start, self.length = source, start, length

    def read(self) -> str:
        return str(self.source.read(self.start, self.length).data, "utf-8", "surrogatepass")


class Ignored:
    """Stands for an object of no use to weights, and takes whatever its pickle does to it."""

    def __new__(cls, *_: Any, **__: Any) -> Ignored:
        return super().__new__(cls)

    def __setitem__(self, _key: Any, _value: Any) -> None:
        pass

    def __call__(self, *_: Any, **__: Any) -> Ignored:
        return self

    def append(self, _value: Any) -> None:
        pass


class Dtype:
    """Stands for numpy.dtype, whose own instances are shared by the whole process and can be changed by a pickle."""

    text: Any = ""
    order: Any = "="

    def __init__(self, text: Any, _align: Any = False, _copy: Any = False) -> None:
        self.text = text

    def build(self, state: Any) -> None:
        _version, self.order, *rest = state
        if any(part is not None for part in rest[:3]):  # parts, names and fields: a structure
            self.text = "V"

    def numpy(self) -> np.dtype:
        """Raises DamagedError for what is no number, such as objects, texts and structures."""
        if type(self.text) is not str or not _PLAIN_DTYPE.fullmatch(self.text):
            raise DamagedError(f"an array of kind {one_line(repr(self.text), 40)}")
        return np.dtype(self.text).newbyteorder(self.order if self.order in ("<", ">") else "=")


class Array:
    """Stands for numpy.ndarray: an array that gets its contents after it was made."""

    _tensor: LazyTensor | str = "an array without contents"

    @property
    def tensor(self) -> LazyTensor:
        """Raises DamagedError for an array of anything but numbers."""
        if isinstance(self._tensor, str):
            raise DamagedError(self._tensor)
        return self._tensor

    def build(self, state: Any) -> None:
        *_version, shape, dtype, is_fortran, data = state
        self.fill(shape, dtype, "F" if is_fortran else "C", data)

    def fill(self, shape: Any, dtype: Dtype, order: str, data: Any) -> None:
        try:
            self._tensor = _lazy_array(checked_shape(shape), dtype.numpy(), order, data)
        except DamagedError as error:
            self._tensor = str(error)  # it matters only if the array is a weight


def _lazy_array(shape: tuple[int, ...], kind: np.dtype, order: str, data: Any) -> LazyTensor:
    if order not in ("C", "F"):
        raise DamagedError(f"an array in the order {one_line(repr(order), 40)}")
    if isinstance(data, str):
        data = data.encode("latin-1")  # a byte string of Python 2
    if not isinstance(data, bytes | FileBytes):
        raise DamagedError(f"an array made of a {type(data).__name__}")
    num_bytes = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    given = data.length if isinstance(data, FileBytes) else len(data)
    is_text = isinstance(data, FileBytes) and data.latin1  # UTF-8, up to two bytes each
    if not (given == num_bytes or (is_text and num_bytes <= given <= 2 * num_bytes)):
        raise DamagedError(f"an array of shape {list(shape)} needs {num_bytes} bytes, not {given}")

    def read() -> np.ndarray:
        raw = data.read() if isinstance(data, FileBytes) else np.frombuffer(bytearray(data), np.uint8)
        if raw.size != num_bytes:
            raise DamagedError(f"an array of shape {list(shape)} needs {num_bytes} bytes, not {raw.size}")
        return native(raw.view(kind)).reshape(shape, order="F" if order == "F" else "C")

    return LazyTensor(shape, kind.newbyteorder("="), read)


def native(array: np.ndarray) -> np.ndarray:
    """The same numbers in the byte order of this machine."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def checked_shape(shape: Any) -> tuple[int, ...]:
    """A shape as a file gives it. Raises DamagedError for what is none, and for more elements than any tensor has."""
    sizes = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    if len(sizes) > 32 or not all(type(size) is int and 0 <= size <= MOST_ELEMENTS for size in sizes):
        raise DamagedError("a shape of it is none")
    count = 1
    for size in sizes:
        count *= max(size, 1)
    if count > MOST_ELEMENTS:
        raise DamagedError(f"a tensor of shape {list(sizes)} is too big")
    return sizes


def _reconstruct(_subtype: Any, _shape: Any, _typecode: Any) -> Array:
    return Array()


def _from_buffer(data: Any, dtype: Dtype, shape: Any, order: str, axis_order: Any = None) -> Array:
    array = Array()
    if order == "K" and axis_order is not None:
        axes = checked_shape(axis_order)
        array.fill(shape, dtype, "C", data)
        shape = array.tensor.shape
        if sorted(axes) != list(range(len(shape))):
            raise DamagedError("the order of axes of an array is none")
        array._tensor = array.tensor.then(lambda value: value.transpose(axes), tuple(shape[axis] for axis in axes))
    else:
        array.fill(shape, dtype, order, data)
    return array


def _scalar(dtype: Dtype, data: Any) -> Any:
    data = data.encode("latin-1") if isinstance(data, str) else data
    try:
        kind = dtype.numpy()
    except DamagedError:
        return Ignored()
    if not isinstance(data, bytes) or len(data) != kind.itemsize:
        raise DamagedError("a number of it is not as long as it should be")
    return native(np.frombuffer(data, kind))[0]


def _encode(text: Any, encoding: Any = "utf-8") -> bytes | FileBytes:
    """How protocols before 3 hold bytes: as the text of the same code points."""
    if encoding not in ("latin1", "latin-1"):
        raise DamagedError("it holds bytes in another form than pickles do")
    if isinstance(text, FileText):
        return FileBytes(text.source, text.start, text.length, latin1=True)
    return text.encode("latin-1")


def _no_bytes() -> bytes:
    """How protocols before 3 hold an empty byte string."""
    return b""


def _bytearray(data: Any = b"", encoding: Any = "latin-1") -> bytes | FileBytes:
    """Never the real one, which makes as many bytes as it is told to."""
    return data if isinstance(data, bytes | FileBytes) else _encode(data, encoding)


def _checked_key(key: Any) -> Any:
    """Plain keys only: to hash tuples of tuples, each twice in the next, takes for ever."""
    if isinstance(key, _SCALARS) or (isinstance(key, tuple) and all(isinstance(part, _SCALARS) for part in key)):
        return key
    raise pickle.UnpicklingError(f"a key of it is a {type(key).__name__}")


def _dict(pairs: Iterable[Any] = ()) -> dict[Any, Any]:
    return fill_dict({}, pairs)


def _ordered_dict(pairs: Iterable[Any] = ()) -> dict[Any, Any]:
    return fill_dict(OrderedDict(), pairs)


def _default_dict(_factory: Any = None, pairs: Iterable[Any] = ()) -> dict[Any, Any]:
    return fill_dict({}, pairs)


def fill_dict(target: dict[Any, Any], pairs: Any) -> dict[Any, Any]:
    for key, value in pairs.items() if isinstance(pairs, dict) else pairs:
        target[_checked_key(key)] = value
    return target


def make_set(items: Iterable[Any] = ()) -> set[Any]:
    return {_checked_key(item) for item in items}


def make_frozenset(items: Iterable[Any] = ()) -> frozenset[Any]:
    return frozenset(make_set(items))


PLAIN: dict[tuple[str, str], Any] = {
    ("builtins", "bytearray"): _bytearray,
    ("builtins", "bytes"): _no_bytes,
    ("builtins", "complex"): complex,
    ("builtins", "dict"): _dict,
    ("builtins", "frozenset"): make_frozenset,
    ("builtins", "list"): list,
    ("builtins", "set"): make_set,
    ("builtins", "tuple"): tuple,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): _ordered_dict,
    ("collections", "defaultdict"): _default_dict,
    ("numpy", "dtype"): Dtype,
    ("numpy", "ndarray"): Array,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
}
