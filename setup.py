"""Package metadata; build and tool settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def read_version() -> str:
    """The version of paddlevid/__init__.py, without importing the package and what it needs."""
    text = (ROOT / "paddlevid" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if match is None:
        raise RuntimeError('paddlevid/__init__.py has no line __version__ = "..."')
    return match[1]


# decord 0.6.0 is on PyPI for these alone; elsewhere PyAV reads all videos.
HAS_DECORD = (
    "(sys_platform == 'linux' and platform_machine == 'x86_64')"
    " or (sys_platform == 'win32' and platform_machine == 'AMD64')"
)
# paddle2onnx 2.1 has no wheel for Python 3.13, and neither has the onnx that it asks for.
ONNX = ["paddle2onnx>=2.1; python_version < '3.13'", "onnx; python_version < '3.13'", "onnxruntime"]
TRAIN = ["visualdl"]
RUNTIMES = ["onnxruntime", "openvino"]
SERVE = ["fastapi", "prometheus-client", "python-multipart", "uvicorn", *RUNTIMES]
TESTS = ["pytest", "ruff", "mypy", "types-PyYAML", "types-tqdm", "httpx", "pyarrow", "selenium"]
DEMO = ["gradio>=6", *RUNTIMES]
SHARDS = ["webdataset"]

setup(
    name="paddlevid",
    version=read_version(),
    description="Video classification with PaddlePaddle 3: TSN, TSM and TimeSformer, from training to serving",
    license="Apache-2.0",
    keywords=["video classification", "action recognition", "PaddlePaddle", "TimeSformer", "TSM", "TSN"],
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=["paddlevid", "paddlevid.*"]),
    package_data={"paddlevid": ["labels/*.txt"]},
    install_requires=[
        "av",
        f"decord>=0.6; {HAS_DECORD}",
        "matplotlib",
        "numpy",
        "opencv-python-headless",
        "pydantic>=2",
        "pyyaml",
        "safetensors",
        "tqdm",
    ],
    # What trains, and what runs exported folders; the second needs no PaddlePaddle.
    extras_require={
        "cpu": ["paddlepaddle>=3.0", *TRAIN],
        # PyPI has no GPU build of PaddlePaddle 3: pip needs the package index of paddlepaddle.org.cn for this one.
        "gpu": ["paddlepaddle-gpu>=3.0", *TRAIN],
        "train": TRAIN,
        "onnx": ONNX,
        "features": ["pyarrow"],
        "int8": ["nncf"],
        "openvino": ["openvino"],
        "serve": SERVE,
        "shards": SHARDS,
        "demo": DEMO,
        "parity": ["torch", "transformers"],
        "dev": [*TESTS, *ONNX, *SERVE, *DEMO, *SHARDS],
    },
    entry_points={
        "console_scripts": [
            "paddlevid-serve = paddlevid.serve.cli:main",
            "paddlevid-demo = paddlevid.demo.cli:main",
        ]
    },
)
