"""Files of weights -> tensors by name, without PyTorch, without running what a file may carry, and without reading the
tensors until they are wanted.

What kind of file it is, its first bytes tell: names are not to be trusted, and `.pth.tar` is no tar.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paddlevid.errors import WeightsError
from paddlevid.weights.files import DamagedError, Source, Window, one_line
from paddlevid.weights.pickles import PlainUnpickler, safe_unpickle
from paddlevid.weights.safetensors_file import read_safetensors
from paddlevid.weights.standins import Array, Ignored, checked_shape
from paddlevid.weights.tensor import LazyTensor, from_bfloat16
from paddlevid.weights.torch_file import MAGIC_NUMBER, load_legacy, load_zip

__all__ = ["WeightsFile", "read_file", "read_state", "safe_unpickle"]

# Under these names training scripts keep the state, beside the optimizer's and the like
WRAPPERS = ("state_dict", "model_state", "model_state_dict", "model", "net")

# What a folder of Hugging Face, or a checkpoint of ours, calls the weights
_IN_FOLDERS = ("model.safetensors", "pytorch_model.bin", "model.pdparams")

# paddle.save puts these beside the tensors: a table of internal names, and how big tensors were cut (protocols 2, 3)
_NAME_TABLE = "StructuredToParameterName@@"
_CUT_TENSORS = "UnpackBigParamInfor@@"

_READ_KINDS = "files of torch.save, paddle.save (.pdparams) and safetensors"


@dataclass(frozen=True)
class WeightsFile:
    """The tensors of a file by name, and the names of what else lay beside them, such as `epoch` or `optimizer`."""

    state: dict[str, LazyTensor]
    others: tuple[str, ...] = ()


def read_state(path: str | Path) -> dict[str, LazyTensor]:
    """The tensors of a file by name; see `read_file`."""
    return read_file(path).state


def read_file(path: str | Path) -> WeightsFile:
    """What a file of torch.save, paddle.save or safetensors holds, or a folder of Hugging Face with one of them.

    bfloat16 comes as float32, float16 stays. Raises WeightsError, naming the path, for a file that is missing, cut
    off, foreign, or does not hold tensors by name, and for one that asks for anything to be run; and so does a
    tensor's `read()` where its bytes are damaged.
    """
    source = Source(weights_file(Path(path)))
    head = source.read(0, min(source.size, 512)).tobytes()
    if head[8:9] == b"{":
        return _finished(source, read_safetensors(source.path)[0], ())
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _unwrap(source, load_zip(source))
    if head[:1] == b"\x80":
        return _read_pickle(source)
    raise WeightsError(f"{path} {_what_else(head, source.path)}")


def weights_file(path: Path) -> Path:
    """The file of weights in a folder of Hugging Face or a checkpoint; any other path as it is."""
    if not path.is_dir():
        return path
    for name in _IN_FOLDERS:
        if (path / name).exists():
            return path / name
        if (path / f"{name}.index.json").exists():
            raise WeightsError(f"{path} holds weights in several files; save the model again as one {name}")
    raise WeightsError(f"{path} is a folder without weights: it has no {', '.join(_IN_FOLDERS)}")


def checksum(path: Path) -> str:
    """The sha256 of a file of weights, or of the one in a folder."""
    digest = hashlib.sha256()
    with weights_file(path).open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _what_else(head: bytes, path: Path) -> str:
    text = head.lstrip().lower()
    if head.startswith(b"version https://git-lfs"):
        return "is a pointer of git-lfs, not the file itself; fetch it with `git lfs pull`"
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page saved in place of the weights; download the file itself"
    if head[257:262] == b"ustar":
        return "is a tar archive; unpack it, or if it is of PyTorch before 0.2, load and save it again with PyTorch"
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!")):
        return "is compressed; unpack it first"
    is_combined = head[:16] == bytes(16) and head[20:21] == b"\x08"  # version, level of detail, version; a description
    if is_combined or head.startswith(b'{"base_code"') or path.suffix in (".pdiparams", ".pdmodel"):
        return "is part of an exported Paddle model, not weights; use the .pdparams that it was exported from"
    return f"is not weights of a kind that is known, or is cut off; known are {_READ_KINDS}"


def _read_pickle(source: Source) -> WeightsFile:
    with source.open() as file:
        window = Window(file, 0, source.size)
        content = PlainUnpickler(source, window).unpickle()
        if type(content) is int and content == MAGIC_NUMBER:
            return _unwrap(source, load_legacy(source, window))
    return _unwrap(source, content, is_paddle=True)


def _unwrap(source: Source, content: Any, *, is_paddle: bool = False) -> WeightsFile:
    if not isinstance(content, dict):
        raise WeightsError(f"{source.path} holds a {_kind(content)}, not tensors by name")
    others: tuple[str, ...] = ()
    for wrapper in WRAPPERS:
        if _holds_tensors(content.get(wrapper)):
            others = tuple(one_line(name) for name in content if name not in (wrapper, _NAME_TABLE))
            content = content[wrapper]
            break
    try:
        tensors = _join_cut_tensors({name: value for name, value in content.items() if name != _NAME_TABLE})
    except (AttributeError, DamagedError, LookupError, TypeError, ValueError) as error:
        reason = one_line(error)
        raise WeightsError(f"{source.path} cuts its tensors in a way that does not add up: {reason}") from error
    has_tensors = _holds_tensors(tensors)
    state = {}
    for name, value in tensors.items():
        if not isinstance(name, str):
            raise WeightsError(f"{source.path} holds a tensor under {one_line(name, 80)}, which is no name")
        state[name] = _as_tensor(source, name, value, numbers=has_tensors)
    if is_paddle:
        state = {name: _bits_as_bfloat16(tensor) for name, tensor in state.items()}
    return _finished(source, state, others)


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, dict) and any(isinstance(_inner(item), Array | LazyTensor) for item in value.values())


def _inner(value: Any) -> Any:
    """Paddle writes a tensor that is not in a plain state as (internal name, array)."""
    return value[1] if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], Array) else value


def _as_tensor(source: Source, name: str, value: Any, *, numbers: bool) -> LazyTensor:
    value = _inner(value)
    where = f"under {one_line(repr(name), 80)}"
    if isinstance(value, LazyTensor):
        return value
    if isinstance(value, Array):
        try:
            return value.tensor
        except DamagedError as error:
            raise WeightsError(f"{source.path} holds {error} {where}, not a tensor") from error
    # BatchNorm's count of batches is a plain number in some files
    if numbers and isinstance(value, int | float | np.integer | np.floating | np.bool_) and -(2**63) <= value < 2**63:
        return LazyTensor.of(np.asarray(value))
    hint = f"; a state is looked for under {', '.join(WRAPPERS)}" if isinstance(value, dict) else ""
    raise WeightsError(f"{source.path} holds a {_kind(value)} {where}, not a tensor{hint}")


def _join_cut_tensors(content: dict[Any, Any]) -> dict[Any, Any]:
    cuts = content.get(_CUT_TENSORS, {})
    joined = {}
    for name, cut in cuts.items():
        parts = [_inner(content[part]).tensor for part in cut["slices"]]
        shape = checked_shape(cut["OriginShape"])
        if sum(math.prod(part.shape) for part in parts) != math.prod(shape):
            raise DamagedError(f"the parts of {one_line(name, 80)} do not give the shape {list(shape)}")
        joined[name] = LazyTensor(shape, parts[0].dtype, _Joined(parts, shape))
    taken = {part for cut in cuts.values() for part in cut["slices"]} | {_CUT_TENSORS}
    return {name: value for name, value in content.items() if name not in taken} | joined


@dataclass(frozen=True)
class _Joined:
    parts: list[LazyTensor]
    shape: tuple[int, ...]

    def __call__(self) -> np.ndarray:
        return np.concatenate([part.read().reshape(-1) for part in self.parts]).reshape(self.shape)


def _bits_as_bfloat16(tensor: LazyTensor) -> LazyTensor:
    """numpy has no bfloat16: paddle.save writes its bits as uint16."""
    if tensor.dtype != np.uint16:
        return tensor
    return LazyTensor(tensor.shape, np.dtype(np.float32), lambda: from_bfloat16(tensor.read()))


def _kind(value: Any) -> str:
    if isinstance(value, Ignored):
        return "Python object"
    return "tensor without a name" if isinstance(value, Array | LazyTensor) else type(value).__name__


def _finished(source: Source, state: Mapping[str, LazyTensor], others: tuple[str, ...]) -> WeightsFile:
    """The same tensors, but one that turns out to be damaged says which it is."""
    if not state:
        raise WeightsError(f"{source.path} holds no tensors")
    odd = next((name for name in state if not name.isprintable()), None)
    if odd is not None:
        raise WeightsError(f"{source.path} holds a tensor under {one_line(repr(odd), 120)}, which is no name")
    named = {name: LazyTensor(t.shape, t.dtype, _Named(source.path, name, t)) for name, t in state.items()}
    return WeightsFile(named, others)


@dataclass(frozen=True)
class _Named:
    path: Path
    name: str
    tensor: LazyTensor

    def __call__(self) -> np.ndarray:
        try:
            return self.tensor.read()
        except DamagedError as error:
            name = one_line(repr(self.name), 120)
            raise WeightsError(f"{self.path}: the tensor {name} is damaged: {error}; download it again") from error
