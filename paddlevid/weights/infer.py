"""From the shapes of weights to the model that they are of."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from paddlevid.errors import WeightsError
from paddlevid.weights.first_conv import FIRST_CONVS
from paddlevid.weights.source import Renamed, Source
from paddlevid.weights.sources.transformers import IMAGE_TRANSFORMER
from paddlevid.weights.tensor import State

RESNETS: dict[tuple[tuple[int, ...], bool], str] = {
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101",
}
# What other networks have besides their first convolution, whose names are in FIRST_CONVS
NETWORKS = {
    "mobilenet_v2": "backbone.features.18.0.weight",
    "bn_inception": "backbone.conv1_7x7_s2.weight",
    "vgg16": "backbone.features.28.weight",
    "inception_v3": "backbone.inception_stem.conv_1a_3x3.0.weight",
}
# Channels of the first convolution in the authors' code, where a snippet of flow or of differences has five
MODALITIES: dict[int, dict[str, Any]] = {
    3: {},
    10: {"modality": "flow", "snippet_length": 5},
    15: {"modality": "rgb_diff", "snippet_length": 5},
    18: {"modality": "rgb_diff", "snippet_length": 5, "keep_rgb": True},
}
HEAD_DIM = 64  # of every published TimeSformer; weights do not show the number of heads


def infer_model(renamed: Renamed, kind: Source, name: str | None = None) -> dict[str, Any]:
    """Arguments of `create_model` for weights under our names, `name` among them, which may also be given.

    What weights do not show is left to the defaults, or to what is usual: heads of 64 numbers, 8 segments, snippets of
    five flows or differences. Raises WeightsError when these are no weights of a whole video model.
    """
    state = renamed.state
    if kind is IMAGE_TRANSFORMER:
        raise WeightsError("an image transformer has the names of a TimeSformer without time: say with -c which it is")
    if "head.weight" not in state or len(state["head.weight"].shape) != 2:
        raise WeightsError(
            "these are no weights of a whole video model; if they are to start one, say with -c which recipe's"
        )
    num_classes = state["head.weight"].shape[-1]
    if any(name.startswith("blocks.") for name in state):
        return {"name": "timesformer", "num_classes": num_classes, **_timesformer(state)}
    options = {"num_classes": num_classes, "backbone": _backbone(state), **_modality(state)}
    told = "tsm" if renamed.shifted else "tsn"
    if renamed.names_tell_shift and name not in (None, told):
        raise WeightsError(f"--model {name}, but the names are those of a {told.upper()}")
    if renamed.names_tell_shift:
        name = told
    elif name is None:
        raise WeightsError("a TSN and a TSM have the same names in such files: say which this is, with --model")
    if options["backbone"] == "bn_inception" and name == "tsm":
        options["shift_place"] = "block"
    if name == "tsm" and renamed.shifted and not any(re.search(r"\.conv(1|\.0)$", layer) for layer in renamed.shifted):
        options["shift_place"] = "block"
    return {"name": name, **options}


def _timesformer(state: State) -> dict[str, Any]:
    try:
        embed_dim = state["cls_token"].shape[-1]
        patch_size = state["patch_embed.proj.weight"].shape[-1]
        options = {
            "image_size": math.isqrt(state["pos_embed"].shape[1] - 1) * patch_size,
            "patch_size": patch_size,
            "embed_dim": embed_dim,
            "depth": _count(state, r"blocks\.(\d+)\."),
            "num_heads": max(1, embed_dim // HEAD_DIM),
            "mlp_ratio": state["blocks.0.mlp.fc1.bias"].shape[0] / embed_dim,
            "attention": "space_only",
        }
    except KeyError as error:
        raise WeightsError(f"these are no whole weights of a TimeSformer: {error.args[0]} is missing") from None
    except (IndexError, ValueError, ZeroDivisionError):
        raise WeightsError("these are no weights of a TimeSformer: the shapes of its embeddings are none") from None
    if "time_embed" in state:
        divided = any(".temporal_attn." in name for name in state)
        options["attention"] = "divided_space_time" if divided else "joint_space_time"
        options["num_frames"] = state["time_embed"].shape[-2] if len(state["time_embed"].shape) > 1 else 0
    return options


def _backbone(state: State) -> str:
    for other, name in NETWORKS.items():
        if name in state:
            return other
    stages = tuple(_count(state, rf"backbone\.layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4))
    network = RESNETS.get((stages, "backbone.layer1.0.conv3.weight" in state))
    if network is None:
        raise WeightsError(f"these are weights of a network with {stages} blocks, which is none of {_names()}")
    return network


def _names() -> str:
    return ", ".join([*RESNETS.values(), *NETWORKS])


def _modality(state: State) -> dict[str, Any]:
    shapes = [state[f"backbone.{name}"].shape for name in FIRST_CONVS if f"backbone.{name}" in state]
    channels = shapes[0][1] if shapes and len(shapes[0]) == 4 else 0
    if channels not in MODALITIES:
        raise WeightsError(
            f"the first convolution takes {channels} channels, which does not tell what of: say with -c which "
            "modality and snippet_length"
            if channels
            else "there is no first convolution"
        )
    return MODALITIES[channels]


def _count(names: Iterable[str], pattern: str) -> int:
    """How many numbers from 0 on a pattern finds. Raises WeightsError where one is left out."""
    found = {int(match[1]) for name in names if (match := re.match(pattern, name))}
    if found and max(found) != len(found) - 1:
        raise WeightsError(f"of {max(found) + 1} blocks {len(found)} are there")
    return len(found)
