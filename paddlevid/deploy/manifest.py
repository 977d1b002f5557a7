"""`inference.yml`: what an exported model needs beside its graphs and weights to turn a video into labels."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import model_validator

from paddlevid.config import dump_section, load_section
from paddlevid.data.class_names import read_class_names
from paddlevid.errors import ConfigError
from paddlevid.schema import Config, ViewsConfig
from paddlevid.schema.data import DataConfig
from paddlevid.schema.types import NonNegativeInt, Section

MANIFEST_FILE = "inference.yml"

Graph = Literal["classify", "explain", "online"]
Format = Literal["paddle", "onnx", "openvino"]
Precision = Literal["fp32", "bf16", "fp16", "int8"]


class ModelFiles(Section):
    """A graph in one format and precision, and how its answers compared with the model's when it was written.

    `files` has the graph first. `difference` is the largest one of an output, relative to its largest number. Below
    fp32, `same_top1` is the share of `videos` videos whose best class is that of fp32, and `accuracy` their top-1 or,
    where videos have several labels, `mean_average_precision` that over classes.
    """

    graph: Graph = "classify"
    format: Format
    precision: Precision = "fp32"
    files: tuple[str, ...]
    difference: float | None = None
    videos: NonNegativeInt = 0
    same_top1: float | None = None
    accuracy: float | None = None
    accuracy_fp32: float | None = None
    mean_average_precision: float | None = None
    mean_average_precision_fp32: float | None = None

    @model_validator(mode="after")
    def _files_fit(self) -> ModelFiles:
        count = 1 if self.format == "onnx" else 2
        if len(self.files) != count:
            raise ValueError(f"a model of {self.format} is {count} file(s), not {len(self.files)}")
        return self


class Manifest(Section):
    """What a folder holds: `data` tells the clip, `views` the views of a video, `models` the files.

    The graphs and what they take and give, all with raw uint8 frames, C of them red, green and blue, or x and y of
    optical flow; T are those of all S snippets, one after the other:

    - classify: frames `[B, T, H, W, C]` -> logits `[B, K]`, features `[B, D]`
    - explain: frames `[B, T, H, W, C]` -> logits `[B, K]`, maps `[B, S, h, w, K or 1]`
    - online: frame `[1, 1, H, W, 3]`, state `[1, S]` -> logits `[1, K]`, features `[1, D]`, state `[1, S]`; D is
      `feature_dim` and S `state_size`
    """

    paddlevid_version: str
    model: str
    weights_sha256: str
    feature_dim: int = 0
    state_size: int = 0
    data: DataConfig
    views: ViewsConfig
    class_names: tuple[str, ...]
    models: tuple[ModelFiles, ...] = ()

    @model_validator(mode="after")
    def _views_fit(self) -> Manifest:
        if self.views.short_side < self.data.image_size:
            raise ValueError(
                f"views.short_side {self.views.short_side} is less than data.image_size {self.data.image_size}"
            )
        if len(self.class_names) != self.data.num_classes:
            raise ValueError(f"{len(self.class_names)} class_names for data.num_classes {self.data.num_classes}")
        return self

    @property
    def num_snippets(self) -> int:
        """S of a clip; each is one frame of an RGB model."""
        return self.views.num_frames or self.data.num_frames

    @property
    def num_frames(self) -> int:
        """T of the graph's input."""
        return self.num_snippets * self.data.frames_per_snippet

    def has(self, graph: Graph) -> bool:
        return any(files.graph == graph for files in self.models)


def make_manifest(
    cfg: Config,
    *,
    version: str,
    weights: str | Path | None = None,
    weights_sha256: str = "",
    feature_dim: int = 0,
    state_size: int = 0,
) -> Manifest:
    """Describe a recipe's model: its clip, the views of its `test` section (of `valid` without one), its classes.

    The names of these may lie beside the `weights`.
    """
    split = cfg.test or cfg.valid
    if split is None:
        raise ConfigError("the config needs a test or valid section, which says how a video is looked at")
    views = ViewsConfig(**{name: getattr(split, name) for name in ViewsConfig.model_fields})
    return Manifest(
        paddlevid_version=version,
        model=cfg.model.name,
        weights_sha256=weights_sha256,
        feature_dim=feature_dim,
        state_size=state_size,
        data=cfg.data,
        views=views,
        class_names=tuple(
            read_class_names(
                cfg.data.class_names,
                cfg.data.num_classes,
                weights=weights,
                train_list=cfg.train.list,
                list_path=split.list,
            )
        ),
    )


def read_manifest(folder: str | Path) -> Manifest:
    """Read the `inference.yml` of an exported model.

    Raises:
        ConfigError: there is none, or it does not describe a model.
    """
    path = Path(folder) / MANIFEST_FILE
    if not path.is_file():
        raise ConfigError(f"{folder}: no {MANIFEST_FILE} here; is it a folder that tools/export_model.py wrote?")
    manifest = load_section(path, Manifest)
    for files in manifest.models:
        for name in files.files:
            if Path(name).name != name:
                raise ConfigError(f"{path}: {name!r} is not the name of a file in this folder")
    return manifest


def write_manifest(manifest: Manifest, folder: str | Path) -> None:
    (Path(folder) / MANIFEST_FILE).write_text(dump_section(manifest), encoding="utf-8")
