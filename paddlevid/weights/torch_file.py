"""Files that torch.save wrote, read without PyTorch: https://github.com/pytorch/pytorch/blob/main/torch/serialization.py

Since 1.6 they are zip archives: `NAME/data.pkl` is a pickle in which each tensor is a view of a storage, and
`NAME/data/KEY` are the bytes of a storage. Before, and with `_use_new_zipfile_serialization=False`, they are pickles
one after the other: a magic number, a version, facts about the machine, the content, and the keys of the storages,
whose bytes follow in that order, each after its number of elements.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from paddlevid.errors import WeightsError
from paddlevid.weights.files import DamagedError, Source, Stretch, Window, one_line
from paddlevid.weights.pickles import PlainUnpickler
from paddlevid.weights.torch_standins import TORCH, Kind, Storage, unread_kind

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_SAVE_AGAIN = "load it with PyTorch and save its state_dict() again"


class _TorchUnpickler(PlainUnpickler):
    """Makes a `LazyTensor` of each tensor; `storage(kind, key, count)` says where the bytes of a storage lie."""

    admitted: ClassVar[Mapping[tuple[str, str], Any]] = TORCH

    def find_class(self, module: str, name: str) -> Any:
        unread = unread_kind(module, name)
        if unread:
            raise WeightsError(f"{self._source.path} holds {unread}, which is not read; {_SAVE_AGAIN}, as float32")
        return super().find_class(module, name)

    def persistent_load(self, pid: Any) -> Storage:
        if not (isinstance(pid, tuple) and len(pid) in (5, 6) and pid[0] == "storage"):
            raise DamagedError("it refers to something that is no storage")
        _, kind, key, _location, count, *view = pid
        if not isinstance(kind, Kind) or not isinstance(key, str) or type(count) is not int or count < 0:
            raise DamagedError("it describes a storage wrongly")
        storage = self.storage(kind, key, count)
        if view and view[0] is not None:
            _key, first, length = view[0]
            if not (type(first) is int and type(length) is int and 0 <= first <= first + length <= storage.count):
                raise DamagedError(f"a part of storage {one_line(key, 40)} passes its ends")
            return Storage(kind, length, storage.bytes, first)
        return storage

    def storage(self, kind: Kind, key: str, count: int) -> Storage:
        raise NotImplementedError


class _ZipUnpickler(_TorchUnpickler):
    def __init__(self, source: Source, window: Window, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(source, window)
        self._archive, self._root = archive, root
        self._stretches: dict[str, Stretch] = {}

    def storage(self, kind: Kind, key: str, count: int) -> Storage:
        if key not in self._stretches:  # shared, so that a storage of many tensors is verified once
            self._stretches[key] = _stretch(self._source, self._archive, f"{self._root}/data/{key}")
        stretch = self._stretches[key]
        if stretch.length != count * np.dtype(kind.stored).itemsize:
            raise DamagedError(f"storage {one_line(key, 40)} of {count} elements has {stretch.length} bytes")
        return Storage(kind, count, stretch)


def load_zip(source: Source) -> Any:
    """The content of a file of PyTorch >= 1.6, with a LazyTensor for each tensor.

    Raises WeightsError, naming the path, for other archives, and for what is damaged or refused.
    """
    try:
        with zipfile.ZipFile(source.path) as archive:
            root = _find_root(source, archive.namelist())
            order = f"{root}/byteorder"
            if order in archive.namelist() and _whole(source, archive, order) != b"little":
                raise WeightsError(f"{source.path} was written by a big-endian machine; {_SAVE_AGAIN} on another")
            pickled = _stretch(source, archive, f"{root}/data.pkl")
            pickled.verify()
            with source.open() as file:
                window = Window(file, pickled.start, pickled.start + pickled.length)
                return _ZipUnpickler(source, window, archive, root).unpickle()
    except zipfile.BadZipFile as error:
        raise WeightsError(f"{source.path} is a zip archive that is cut off; copy or download it again") from error
    except (
        DamagedError,
        LookupError,
        NotImplementedError,
        OSError,
        OverflowError,
        struct.error,
        ValueError,
        EOFError,
    ) as error:
        raise WeightsError(f"{source.path} is a damaged zip archive: {one_line(error)}") from error


def _find_root(source: Source, names: list[str]) -> str:
    roots = {name.split("/")[0] for name in names}
    if len(roots) == 1 and any(name.split("/")[1:2] == ["code"] or name.endswith("/constants.pkl") for name in names):
        raise WeightsError(f"{source.path} is a TorchScript program, not weights; {_SAVE_AGAIN}")
    found = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(found) != 1:
        kind = "arrays of numpy (.npz)" if any(name.endswith(".npy") for name in names) else "no file of torch.save"
        raise WeightsError(f"{source.path} is a zip archive, but {kind}; unpack it, or name the file of weights")
    return found[0].removesuffix("/data.pkl")


def _stretch(source: Source, archive: zipfile.ZipFile, name: str) -> Stretch:
    """Where the bytes of a member lie: behind its own header, whose length is not in the archive's directory."""
    try:
        info = archive.getinfo(name)
    except KeyError as error:
        raise DamagedError(f"{one_line(name, 80)} is not in it") from error
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise DamagedError(f"{one_line(name, 80)} is compressed, as torch.save never does; {_SAVE_AGAIN}")
    header = source.read(info.header_offset, 30).tobytes()
    signature, name_length, extra_length = struct.unpack("<4s22xHH", header)
    own_name = source.read(info.header_offset + 30, name_length).tobytes()
    if signature != b"PK\x03\x04" or own_name.decode("utf-8" if info.flag_bits & 0x800 else "cp437") != name:
        raise DamagedError(f"{one_line(name, 80)} is not where it should be")
    start = info.header_offset + 30 + name_length + extra_length
    if start + info.file_size > source.size:
        raise DamagedError(f"{one_line(name, 80)} is cut off")
    return Stretch(source, start, info.file_size, info.CRC)


