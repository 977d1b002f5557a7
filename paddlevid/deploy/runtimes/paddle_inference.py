"""Paddle Inference."""

from __future__ import annotations

import ctypes
import os
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from paddlevid.deploy.runtimes.mismatch import wrong_inputs
from paddlevid.errors import ConfigError
from paddlevid.runtime import tune_cpu


@contextmanager
def quiet_stdout() -> Iterator[None]:
    """Keep what C++ code prints out of a command's output: oneDNN passes in a first run, converters as they go."""
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


@cache
def _thread() -> ThreadPoolExecutor:
    """The one thread that runs Paddle Inference: with two predictors in threads that come and go, a run fails now and
    then with nothing but std::exception, even when only one runs at a time."""
    return ThreadPoolExecutor(1, thread_name_prefix="paddle")


class PaddleInference:
    """`NAME.json` or `NAME.pdmodel` with `NAME.pdiparams` under Paddle Inference: CPU (with oneDNN), GPU, TensorRT.

    Raises:
        ConfigError: a file is missing or is no exported model, or this Paddle has no GPU or no TensorRT.
    """

    name = "paddle"

    def __init__(
        self,
        model_file: str | Path,
        params_file: str | Path,
        *,
        precision: str = "fp32",
        use_gpu: bool = False,
        use_tensorrt: bool = False,
        num_threads: int | None = None,
    ) -> None:
        for path in (model_file, params_file):
            if not Path(path).is_file():
                raise ConfigError(f"{path}: no such file of an exported model")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="No ccache found")  # nothing to act on
            from paddle import inference

        config = inference.Config(str(model_file), str(params_file))
        config.disable_glog_info()
        if use_gpu:
            _use_gpu(config, use_tensorrt)
        else:
            tune_cpu()
            config.disable_gpu()
            config.enable_mkldnn()
            config.set_cpu_math_library_num_threads(num_threads or os.cpu_count() or 1)
        try:
            self._predictor = _thread().submit(inference.create_predictor, config).result()
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[-1]
            raise ConfigError(f"{model_file}: Paddle Inference cannot load it: {reason}") from None
        self._model_file = model_file
        self._has_run = False
        self._inputs = [self._predictor.get_input_handle(name) for name in self._predictor.get_input_names()]
        self._outputs = [self._predictor.get_output_handle(name) for name in self._predictor.get_output_names()]
        self.precision = precision

    def __call__(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        return _thread().submit(self._run, inputs).result()

    def _run(self, inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        for handle, array in zip(self._inputs, inputs, strict=True):
            handle.copy_from_cpu(np.ascontiguousarray(array))
        if self._has_run:
            self._predictor.run()
        else:
            self._first_run(inputs)
        return tuple(handle.copy_to_cpu() for handle in self._outputs)

    def _first_run(self, inputs: tuple[np.ndarray, ...]) -> None:
        try:
            with quiet_stdout():
                self._predictor.run()
        except (RuntimeError, ValueError) as error:  # graphs do not tell what they take
            reason = str(error).strip().splitlines()[-1].strip()
            raise wrong_inputs(self._model_file, inputs, f"Paddle Inference says: {reason}") from None
        self._has_run = True


def _use_gpu(config: Any, use_tensorrt: bool) -> None:
    import paddle
    from paddle import inference

    if not paddle.device.is_compiled_with_cuda():
        raise ConfigError("--use_gpu=True, but the installed PaddlePaddle is the CPU build")
    config.enable_use_gpu(1024, 0)
    if use_tensorrt:
        if not any(inference.get_trt_compile_version()):
            raise ConfigError("--use_tensorrt=True, but the installed PaddlePaddle is built without TensorRT")
        config.enable_tensorrt_engine(
            workspace_size=1 << 30,
            max_batch_size=64,
            min_subgraph_size=5,
            precision_mode=inference.PrecisionType.Float32,
            use_static=False,
            use_calib_mode=False,
        )
