"""safetensors: a length, a header in JSON, then the bytes of the tensors (https://github.com/huggingface/safetensors).

The library checks a file, and ours is the reading and writing one tensor at a time: what numpy has no type for stays
readable, and a model is never in memory twice.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from paddlevid.errors import WeightsError
from paddlevid.weights.files import DamagedError, Source, Stretch, one_line
from paddlevid.weights.standins import checked_shape, native
from paddlevid.weights.tensor import LazyTensor, from_bfloat16

_DTYPES = {
    "BOOL": "|b1",
    "U8": "|u1",
    "I8": "|i1",
    "U16": "<u2",
    "I16": "<i2",
    "U32": "<u4",
    "I32": "<i4",
    "U64": "<u8",
    "I64": "<i8",
    "F16": "<f2",
    "BF16": "<u2",
    "F32": "<f4",
    "F64": "<f8",
    "C64": "<c8",
}
_NAMES = {np.dtype(stored).name: name for name, stored in _DTYPES.items() if name != "U16"}


def read_safetensors(path: str | Path, *, bfloat16_bits: bool = False) -> tuple[dict[str, LazyTensor], dict[str, str]]:
    """The tensors of a file by name, and its metadata.

    bfloat16 comes as float32, or with `bfloat16_bits` as the uint16 that paddle.to_tensor takes for it. Raises
    WeightsError, naming the path, for a file that is damaged or has numbers of a kind that is not read.
    """
    from safetensors import SafetensorError, safe_open

    source = Source(path)
    try:
        with safe_open(source.path, framework="numpy"):
            pass  # opened, it is checked: the header, and that the tensors fill the file
        (length,) = struct.unpack("<Q", source.read(0, 8).tobytes())
        header = json.loads(source.read(8, length).tobytes())
        metadata = header.pop("__metadata__", None) or {}
        return {name: _tensor(source, 8 + length, name, of, bfloat16_bits) for name, of in header.items()}, metadata
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is cut off or damaged, as safetensors: {one_line(error)}") from error
    except (DamagedError, AttributeError, LookupError, RecursionError, TypeError, ValueError, struct.error) as error:
        raise WeightsError(f"{path} is damaged, as safetensors: {one_line(error)}") from error


def _tensor(source: Source, data_start: int, name: str, fields: Mapping[str, Any], bits: bool) -> LazyTensor:
    if fields["dtype"] not in _DTYPES:
        kind = one_line(fields["dtype"], 40)
        raise WeightsError(
            f"{source.path} holds {one_line(repr(name), 120)} as {kind}, which is not read; save it as float32"
        )
    start, end = fields["data_offsets"]
    shape, stored = checked_shape(fields["shape"]), np.dtype(_DTYPES[fields["dtype"]])
    stretch = Stretch(source, data_start + start, end - start)
    if end - start != math.prod(shape) * stored.itemsize or data_start + end > source.size:
        raise DamagedError(f"{one_line(repr(name), 120)} has {end - start} bytes for the shape {list(shape)}")

    def read() -> np.ndarray:
        return native(stretch.read(0, stretch.length).view(stored)).reshape(shape)

    if fields["dtype"] == "BF16" and not bits:
        return LazyTensor(shape, np.dtype(np.float32), lambda: from_bfloat16(read()))
    return LazyTensor(shape, stored.newbyteorder("="), read)


def write_safetensors(
    path: str | Path, tensors: Mapping[str, LazyTensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors by name, each read when its turn comes; uint16 are taken for Paddle's bfloat16."""
    # The widest first, as the library does it: each then lies at a multiple of its size
    ordered = dict(sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])))
    offsets, end = {}, 0
    for name, tensor in ordered.items():
        start, end = end, end + math.prod(tensor.shape) * tensor.dtype.itemsize
        offsets[name] = [start, end]
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    for name, tensor in tensors.items():  # their own order is kept here
        kind = _NAMES[tensor.dtype.name]
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": offsets[name]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with Path(path).open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in ordered.values():
            array = np.ascontiguousarray(tensor.read(), tensor.dtype.newbyteorder("<"))
            file.write(array.reshape(-1).view(np.uint8).data)
