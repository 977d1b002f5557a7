"""A trained model -> a folder that predicts by itself, checked against the model that it came from."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import paddle

import paddlevid
from paddlevid import build, modality
from paddlevid.data.flow.note import read_note
from paddlevid.deploy.graphs import PRECISIONS, GraphWriter, check_precisions, import_converter, import_nncf
from paddlevid.deploy.manifest import (
    MANIFEST_FILE,
    Format,
    Graph,
    Manifest,
    ModelFiles,
    Precision,
    make_manifest,
    read_manifest,
    write_manifest,
)
from paddlevid.deploy.runtimes import ENGINES, Runtime, RuntimeName, is_installed, open_files
from paddlevid.deploy.verify import (
    CHECKED_BATCHES,
    calibration_views,
    compare_batches,
    compare_videos,
    frames_to_check,
    recipe_records,
    spread,
)
from paddlevid.errors import ConfigError, ExportError
from paddlevid.models.normalize import RawFrameClassifier, RawFrameExplainer, RawFrameStep
from paddlevid.runtime import logger
from paddlevid.schema import Config, TSMConfig
from paddlevid.schema.data import DataConfig, FlowConfig
from paddlevid.weights import LoadReport, load_trained, locate
from paddlevid.weights.read import checksum

# In which runtime a format is compared with the model: the first that is installed.
CHECKED_BY: dict[Format, tuple[RuntimeName, ...]] = {
    "paddle": ("paddle",),
    "onnx": ("onnxruntime", "openvino"),
    "openvino": ("openvino",),
}


@dataclass(frozen=True)
class ExportOptions:
    """What to write. `calibration` is the list whose videos set the ranges of int8, by default that of training.

    `check_videos` videos of the test list are compared for precisions below fp32, `calibration_videos` set int8.
    """

    formats: tuple[Format, ...] = ("paddle",)
    precisions: tuple[Precision, ...] = ("fp32",)
    pdmodel: bool = False
    explain: bool = False
    calibration: str | None = None
    calibration_videos: int = 100
    check_videos: int = 100


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how far its answers are from the model's on the same frames."""

    folder: Path
    models: tuple[ModelFiles, ...]
    weights: LoadReport
    frames_from: str

    @property
    def max_difference(self) -> float:
        """Of the fp32 graphs, relative to the largest number of an output."""
        return max((m.difference or 0.0 for m in self.models if m.precision == "fp32"), default=0.0)


def export_model(
    cfg: Config, weights: str | Path, folder: str | Path, options: ExportOptions | None = None
) -> ExportReport:
    """Write graphs, weights and `inference.yml`; the files are named after the folder.

    The graphs take uint8 frames `[B, T, H, W, C]` of any B; see `Manifest` for what they give.

    Raises:
        WeightsError: the weights are not of this model.
        ExportError: an exported graph answers differently, or what it takes to write it is not installed.
    """
    options = options or ExportOptions()
    _check_options(cfg, options)
    folder = Path(folder)
    paddle.seed(cfg.seed)
    model = build.build_model(cfg)
    report = load_trained(model, weights)
    modality.warn_of_other_clips(cfg, weights)
    model.eval()
    graphs = _graphs(cfg, model, options)
    manifest = make_manifest(
        cfg,
        version=paddlevid.__version__,
        weights=weights,
        weights_sha256=checksum(locate(weights)),
        feature_dim=int(model.head.weight.shape[0]),
        state_size=graphs["online"].model.state_size if "online" in graphs else 0,
    )
    written = manifest.model_copy(update={"data": _data_of_folder(cfg)})
    frames, frames_from = frames_to_check(cfg, manifest, max(CHECKED_BATCHES))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.resolve().name}.", dir=folder.parent) as unchecked:
        models: list[ModelFiles] = []
        for graph, layer in graphs.items():
            writer = GraphWriter(graph, layer, manifest, Path(unchecked), folder.resolve().name)
            models += _Export(cfg, writer, options, frames).run()
        written = written.model_copy(update={"models": tuple(models)})
        write_manifest(written, unchecked)
        _replace_folder(Path(unchecked), folder, written)
    return ExportReport(folder, tuple(models), report, frames_from)


