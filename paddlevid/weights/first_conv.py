"""The first convolution: the one layer that networks of RGB frames, of their differences and of flow do not share."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
from paddle import nn

from paddlevid.errors import WeightsError
from paddlevid.models import TSM, TSN
from paddlevid.models.parameters import describe_parameters
from paddlevid.models.snippets import Snippets
from paddlevid.weights.source import Renamed, modality
from paddlevid.weights.tensor import State

# What 2D networks call the weight of theirs under `backbone.`, for files that come without a model
FIRST_CONVS = (
    "conv1.weight",
    "conv1_7x7_s2.weight",
    "features.0.0.weight",
    "features.0.weight",
    "inception_stem.conv_1a_3x3.0.weight",
)


def first_conv(model: nn.Layer) -> str:
    """Our name of the weight of a model's first convolution."""
    return next(
        info.name for info in describe_parameters(model) if "first_conv" in info.roles and "bias" not in info.roles
    )


def start_modality(values: State, model: nn.Layer, *, is_image: bool) -> tuple[State, str]:
    """The first convolution of a network of RGB frames as the start of one of flow or of differences.

    Returns the tensor by our name, and in words what was done; {} and "" where the file's fits as it is. `is_image`
    says that the file is of an image network, whose three channels are RGB whatever the model takes. The kernel's mean
    over R, G and B is that of each channel of flow or difference, not rescaled, and with `keep_rgb` the kernel itself
    stands before them; the bias stays. Source: Wang et al., 2016, arXiv:1608.00859, section 3.2, and their code.

    Raises WeightsError where the file's channels are neither the model's nor RGB.
    """
    if not isinstance(model, TSN | TSM):
        return {}, ""
    name, snippets = first_conv(model), model.snippets
    own = tuple(model.state_dict()[name].shape)
    kernel = values.get(name)
    if kernel is None or kernel.dtype.kind != "f" or len(kernel.shape) != 4:
        return {}, ""
    if (kernel.shape[0], *kernel.shape[2:]) != (own[0], *own[2:]):
        return {}, ""  # of another network, which is not for here to say
    has_rgb = kernel.shape[1] == 3
    if kernel.shape[1] == own[1] and not (is_image and has_rgb and snippets.modality == "rgb_diff"):
        return {}, ""
    if not has_rgb or snippets.modality == "rgb":
        raise WeightsError(
            f"its first convolution takes {kernel.shape[1]} channels, the model's {own[1]} ({_in_words(snippets)}): "
            "data.modality and data.snippet_length have to be those of the weights, or the weights those of RGB"
        )
    repeated = own[1] - 3 * snippets.keep_rgb
    made = kernel.as_float32().then(partial(_averaged, repeated=repeated, keep_rgb=snippets.keep_rgb), own)
    kind = "differences" if snippets.modality == "rgb_diff" else "flow"
    done = "kept, and its average repeated" if snippets.keep_rgb else "averaged and repeated"
    return {name: made}, f"RGB kernel {done} for {repeated} channels of {kind}"


def _averaged(kernel: np.ndarray, repeated: int, keep_rgb: bool) -> np.ndarray:
    """[D, 3, h, w] -> [D, repeated, h, w], or [D, 3 + repeated, h, w] with the kernel in front."""
    average = kernel.mean(axis=1, keepdims=True).repeat(repeated, axis=1)
    return np.concatenate([kernel, average], axis=1) if keep_rgb else average


def _in_words(snippets: Snippets) -> str:
    if snippets.modality == "rgb":
        return "RGB"
    return f"{snippets.modality} of {snippets.snippet_length}" + (" with RGB" if snippets.keep_rgb else "")


def bgr_to_rgb(renamed: Renamed, model: nn.Layer) -> Renamed:
    """A network that was trained on BGR frames, for RGB ones, by its first convolution.

    Differences have their colours frame by frame. Flow has none, and stays; three channels are always a frame's.
    """
    name = first_conv(model)
    kernel = renamed.state.get(name)
    if kernel is None or len(kernel.shape) != 4 or kernel.shape[1] % 3:
        return renamed
    if kernel.shape[1] != 3 and modality(model) != "rgb_diff":
        return renamed
    state = renamed.state | {name: kernel.then(_turned, kernel.shape)}
    return replace(renamed, state=state, first_conv="turned from BGR to RGB")


def _turned(kernel: np.ndarray) -> np.ndarray:
    """[D, F*3, h, w], the three of each of F frames the other way round."""
    out_channels, channels, height, width = kernel.shape
    frames = kernel.reshape(out_channels, channels // 3, 3, height, width)
    return frames[:, :, ::-1].reshape(kernel.shape)
