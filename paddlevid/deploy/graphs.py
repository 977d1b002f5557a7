"""A layer -> its static graph in the formats and precisions that runtimes read. All takes raw uint8 frames."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from paddlevid.deploy.manifest import Format, Graph, Manifest, ModelFiles, Precision
from paddlevid.deploy.runtimes.onnx_runtime import import_onnxruntime
from paddlevid.deploy.runtimes.open_vino import import_openvino
from paddlevid.deploy.runtimes.paddle_inference import quiet_stdout
from paddlevid.errors import ExportError
from paddlevid.models.normalize import RawFrameClassifier

OPSET = 17
PRECISIONS: dict[Format, tuple[Precision, ...]] = {
    "paddle": ("fp32",),
    "onnx": ("fp32", "fp16", "int8"),
    "openvino": ("fp32", "bf16", "fp16", "int8"),
}
OUTPUTS: dict[Graph, tuple[str, ...]] = {
    "classify": ("logits", "features"),
    "explain": ("logits", "maps"),
    "online": ("logits", "features", "next_state"),
}


@dataclass(frozen=True)
class GraphWriter:
    """Writes one graph into a folder, in one format and precision after the other. Each needs those before it."""

    graph: Graph
    layer: paddle.nn.Layer
    manifest: Manifest
    folder: Path
    name: str

    def write_paddle(self, pdmodel: bool) -> ModelFiles:
        """`NAME.json`, or `NAME.pdmodel`, and `NAME.pdiparams`."""
        # Paddle's translation of Python asks for the shape of bytes, which the older graphs of .pdmodel cannot give
        paddle.jit.ignore_module([sys.modules[RawFrameClassifier.__module__]])
        static = paddle.jit.to_static(self.layer, input_spec=self._input_specs(), full_graph=True)
        with quiet_stdout():
            paddle.jit.save(static, str(self._path("")))
        files = (f"{self._stem()}.{'pdmodel' if pdmodel else 'json'}", f"{self._stem()}.pdiparams")
        if not (self.folder / files[0]).is_file():
            raise ExportError(f"this PaddlePaddle did not write {files[0]}; try with or without --pdmodel")
        return ModelFiles(graph=self.graph, format="paddle", files=files)

    def write_onnx(self) -> ModelFiles:
        """`NAME.onnx`, from the files of Paddle."""
        onnx, paddle2onnx = import_converter()
        path = self._path(".onnx")
        logging.disable(logging.INFO)
        try:
            with quiet_stdout():
                # Without its optimiser, which installs packages by itself
                paddle2onnx.export(
                    str(self._path(".json")),
                    str(self._path(".pdiparams")),
                    str(path),
                    opset_version=OPSET,
                    optimize_tool="none",
                )
        finally:
            logging.disable(logging.NOTSET)
        if not path.is_file():
            raise ExportError(f"paddle2onnx could not convert the {self.graph} graph; its reason stands above")
        model = onnx.load(path)
        _inline(model)
        self._describe(model)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)
        return ModelFiles(graph=self.graph, format="onnx", files=(path.name,))

    def write_openvino(self, precision: Precision) -> ModelFiles:
        """`NAME.xml` and `NAME.bin`, from the file of ONNX. bf16 is a way to run the files of fp32."""
        openvino = import_openvino()
        path = self._path(".fp16.xml" if precision == "fp16" else ".xml")
        if precision != "bf16" or not path.is_file():
            model = openvino.Core().read_model(str(self._path(".onnx")))
            model.set_rt_info(str(self.manifest.paddlevid_version), "paddlevid")
            openvino.save_model(model, str(path), compress_to_fp16=precision == "fp16")
        files = (path.name, path.with_suffix(".bin").name)
        return ModelFiles(graph=self.graph, format="openvino", precision=precision, files=files)

    def write_onnx_fp16(self) -> ModelFiles:
        """`NAME.fp16.onnx`: half the size, for GPUs; inputs and outputs stay as they are."""
        import onnx

        import_onnxruntime()
        from onnxruntime.transformers.float16 import convert_float_to_float16

        path = self._path(".fp16.onnx")
        model = convert_float_to_float16(onnx.load(self._path(".onnx")), keep_io_types=True)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)
        return ModelFiles(graph=self.graph, format="onnx", precision="fp16", files=(path.name,))

    def write_int8(self, form: Format, views: Iterable[np.ndarray]) -> ModelFiles:
        """`NAME.int8.onnx` or `NAME.int8.xml`, with the ranges of numbers that `views` uint8 `[B, T, H, W, C]` give."""
        nncf = import_nncf()
        frames = list(views)
        is_transformer = self.manifest.model == "timesformer"
        if form == "onnx":
            import onnx

            path = self._path(".int8.onnx")
            source = onnx.load(self._path(".onnx"))
            # NNCF 3.4 fails on ONNX with the settings for transformers
            quantized = nncf.quantize(source, nncf.Dataset([{"frames": view} for view in frames]))
            onnx.save(quantized, path)
            return ModelFiles(graph=self.graph, format="onnx", precision="int8", files=(path.name,))
        openvino = import_openvino()
        path = self._path(".int8.xml")
        source = openvino.Core().read_model(str(self._path(".onnx")))
        quantized = nncf.quantize(
            source,
            nncf.Dataset(frames),
            preset=nncf.QuantizationPreset.MIXED,
            model_type=nncf.ModelType.TRANSFORMER if is_transformer else None,
        )
        openvino.save_model(quantized, str(path), compress_to_fp16=False)
        files = (path.name, path.with_suffix(".bin").name)
        return ModelFiles(graph=self.graph, format="openvino", precision="int8", files=files)

    def _stem(self) -> str:
        return self.name if self.graph == "classify" else f"{self.name}_{self.graph}"

    def _path(self, suffix: str) -> Path:
        return self.folder / f"{self._stem()}{suffix}"

    def _input_specs(self) -> list[Any]:
        size = self.manifest.data.image_size
        spec = paddle.static.InputSpec
        if self.graph == "online":
            return [
                spec([1, 1, size, size, 3], "uint8", "frame"),
                spec([1, self.manifest.state_size], "float32", "state"),
            ]
        channels = self.manifest.data.channels
        return [spec([-1, self.manifest.num_frames, size, size, channels], "uint8", "frames")]

    def _describe(self, model: Any) -> None:
        """Names for the outputs and the batch, and what whoever finds the file alone needs to know."""
        import onnx

        names = {value.name: name for value, name in zip(model.graph.output, OUTPUTS[self.graph], strict=True)}
        for old, new in names.items():
            _rename(model.graph.node, old, new)
        for value in model.graph.output:
            value.name = names[value.name]
        for value in [*model.graph.input, *model.graph.output]:
            first = value.type.tensor_type.shape.dim[0]
            if not first.HasField("dim_value"):
                first.dim_param = "batch"
        manifest = self.manifest
        model.producer_name, model.producer_version = "paddlevid", manifest.paddlevid_version
        model.graph.name = f"{manifest.model}_{self.graph}"
        onnx.helper.set_model_props(
            model,
            {
                "paddlevid_version": manifest.paddlevid_version,
                "model": manifest.model,
                "weights_sha256": manifest.weights_sha256,
                "classes": "\n".join(manifest.class_names),
                "num_frames": str(manifest.num_frames),
                "image_size": str(manifest.data.image_size),
                "sampling": manifest.data.sampling.model_dump_json(),
                "views": manifest.views.model_dump_json(),
                "modality": manifest.data.modality,
                "input": f"{'x and y of flow' if manifest.data.is_flow else 'RGB frames'}, uint8, not normalised",
            },
        )


def _inline(model: Any) -> None:
    """Constants as initializers and no identities: what reads the graph finds weights at the nodes that use them."""
    graph = model.graph
    outputs = {value.name for value in graph.output}
    same: dict[str, str] = {}
    kept = []
    for node in graph.node:
        if node.op_type == "Constant" and [attribute.name for attribute in node.attribute] == ["value"]:
            tensor = node.attribute[0].t
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
            continue
        node.input[:] = [same.get(name, name) for name in node.input]
        if node.op_type != "Identity":
            kept.append(node)
        elif node.output[0] not in outputs:
            same[node.output[0]] = node.input[0]
        else:
            _rename(kept, node.input[0], node.output[0])
            same[node.input[0]] = node.output[0]
    used = {name for node in kept for name in node.input} | outputs
    initializers = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(kept)
    graph.initializer.extend(initializers)


def _rename(nodes: Sequence[Any], old: str, new: str) -> None:
    """Call a value by another name wherever the nodes make or take it."""
    for node in nodes:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]


def import_converter() -> tuple[Any, Any]:
    """The modules onnx and paddle2onnx.

    Raises:
        ExportError: one is not installed.
    """
    try:
        import onnx
        import paddle2onnx
    except ImportError as error:
        raise ExportError(
            f'--format onnx and openvino need paddle2onnx and onnx ({error}): pip install -e ".[onnx]" '
            "(there is none for Python 3.13 yet: export with 3.10 to 3.12; the file runs everywhere)"
        ) from None
    return onnx, paddle2onnx


def import_nncf() -> Any:
    """NNCF, which does not report its use to its makers.

    Raises:
        ExportError: it is not installed.
    """
    os.environ.setdefault("NNCF_CI", "1")  # or it reports its use to its makers
    try:
        import nncf
    except ImportError:
        raise ExportError('--precision int8 needs NNCF: pip install -e ".[int8]"') from None
    import_openvino()
    nncf.set_log_level(logging.ERROR)
    return nncf


def check_precisions(formats: Sequence[Format], precisions: Sequence[Precision]) -> None:
    """Refuse a precision that none of the formats has."""
    for precision in precisions:
        able = [form for form, has in PRECISIONS.items() if precision in has]
        if not set(able) & set(formats):
            raise ExportError(f"--precision {precision} needs --format {' or '.join(able)}, not {' '.join(formats)}")
