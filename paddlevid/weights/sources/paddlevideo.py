"""PaddleVideo: TSN, TSM and TimeSformer, `.pdparams`, and the ImageNet ResNets that it starts from."""

from __future__ import annotations

import re
from dataclasses import replace

from paddle import nn

from paddlevid.errors import WeightsError
from paddlevid.models import TSM
from paddlevid.weights.source import (
    IMAGENET,
    KeyMap,
    Renamed,
    Source,
    has_key,
    of_rgb,
    rename_keys,
    start_of_backbone,
)
from paddlevid.weights.sources.shift import start_of_online, swap_directions
from paddlevid.weights.tensor import State


def _place(match: re.Match[str]) -> str:
    """res2a -> layer1.0, res4b -> layer3.1; in deep networks res4b12 -> layer3.12."""
    index = int(match[3]) if match[3] else ord(match[2]) - ord("a")
    return f"layer{int(match[1]) - 1}.{index}."


RESNET: KeyMap = (
    (r"^backbone\.", ""),
    (r"^conv\._conv\.", "conv1."),
    (r"^conv\._batch_norm\.", "bn1."),
    (r"^res(\d)([a-z])(\d*)\.", _place),
    (r"\.short\._conv\.", ".downsample.0."),
    (r"\.short\._batch_norm\.", ".downsample.1."),
    (r"\.conv0\._conv\.", ".conv1."),
    (r"\.conv0\._batch_norm\.", ".bn1."),
    (r"\.conv1\._conv\.", ".conv2."),
    (r"\.conv1\._batch_norm\.", ".bn2."),
    (r"\.conv2\._conv\.", ".conv3."),
    (r"\.conv2\._batch_norm\.", ".bn3."),
    (r"^(conv1|bn1|layer\d\.\d+)\.", r"backbone.\1."),
    (r"^head\.fc\.", "head."),
)
TIMESFORMER_MAP: KeyMap = ((r"^backbone\.", ""), (r"^head\.fc\.", "head."))


def recognise_network(state: State) -> bool:
    return has_key(state, r"\._batch_norm\.(weight|bias|_mean|_variance)$")


def rename_network(state: State) -> Renamed:
    if has_key(state, r"(^|\.)conv1_\d\."):
        raise WeightsError("these are weights of PP-TSM, PP-TSN or another ResNet-vd, which paddlevid has not")
    return replace(rename_keys(state, RESNET), names_tell_shift=False)


def adapt_network(renamed: Renamed, model: nn.Layer) -> Renamed:
    is_video = any(name.startswith("head.") for name in renamed.state)
    if not is_video:
        plain = {name.removeprefix("backbone."): tensor for name, tensor in renamed.state.items()}
        origins = {name.removeprefix("backbone."): keys for name, keys in renamed.origins.items()}
        return start_of_backbone(Renamed(plain, origins, renamed.dropped), model, classifier=r"(out|fc)\.")
    if not isinstance(model, TSM):
        return renamed
    return start_of_online(replace(swap_directions(renamed, model.shift_div), misfit=_misfit(model)), model)


STREAM_WIDTHS = (64, 256, 512, 1024, 2048)  # of what a ResNet-50 shifts


def _misfit(model: TSM) -> str:
    """PaddleVideo shifts the branch of each block, by one part in num_seg of its channels."""
    if not hasattr(model.backbone, "layer1"):
        return "PaddleVideo's TSM is a ResNet, this model is none"
    if model.shift_place != "blockres":
        return f"PaddleVideo's TSM has shift_place 'blockres', this model {model.shift_place!r}"
    if len(model.shifted_layers) != sum(len(getattr(model.backbone, f"layer{i}")) for i in (1, 2, 3, 4)):
        return "PaddleVideo's TSM shifts in each block of a deep network, this model in every second"
    if model.shift_div != model.num_segments:
        return (
            f"at {model.num_segments} segments PaddleVideo's TSM shifts one part in {model.num_segments} of the "
            f"channels, this model one in {model.shift_div}: set model.shift_div={model.num_segments}, or convert the "
            "file first with tools/convert_weights.py to keep one in 8"
        )
    if any(2 * width // model.shift_div != 2 * (width // model.shift_div) for width in STREAM_WIDTHS):
        return f"at {model.num_segments} segments PaddleVideo's TSM shifts uneven parts, this model even ones"
    return ""


def recognise_timesformer(state: State) -> bool:
    return has_key(state, r"^backbone\.(blocks\.\d|patch_embed\.|norm\.|cls_token$|pos_embed$)")


def rename_timesformer(state: State) -> Renamed:
    return rename_keys(state, TIMESFORMER_MAP)


NETWORK = Source(
    "TSN or TSM of PaddleVideo",
    recognise_network,
    rename_network,
    adapt_network,
    image_norm=of_rgb(IMAGENET),
)
TIMESFORMER = Source(
    "TimeSformer of PaddleVideo",
    recognise_timesformer,
    rename_timesformer,
    resize_pos="bilinear",
    resize_time="nearest",
    image_norm=of_rgb(((0.45,) * 3, (0.225,) * 3)),
)
