"""Inception networks as a start for TSN and TSM: BN-Inception, which was trained in Caffe, and Inception v3."""

from __future__ import annotations

import re
from dataclasses import replace

from paddle import nn

from paddlevid.errors import WeightsError
from paddlevid.weights.first_conv import bgr_to_rgb
from paddlevid.weights.source import (
    BATCH_COUNTER,
    DATA_PARALLEL,
    TORCH_BATCH_NORM,
    ImageNorm,
    KeyMap,
    Renamed,
    Source,
    has_key,
    modality,
    rename_keys,
    start_of_backbone,
)
from paddlevid.weights.tensor import State

IN_BN_INCEPTION = r"(^|\.)conv1_7x7_s2\.weight$"


def is_bn_inception(state: State) -> bool:
    return has_key(state, IN_BN_INCEPTION)


def squeezed(state: State) -> State:
    """The older files keep what batch norms have as [1, C], not [C] (issue 98 of tsn-pytorch)."""
    return {
        name: tensor.then(lambda array: array[0], tensor.shape[1:])
        if len(tensor.shape) == 2 and tensor.shape[0] == 1 and re.search(r"_bn\.[a-z_]+$", name)
        else tensor
        for name, tensor in state.items()
    }


def bn_inception_norm(model: nn.Layer) -> ImageNorm:
    """It takes colours of 0 to 255 less their mean, without a division; so tsn-pytorch does with flow, too.

    Of differences, which it does not normalise, only the scale is left.
    """
    if modality(model) == "rgb_diff":
        return (), (1 / 255,) * 3
    if modality(model) == "rgb":
        return (128 / 255, 117 / 255, 104 / 255), (1 / 255,) * 3
    return (128 / 255,) * 2, (1 / 255,) * 2


def recognise_bn_inception(state: State) -> bool:
    has_units = has_key(state, r"^(module\.)?(conv1_7x7_s2|inception_\d[a-e]_3x3)\.")
    return has_units and has_key(state, r"_bn\.running_(mean|var)$")


def rename_bn_inception(state: State) -> Renamed:
    return rename_keys(squeezed(state), (DATA_PARALLEL, *TORCH_BATCH_NORM), drop=[BATCH_COUNTER], transpose=True)


def adapt_bn_inception(renamed: Renamed, model: nn.Layer) -> Renamed:
    """Without its classifier it may be one of flow, of ten input channels, which no images trained."""
    renamed = start_of_backbone(renamed, model, classifier=r"(fc|last_linear)\.")
    kernel = renamed.state.get("backbone.conv1_7x7_s2.weight")
    if kernel is not None and len(kernel.shape) == 4 and kernel.shape[1] != 3:
        renamed = replace(renamed, start_only="weights of a network without its classifier")
    return bgr_to_rgb(renamed, model)


MIXED = ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")


def _block(match: re.Match[str]) -> str:
    if match[1] not in MIXED:
        raise WeightsError(f"Mixed_{match[1]} is no block of an Inception v3")
    return f"inception_block_list.{MIXED.index(match[1])}."


# paddle.vision has other names for torchvision's layers, in the same order; each is a convolution and its norm
INCEPTION_V3_MAP: KeyMap = (
    DATA_PARALLEL,
    (r"^Conv2d_(\d[a-z]_\dx\d)\.", r"inception_stem.conv_\1."),
    (r"^Mixed_(\w+)\.", _block),
    (r"\.branch_pool\.", ".branch_pool_conv."),
    (r"\.conv\.(?=weight)", ".0."),
    (r"\.bn\.", ".1."),
    *TORCH_BATCH_NORM,
)
AUXILIARY = (r"^(module\.)?AuxLogits\.", "auxiliary classifier, which serves the training of the image network alone")


def recognise_inception_v3(state: State) -> bool:
    return has_key(state, r"^(module\.)?(Conv2d_1a_3x3|Mixed_5b)\.")


def rename_inception_v3(state: State) -> Renamed:
    return rename_keys(state, INCEPTION_V3_MAP, drop=[BATCH_COUNTER, AUXILIARY], transpose=True)


def adapt_inception_v3(renamed: Renamed, model: nn.Layer) -> Renamed:
    return start_of_backbone(renamed, model, classifier=r"(fc|last_linear)\.")


BN_INCEPTION = Source(
    "BN-Inception of tsn-pytorch, TSM or pretrainedmodels",
    recognise_bn_inception,
    rename_bn_inception,
    adapt_bn_inception,
    image_norm=bn_inception_norm,
)
INCEPTION_V3 = Source("Inception v3 of torchvision", recognise_inception_v3, rename_inception_v3, adapt_inception_v3)
