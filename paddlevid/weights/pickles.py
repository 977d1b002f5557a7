"""Pickles, without running what they may carry, and without reading the bytes of their arrays.

A pickle can name any function and have it called. Here each name that weights need stands for something of ours, any
other is refused, and big byte strings are left in the file until their array is read.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from struct import error as StructError
from struct import unpack
from typing import Any, ClassVar, NoReturn

from paddlevid.errors import WeightsError
from paddlevid.weights.files import DamagedError, Source, Window, one_line
from paddlevid.weights.standins import (
    PLAIN,
    Array,
    Dtype,
    FileBytes,
    FileText,
    Ignored,
    fill_dict,
    make_frozenset,
    make_set,
)

LAZY_FROM = 4096  # bytes; shorter strings are read at once

# What a damaged or hostile pickle makes the unpickler stumble over
_STUMBLES = (
    pickle.UnpicklingError,
    AssertionError,
    AttributeError,
    DamagedError,
    LookupError,
    MemoryError,
    OverflowError,
    RecursionError,
    StructError,
    TypeError,
    ValueError,
)


class PlainUnpickler(pickle._Unpickler):  # the one in Python: that in C reads every byte string into memory
    """Makes of a pickle: containers, numbers and texts as they are, `Array` for arrays, `FileBytes` and `FileText`."""

    admitted: ClassVar[Mapping[tuple[str, str], Any]] = PLAIN
    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(pickle._Unpickler.dispatch)

    # Of the base class, whose stubs leave them out
    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, source: Source, window: Window) -> None:
        super().__init__(window, encoding="latin1")  # files made with Python 2 hold arrays as such texts
        self._source, self._window = source, window

    def unpickle(self) -> Any:
        """The next object of the window. Raises WeightsError, naming the path, for all that can be wrong with it."""
        try:
            return self.load()
        except EOFError as error:
            raise WeightsError(f"{self._source.path} is cut off; copy or download it again") from error
        except _STUMBLES as error:
            reason = "unknown code" if isinstance(error, KeyError) else one_line(error) or type(error).__name__
            raise WeightsError(f"{self._source.path} is damaged, or is no file of weights: {reason}") from error
        except OSError as error:
            raise WeightsError(f"{self._source.path} cannot be read: {error.strerror}") from error

    def find_class(self, module: str, name: str) -> Any:
        module = "builtins" if module == "__builtin__" else module  # as protocol 2 calls it
        if module.startswith("numpy.core."):
            module = module.replace("numpy.core", "numpy._core")  # numpy 1 and numpy 2
        if (module, name) not in self.admitted:
            self.refuse(module, name)
        return self.admitted[module, name]

    def refuse(self, module: str, name: str) -> NoReturn:
        asked = one_line(f"{module}.{name}", 120)
        raise WeightsError(f"{self._source.path} asks for {asked}, which weights do not need; nothing of it was run")

    def get_extension(self, code: int) -> None:
        self.refuse("copyreg", f"extension {code}")

    def load_frame(self) -> None:
        self._window.read(8)  # how much to read ahead; reading without it gives the same

    def _load_bytes(self, length: int) -> None:
        if length < LAZY_FROM:
            self.append(self._window.read(length))
        else:
            self.append(FileBytes(self._source, self._window.skip(length), length))

    def _load_text(self, length: int) -> None:
        if length < LAZY_FROM:
            self.append(str(self._window.read(length), "utf-8", "surrogatepass"))
        else:
            self.append(FileText(self._source, self._window.skip(length), length))

    def load_binbytes(self) -> None:
        self._load_bytes(unpack("<I", self._window.read(4))[0])

    def load_binbytes8(self) -> None:
        self._load_bytes(unpack("<Q", self._window.read(8))[0])

    def load_binunicode(self) -> None:
        self._load_text(unpack("<I", self._window.read(4))[0])

    def load_binunicode8(self) -> None:
        self._load_text(unpack("<Q", self._window.read(8))[0])

    def load_build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Array | Dtype):
            target.build(state)
        elif not isinstance(target, dict | Ignored):  # a dict may bear attributes, such as _metadata; none are needed
            raise pickle.UnpicklingError(f"it changes a {type(target).__name__}")

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append(fill_dict({}, zip(items[::2], items[1::2], strict=True)))

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([(key, value)])

    def load_setitems(self) -> None:
        items = self.pop_mark()
        self._set_items(zip(items[::2], items[1::2], strict=True))

    def _set_items(self, pairs: Iterable[tuple[Any, Any]]) -> None:
        target = self.stack[-1]
        if isinstance(target, dict):
            fill_dict(target, pairs)
        elif not isinstance(target, Ignored):
            raise pickle.UnpicklingError(f"it sets an item of a {type(target).__name__}")

    def load_additems(self) -> None:
        items = self.pop_mark()
        self.stack[-1].update(make_set(items))

    def load_frozenset(self) -> None:
        items = self.pop_mark()  # it changes what `append` is
        self.append(make_frozenset(items))

    dispatch |= {
        pickle.FRAME[0]: load_frame,
        pickle.BINBYTES[0]: load_binbytes,
        pickle.BINBYTES8[0]: load_binbytes8,
        pickle.BYTEARRAY8[0]: load_binbytes8,
        pickle.BINUNICODE[0]: load_binunicode,
        pickle.BINUNICODE8[0]: load_binunicode8,
        pickle.BUILD[0]: load_build,
        pickle.DICT[0]: load_dict,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.ADDITEMS[0]: load_additems,
        pickle.FROZENSET[0]: load_frozenset,
    }


def safe_unpickle(path: str | Path) -> Any:
    """What a pickle holds: nested dicts, lists and tuples of arrays, numbers and texts.

    This reads what paddle.save writes for layers and optimizers, and refuses a file that names anything else.
    Raises WeightsError, naming the path, for a file that is missing, empty, cut off, foreign or refused.
    """
    source = Source(path)
    with source.open() as file:
        content = PlainUnpickler(source, Window(file, 0, source.size)).unpickle()
    try:
        return _read_all(content, {})
    except (DamagedError, RecursionError, UnicodeError) as error:
        raise WeightsError(f"{path} cannot be read: {one_line(error)}") from error


def _read_all(value: Any, done: dict[int, Any]) -> Any:
    """`value` with its arrays read; dicts and lists are filled in place. `done` is by id: a list may hold itself."""
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, Array):
        done[id(value)] = value.tensor.read()
    elif isinstance(value, FileBytes):
        done[id(value)] = value.read().tobytes()
    elif isinstance(value, FileText):
        done[id(value)] = value.read()
    elif isinstance(value, dict):
        done[id(value)] = value
        value.update({key: _read_all(item, done) for key, item in value.items()})
    elif isinstance(value, list):
        done[id(value)] = value
        value[:] = [_read_all(item, done) for item in value]
    elif isinstance(value, tuple):
        done[id(value)] = tuple(_read_all(item, done) for item in value)
    return done.get(id(value), value)
