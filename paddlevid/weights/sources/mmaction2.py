"""MMAction2: TSN, TSM and TimeSformer, `.pth`."""

from __future__ import annotations

import re
from dataclasses import replace

from paddle import nn

from paddlevid.weights.source import (
    BATCH_COUNTER,
    DATA_PARALLEL,
    IMAGENET,
    TORCH_BATCH_NORM,
    ImageNorm,
    KeyMap,
    Renamed,
    Source,
    has_key,
    modality,
    of_rgb,
    rename_keys,
)
from paddlevid.weights.sources.shift import fit_shift, layers_wrapped
from paddlevid.weights.sources.transformers import is_over_time, start_of_timesformer
from paddlevid.weights.tensor import State

HEAD = (r"^cls_head\.fc_cls\.", "head.")
# Its models normalise by themselves
DROP = (BATCH_COUNTER, (r"^data_preprocessor\.", "normalisation, which is set in the config"))

# A convolution and its norm are a pair: conv1.conv, conv1.bn
RESNET: KeyMap = (
    DATA_PARALLEL,
    HEAD,
    (r"\.net\.", "."),
    (r"^backbone\.conv1\.conv\.", "backbone.conv1."),
    (r"^backbone\.conv1\.bn\.", "backbone.bn1."),
    (r"(\.layer\d\.\d+)\.conv(\d)\.conv\.", r"\1.conv\2."),
    (r"(\.layer\d\.\d+)\.conv(\d)\.bn\.", r"\1.bn\2."),
    (r"\.downsample\.conv\.", ".downsample.0."),
    (r"\.downsample\.bn\.", ".downsample.1."),
    *TORCH_BATCH_NORM,
)

MOBILENET_BLOCKS = (1, 2, 3, 4, 3, 3, 1)  # of layer1 to layer7


def _place(match: re.Match[str]) -> str:
    """layerL.i -> features.k: k counts the blocks behind the first convolution."""
    return f"features.{1 + sum(MOBILENET_BLOCKS[: int(match[1]) - 1]) + int(match[2])}."


MOBILENET: KeyMap = (
    DATA_PARALLEL,
    HEAD,
    (r"\.net\.", "."),
    (r"^backbone\.conv1\.conv\.", "backbone.features.0.0."),
    (r"^backbone\.conv1\.bn\.", "backbone.features.0.1."),
    (r"^backbone\.conv2\.conv\.", "backbone.features.18.0."),
    (r"^backbone\.conv2\.bn\.", "backbone.features.18.1."),
    (r"\blayer(\d)\.(\d+)\.", _place),
    # Expansion and convolution by channel have an activation and are pairs with us, too; the projection has none
    (r"(features\.1\.conv)\.1\.conv\.", r"\1.1."),
    (r"(features\.1\.conv)\.1\.bn\.", r"\1.2."),
    (r"\.conv\.([01])\.conv\.", r".conv.\1.0."),
    (r"\.conv\.([01])\.bn\.", r".conv.\1.1."),
    (r"\.conv\.2\.conv\.", ".conv.2."),
    (r"\.conv\.2\.bn\.", ".conv.3."),
    *TORCH_BATCH_NORM,
)

_DIVIDED: KeyMap = (
    (r"\.attentions\.0\.norm\.", ".temporal_norm1."),
    (r"\.attentions\.0\.attn\.", ".temporal_attn."),
    (r"\.attentions\.0\.temporal_fc\.", ".temporal_fc."),
    (r"\.attentions\.1\.norm\.", ".norm1."),
    (r"\.attentions\.1\.attn\.", ".attn."),
    (r"\.ffns\.0\.norm\.", ".norm2."),
)
_ONE_ATTENTION: KeyMap = (
    (r"\.norms\.0\.", ".norm1."),
    (r"\.norms\.1\.", ".norm2."),
    (r"\.attentions\.0\.attn\.", ".attn."),
)


def timesformer_map(divided: bool) -> KeyMap:
    return (
        DATA_PARALLEL,
        HEAD,
        (r"^backbone\.", ""),
        (r"^patch_embed\.projection\.", "patch_embed.proj."),
        (r"^transformer_layers\.layers\.", "blocks."),
        *(_DIVIDED if divided else _ONE_ATTENTION),
        (r"attn\.in_proj_(weight|bias)$", r"attn.qkv.\1"),
        (r"attn\.out_proj\.", "attn.proj."),
        (r"\.ffns\.0\.layers\.0\.0\.", ".mlp.fc1."),
        (r"\.ffns\.0\.layers\.1\.", ".mlp.fc2."),
    )


def recognise_network(state: State) -> bool:
    return has_key(state, r"^(module\.)?backbone\.(layer\d\.\d+\.(net\.)?)?conv[\d.]+(conv|bn)\.")


def rename_network(state: State) -> Renamed:
    mobilenet = has_key(state, r"\.layer\d\.\d+\.conv\.\d\.")
    renamed = rename_keys(state, MOBILENET if mobilenet else RESNET, drop=DROP, transpose=True)
    return replace(renamed, shifted=layers_wrapped(renamed))


def recognise_timesformer(state: State) -> bool:
    return has_key(state, r"(^|\.)transformer_layers\.layers\.\d")


def rename_timesformer(state: State) -> Renamed:
    divided = has_key(state, r"\.attentions\.1\.")
    return rename_keys(state, timesformer_map(divided), drop=DROP, transpose=True)


def adapt_timesformer(renamed: Renamed, model: nn.Layer) -> Renamed:
    """Its image transformer, a start, has the same names but no classifier."""
    is_image = "head.weight" not in renamed.state and not is_over_time(renamed.state)
    return start_of_timesformer(renamed, model) if is_image else renamed


def image_norm(model: nn.Layer) -> ImageNorm | None:
    """Its flow, of 0 to 255, has 128 for mean and std; it has no models of RGB difference."""
    flow: ImageNorm = ((128 / 255,) * 2, (128 / 255,) * 2)
    return {"rgb": IMAGENET, "flow": flow, "warped_flow": flow}.get(modality(model))


NETWORK = Source("TSN or TSM of MMAction2", recognise_network, rename_network, fit_shift, image_norm=image_norm)
TIMESFORMER = Source(
    "TimeSformer of MMAction2",
    recognise_timesformer,
    rename_timesformer,
    adapt_timesformer,
    image_norm=of_rgb(((0.5,) * 3, (0.5,) * 3)),
)
