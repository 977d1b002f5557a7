"""What a family of files is to the loader: how it is recognised, and how its tensors become ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from paddle import nn

from paddlevid.errors import WeightsError
from paddlevid.models import TSM, TSN
from paddlevid.weights.tensor import LazyTensor, State

# (pattern, replacement) of re.sub, applied to each name one after the other
KeyMap = Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]

# PyTorch's batch norms under Paddle's names
TORCH_BATCH_NORM: KeyMap = ((r"\.running_mean$", "._mean"), (r"\.running_var$", "._variance"))
BATCH_COUNTER = (r"(^|\.)num_batches_tracked$", "counter of batches, which Paddle's batch norm has not")
DATA_PARALLEL = (r"^module\.", "")

# Mean and std by channel of a frame, on a scale where 255 is 1; no mean where differences of frames cancel it
ImageNorm = tuple[tuple[float, ...], tuple[float, ...]]
IMAGENET: ImageNorm = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Renamed:
    """A file's tensors under our names.

    `origins` gives the names in the file, several where one of ours is put together. `made` are values that no tensor
    stands for, `expected_new` parameters that such a file never has, `dropped` reasons by name in the file. `shifted`
    are the layers whose input the file's network shifts along time, where its names tell; `names_tell_shift` is False
    where a TSM has the same names as a TSN. `first_conv` says what was done to the first convolution, `start_only`
    why these are no weights of a trained video model, `misfit` why the model would not compute what theirs did.
    """

    state: State
    origins: Mapping[str, tuple[str, ...]]
    dropped: Mapping[str, str] = field(default_factory=dict)
    made: Mapping[str, np.ndarray] = field(default_factory=dict)
    expected_new: frozenset[str] = frozenset()
    shifted: frozenset[str] = frozenset()
    names_tell_shift: bool = True
    first_conv: str = ""
    start_only: str = ""
    misfit: str = ""

    def origin(self, name: str) -> str:
        return " + ".join(self.origins.get(name, (name,)))


def _unchanged(renamed: Renamed, model: nn.Layer) -> Renamed:
    return renamed


def modality(model: nn.Layer) -> str:
    """What a model sees: "rgb", "rgb_diff", "flow" or "warped_flow"."""
    return model.snippets.modality if isinstance(model, TSN | TSM) else "rgb"


def of_rgb(norm: ImageNorm) -> Callable[[nn.Layer], ImageNorm | None]:
    """What a source whose models take RGB frames alone expects of them."""
    return lambda model: norm if modality(model) == "rgb" else None


def _unknown_norm(model: nn.Layer) -> ImageNorm | None:
    return None


@dataclass(frozen=True)
class Source:
    """A family of files.

    `recognise` looks at names and shapes; `rename` gives our names, and Paddle's order of axes, whatever the model;
    `adapt` fits the result to one model. `resize_pos` and `resize_time` are what the source's own code does with
    position and time embeddings of another size. `image_norm` is what its network of such a model expects of a frame,
    None where that is not known.
    """

    name: str
    recognise: Callable[[State], bool]
    rename: Callable[[State], Renamed]
    adapt: Callable[[Renamed, nn.Layer], Renamed] = _unchanged
    resize_pos: Literal["bicubic", "bilinear", "nearest"] = "bicubic"
    resize_time: Literal["linear", "nearest"] = "linear"
    image_norm: Callable[[nn.Layer], ImageNorm | None] = _unknown_norm


def rename_keys(
    state: State,
    key_map: KeyMap,
    *,
    drop: Sequence[tuple[str, str]] = (),
    transpose: bool = False,
) -> Renamed:
    """Apply a key map to all names of a file; `drop` are patterns of names and the reason for each.

    `transpose` turns matrices, as weights of linear layers from PyTorch need. Raises WeightsError when two tensors get
    the same name.
    """
    renamed: State = {}
    origins: dict[str, tuple[str, ...]] = {}
    dropped: dict[str, str] = {}
    for key, tensor in state.items():
        reason = next((reason for pattern, reason in drop if re.search(pattern, key)), None)
        if reason is not None:
            dropped[key] = reason
            continue
        name = key
        for pattern, replacement in key_map:
            name = re.sub(pattern, replacement, name)
        if name in renamed:
            raise WeightsError(f"two tensors of the file stand for {name}: {origins[name][0]} and {key}")
        renamed[name] = tensor.transposed() if transpose and len(tensor.shape) == 2 else tensor
        origins[name] = (key,)
    return Renamed(renamed, origins, dropped)


def drop_where(renamed: Renamed, names: Iterable[str], reason: str) -> Renamed:
    """Without the tensors of these names of ours."""
    names = [name for name in names if name in renamed.state]
    dropped = {key: reason for name in names for key in renamed.origins[name]}
    state = {name: tensor for name, tensor in renamed.state.items() if name not in names}
    return replace(renamed, state=state, dropped={**renamed.dropped, **dropped})


IMAGE_START = "weights of an image network"


def start_of_backbone(renamed: Renamed, model: nn.Layer, classifier: str) -> Renamed:
    """Weights of an image network whose classifier's names match `classifier`: all but it, under `backbone.`."""
    renamed = drop_where(
        renamed, [name for name in renamed.state if re.match(classifier, name)], "classifier of the image network"
    )
    state = {f"backbone.{name}": tensor for name, tensor in renamed.state.items()}
    origins = {f"backbone.{name}": keys for name, keys in renamed.origins.items()}
    head = frozenset(name for name in model.state_dict() if name.startswith("head."))
    return replace(renamed, state=state, origins=origins, expected_new=head, start_only=IMAGE_START)


def has_key(state: State, pattern: str) -> bool:
    return any(re.search(pattern, key) for key in state)


def concatenate(tensors: Sequence[LazyTensor], axis: int) -> LazyTensor:
    shape = list(tensors[0].shape)
    shape[axis] = sum(tensor.shape[axis] for tensor in tensors)
    return LazyTensor(
        tuple(shape), tensors[0].dtype, lambda: np.concatenate([tensor.read() for tensor in tensors], axis)
    )
