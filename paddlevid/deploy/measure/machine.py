"""What a benchmark's numbers depend on beside the code."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path
from typing import Any

import paddlevid
from paddlevid.runtime import num_cores

PACKAGES = (
    "paddlepaddle",
    "paddlepaddle-gpu",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "numpy",
    "av",
    "decord",
    "opencv-python-headless",
    "opencv-python",
)
CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8", "avx_vnni")


def describe_machine() -> dict[str, Any]:
    """Processor, cores, what of its instructions matters here, and versions of libraries."""
    info = Path("/proc/cpuinfo")
    fields: dict[str, str] = {}
    for line in info.read_text().splitlines() if info.is_file() else []:
        name, _, value = line.partition(":")
        fields[name.strip()] = value.strip()
    flags = set(fields.get("flags", "").split())
    versions = {"paddlevid": paddlevid.__version__}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "cpu": fields.get("model name", platform.processor() or platform.machine()),
        "cores": num_cores(),
        "cpu_flags": [flag for flag in CPU_FLAGS if flag in flags],
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions,
    }
