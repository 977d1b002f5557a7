"""ONNX Runtime."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from paddlevid.deploy.runtimes.mismatch import wrong_inputs
from paddlevid.errors import ConfigError
from paddlevid.runtime import num_physical_cores


def import_onnxruntime() -> Any:
    """ONNX Runtime, which does not report its use to its makers when it is imported first by this."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def has_cuda() -> bool:
    return "CUDAExecutionProvider" in import_onnxruntime().get_available_providers()


class OnnxRuntime:
    """A `.onnx` file under ONNX Runtime, on CPU or on GPU.

    Raises:
        ConfigError: the file is missing or is no model of ONNX, or this ONNX Runtime has no GPU.
    """

    name = "onnxruntime"

    def __init__(
        self, path: Path, *, precision: str = "fp32", use_gpu: bool = False, num_threads: int | None = None
    ) -> None:
        if not path.is_file():
            raise ConfigError(f"{path}: no such file of an exported model")
        onnxruntime = import_onnxruntime()
        if use_gpu and not has_cuda():
            raise ConfigError("a GPU is asked for, but this ONNX Runtime is the CPU build: pip install onnxruntime-gpu")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors: it warns of each constant that it folds
        # By itself it ties its threads to cores, whatever else these are doing: half as fast on a busy machine
        options.intra_op_num_threads = num_threads or num_physical_cores()
        providers = ["CUDAExecutionProvider"] if use_gpu else ["CPUExecutionProvider"]
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # its errors have no common class but this one
            raise ConfigError(f"{path}: ONNX Runtime cannot load it: {_first_line(error)}") from None
        self._path = path
        self._inputs = self._session.get_inputs()
        self.precision = precision

    def __call__(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

        fed = {info.name: np.ascontiguousarray(array) for info, array in zip(self._inputs, inputs, strict=True)}
        try:
            return tuple(self._session.run(None, fed))
        except InvalidArgument as error:
            raise wrong_inputs(self._path, inputs, f"ONNX Runtime says: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
