"""The authors' TSM and TSN in PyTorch: github.com/mit-han-lab/temporal-shift-module and yjxiong/tsn-pytorch."""

from __future__ import annotations

from dataclasses import replace

from paddle import nn

from paddlevid.errors import WeightsError
from paddlevid.weights.first_conv import bgr_to_rgb
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
    rename_keys,
)
from paddlevid.weights.sources.inception import bn_inception_norm, is_bn_inception, squeezed
from paddlevid.weights.sources.networks import FLAT_MOBILENET, is_flat_mobilenet
from paddlevid.weights.sources.shift import fit_shift, layers_wrapped
from paddlevid.weights.tensor import State

KEY_MAP: KeyMap = (
    DATA_PARALLEL,
    (r"\.net\.", "."),
    # Without dropout, and in the published MobileNetV2, the classifier is in its old place
    (r"^(new_fc|base_model\.fc|base_model\.classifier(\.6)?)\.(?=weight|bias)", "head."),
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
    if has_key(state, r"base_model\.(Mixed_\d|Conv2d_\d|mixed|conv_conv2d|top_cls|conv2d_1a)"):
        raise WeightsError(
            "these are weights of an Inception v3 of a fork of tsn-pytorch: the authors' code makes none, and how a "
            "fork's network takes its frames is not known"
        )
    mobilenet = FLAT_MOBILENET if is_flat_mobilenet(state) else ()
    renamed = rename_keys(squeezed(state), (*KEY_MAP, *mobilenet), drop=[BATCH_COUNTER], transpose=True)
    # A BN-Inception is shifted between its units, of which no name tells
    return replace(renamed, shifted=layers_wrapped(renamed), names_tell_shift=not is_bn_inception(state))


def adapt(renamed: Renamed, model: nn.Layer) -> Renamed:
    """Its BN-Inception sees BGR frames, its other networks RGB ones."""
    if is_bn_inception(renamed.state):
        renamed = bgr_to_rgb(renamed, model)
    return fit_shift(renamed, model)


def image_norm(model: nn.Layer) -> ImageNorm:
    """Flow has the mean of the three colours' deviations; differences are not normalised, in training."""
    if is_bn_inception(model.state_dict()):
        return bn_inception_norm(model)
    if modality(model) == "rgb":
        return IMAGENET
    return ((), (1.0,) * 3) if modality(model) == "rgb_diff" else ((0.5,) * 2, (0.226,) * 2)


OFFICIAL = Source("TSM of its authors, or tsn-pytorch", recognise, rename, adapt, image_norm=image_norm)
