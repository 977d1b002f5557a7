"""Exported folders of graphs made by hand, whose answers are known, and video files to look at with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from paddlevid.deploy.manifest import Manifest, ModelFiles, write_manifest
from paddlevid.schema import ViewsConfig
from paddlevid.schema.data import DataConfig

SIZE = 32
NUM_CLASSES = 5


def write_folder(
    folder: Path, sampling: dict[str, Any], *, num_frames: int = 4, online: bool = False, average: str = "logits"
) -> Manifest:
    """A folder for ONNX Runtime: `classify` is linear in the mean colours of the frames, `online` a leaky sum."""
    import onnx

    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(classify_graph(num_frames), str(folder / "tiny.onnx"))
    models = [ModelFiles(format="onnx", files=("tiny.onnx",))]
    if online:
        onnx.save(online_graph(), str(folder / "online.onnx"))
        models.append(ModelFiles(graph="online", format="onnx", files=("online.onnx",)))
    data = DataConfig(
        num_classes=NUM_CLASSES,
        num_frames=num_frames,
        image_size=SIZE,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        sampling=sampling,
    )
    manifest = Manifest(
        paddlevid_version="0",
        model="tsm",
        weights_sha256="",
        feature_dim=1,
        state_size=3,
        data=data,
        views=ViewsConfig(short_side=40, average=average),
        class_names=tuple(f"class {label}" for label in range(NUM_CLASSES)),
        models=tuple(models),
    )
    write_manifest(manifest, folder)
    return manifest


def weights(num_frames: int) -> np.ndarray:
    """What `classify` multiplies the mean colours with, float32 `[T * 3, K]`."""
    return (np.random.default_rng(1).normal(size=(num_frames * 3, NUM_CLASSES)) / 60).astype(np.float32)


def classify_graph(num_frames: int) -> Any:
    """frames uint8 [B, T, H, W, 3] -> logits [B, K] and a feature [B, 1]"""
    from onnx import TensorProto, helper, numpy_helper

    constants = [
        numpy_helper.from_array(np.array([2, 3], np.int64), "axes"),
        numpy_helper.from_array(np.array([-1, num_frames * 3], np.int64), "shape"),
        numpy_helper.from_array(weights(num_frames), "weights"),
        numpy_helper.from_array(np.array([1], np.int64), "last"),
    ]
    nodes = [
        helper.make_node("Cast", ["frames"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["colours"], keepdims=0),
        helper.make_node("Reshape", ["colours", "shape"], ["row"]),
        helper.make_node("MatMul", ["row", "weights"], ["logits"]),
        helper.make_node("ReduceMean", ["row", "last"], ["features"], keepdims=1),
    ]
    inputs = [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["b", num_frames, SIZE, SIZE, 3])]
    outputs = [
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", NUM_CLASSES]),
        helper.make_tensor_value_info("features", TensorProto.FLOAT, ["b", 1]),
    ]
    return _model(nodes, inputs, outputs, constants)


def online_graph() -> Any:
    """frame uint8 [1, 1, H, W, 3], state [1, 3] -> logits [1, K], features [1, 1], state / 2 + mean colour."""
    from onnx import TensorProto, helper, numpy_helper

    constants = [
        numpy_helper.from_array(np.array([1, 2, 3], np.int64), "axes"),
        numpy_helper.from_array(np.array(0.5, np.float32), "half"),
        numpy_helper.from_array(weights(1), "weights"),
        numpy_helper.from_array(np.array([1], np.int64), "last"),
    ]
    nodes = [
        helper.make_node("Cast", ["frame"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["colour"], keepdims=0),
        helper.make_node("Mul", ["state", "half"], ["old"]),
        helper.make_node("Add", ["old", "colour"], ["next_state"]),
        helper.make_node("MatMul", ["next_state", "weights"], ["logits"]),
        helper.make_node("ReduceMean", ["next_state", "last"], ["features"], keepdims=1),
    ]
    inputs = [
        helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, 1, SIZE, SIZE, 3]),
        helper.make_tensor_value_info("state", TensorProto.FLOAT, [1, 3]),
    ]
    outputs = [
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, NUM_CLASSES]),
        helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, 1]),
        helper.make_tensor_value_info("next_state", TensorProto.FLOAT, [1, 3]),
    ]
    return _model(nodes, inputs, outputs, constants)


def _model(nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: list[Any]) -> Any:
    from onnx import checker, helper

    graph = helper.make_graph(nodes, "tiny", inputs, outputs, initializer=constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    checker.check_model(model)
    return model


def picture(number: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A picture that differs from all others, mostly in its mean colours."""
    rows, columns = np.mgrid[:height, :width]
    planes = [columns + number * 7 % 150, rows + number * 3 % 180, np.full_like(rows, number * 11 % 250)]
    return np.stack(planes, axis=-1).astype(np.uint8)


def write_video(
    path: Path,
    num_frames: int = 100,
    *,
    fps: int = 25,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    times: Sequence[Fraction] | None = None,
    make: Callable[[int], np.ndarray] = picture,
    container_options: dict[str, str] | None = None,
) -> Path:
    """`times`, in seconds, are those of frames that are not evenly apart."""
    import av

    height, width = make(0).shape[:2]
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=fps, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(make(number), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = round(times[number] * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def decode_plainly(path: Path) -> np.ndarray:
    import av

    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
