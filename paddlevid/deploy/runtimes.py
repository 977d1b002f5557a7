"""Engines that run an exported model behind one call: uint8 `[B, T, H, W, C]` -> float32 logits `[B, K]`."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np

from paddlevid.errors import ConfigError
from paddlevid.runtime import tune_cpu


class Runtime(Protocol):
    def __call__(self, frames: np.ndarray) -> np.ndarray: ...


@contextmanager
def _quiet_stdout() -> Iterator[None]:
    """Keep what Paddle's oneDNN passes print in the first run of a model out of a command's output."""
    sys.stdout.flush()
    with open(os.devnull, "w") as nowhere:
        kept = os.dup(1)
        os.dup2(nowhere.fileno(), 1)
        try:
            yield
        finally:
            if os.name == "posix":
                ctypes.CDLL(None).fflush(None)  # what C++ has printed so far, while it still goes nowhere
            os.dup2(kept, 1)
            os.close(kept)


class PaddleRuntime:
    """Paddle Inference on CPU (with oneDNN) or on GPU.

    Args:
        model_file: `NAME.json` or `NAME.pdmodel`.
        params_file: `NAME.pdiparams`.
        num_threads: CPU threads; all cores by default.

    Raises:
        ConfigError: a file is missing or is no exported model, or this Paddle has no GPU.
    """

    def __init__(
        self,
        model_file: str | Path,
        params_file: str | Path,
        *,
        use_gpu: bool = False,
        use_tensorrt: bool = False,
        num_threads: int | None = None,
    ):
        for path in (model_file, params_file):
            if not Path(path).is_file():
                raise ConfigError(f"{path}: no such file of an exported model")
        if use_tensorrt:
            raise ConfigError("--use_tensorrt is not supported yet; use --use_gpu=True without it")
        import paddle
        from paddle import inference

        config = inference.Config(str(model_file), str(params_file))
        config.disable_glog_info()
        if use_gpu:
            if not paddle.device.is_compiled_with_cuda():
                raise ConfigError("--use_gpu=True, but the installed PaddlePaddle is the CPU build")
            config.enable_use_gpu(1024, 0)
        else:
            tune_cpu()
            config.disable_gpu()
            config.enable_mkldnn()
            config.set_cpu_math_library_num_threads(num_threads or os.cpu_count() or 1)
        try:
            self._predictor = inference.create_predictor(config)
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[-1]
            raise ConfigError(f"{model_file}: Paddle Inference cannot load it: {reason}") from None
        self._model_file = model_file
        self._has_run = False
        self._input = self._predictor.get_input_handle(self._predictor.get_input_names()[0])
        self._output = self._predictor.get_output_handle(self._predictor.get_output_names()[0])

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        self._input.copy_from_cpu(np.ascontiguousarray(frames))
        if self._has_run:
            self._predictor.run()
            return self._output.copy_to_cpu()
        try:
            with _quiet_stdout():
                self._predictor.run()
        except (RuntimeError, ValueError) as error:  # graphs do not tell what they take
            raise ConfigError(
                f"{self._model_file} does not take clips [T, H, W, C] of {list(frames.shape[1:])}; is the config of "
                f"another model? Paddle Inference says: {str(error).strip().splitlines()[-1]}"
            ) from None
        self._has_run = True
        return self._output.copy_to_cpu()
