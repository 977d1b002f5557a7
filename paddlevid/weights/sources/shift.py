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
    if bool(own) != bool(renamed.shifted):
        return replace(renamed, start_only=f"weights of a {'TSM' if renamed.shifted else 'TSN'}")
    if own != renamed.shifted:
        shift_place = getattr(model, "shift_place", "")
        misfit = (
            f"the file's network shifts the input of {len(renamed.shifted)} layers, this model, with shift_place "
            f"{shift_place!r}, that of {len(own)}; they differ in {min(own ^ renamed.shifted)}"
        )
        return replace(renamed, misfit=misfit)
    return renamed


def swap_directions(renamed: Renamed, model: TSM) -> Renamed:
    """For weights of PaddleVideo: it takes the first fold of channels from the frame before and the second from the
    next one, we and the authors the other way round; so the convolutions behind swap these input channels."""
    state = dict(renamed.state)
    for layer in model.shifted_layers:
        name = f"{layer}.weight"
        if name in state:
            fold = state[name].shape[1] // model.shift_div
            state[name] = state[name].then(partial(_swap, fold=fold), state[name].shape)
    return replace(renamed, state=state)


def _swap(weight: np.ndarray, fold: int) -> np.ndarray:
    """[O, I, h, w] -> the same, the first two folds of I exchanged."""
    return np.concatenate([weight[:, fold : 2 * fold], weight[:, :fold], weight[:, 2 * fold :]], axis=1)
