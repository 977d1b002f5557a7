"""Image transformers (ViT) as a start for TimeSformer: timm, jx and PaddleClas, whose names are also ours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from paddle import nn

from paddlevid.models import TimeSformer
from paddlevid.weights.source import DATA_PARALLEL, Renamed, Source, drop_where, has_key, rename_keys
from paddlevid.weights.tensor import State

UNUSED = (r"^pre_logits\.", "layer between features and classifier, which a TimeSformer has not")


def is_torch_order(state: State) -> bool:
    """Whether the linear layers have their weights [out, in], as PyTorch's; most of them decide."""
    votes = 0
    for name, tensor in state.items():
        if name.endswith(("qkv.weight", "mlp.fc1.weight")) and len(tensor.shape) == 2:
            votes += 1 if tensor.shape[0] > tensor.shape[1] else -1
    return votes > 0


def is_over_time(names: State) -> bool:
    return "time_embed" in names or any(".temporal_" in name for name in names)


def recognise(state: State) -> bool:
    return has_key(state, r"^(module\.)?blocks\.\d+\.(attn|mlp)\.") and not is_over_time(state)


def rename(state: State) -> Renamed:
    return rename_keys(state, [DATA_PARALLEL], drop=[UNUSED], transpose=is_torch_order(state))


def start_of_timesformer(renamed: Renamed, model: nn.Layer) -> Renamed:
    """An image transformer as the start of a model over time.

    Attention over time starts as that over space, and behind a `temporal_fc` of zeros (arXiv:2102.05095).
    """
    own = model.state_dict()
    renamed = drop_where(renamed, ["head.weight", "head.bias"], "classifier of the image network")
    state, origins = dict(renamed.state), dict(renamed.origins)
    for name, tensor in renamed.state.items():
        copy = name.replace(".attn.", ".temporal_attn.").replace(".norm1.", ".temporal_norm1.")
        if copy != name and copy in own:
            state[copy], origins[copy] = tensor, renamed.origins[name]
    made = {name: np.zeros(value.shape, np.float32) for name, value in own.items() if ".temporal_fc." in name}
    new = {name for name in own if name.startswith("head.")} | {"time_embed", *made}
    return replace(
        renamed,
        state=state,
        origins=origins,
        made=made,
        expected_new=frozenset(new),
        start_only="weights of an image network",
    )


def check_heads(renamed: Renamed, model: TimeSformer) -> Renamed:
    """Weights do not show the number of heads; that of every published ViT-B is 12."""
    num_heads, dim = model.blocks[0].attn.num_heads, model.cls_token.shape[-1]
    may_be_own = not is_over_time(renamed.state) and not renamed.start_only
    if dim == 768 and num_heads != 12 and not may_be_own:
        return replace(renamed, misfit=f"published models of width 768 have 12 heads, this model has {num_heads}")
    return renamed


def adapt(renamed: Renamed, model: nn.Layer) -> Renamed:
    # Without time a TimeSformer has the names of an image transformer: these may be its own trained weights
    if is_over_time(model.state_dict()):
        return start_of_timesformer(renamed, model)
    return renamed


IMAGE_TRANSFORMER = Source("ViT of timm or PaddleClas, or a TimeSformer without time", recognise, rename, adapt)
