"""Files of weights -> arrays by name, without running what a file may carry.

A pickle can name any function and have it called; here it may name only what arrays and plain containers need.
"""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from paddlevid.errors import WeightsError

# paddle.save puts these beside the tensors: a table of internal names, and how big tensors were cut (protocols 2, 3)
_NAME_TABLE = "StructuredToParameterName@@"
_CUT_TENSORS = "UnpackBigParamInfor@@"

_ADMITTED = {
    ("builtins", "bytearray"),
    ("builtins", "complex"),
    ("builtins", "frozenset"),
    ("builtins", "list"),
    ("builtins", "set"),
    ("builtins", "tuple"),
    ("_codecs", "encode"),
    ("collections", "OrderedDict"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    # numpy 1 wrote numpy.core, numpy 2 writes numpy._core
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        module = "builtins" if module == "__builtin__" else module  # as protocol 2 calls it
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which weights do not need")
        if module.startswith("numpy.core"):
            module = module.replace("numpy.core", "numpy._core")  # the old place warns in numpy 2
        return super().find_class(module, name)


def safe_unpickle(path: str | Path) -> Any:
    """What a pickle holds: nested dicts, lists and tuples of arrays, numbers and texts.

    This reads what paddle.save writes for layers and optimizers, and refuses a file that names anything else.
    Raises WeightsError, naming the path, for a file that is missing, empty, cut off, foreign or refused.
    """
    path = _existing_file(path)
    try:
        with path.open("rb") as file:
            # Files made with Python 2 hold arrays as latin-1 texts
            content = _PlainUnpickler(file, encoding="latin1").load()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    except EOFError as error:
        raise WeightsError(f"{path} is cut off; copy or download it again") from error
    except pickle.UnpicklingError as error:
        reason = "it is cut off; copy or download it again" if "truncated" in str(error) else _one_line(error)
        raise WeightsError(f"{path} cannot be read: {reason}") from error
    except (AttributeError, ImportError, LookupError, MemoryError, OverflowError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} is not a file that paddle.save wrote: {_one_line(error)}") from error
    return content


def read_state(path: str | Path) -> dict[str, np.ndarray]:
    """Arrays by name from `.pdparams` or `.safetensors`; bfloat16 comes as float32.

    Raises WeightsError, naming the path, for a file that cannot be read or does not hold arrays by name.
    """
    path = Path(path)
    if path.suffix not in _READERS:
        known = ", ".join(_READERS)
        if path.suffix in {".pth", ".pyth", ".pt", ".tar", ".bin", ".ckpt"}:
            raise WeightsError(f"{path}: files of PyTorch ({path.suffix}) are not read yet; use one of {known}")
        raise WeightsError(f"{path}: unknown kind of weights {path.suffix!r}; use one of {known}")
    state = _READERS[path.suffix](path)
    if not state:
        raise WeightsError(f"{path} holds no tensors")
    return state


def _read_pdparams(path: Path) -> dict[str, np.ndarray]:
    content = safe_unpickle(path)
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__}, not tensors by name")
    content = _join_cut_tensors({name: value for name, value in content.items() if name != _NAME_TABLE}, path)
    return {str(name): _as_array(name, value, path) for name, value in content.items()}


def _join_cut_tensors(content: dict[str, Any], path: Path) -> dict[str, Any]:
    cuts = content.get(_CUT_TENSORS, {})
    try:
        joined = {
            name: np.concatenate([content[part] for part in cut["slices"]]).reshape(cut["OriginShape"])
            for name, cut in cuts.items()
        }
        parts = {part for cut in cuts.values() for part in cut["slices"]}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} cuts its tensors in a way that does not add up: {_one_line(error)}") from error
    kept = {name: value for name, value in content.items() if name not in parts and name != _CUT_TENSORS}
    return kept | joined


def _as_array(name: Any, value: Any, path: Path) -> np.ndarray:
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], np.ndarray):
        value = value[1]  # (internal name, array): a tensor that was not in a plain state
    if not isinstance(value, np.ndarray) or value.dtype == object:
        raise WeightsError(f"{path} holds a {type(value).__name__} under {name!r}, not a tensor")
    if value.dtype == np.uint16:
        # numpy has no bfloat16: paddle.save writes its bits, the upper half of a float32
        return (value.astype(np.uint32) << 16).view(np.float32)
    return value


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = _existing_file(path)
    try:
        return load_file(path)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors: {_one_line(error)}") from error


_READERS: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {
    ".pdparams": _read_pdparams,
    ".safetensors": _read_safetensors,
}


def _existing_file(path: str | Path) -> Path:
    path = Path(path)
    if not path.exists():
        raise WeightsError(f"{path} does not exist")
    if not path.is_file():
        raise WeightsError(f"{path} is not a file")
    if path.stat().st_size == 0:
        raise WeightsError(f"{path} is empty")
    return path


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