def _whole(source: Source, archive: zipfile.ZipFile, name: str) -> bytes:
    stretch = _stretch(source, archive, name)
    return stretch.read(0, min(stretch.length, 64)).tobytes()


class _LegacyUnpickler(_TorchUnpickler):
    def __init__(self, source: Source, window: Window) -> None:
        super().__init__(source, window)
        self.storages: dict[str, Storage] = {}

    def storage(self, kind: Kind, key: str, count: int) -> Storage:
        if key not in self.storages:
            # Where it lies is known once the pickle is read
            stretch = Stretch(self._source, -1, count * np.dtype(kind.stored).itemsize)
            self.storages[key] = Storage(kind, count, stretch)
        storage = self.storages[key]
        if (storage.kind, storage.count) != (kind, count):
            raise DamagedError(f"storage {one_line(key, 40)} is described in two ways")
        return storage


def load_legacy(source: Source, window: Window) -> Any:
    """The content of a file of PyTorch < 1.6 whose magic number has been read from `window`.

    Raises WeightsError, naming the path, for what is damaged or refused.
    """
    version = PlainUnpickler(source, window).unpickle()
    machine = PlainUnpickler(source, window).unpickle()
    if version != 1001 or not isinstance(machine, dict):
        raise WeightsError(f"{source.path} is damaged: it is of version {one_line(version, 40)} of PyTorch's, not 1001")
    if machine.get("little_endian") is not True:
        raise WeightsError(f"{source.path} was written by a big-endian machine; {_SAVE_AGAIN} on another")
    unpickler = _LegacyUnpickler(source, window)
    content = unpickler.unpickle()
    keys = PlainUnpickler(source, window).unpickle()
    is_list = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    if not is_list or sorted(keys) != sorted(unpickler.storages):
        raise WeightsError(f"{source.path} is damaged: its list of storages is not that of its tensors")
    try:
        for key in keys:
            storage = unpickler.storages[key]
            (count,) = struct.unpack("<q", window.read(8))
            if count != storage.count:
                raise WeightsError(f"{source.path} is damaged: a storage of {storage.count} elements has {count}")
            storage.bytes.start = window.skip(storage.bytes.length)
    except EOFError as error:
        raise WeightsError(f"{source.path} is cut off; copy or download it again") from error
    return content
