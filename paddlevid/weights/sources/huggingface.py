"""Hugging Face's transformers: TimeSformer, and ViT as a start."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from paddle import nn

from paddlevid.errors import WeightsError
from paddlevid.models import TimeSformer
from paddlevid.weights.source import DATA_PARALLEL, KeyMap, Renamed, Source, concatenate, has_key, of_rgb, rename_keys
from paddlevid.weights.sources.transformers import start_of_timesformer
from paddlevid.weights.tensor import State

KEY_MAP: KeyMap = (
    DATA_PARALLEL,
    (r"^(timesformer|vit)\.", ""),
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.time_embeddings$", "time_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^(encoder\.layer|layers)\.", "blocks."),
    (r"\.temporal_layernorm\.", ".temporal_norm1."),
    (r"\.temporal_attention\.attention\.qkv\.", ".temporal_attn.qkv."),
    (r"\.temporal_attention\.output\.dense\.", ".temporal_attn.proj."),
    (r"\.temporal_dense\.", ".temporal_fc."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.attention\.attention\.(qkv|query|key|value)\.", r".attn.\1."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    # What transformers 5 calls the parts of a ViT in memory; its files keep the older names
    (r"\.attention\.q_proj\.", ".attn.query."),
    (r"\.attention\.k_proj\.", ".attn.key."),
    (r"\.attention\.v_proj\.", ".attn.value."),
    (r"\.attention\.o_proj\.", ".attn.proj."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"^layernorm\.", "norm."),
    (r"^classifier\.", "head."),
)
POOLER = (r"^(vit\.)?pooler\.", "pooler, which classifiers do not use")


def recognise_timesformer(state: State) -> bool:
    over_time = has_key(state, r"temporal_(dense|attention|layernorm)\.|embeddings\.time_embeddings$")
    return has_key(state, r"^(module\.)?timesformer\.") or (over_time and has_key(state, r"encoder\.layer\.\d"))


def recognise_vit(state: State) -> bool:
    return has_key(state, r"(encoder\.layer|layers)\.\d+\.(layernorm_before|attention\.(attention|q_proj))\.")


def rename(state: State) -> Renamed:
    return _join_qkv(rename_keys(state, KEY_MAP, drop=[POOLER], transpose=True))


def _join_qkv(renamed: Renamed) -> Renamed:
    """ViT keeps query, key and value apart, each [D, D] or [D]: together they are our qkv, [D, 3*D] or [3*D]."""
    state, origins = dict(renamed.state), dict(renamed.origins)
    for name in renamed.state:
        match = re.fullmatch(r"(.*\.attn)\.query\.(weight|bias)", name)
        if match is None:
            continue
        parts = [f"{match[1]}.{part}.{match[2]}" for part in ("query", "key", "value")]
        if not all(part in state for part in parts):
            continue  # those that are there have no place then, and are named
        if len({state[part].shape for part in parts}) > 1 or not state[parts[0]].shape:
            shapes = ", ".join(f"{origins[part][0]} {list(state[part].shape)}" for part in parts)
            raise WeightsError(f"query, key and value differ in shape: {shapes}")
        joined = f"{match[1]}.qkv.{match[2]}"
        state[joined] = concatenate([state.pop(part) for part in parts], axis=-1)
        origins[joined] = tuple(key for part in parts for key in origins.pop(part))
    return replace(renamed, state=state, origins=origins)


def read_config(path: Path) -> dict[str, Any]:
    """The config.json in a folder of Hugging Face, or beside a file of one; {} where there is none."""
    file = (path if path.is_dir() else path.parent) / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) and config.get("model_type") == "timesformer" else {}


def check_config(config: dict[str, Any], model: nn.Layer) -> None:
    """Compare what weights do not show; `config` is that of `read_config`.

    Raises WeightsError when the model would compute something else from the same weights.
    """
    if not isinstance(model, TimeSformer):
        return
    own = {
        "num_attention_heads": model.blocks[0].attn.num_heads,
        "attention_type": model.attention,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
    }
    for key, value in own.items():
        if key in config and config[key] != value:
            raise WeightsError(f"config.json says {key} {config[key]!r}, this model has {value!r}")


HUGGINGFACE_TIMESFORMER = Source(
    "TimeSformer of Hugging Face transformers",
    recognise_timesformer,
    rename,
    resize_pos="nearest",
    resize_time="nearest",
    image_norm=of_rgb(((0.45,) * 3, (0.225,) * 3)),
)
HUGGINGFACE_VIT = Source("ViT of Hugging Face transformers", recognise_vit, rename, start_of_timesformer)
