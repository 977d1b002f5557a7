"""A tiny exported folder, and real servers of it in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from conftest import ROOT

NUM_FRAMES, SIZE, NUM_CLASSES = 4, 32, 8
CLASS_NAMES = [f"class {label}" for label in range(NUM_CLASSES)]


def write_model(folder: Path, *, num_features: int = 16) -> None:
    """An exported folder with a graph that looks at each pixel of each frame, so that no two videos are alike to it."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper, numpy_helper

    from paddlevid.deploy.manifest import Manifest, ModelFiles, write_manifest
    from paddlevid.schema import ViewsConfig
    from paddlevid.schema.data import DataConfig, SegmentSamplingConfig

    rng = np.random.default_rng(0)
    num_pixels = NUM_FRAMES * SIZE * SIZE * 3
    constants = {
        "flat": np.array([-1, num_pixels], np.int64),
        "scale": np.float32(1 / 255),
        "embedding": (rng.standard_normal((num_pixels, num_features)) / 30).astype(np.float32),
        "head": rng.standard_normal((num_features, NUM_CLASSES)).astype(np.float32),
    }
    steps = [
        (["frames", "flat"], "pixels", "Reshape", {}),
        (["pixels"], "floats", "Cast", {"to": TensorProto.FLOAT}),
        (["floats", "scale"], "scaled", "Mul", {}),
        (["scaled", "embedding"], "features", "MatMul", {}),
        (["features", "head"], "logits", "MatMul", {}),
    ]
    nodes = [helper.make_node(op, inputs, [output], **options) for inputs, output, op, options in steps]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["B", NUM_FRAMES, SIZE, SIZE, 3])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", NUM_CLASSES]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["B", num_features]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    folder.mkdir(parents=True)
    onnx.save(model, str(folder / "tiny.onnx"))
    manifest = Manifest(
        paddlevid_version="0",
        model="tsn",
        weights_sha256="0" * 64,
        feature_dim=num_features,
        data=DataConfig(
            num_classes=NUM_CLASSES,
            num_frames=NUM_FRAMES,
            image_size=SIZE,
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            sampling=SegmentSamplingConfig(kind="segment"),
        ),
        views=ViewsConfig(short_side=40, crop="three"),
        class_names=tuple(CLASS_NAMES),
        models=(ModelFiles(format="onnx", files=("tiny.onnx",)),),
    )
    write_manifest(manifest, folder)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "model"
    write_model(folder)
    return folder


@pytest.fixture(scope="session")
def videos(motion_set: Path) -> list[Path]:
    return sorted((motion_set / "test").rglob("*.mp4"))


@pytest.fixture(scope="session")
def offline(model_folder: Path) -> Callable[[Path], dict[str, float]]:
    """`offline(video)` -> class name -> probability, as `Predictor` gives it."""
    from paddlevid.deploy.predictor import Predictor

    predictor = Predictor(model_folder, runtime="onnxruntime", num_threads=1)
    return lambda video: {found.name: found.score for found in predictor(video, top_k=NUM_CLASSES)}


class RunningServer:
    """A process of `paddlevid-serve` and a client of it."""

    def __init__(self, folder: Path, temp_dir: Path, *options: object) -> None:
        self.temp_dir = temp_dir
        command = [sys.executable, "-m", "paddlevid.serve", folder, "--port", 0, "--runtime", "onnxruntime"]
        command += ["--threads", 1, "--decoders", 1, *options]
        self.process = subprocess.Popen(
            [str(word) for word in command],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(temp_dir)},
            stdout=subprocess.PIPE,
            stderr=(temp_dir / "stderr.txt").open("w"),
            text=True,
        )
        assert self.process.stdout is not None
        self.first_line = self.process.stdout.readline()
        assert "http://" in self.first_line, (temp_dir / "stderr.txt").read_text()
        self.url = self.first_line.split()[-1]
        self.port = int(self.url.rsplit(":", 1)[1])
        self.client = httpx.Client(base_url=self.url, timeout=30, trust_env=False)

    def upload(self, content: bytes, name: str = "clip.mp4", **params: Any) -> httpx.Response:
        return self.client.post("/predict", files={"file": (name, content)}, params=params)

    def metric(self, name: str) -> float:
        """The sum of all lines of a metric."""
        lines = self.client.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.split("{")[0].split(" ")[0] == name)

    def uploads_left(self) -> list[Path]:
        """What lies in the folders of uploads of all servers with this temporary folder."""
        return list(self.temp_dir.glob("paddlevid-serve-*/*/*"))

    def decoders(self) -> list[int]:
        """Its processes that decode."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                if parent == self.process.pid and b"spawn_main" in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except (OSError, IndexError):
                continue
        return found

    def stderr(self) -> str:
        return (self.temp_dir / "stderr.txt").read_text()

    def stop(self, signal_number: int = signal.SIGTERM, timeout_sec: float = 20) -> int:
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(signal_number)
        try:
            return self.process.wait(timeout_sec)
        finally:
            self.process.kill()
            assert self.process.stdout is not None
            self.process.stdout.close()


@pytest.fixture
def start_server(model_folder: Path, tmp_path: Path) -> Iterator[Callable[..., RunningServer]]:
    """`start_server("--queue", 1)` -> a server, with options; several of one test share a temporary folder."""
    started: list[RunningServer] = []

    def start(*options: object, folder: Path = model_folder) -> RunningServer:
        started.append(RunningServer(folder, tmp_path, *options))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="module")
def server(model_folder: Path, motion_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server for many tests, with a small limit of uploads and the tiny videos as its root."""
    options = ("--root", motion_set, "--max_upload_mb", 1, "--upload_timeout_sec", 1.5, "--max_video_sec", 20)
    running = RunningServer(model_folder, tmp_path_factory.mktemp("tmp"), *options)
    yield running
    assert running.uploads_left() == []
    assert running.stop() == 0
    assert list(running.temp_dir.glob("paddlevid-serve-*/*")) == []


def write_noise(path: Path, *, width: int, height: int, num_frames: int) -> Path:
    """A video of noise."""
    import av

    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for _ in range(num_frames):
            picture = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def wait_for(condition: Callable[[], object], timeout_sec: float = 10) -> None:
    """Return when `condition()` holds; fail if it does not in time."""
    deadline = time.monotonic() + timeout_sec
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
