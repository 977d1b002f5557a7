"""OpenVINO, which reads its own files and those of ONNX."""

from __future__ import annotations

import sys
import threading
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from paddlevid.deploy.runtimes.mismatch import wrong_inputs
from paddlevid.errors import ConfigError


def import_openvino() -> Any:
    """OpenVINO, which does not report its use to its makers when it is imported first by this."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # it does without
    import openvino

    return openvino


@cache
def has_bf16() -> bool:
    """Whether this processor multiplies bfloat16 (AMX or AVX512-BF16), as OpenVINO sees it."""
    return "BF16" in import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVino:
    """A `.xml` (with its `.bin`) or `.onnx` file under OpenVINO, on CPU. `precision` bf16 runs an fp32 file so.

    Raises:
        ConfigError: a file is missing or is no model, or a GPU is asked for.
    """

    name = "openvino"

    def __init__(
        self,
        path: Path,
        weights: Path | None = None,
        *,
        precision: str = "fp32",
        use_gpu: bool = False,
        num_threads: int | None = None,
    ) -> None:
        for file in filter(None, (path, weights)):
            if not file.is_file():
                raise ConfigError(f"{file}: no such file of an exported model")
        if use_gpu:
            raise ConfigError("the runtime openvino runs on CPUs here; for a GPU use --runtime paddle or onnxruntime")
        openvino = import_openvino()
        hints: dict[str, object] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        }
        if num_threads:
            hints["INFERENCE_NUM_THREADS"] = num_threads
        try:
            core = openvino.Core()
            model = core.read_model(str(path), str(weights)) if weights else core.read_model(str(path))
            self._compiled = core.compile_model(model, "CPU", hints)
        except RuntimeError as error:
            raise ConfigError(f"{path}: OpenVINO cannot load it: {_last_line(error)}") from None
        self._request = self._compiled.create_infer_request()
        self._lock = threading.Lock()
        self._path = path
        self.precision = precision

    def __call__(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        with self._lock:
            try:
                results = self._request.infer([np.ascontiguousarray(array) for array in inputs], share_inputs=True)
            except RuntimeError as error:
                raise wrong_inputs(self._path, inputs, f"OpenVINO says: {_last_line(error)}") from None
            return tuple(np.array(results[output]) for output in self._compiled.outputs)


def _last_line(error: Exception) -> str:
    return next(line for line in reversed(str(error).strip().splitlines()) if line.strip()).strip()
