"""Loading weights: recognise the source, rename its tensors to ours, merge strictly.

Every tensor of the file is used or named with a reason; every parameter of the model is loaded or named as new.
"""

import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from paddlevid.errors import WeightsError
from paddlevid.weights.read import read_state

State = dict[str, np.ndarray]


@dataclass(frozen=True)
class LoadReport:
    """What became of each tensor of a source and of each parameter of a model.

    `resized` gives the two shapes by name, `new` the parameters that were not in the source, `dropped` the reason by
    tensor of the source.
    """

    source: str
    loaded: tuple[str, ...]
    resized: Mapping[str, str]
    new: tuple[str, ...]
    dropped: Mapping[str, str]

    def __str__(self) -> str:
        lines = [f"{self.source}: {len(self.loaded)} tensors loaded"]
        if self.resized:
            lines.append("resized: " + _few(f"{name} {shapes}" for name, shapes in self.resized.items()))
        if self.new:
            lines.append(f"new, {len(self.new)}: " + _few(self.new))
        if self.dropped:
            lines.append(f"dropped, {len(self.dropped)}: " + _few(f"{n} ({why})" for n, why in self.dropped.items()))
        return "\n".join(lines)


@dataclass(frozen=True)
class Renamed:
    """A state under our names. `made` are values that no tensor of the source stands for; `expected_new` are
    parameters that such a source never has; `dropped` are reasons by name in the source."""

    state: State
    made: State = field(default_factory=dict)
    expected_new: frozenset[str] = frozenset()
    dropped: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """A family of files: how its names are told from others for a model, and how they become ours."""

    name: str
    recognise: Callable[[set[str], set[str]], bool]
    rename: Callable[[State, set[str]], Renamed]


def load_weights(
    model: nn.Layer, source: str | Path | Mapping[str, np.ndarray], *, skip: Sequence[str] = ()
) -> LoadReport:
    """Put the weights of a file, or arrays by name, into a model.

    `skip` names parameters, or the layers that hold them, which stay as they are. Position and time embeddings are
    resized; a head for another number of classes stays as the model has it. Raises WeightsError when any other tensor
    has no place or any other parameter no tensor; the model is then unchanged.
    """
    where = str(source) if isinstance(source, str | Path) else "the given state"
    state = read_state(source) if isinstance(source, str | Path) else {k: np.asarray(v) for k, v in source.items()}
    own = model.state_dict()
    kind = next(kind for kind in SOURCES if kind.recognise(set(state), set(own)))
    renamed = kind.rename(state, set(own))

    values = {name: value for name, value in renamed.state.items() if not _is_skipped(name, skip)}
    dropped = dict(renamed.dropped) | {name: "skipped" for name in renamed.state if name not in values}
    may_be_new = renamed.expected_new | {name for name in own if _is_skipped(name, skip)}
    _check_skip(skip, own, where)
    for name in _other_class_count(values, own):
        dropped[name] = f"for {values.pop(name).shape[-1]} classes, the model has {own[name].shape[-1]}"
        may_be_new |= {name}

    resized = {}
    for name, resize in (("pos_embed", resize_pos_embed), ("time_embed", resize_time_embed)):
        if name in values and name in own and list(values[name].shape) != list(own[name].shape):
            fitted = resize(values[name], own[name].shape)
            if fitted is not None:
                resized[name] = f"{list(values[name].shape)} -> {list(own[name].shape)}"
                values[name] = fitted

    _check_fit(values, own, may_be_new, f"{where} ({kind.name}) does not fit this {type(model).__name__}")
    made = {name: value for name, value in renamed.made.items() if not _is_skipped(name, skip)}
    for name, value in (made | values).items():
        own[name].set_value(value.astype(own[name].numpy().dtype))
    new = tuple(name for name in own if name not in values)
    return LoadReport(f"{where} ({kind.name})", tuple(values), resized, new, dropped)


def load_trained(model: nn.Layer, source: str | Path) -> LoadReport:
    """Load weights that must hold the whole model, as for a test or an export.

    Raises WeightsError where `load_weights` does, and where any parameter would stay newly initialised.
    """
    report = load_weights(model, source)
    if report.new:
        raise WeightsError(
            f"{source}: these weights are not of a trained model of this config; they do not hold {_few(report.new)}"
        )
    return report


def resize_pos_embed(pos_embed: np.ndarray, shape: Sequence[int]) -> np.ndarray | None:
    """[1, 1+N, D] -> `shape`: the class position as it is, the others as a square picture, bicubic.

    None where the grids are not square or D differs.
    """
    if pos_embed.ndim != 3 or pos_embed.shape[-1] != shape[-1]:
        return None
    dim = shape[-1]
    old_side, new_side = math.isqrt(pos_embed.shape[1] - 1), math.isqrt(shape[1] - 1)
    if old_side**2 + 1 != pos_embed.shape[1] or new_side**2 + 1 != shape[1]:
        return None
    grid = pos_embed[:, 1:].astype(np.float32).reshape(1, old_side, old_side, dim).transpose(0, 3, 1, 2)  # [1, D, h, w]
    resized = F.interpolate(paddle.to_tensor(grid), size=[new_side, new_side], mode="bicubic").numpy()
    patches = resized.transpose(0, 2, 3, 1).reshape(1, new_side**2, dim)
    return np.concatenate([pos_embed[:, :1].astype(np.float32), patches], axis=1)


