"""Files of torch.save made by hand, opcode by opcode: what PyTorch would not write can be written, and needs none."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
STORAGES = {"float32": "FloatStorage", "float16": "HalfStorage", "int64": "LongStorage", "uint8": "ByteStorage"}


def code(value: object) -> bytes:
    """What pushes a plain value on the stack of an unpickler."""
    return pickle.dumps(value, 2)[2:-1]


def call(module: str, name: str, *arguments: object) -> bytes:
    """What calls a function; bytes among the arguments are code."""
    pushed = b"".join(part if isinstance(part, bytes) else code(part) for part in arguments)
    return f"c{module}\n{name}\n".encode() + b"(" + pushed + b"tR"


def tensor(
    key: str, count: int, shape: Sequence[int], strides: Sequence[int], first: int = 0, storage: str = "FloatStorage"
) -> bytes:
    pid = b"(" + code("storage") + f"ctorch\n{storage}\n".encode() + code(key) + code("cpu") + code(count) + b"tQ"
    return call("torch._utils", "_rebuild_tensor_v2", pid, first, tuple(shape), tuple(strides), False, None)


def mapping(items: Mapping[str, bytes]) -> bytes:
    return b"}(" + b"".join(code(name) + value for name, value in items.items()) + b"u"


def pickled(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


def zip_file(body: bytes, storages: Mapping[str, bytes], extra: Mapping[str, bytes] | None = None) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(body))
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key}", data)
        for name, data in (extra or {"archive/byteorder": b"little", "archive/version": b"3\n"}).items():
            archive.writestr(name, data)
    return file.getvalue()


def legacy_file(body: bytes, storages: Mapping[str, np.ndarray], *, little_endian: bool = True) -> bytes:
    machine = {"protocol_version": 1001, "little_endian": little_endian, "type_sizes": {"short": 2}}
    head = b"".join(pickle.dumps(part, 2) for part in (MAGIC_NUMBER, 1001, machine))
    data = b"".join(np.int64(value.size).tobytes() + value.tobytes() for value in storages.values())
    return head + pickled(body) + pickle.dumps(list(storages), 2) + data


def state_code(arrays: Mapping[str, np.ndarray]) -> bytes:
    """A state whose tensors have each a storage of their name."""
    return mapping(
        {
            name: tensor(
                name,
                array.size,
                array.shape,
                [step // array.itemsize for step in array.strides],
                storage=STORAGES[array.dtype.name],
            )
            for name, array in arrays.items()
        }
    )


def zip_state(arrays: Mapping[str, np.ndarray]) -> bytes:
    return zip_file(state_code(arrays), {name: array.tobytes() for name, array in arrays.items()})


def legacy_state(arrays: Mapping[str, np.ndarray]) -> bytes:
    return legacy_file(state_code(arrays), arrays)
