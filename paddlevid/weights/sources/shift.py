"""Which layers a TSM shifts, in a file and in our model: weights give their logits only where both agree."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial

import numpy as np
from paddle import nn

from paddlevid.models import TSM
from paddlevid.weights.source import Renamed

# `TemporalShift` of the authors keeps the layer whose input it shifts as `net`: layer1.0.conv1.net.weight
WRAPPED = re.compile(r"(.*)\.net\.")


def layers_wrapped(renamed: Renamed) -> frozenset[str]:
    """Our names of the layers that the file keeps in a `.net`."""
    layers = set()
    for name, (key, *_) in renamed.origins.items():
        wrapped = WRAPPED.match(key)
        if wrapped is None:
            continue
        whole_block = re.search(r"layer\d\.\d+$", wrapped[1])
        pattern = (
            r"backbone\.layer\d\.\d+" if whole_block else r"backbone\.(layer\d\.\d+\.conv1|features\.\d+\.conv\.0)"
        )
        layer = re.match(pattern, name)
        layers.add(layer[0] if layer else wrapped[1])
    return frozenset(layers)


def fit_shift(renamed: Renamed, model: nn.Layer) -> Renamed:
    """Compare the layers that file and model shift; weights of a network that shifts none are but a start."""
    own = frozenset(model.shifted_layers) if isinstance(model, TSM) else frozenset()
    if not renamed.names_tell_shift:
        return start_of_online(renamed, model)
    if bool(own) != bool(renamed.shifted):
        return replace(renamed, start_only=f"weights of a {'TSM' if renamed.shifted else 'TSN'}")
    if own != renamed.shifted:
        shift_place = getattr(model, "shift_place", "")
        misfit = (
            f"the file's network shifts the input of {len(renamed.shifted)} layers, this model, with shift_place "
            f"{shift_place!r}, that of {len(own)}; they differ in {min(own ^ renamed.shifted)}"
        )
        return replace(renamed, misfit=misfit)
    return start_of_online(renamed, model) if own else renamed


def start_of_online(renamed: Renamed, model: nn.Layer) -> Renamed:
    """Weights that were trained with a look at the next frame are but a start for a TSM that only looks back."""
    if getattr(model, "online", False):
        return replace(renamed, start_only="weights of a TSM that looks ahead, and this one, model.online, does not")
    return renamed


# Where a bottleneck network writes and reads the channels that are added up from block to block; axes of our weights
_WRITES = re.compile(r"backbone\.(conv1|bn1|layer\d\.\d+\.(conv3|bn3|downsample\.[01]))\.")
_READS = re.compile(r"backbone\.layer\d\.\d+\.(conv1|downsample\.0)\.")


def swap_directions(renamed: Renamed, shift_div: int) -> Renamed:
    """Weights of a ResNet that takes its first fold of channels from the frame before, and the second from the next.

    Here, as in the authors' code, it is the other way round. So the channels of both folds change places, wherever
    the network writes or reads what it shifts; its answers stay the same.
    """
    state = dict(renamed.state)
    for name, tensor in renamed.state.items():
        axes = [0] if _WRITES.match(name) or name == "head.weight" else []
        axes += [1] if _READS.match(name) else []
        for axis in axes:
            if axis < len(tensor.shape):
                swap = partial(_swap_folds, axis=axis, shift_div=shift_div)
                state[name] = state[name].then(swap, tensor.shape)
    return replace(renamed, state=state)


def _swap_folds(weight: np.ndarray, axis: int, shift_div: int) -> np.ndarray:
    """The same shape, the first and the second of `shift_div` parts along an axis exchanged."""
    fold = weight.shape[axis] // shift_div
    first, second, rest = np.split(weight, [fold, 2 * fold], axis)
    return np.concatenate([second, first, rest], axis)
