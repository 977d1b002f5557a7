"""`inference.yml`: what an exported model needs beside its graph and weights to turn a video into labels."""

from __future__ import annotations

from pathlib import Path

from paddlevid.config import dump_section, load_section
from paddlevid.data.dataset import read_class_names
from paddlevid.errors import ConfigError
from paddlevid.schema import Config, ViewsConfig
from paddlevid.schema.data import DataConfig
from paddlevid.schema.types import Section

MANIFEST_FILE = "inference.yml"


class Manifest(Section):
    """Input: uint8 RGB frames `[B, T, H, W, 3]`; output: logits `[B, K]`. `data` tells the clip, `views` the views."""

    paddlevid_version: str
    model: str
    model_file: str
    params_file: str
    weights_sha256: str
    data: DataConfig
    views: ViewsConfig
    class_names: tuple[str, ...]

    @property
    def num_frames(self) -> int:
        """T of the graph's input."""
        return self.views.num_frames or self.data.num_frames


def make_manifest(
    cfg: Config, *, version: str, model_file: str = "", params_file: str = "", weights_sha256: str = ""
) -> Manifest:
    """Describe a recipe's model: its clip, the views of its `test` section (of `valid` without one), its classes."""
    split = cfg.test or cfg.valid
    if split is None:
        raise ConfigError("the config needs a test or valid section, which says how a video is looked at")
    views = ViewsConfig(**{name: getattr(split, name) for name in ViewsConfig.model_fields})
    return Manifest(
        paddlevid_version=version,
        model=cfg.model.name,
        model_file=model_file,
        params_file=params_file,
        weights_sha256=weights_sha256,
        data=cfg.data,
        views=views,
        class_names=tuple(read_class_names(cfg.data.class_names, cfg.data.num_classes)),
    )


def read_manifest(folder: str | Path) -> Manifest:
    """Read the `inference.yml` of an exported model.

    Raises:
        ConfigError: there is none, or it does not describe a model.
    """
    path = Path(folder) / MANIFEST_FILE
    if not path.is_file():
        raise ConfigError(f"{folder}: no {MANIFEST_FILE} here; is it a folder that tools/export_model.py wrote?")
    return load_section(path, Manifest)


def write_manifest(manifest: Manifest, folder: str | Path) -> None:
    (Path(folder) / MANIFEST_FILE).write_text(dump_section(manifest), encoding="utf-8")
