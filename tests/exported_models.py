"""Tiny models with random weights, exported in every format and precision that this machine can check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import yaml

from paddlevid import build
from paddlevid.checkpoint import save_weights
from paddlevid.config import load_config
from paddlevid.deploy.export import ExportOptions, export_model
from paddlevid.deploy.runtimes.open_vino import has_bf16
from paddlevid.schema import Config


@dataclass(frozen=True)
class Exported:
    """A config, its model, and the folder that the model was exported to."""

    cfg: Config
    model: paddle.nn.Layer
    folder: Path

    def answers(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logits `[B, K]` and features `[B, D]` of the model itself for frames uint8 `[B, T, H, W, 3]`."""
        with paddle.no_grad():
            feats = self.model.forward_features(build.build_normalize(self.cfg)(paddle.to_tensor(frames)))
            feats = feats.mean(axis=1) if feats.ndim == 3 else feats
            return self.model.forward_head(feats).numpy(), feats.numpy()


def randomise(model: paddle.nn.Layer) -> None:
    """Statistics and heads that are not trivial, as after training."""
    paddle.seed(7)
    for name, value in model.state_dict().items():
        if name.endswith("_mean"):
            value.set_value(paddle.randn(value.shape))
        elif name.endswith(("_variance", "head.weight")):
            value.set_value(paddle.rand(value.shape) + 0.5)
    model.eval()


def export_everything(recipe: dict[str, Any], folder: Path, overrides: Sequence[str] = ()) -> Exported:
    """Export a recipe's model, with random weights, to `folder / "inference" / "Net"`."""
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    cfg = load_config(path, overrides)
    model = build.build_model(cfg)
    randomise(model)
    save_weights(model, folder / "weights.pdparams")
    options = ExportOptions(
        formats=("paddle", "onnx", "openvino"),
        precisions=("fp32", "fp16", *(["bf16"] if has_bf16() else [])),
        explain=True,
        check_videos=5,
    )
    export_model(cfg, folder / "weights.pdparams", folder / "inference" / "Net", options)
    return Exported(cfg, model, folder / "inference" / "Net")
