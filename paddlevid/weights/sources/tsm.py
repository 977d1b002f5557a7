"""The authors' TSM and TSN in PyTorch: github.com/mit-han-lab/temporal-shift-module and yjxiong/tsn-pytorch."""

from __future__ import annotations

from dataclasses import replace

from paddlevid.errors import WeightsError
from paddlevid.weights.source import (
    BATCH_COUNTER,
    DATA_PARALLEL,
    IMAGENET,
    TORCH_BATCH_NORM,
    KeyMap,
    Renamed,
    Source,
    has_key,
    rename_keys,
)
from paddlevid.weights.sources.networks import FLAT_MOBILENET, is_flat_mobilenet
from paddlevid.weights.sources.shift import fit_shift, layers_wrapped
from paddlevid.weights.tensor import State

KEY_MAP: KeyMap = (
    DATA_PARALLEL,
    (r"\.net\.", "."),
    # Without dropout, and in the published MobileNetV2, the classifier is in its old place
    (r"^(new_fc|base_model\.fc|base_model\.classifier)\.", "head."),
    (r"^base_model\.", "backbone."),
    *TORCH_BATCH_NORM,
)


def recognise(state: State) -> bool:
    return has_key(state, r"^(module\.)?(base_model|new_fc)\.")


def rename(state: State) -> Renamed:
    if has_key(state, r"\.nl\.(g|theta|phi|W)\b"):
        raise WeightsError("these are weights of a TSM with non-local blocks, which paddlevid has not")
    if has_key(state, r"base_model\.layer2\.net\."):
        raise WeightsError("these are weights of a TSM with temporal pooling, which paddlevid has not")
    mobilenet = FLAT_MOBILENET if is_flat_mobilenet(state) else ()
    renamed = rename_keys(state, (*KEY_MAP, *mobilenet), drop=[BATCH_COUNTER], transpose=True)
    return replace(renamed, shifted=layers_wrapped(renamed))


OFFICIAL = Source("TSM of its authors, or tsn-pytorch", recognise, rename, fit_shift, image_norm=IMAGENET)
