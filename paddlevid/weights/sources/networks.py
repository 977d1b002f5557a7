"""Image networks as a start for TSN and TSM: torchvision, paddle.vision and PaddleClas; Inceptions: inception.py."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
from paddle import nn

from paddlevid.errors import WeightsError
from paddlevid.weights.source import (
    BATCH_COUNTER,
    DATA_PARALLEL,
    TORCH_BATCH_NORM,
    KeyMap,
    Renamed,
    Source,
    has_key,
    rename_keys,
    start_of_backbone,
)
from paddlevid.weights.tensor import State

# The MobileNetV2 of github.com/tonylins/pytorch-mobilenet-v2, which TSM uses, has each block in one flat list. Its
# activations are entries 2 and 5, without weights. The first block, features.1, does not expand.
FLAT_MOBILENET: KeyMap = (
    (r"(features\.1\.conv)\.0\.", r"\1.0.0."),
    (r"(features\.1\.conv)\.1\.", r"\1.0.1."),
    (r"(features\.1\.conv)\.3\.", r"\1.1."),
    (r"(features\.1\.conv)\.4\.", r"\1.2."),
    (r"(features\.(?!1\.)\d+\.conv)\.0\.", r"\1.0.0."),
    (r"(features\.(?!1\.)\d+\.conv)\.1\.", r"\1.0.1."),
    (r"(features\.(?!1\.)\d+\.conv)\.3\.", r"\1.1.0."),
    (r"(features\.(?!1\.)\d+\.conv)\.4\.", r"\1.1.1."),
    (r"(features\.(?!1\.)\d+\.conv)\.6\.", r"\1.2."),
    (r"(features\.(?!1\.)\d+\.conv)\.7\.", r"\1.3."),
)


def is_flat_mobilenet(state: State) -> bool:
    return has_key(state, r"features\.\d+\.conv\.[4567]\.")


# paddle.vision's VGG has torchvision's names, and its Inception v3 names of its own
VGG = r"^(module\.)?classifier\.0\.weight$"
_LAYERS = r"^(module\.)?(layer\d\.\d+\.(conv|bn)\d|features\.\d+\.conv\.\d|inception_stem\.conv_1a_3x3\.0)\."


def recognise(state: State) -> bool:
    return has_key(state, _LAYERS) or _is_vgg(state)


def _is_vgg(state: State) -> bool:
    return has_key(state, VGG) and has_key(state, r"^(module\.)?features\.0\.weight$")


def rename(state: State) -> Renamed:
    mobilenet = FLAT_MOBILENET if is_flat_mobilenet(state) else ()
    of_torch = has_key(state, r"\.running_(mean|var)$")
    if _is_vgg(state):
        # Without batch norms: the first linear layer, of 4096 from more, tells PyTorch's order [out, in]
        shape = next(tensor.shape for name, tensor in state.items() if re.search(VGG, name))
        of_torch = len(shape) == 2 and shape[0] < shape[1]
    key_map = (DATA_PARALLEL, *TORCH_BATCH_NORM, *mobilenet)
    renamed = rename_keys(state, key_map, drop=[BATCH_COUNTER], transpose=of_torch)
    return _same_epsilon(renamed) if has_key(state, r"^(module\.)?inception_stem\.") else renamed


def _same_epsilon(renamed: Renamed) -> Renamed:
    """paddle.vision's Inception v3 adds 1e-5 to variances, ours, as torchvision's, 1e-3: the sums stay as they were."""
    state = {
        name: tensor.then(lambda variance: variance + np.float32(1e-5 - 1e-3), tensor.shape)
        if name.endswith("._variance")
        else tensor
        for name, tensor in renamed.state.items()
    }
    return replace(renamed, state=state)


def adapt(renamed: Renamed, model: nn.Layer) -> Renamed:
    # A VGG's first two linear layers make its features
    last = r"classifier\.6\." if _is_vgg(dict(renamed.state)) else r"(fc|classifier)\."
    return start_of_backbone(renamed, model, classifier=last)


STAGE_BLOCKS = {8: (2, 2, 2, 2), 16: (3, 4, 6, 3), 33: (3, 4, 23, 3)}


def recognise_paddleclas(state: State) -> bool:
    return has_key(state, r"^stem\.\d\.(conv|bn)\.|^blocks\.\d+\.(conv\d|short)\.(conv|bn)\.")


def rename_paddleclas(state: State) -> Renamed:
    if "stem.1.conv.weight" in state:
        raise WeightsError("these are weights of a ResNet-vd, whose first layer is three; use a plain ResNet's")
    indices = [int(match[1]) for key in state if (match := re.match(r"blocks\.(\d+)\.", key))]
    num_blocks = 1 + max(indices, default=-1)
    if num_blocks not in STAGE_BLOCKS:
        raise WeightsError(f"these are weights of a ResNet with {num_blocks} blocks, not of 8, 16 or 33")
    places = [(stage + 1, i) for stage, count in enumerate(STAGE_BLOCKS[num_blocks]) for i in range(count)]

    def place(match: re.Match[str]) -> str:
        stage, i = places[int(match[1])]
        return f"layer{stage}.{i}."

    key_map: KeyMap = (
        (r"^stem\.0\.conv\.", "conv1."),
        (r"^stem\.0\.bn\.", "bn1."),
        (r"^blocks\.(\d+)\.", place),
        (r"\.short\.conv\.", ".downsample.0."),
        (r"\.short\.bn\.", ".downsample.1."),
        *((rf"\.conv{i}\.{part}\.", f".{part}{i + 1}.") for i in (2, 1, 0) for part in ("conv", "bn")),
    )
    return rename_keys(state, key_map)


IMAGE_NETWORK = Source("image network of torchvision or paddle.vision", recognise, rename, adapt)
PADDLECLAS = Source("ResNet of PaddleClas", recognise_paddleclas, rename_paddleclas, adapt)