def _data_of_folder(cfg: Config) -> DataConfig:
    """What a folder says of data: how flow is computed, but not where the training data lie on this machine."""
    changes: dict[str, object] = {"root": ""}
    if cfg.data.is_flow:
        flow = cfg.data.flow or FlowConfig()
        note = read_note(cfg.data.root) if cfg.data.format == "flow" and cfg.data.root else None
        if note is not None and note.fps is not None:
            logger.warning(
                f"warning: the flow in {cfg.data.root} lies between {note.fps:g} frames a second; this folder computes "
                "that between all frames of a video, so give it videos of that rate"
            )
        changes["flow"] = flow.model_copy(update={"algorithm": modality.flow_algorithm(cfg.data), "cache": None})
    return cfg.data.model_copy(update=changes)


def _check_options(cfg: Config, options: ExportOptions) -> None:
    """Refuse at once what would fail only after minutes of work."""
    check_precisions(options.formats, options.precisions)
    if options.explain and getattr(cfg.model, "backbone", "") == "vgg16":
        raise ExportError("--explain: vgg16 has no maps of classes, for its classifier sees the whole frame at once")
    if options.pdmodel and options.formats != ("paddle",):
        raise ExportError("--pdmodel goes with --format paddle alone: the other formats are made from NAME.json")
    if {"onnx", "openvino"} & set(options.formats):
        import_converter()
    if "bf16" in options.precisions:
        _demand_bf16()
    if "int8" in options.precisions:
        import_nncf()
        recipe_records(cfg, options.calibration or cfg.train.list)


def _graphs(cfg: Config, model: paddle.nn.Layer, options: ExportOptions) -> dict[Graph, paddle.nn.Layer]:
    """The layers to export, each with its normalisation in front."""
    normalize = build.build_normalize(cfg)
    graphs: dict[Graph, paddle.nn.Layer] = {"classify": RawFrameClassifier(normalize, model)}
    if options.explain:
        graphs["explain"] = RawFrameExplainer(normalize, model)
    if isinstance(cfg.model, TSMConfig) and cfg.model.online:
        from paddlevid.models.tsm import OnlineTSM

        graphs["online"] = RawFrameStep(normalize, OnlineTSM(model, cfg.data.image_size))
    for layer in graphs.values():
        layer.eval()
    return graphs


