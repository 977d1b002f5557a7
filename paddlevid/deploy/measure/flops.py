"""Parameters and floating-point operations of an exported graph. A multiply-add counts as 2 operations.

Counted are matrix products and convolutions, which are nearly all of the work of these networks; additions,
normalisations and activations are not.
"""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from paddlevid.deploy.manifest import Format, Manifest
from paddlevid.deploy.runtimes.open_vino import import_openvino


class Cost(NamedTuple):
    """Of one clip. `params` are the numbers of the weights, less running statistics."""

    params: int
    flops: int


def count_cost(folder: str | Path, manifest: Manifest) -> Cost | str:
    """The cost of a folder's classifier, from the first of its formats that can be read here; else why none can."""
    paths: dict[Format, list[Path]] = {}
    for files in manifest.models:
        if files.graph == "classify" and files.precision in ("fp32", "bf16"):
            paths.setdefault(files.format, [Path(folder) / file for file in files.files])
    if "onnx" in paths and find_spec("onnx"):
        return count_onnx(paths["onnx"][0])
    if "openvino" in paths and find_spec("openvino"):
        return count_openvino(paths["openvino"][0])
    if "paddle" in paths and find_spec("paddle2onnx") and find_spec("onnx"):
        return _count_paddle(*paths["paddle"])
    return "counting needs an fp32 graph and the package onnx or openvino (for Paddle's format onnx and paddle2onnx)"


def count_onnx(path: str | Path) -> Cost:
    """The cost of a `.onnx` file whose first input, but for its batch, has a fixed size."""
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load(str(path))
    graph = model.graph
    _tidy(graph)
    statistics = {name for node in graph.node if node.op_type == "BatchNormalization" for name in node.input[3:]}
    floats = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16}
    weights = [tensor for tensor in graph.initializer if tensor.data_type in floats and tensor.dims]
    params = sum(prod(tensor.dims) for tensor in weights if tensor.name not in statistics)
    for value in graph.input:
        batch = value.type.tensor_type.shape.dim[0]
        if batch.dim_value < 1:
            batch.Clear()
            batch.dim_value = 1
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")  # which still has the open batch
    # Shapes do for weights, which are copied whenever shapes are inferred
    graph.input.extend(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims) for tensor in weights)
    names = {tensor.name for tensor in weights}
    rest = [tensor for tensor in graph.initializer if tensor.name not in names]
    del graph.initializer[:], graph.value_info[:]
    graph.initializer.extend(rest)
    shapes = _infer_shapes(model)
    return Cost(params, sum(_flops(node, shapes) for node in graph.node))


def _tidy(graph: Any) -> None:
    """Constants as initializers and no identities, which keep shapes from being inferred."""
    outputs = {value.name for value in graph.output}
    same: dict[str, str] = {}
    kept = []
    for node in graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            node.attribute[0].t.name = node.output[0]
            graph.initializer.append(node.attribute[0].t)
        elif node.op_type == "Identity" and node.output[0] not in outputs:
            same[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def _infer_shapes(model: Any) -> dict[str, list[int]]:
    """Sizes by name, 0 where unknown. ONNX does not compute the largest of sizes: that is done here, into `model`."""
    import numpy as np
    from onnx import numpy_helper, shape_inference

    graph = model.graph
    while True:
        inferred = shape_inference.infer_shapes(model, data_prop=True).graph
        shapes = {
            value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in [*inferred.input, *inferred.value_info, *inferred.output]
        }
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        computed: dict[str, np.ndarray] = {}
        for node in graph.node:
            sizes = shapes.get(node.input[0], []) if node.op_type == "Shape" else []
            if sizes and min(sizes) > 0 and not node.attribute:
                computed[node.output[0]] = np.array(sizes, np.int64)
            elif node.op_type == "Max" and all(name in constants for name in node.input):
                computed[node.output[0]] = np.max(np.stack([constants[name] for name in node.input]), axis=0)
        if not computed:
            return shapes | {name: list(array.shape) for name, array in constants.items()}
        kept = [node for node in graph.node if node.output[0] not in computed]
        del graph.node[:]
        graph.node.extend(kept)
        graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in computed.items())


def _flops(node: Any, shapes: dict[str, list[int]]) -> int:
    if node.op_type not in ("MatMul", "Gemm", "Conv"):
        return 0
    inputs, out = [shapes.get(name, []) for name in node.input], shapes.get(node.output[0], [])
    sizes = [size for shape in (*inputs[:2], out) for size in shape]
    if not out or min(sizes) < 1:
        raise ValueError(f"{node.op_type} {node.name}: of unknown size")
    if node.op_type == "Conv":
        return 2 * prod(out) * prod(inputs[1][1:])  # the weight is [out, in / groups, *kernel]
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return 2 * prod(out) * inputs[0][-2 if transposed else -1]


def count_openvino(path: str | Path) -> Cost:
    """The cost of a `.xml` file whose input, but for its batch, has a fixed size."""
    model = import_openvino().Core().read_model(str(path))
    shape = model.input(0).get_partial_shape()
    shape[0] = 1
    model.reshape(shape)
    params = flops = 0
    for op in model.get_ordered_ops():
        kind = op.get_type_name()
        if kind == "Constant" and op.get_element_type().is_real() and list(op.shape):
            params += prod(op.shape)
        elif kind == "MatMul":
            first = list(op.input(0).get_shape())
            inner = first[-2 if op.get_attributes()["transpose_a"] else -1]
            flops += 2 * prod(op.output(0).get_shape()) * inner
        elif kind in ("Convolution", "GroupConvolution"):
            weight = list(op.input(1).get_shape())  # [out, in, *kernel] or [groups, out, in, *kernel]
            flops += 2 * prod(op.output(0).get_shape()) * prod(weight[1 + (kind == "GroupConvolution") :])
    return Cost(params, flops)


def _count_paddle(model_file: Path, params_file: Path) -> Cost:
    import paddle2onnx

    from paddlevid.deploy.runtimes.paddle_inference import quiet_stdout

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        with quiet_stdout():
            paddle2onnx.export(str(model_file), str(params_file), str(path), opset_version=17, optimize_tool="none")
        return count_onnx(path)