def resize_time_embed(time_embed: np.ndarray, shape: Sequence[int]) -> np.ndarray | None:
    """[1, T, D] -> `shape`, linear; None where D differs."""
    if time_embed.ndim != 3 or time_embed.shape[-1] != shape[-1]:
        return None
    series = paddle.to_tensor(time_embed.astype(np.float32).transpose(0, 2, 1))  # [1, D, T]
    resized = F.interpolate(series, size=[shape[1]], mode="linear", data_format="NCW").numpy()
    return resized.transpose(0, 2, 1)


def _is_image_vit(names: set[str], own: set[str]) -> bool:
    has_time = "time_embed" in names or any("temporal_" in name for name in names)
    return {"cls_token", "pos_embed"} <= names and "time_embed" in own and not has_time


def _inflate_vit(state: State, own: set[str]) -> Renamed:
    """Attention over time starts as that over space, and behind a `temporal_fc` of zeros (arXiv:2102.05095)."""
    copies = {
        name.replace(".attn.", ".temporal_attn.").replace(".norm1.", ".temporal_norm1."): value
        for name, value in state.items()
        if ".attn." in name or ".norm1." in name
    }
    copies = {name: value for name, value in copies.items() if name in own}
    made = {
        name: np.zeros(_temporal_fc_shape(name, state), np.float32)
        for name in own
        if ".temporal_fc." in name and name.replace("temporal_fc", "attn.proj") in state
    }
    return Renamed(state | copies, made, expected_new=frozenset({"time_embed", *made}))


def _temporal_fc_shape(name: str, state: State) -> tuple[int, ...]:
    return state[name.replace("temporal_fc", "attn.proj")].shape


def _is_image_network(names: set[str], own: set[str]) -> bool:
    stems = {"conv1.weight", "features.0.0.weight"}
    return bool(stems & names) and any(f"backbone.{stem}" in own for stem in stems)


def _add_backbone(state: State, own: set[str]) -> Renamed:
    heads = {name for name in state if name.split(".")[0] in ("fc", "classifier")}
    renamed = {f"backbone.{name}": value for name, value in state.items() if name not in heads}
    expected_new = frozenset(name for name in own if name.startswith("head."))
    return Renamed(renamed, {}, expected_new, dict.fromkeys(heads, "classifier of the image network"))


# The first that recognises the names is taken; the last takes everything, under the names it has
SOURCES: tuple[Source, ...] = (
    Source("an image network of paddle.vision", _is_image_network, _add_backbone),
    Source("an image transformer, its attention copied to temporal_attn", _is_image_vit, _inflate_vit),
    Source("paddlevid", lambda names, own: True, lambda state, own: Renamed(dict(state))),
)


def _is_skipped(name: str, skip: Sequence[str]) -> bool:
    return any(name == entry or name.startswith(f"{entry}.") for entry in skip)


def _check_skip(skip: Sequence[str], own: Mapping[str, paddle.Tensor], where: str) -> None:
    for entry in skip:
        if not any(_is_skipped(name, [entry]) for name in own):
            layers = {name.rsplit(".", i)[0] for name in own for i in (0, 1, 2)} | set(own)
            close = difflib.get_close_matches(entry, sorted(layers), n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise WeightsError(f"{where}: nothing of the model is called {entry!r}, which was to be skipped{hint}")


def _other_class_count(values: State, own: Mapping[str, paddle.Tensor]) -> list[str]:
    """The head's names, where only the number of classes differs."""
    names: list[str] = [name for name in ("head.weight", "head.bias") if name in values and name in own]
    same_input = all(list(values[name].shape[:-1]) == list(own[name].shape[:-1]) for name in names)
    differ: list[str] = [name for name in names if values[name].ndim and values[name].shape[-1] != own[name].shape[-1]]
    return differ if same_input else []


def _check_fit(values: State, own: Mapping[str, paddle.Tensor], may_be_new: Iterable[str], message: str) -> None:
    homeless = [name for name in values if name not in own]
    missing = [name for name in own if name not in values and name not in set(may_be_new)]
    differing = [
        f"{name} {list(values[name].shape)}, the model's {list(own[name].shape)}"
        for name in own
        if name in values and list(values[name].shape) != list(own[name].shape)
    ]
    not_numbers = [f"{name} of {value.dtype}" for name, value in values.items() if value.dtype.kind not in "fiu"]
    parts = []
    if homeless:
        close = difflib.get_close_matches(homeless[0], missing or list(own), n=1)
        hint = f"; nearest to {homeless[0]}: {close[0]}" if close else ""
        parts.append(f"{len(homeless)} of its {len(values)} tensors have no place: {_few(homeless)}{hint}")
    if missing:
        parts.append(f"{len(missing)} of {len(own)} parameters are not in it: {_few(missing)}")
    if differing:
        parts.append(f"{len(differing)} differ in shape: {_few(differing)}")
    if not_numbers:
        parts.append(f"{len(not_numbers)} are no numbers: {_few(not_numbers)}")
    if parts:
        raise WeightsError(f"{message}: {'; '.join(parts)}")


def _few(names: Iterable[str], limit: int = 4) -> str:
    names = list(names)
    return ", ".join(names[:limit]) + (f", and {len(names) - limit} more" if len(names) > limit else "")