@dataclass
class _Export:
    """One graph in all formats and precisions that are asked for."""

    cfg: Config
    writer: GraphWriter
    options: ExportOptions
    frames: np.ndarray
    written: list[ModelFiles] = field(default_factory=list)

    def run(self) -> list[ModelFiles]:
        """Write, compare, and delete what was only a step on the way."""
        formats = self.options.formats
        expected = self._answers()
        with_onnx = bool({"onnx", "openvino"} & set(formats))
        paddle_files = self.writer.write_paddle(self.options.pdmodel)
        self._compare(paddle_files, expected)
        onnx_files = None
        if with_onnx:
            logger.info(f"converting the {self.writer.graph} graph to ONNX")
            onnx_files = self.writer.write_onnx()
            self._compare(onnx_files, expected)
        if "openvino" in formats:
            self._compare(self.writer.write_openvino("fp32"), expected)
        self._write_reduced()
        return self._without_steps(paddle_files, onnx_files)

    def _inputs(self) -> tuple[np.ndarray, ...]:
        if self.writer.graph == "online":
            state = np.random.default_rng(0).standard_normal((1, self.writer.manifest.state_size), np.float32)
            return self.frames[:1, :1], state
        return (self.frames,)

    @paddle.no_grad()
    def _answers(self) -> dict[int, list[np.ndarray]]:
        """What the layer itself says to the first B frames, before it is turned into a graph."""
        inputs = self._inputs()
        batches = (1,) if self.writer.graph == "online" else CHECKED_BATCHES
        return {
            batch: [out.numpy() for out in self.writer.layer(*(paddle.to_tensor(array[:batch]) for array in inputs))]
            for batch in batches
        }

    def _compare(self, files: ModelFiles, expected: dict[int, list[np.ndarray]]) -> None:
        found = compare_batches(self._open(files), self._inputs(), expected)
        if not found.is_rounding:
            raise ExportError(
                f"nothing was written: the {files.graph} graph in {files.format} {files.precision} answers differently "
                f"from the model, by {found.largest:.3g} of the largest number"
            )
        self.written.append(files.model_copy(update={"difference": found.largest}))

    def _open(self, files: ModelFiles) -> Runtime:
        names = [name for name in CHECKED_BY[files.format] if is_installed(name)]
        if not names:
            needed = " or ".join(ENGINES[name].install for name in CHECKED_BY[files.format])
            raise ExportError(f"--format {files.format}: nothing is installed to check it with: {needed}")
        return open_files(self.writer.folder, files, names[0])

    def _write_reduced(self) -> None:
        """The precisions below fp32, each compared with fp32 over whole videos."""
        if self.writer.graph != "classify":
            return
        reduced = [
            self._write_precision(form, precision)
            for form in self.options.formats
            for precision in self.options.precisions
            if precision != "fp32" and precision in PRECISIONS[form]
        ]
        if not reduced:
            return
        records = spread(recipe_records(self.cfg), self.options.check_videos)
        kinds = ", ".join(f"{m.format} {m.precision}" for m in reduced)
        logger.info(f"comparing {kinds} with fp32 on {len(records)} videos")
        reference = self._open(self.written[-1])
        manifest = self.writer.manifest
        agreements = compare_videos(manifest, reference, [self._open(files) for files in reduced], records)
        expected = {batch: list(reference(self.frames[:batch])) for batch in CHECKED_BATCHES}
        for number, files in enumerate(reduced):
            measured: dict[str, object] = {
                "difference": compare_batches(self._open(files), (self.frames,), expected).largest
            }
            if agreements:
                measured |= agreements[number]._asdict()
            self.written.append(files.model_copy(update=measured))

    def _write_precision(self, form: Format, precision: Precision) -> ModelFiles:
        if precision == "int8":
            records = recipe_records(self.cfg, self.options.calibration or self.cfg.train.list)
            count = self.options.calibration_videos
            logger.info(f"calibrating int8 for {form} on up to {count} videos (minutes for a large model)")
            views = list(calibration_views(self.cfg, self.writer.manifest, spread(records, 2 * count), count))
            if not views:
                raise ExportError("--precision int8 needs videos to calibrate it with: --calibration LIST")
            return self.writer.write_int8(form, views)
        if form == "onnx":
            return self.writer.write_onnx_fp16()
        return self.writer.write_openvino(precision)

    def _without_steps(self, paddle_files: ModelFiles, onnx_files: ModelFiles | None) -> list[ModelFiles]:
        """What was asked for; files that were only needed to make others are deleted."""
        options = self.options
        precisions = options.precisions if self.writer.graph == "classify" else ("fp32",)
        kept = [m for m in self.written if m.format in options.formats and m.precision in precisions]
        needed = {name for files in kept for name in files.files}
        for files in self.written:
            for name in set(files.files) - needed:
                (self.writer.folder / name).unlink(missing_ok=True)
        return kept


def _demand_bf16() -> None:
    from paddlevid.deploy.runtimes.open_vino import has_bf16

    if not has_bf16():
        raise ExportError(
            "--precision bf16 cannot be checked here: this processor has neither AMX nor AVX512-BF16; export on one "
            "that has, or leave bf16 out"
        )


def _replace_folder(unchecked: Path, folder: Path, manifest: Manifest) -> None:
    """Move the checked files into place; those of an earlier export that are not written anew go.

    `inference.yml` goes first and comes last: a process that is killed in between leaves no folder that runs new
    weights under an old description.
    """
    folder.mkdir(exist_ok=True)
    names = [file.name for file in unchecked.iterdir()]
    blocked = [name for name in names if (folder / name).is_dir()]
    if blocked:
        raise ExportError(f"{folder / blocked[0]} is a folder; nothing was written: its name is that of a file")
    stale = {f"{folder.resolve().name}.pdiparams.info"}
    with contextlib.suppress(ConfigError):  # there was none, or it describes nothing
        stale |= {name for files in read_manifest(folder).models for name in files.files}
    (folder / MANIFEST_FILE).unlink(missing_ok=True)
    for name in sorted(names, key=lambda name: name == MANIFEST_FILE):
        (unchecked / name).replace(folder / name)
    for name in stale - {name for files in manifest.models for name in files.files}:
        (folder / Path(name).name).unlink(missing_ok=True)
