"""Engines that run an exported graph behind one call: arrays in the order of its inputs -> arrays of its outputs.

Importing this imports none of them: a machine needs only the one that it uses.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from paddlevid.deploy.manifest import Format, Graph, Manifest, ModelFiles, Precision
from paddlevid.deploy.runtimes.onnx_runtime import OnnxRuntime, has_cuda
from paddlevid.deploy.runtimes.open_vino import OpenVino, has_bf16
from paddlevid.deploy.runtimes.paddle_inference import PaddleInference
from paddlevid.deploy.runtimes.trial import fastest
from paddlevid.errors import ConfigError

RuntimeName = Literal["paddle", "onnxruntime", "openvino"]
# A lower precision that gives the best classes of fp32 in this share of at least so many videos may be taken unasked
AUTO_AGREEMENT = 0.99
AUTO_VIDEOS = 20


class Runtime(Protocol):
    """A graph that runs. Calls from several threads follow each other."""

    name: str
    precision: str

    def __call__(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]: ...


class Engine(NamedTuple):
    """How a runtime is made, which package it needs, what it reads, and how a user installs it."""

    open: Callable[..., Runtime]
    package: str
    formats: tuple[Format, ...]
    install: str


# Where nothing else decides, the one further up is taken
ENGINES: dict[RuntimeName, Engine] = {
    "openvino": Engine(OpenVino, "openvino", ("openvino", "onnx"), "pip install openvino"),
    "onnxruntime": Engine(OnnxRuntime, "onnxruntime", ("onnx",), "pip install onnxruntime"),
    "paddle": Engine(PaddleInference, "paddle", ("paddle",), "pip install paddlepaddle"),
}
RUNTIME_NAMES = ("auto", *ENGINES)


class Choice(NamedTuple):
    """A runtime and the files that it is to run."""

    name: RuntimeName
    files: ModelFiles


def open_runtime(
    folder: str | Path,
    manifest: Manifest,
    *,
    graph: Graph = "classify",
    name: str = "auto",
    precision: Precision | None = None,
    use_gpu: bool = False,
    use_tensorrt: bool = False,
    num_threads: int | None = None,
) -> Runtime:
    """Load a graph of an exported folder into the fastest runtime that is installed, or into the one named.

    Args:
        precision: fp32, bf16, fp16 or int8. By default fp32, or bf16 where it is faster, this processor has it and
            the folder was exported for it and gave the best classes of fp32.
        num_threads: CPU threads; all cores by default.

    Raises:
        ConfigError: nothing that is installed can run what the folder holds; the message says what would.
    """
    cores = os.cpu_count() or 1
    if num_threads is not None and not 1 <= num_threads <= 8 * cores:
        raise ConfigError(f"{num_threads} threads on {cores} cores: use 1 to {8 * cores}")
    if use_tensorrt and not use_gpu:
        raise ConfigError("TensorRT runs on GPUs: use --use_gpu=True with --use_tensorrt=True")
    possible = choices(manifest, graph=graph, name=name, precision=precision, use_gpu=use_gpu)
    if use_tensorrt:
        possible = [choice for choice in possible if choice.name == "paddle"]
    if not possible:
        raise ConfigError(f"{folder}: {_why_none(manifest, graph, name, precision, use_gpu)}")
    options: dict[str, Any] = {"use_gpu": use_gpu, "num_threads": num_threads}
    if use_tensorrt:
        options["use_tensorrt"] = True
    if use_gpu or graph == "explain":  # of which nobody runs many
        return open_files(folder, possible[0].files, possible[0].name, **options)
    return _open_fastest(folder, manifest, graph, possible, options)


def open_files(folder: str | Path, files: ModelFiles, name: RuntimeName, **options: Any) -> Runtime:
    """Load these files into this runtime; `options` are those of its constructor."""
    paths = [Path(folder) / file for file in files.files]
    return ENGINES[name].open(*paths, precision=files.precision, **options)


def _open_fastest(
    folder: str | Path, manifest: Manifest, graph: Graph, possible: list[Choice], options: dict[str, Any]
) -> Runtime:
    """Open one of the choices that stand as high as the first."""
    best = _rank(possible[0].files)
    rivals: dict[str, Choice] = {}
    for choice in possible:
        if _rank(choice.files) == best:  # of one runtime's formats, the first
            rivals.setdefault(f"{choice.name} {choice.files.precision}", choice)
    if len(rivals) == 1:
        return open_files(folder, possible[0].files, possible[0].name, **options)
    size, channels = manifest.data.image_size, manifest.data.channels
    inputs = [np.zeros((1, manifest.num_frames if graph == "classify" else 1, size, size, channels), np.uint8)]
    if graph == "online":
        inputs.append(np.zeros((1, manifest.state_size), np.float32))
    opened: dict[str, Runtime] = {}

    def run(key: str) -> None:
        if key not in opened:
            opened.clear()  # one at a time: each holds the weights
            opened[key] = open_files(folder, rivals[key].files, rivals[key].name, **options)
        opened[key](*inputs)

    key = fastest(
        {key: partial(run, key) for key in rivals},
        packages=[ENGINES[choice.name].package for choice in rivals.values()],
        model=f"{manifest.weights_sha256} {graph} {inputs[0].shape}",
        num_threads=options["num_threads"],
    )
    return opened[key] if key in opened else open_files(folder, rivals[key].files, rivals[key].name, **options)


def choices(manifest: Manifest, *, graph: Graph, name: str, precision: Precision | None, use_gpu: bool) -> list[Choice]:
    """What can run here, best first."""
    if name not in RUNTIME_NAMES:
        raise ConfigError(f"runtime {name!r} is not one of {', '.join(RUNTIME_NAMES)}")
    found: list[Choice] = []
    for runtime, engine in ENGINES.items():
        if name not in ("auto", runtime) or not is_installed(runtime):
            continue
        for form in engine.formats:
            found += [
                Choice(runtime, files)
                for files in manifest.models
                if files.graph == graph and files.format == form and precision in (None, files.precision)
            ]
    found = [choice for choice in found if _runs_here(choice, use_gpu)]
    if use_gpu:
        found.reverse()  # Paddle Inference before ONNX Runtime
    return sorted(found, key=lambda choice: _rank(choice.files))


def _rank(files: ModelFiles) -> int:
    """0 for what gives the best classes of fp32; the rest is taken where there is nothing else, or where asked for."""
    agrees = files.videos >= AUTO_VIDEOS and (files.same_top1 or 0.0) >= AUTO_AGREEMENT
    if files.precision == "fp32" or (files.precision == "bf16" and agrees):
        return 0
    return {"bf16": 1, "fp16": 2, "int8": 3}[files.precision]


def _runs_here(choice: Choice, use_gpu: bool) -> bool:
    if use_gpu:
        return choice.name == "paddle" or (choice.name == "onnxruntime" and has_cuda())
    return choice.files.precision != "bf16" or (choice.name == "openvino" and has_bf16())


def is_installed(runtime: RuntimeName) -> bool:
    try:
        return find_spec(ENGINES[runtime].package) is not None
    except ValueError:  # a module that somebody has put away
        return False


def _why_none(manifest: Manifest, graph: str, name: str, precision: str | None, use_gpu: bool) -> str:
    held = [files for files in manifest.models if files.graph == graph]
    if not held:
        ask = {"explain": "--explain", "online": "model.online: true in its recipe"}.get(graph, "--format")
        return f"it has no {graph} graph; export it with {ask} (tools/export_model.py)"
    kinds = ", ".join(sorted({f"{files.format} {files.precision}" for files in held}))
    fitting = {files.format for files in held if precision in (None, files.precision)}
    able = [one for one, engine in ENGINES.items() if name in ("auto", one) and fitting & set(engine.formats)]
    missing = [ENGINES[one].install for one in able if not is_installed(one)]
    if able and len(missing) == len(able):
        return f"what runs it as asked is not installed ({kinds}): {' or '.join(missing)}; or export another --format"
    wanted = " ".join(filter(None, [name if name != "auto" else "", precision or "", "on a GPU" if use_gpu else ""]))
    return (
        f"it holds {kinds}, of which nothing runs here as {wanted or 'asked'}; export it with another --format or "
        "--precision"
    )
