"""Loading weights: recognise the source, rename its tensors to ours, merge strictly.

Every tensor of the file is used or named with a reason; every parameter of the model is loaded or named as new.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import paddle
from paddle import nn

from paddlevid.errors import WeightsError
from paddlevid.models import TimeSformer
from paddlevid.weights.first_conv import start_modality
from paddlevid.weights.opening import open_source
from paddlevid.weights.report import SHOWN, LoadReport, few
from paddlevid.weights.resize import can_resize, resize_pos_embed, resize_time_embed
from paddlevid.weights.source import IMAGE_START, Renamed, Source
from paddlevid.weights.sources import OWN, SOURCES, huggingface
from paddlevid.weights.sources.transformers import check_heads
from paddlevid.weights.tensor import LazyTensor, State
from paddlevid.weights.zoo import PublicWeights


@dataclass(frozen=True)
class Plan:
    """What a source gives a model, before a number of it is read: tensors and made values by our names."""

    values: State
    made: Mapping[str, np.ndarray]
    report: LoadReport


def load_weights(
    model: nn.Layer, source: str | Path | Mapping[str, np.ndarray], *, skip: str | Sequence[str] = ()
) -> LoadReport:
    """Put weights into a model: those of a file, of a folder of Hugging Face, of a URL, of a name in `list_weights()`,
    or arrays by name.

    Files may be those of paddlevid, PaddleVideo, MMAction2, Hugging Face, the authors of TimeSformer, TSN and TSM, or
    of image networks to start from. `skip` has regular expressions; parameters and tensors that one is found in stay
    out. The first convolution of a network of RGB frames starts that of a model of flow or of differences.
    Position and time embeddings are resized, as the source's own code does where it does; a head for another number of
    classes stays as the model has it.

    Raises WeightsError when any other tensor has no place or any other parameter no tensor; the model is then
    unchanged. A file that turns out damaged where its numbers are read, or that holds one that is not finite, leaves
    the model partly loaded.
    """
    plan = plan_load(model, source, skip=skip)
    _assign(model, plan)
    return plan.report


def load_trained(model: nn.Layer, source: str | Path, *, skip: str | Sequence[str] = ()) -> LoadReport:
    """Load weights that must hold the whole model, as for a test or an export.

    Raises WeightsError where `load_weights` does, and where any parameter would stay newly initialised.
    """
    plan = plan_load(model, source, skip=skip)
    report = plan.report
    if report.start_only or report.new:
        reasons = [report.start_only, f"nothing is loaded for {few(report.new)}" if report.new else ""]
        reason = "; ".join(filter(None, reasons))
        raise WeightsError(f"{report.source}: not trained weights for this config, but a start: {reason}")
    _assign(model, plan)
    return report


def _assign(model: nn.Layer, plan: Plan) -> None:
    own = model.state_dict()
    for name, value in plan.made.items():
        own[name].set_value(paddle.to_tensor(value).astype(own[name].dtype))
    for name, tensor in plan.values.items():
        own[name].set_value(paddle.to_tensor(tensor.read()).astype(own[name].dtype))


def plan_load(
    model: nn.Layer, source: str | Path | Mapping[str, np.ndarray], *, skip: str | Sequence[str] = ()
) -> Plan:
    """All of `load_weights` but the last step: only names and shapes are looked at, the model stays as it is."""
    opened = open_source(source)
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    kind = recognise(opened.state)
    where = f"{opened.where} ({kind.name})"
    try:
        if kind is huggingface.HUGGINGFACE_TIMESFORMER:
            huggingface.check_config(opened.config, model)
        renamed = kind.adapt(kind.rename(opened.state), model)
        if isinstance(model, TimeSformer) and kind is not OWN:
            renamed = check_heads(renamed, model)
    except WeightsError as error:
        raise WeightsError(f"{where}: {error}") from error

    values, may_be_new = dict(renamed.state), set(renamed.expected_new)
    reasons = {}  # by our name, why a tensor is not loaded
    for name in _skipped([skip] if isinstance(skip, str) else skip, renamed, own, where):
        may_be_new.add(name)
        if values.pop(name, None) is not None:
            reasons[name] = "skipped"
    for name in _other_class_count(values, own):
        count = values.pop(name).shape[-1]
        reasons[name] = f"for {count} classes; the model has {own[name][-1]}, its head starts anew"
        may_be_new.add(name)
    if not values:
        raise WeightsError(f"{where}: nothing is left to load")
    resized = _resize(values, own, kind)
    try:
        first, first_conv = start_modality(values, model, is_image=renamed.start_only == IMAGE_START)
    except WeightsError as error:
        raise WeightsError(f"{where} does not fit this {type(model).__name__}: {error}") from error
    values |= first
    _check_fit(values, own, may_be_new, renamed, f"{where} does not fit this {type(model).__name__}", kind)
    used = {key for name in values for key in renamed.origins[name]}
    dropped = dict(renamed.dropped) | {
        key: reason for name, reason in reasons.items() for key in renamed.origins[name] if key not in used
    }
    if opened.public is not None and opened.public.is_bgr:
        values |= _to_rgb(values)
    report = LoadReport(
        source=where,
        loaded=tuple(values),
        resized=resized,
        new=tuple(name for name in own if name not in values),
        dropped=dropped,
        others=opened.others,
        start_only=renamed.start_only or _other_family(opened.public, model) or ("weights for RGB" if first else ""),
        first_conv="; ".join(filter(None, (renamed.first_conv, first_conv))),
        note=opened.public.note if opened.public is not None else "",
        image_norm=kind.image_norm(model),
    )
    made = {name: value for name, value in renamed.made.items() if name not in values and name in may_be_new}
    return Plan({name: _finite(tensor, name, where) for name, tensor in values.items()}, made, report)


def recognise(state: State) -> Source:
    """The family of files that these names are of."""
    return next(kind for kind in SOURCES if kind.recognise(state))


def _finite(tensor: LazyTensor, name: str, where: str) -> LazyTensor:
    """The tensor; reading it raises WeightsError where it holds infinities or what is no number."""

    def check(array: np.ndarray) -> np.ndarray:
        if not np.isfinite(array).all():
            raise WeightsError(f"{where}: {name} holds numbers that are not finite: of a run that diverged?")
        return array

    return tensor.then(check, tensor.shape)


def _other_family(public: PublicWeights | None, model: nn.Layer) -> str:
    """Names of tensors may not tell a TSM from a TSN, but public weights are known to be of one."""
    if public is None or public.family not in ("tsm", "tsn"):
        return ""
    return "" if public.family.upper() == type(model).__name__ else f"weights of a {public.family.upper()}"


def _skipped(skip: Sequence[str], renamed: Renamed, own: Mapping[str, tuple[int, ...]], where: str) -> list[str]:
    """Our names of what a pattern is found in, by our name or by the file's."""
    names: dict[str, None] = {}
    for pattern in skip:
        try:
            matches = re.compile(pattern).search
        except re.error as error:
            raise WeightsError(f"{pattern!r}, to be skipped, is no regular expression: {error}") from error
        found = dict.fromkeys(name for name in own if matches(name))
        found |= dict.fromkeys(
            name for name, keys in renamed.origins.items() if matches(name) or any(map(matches, keys))
        )
        if not found:
            layers = {name.rsplit(".", i)[0] for name in own for i in (0, 1, 2)}
            raise WeightsError(
                f"{where}: nothing of the file or the model is called {pattern!r}, which was to be skipped"
                + _hint(difflib.get_close_matches(pattern, sorted(layers), n=1))
            )
        names |= found
    return list(names)


def _hint(close: Sequence[str]) -> str:
    return f"; did you mean {close[0]!r}?" if close else ""


def _other_class_count(values: State, own: Mapping[str, tuple[int, ...]]) -> list[str]:
    """The head's names, where only the number of classes differs."""
    names: list[str] = [name for name in ("head.weight", "head.bias") if name in values and name in own]
    same_input = all(values[name].shape[:-1] == own[name][:-1] for name in names)
    counts = {values[name].shape[-1:] for name in names}
    return names if same_input and len(counts) == 1 and () not in counts and counts != {own["head.bias"]} else []


def _resize(values: State, own: Mapping[str, tuple[int, ...]], kind: Source) -> dict[str, str]:
    """Replace embeddings of another size in `values`; returns what was done by name."""
    resized = {}
    for name, resize, mode in (
        ("pos_embed", resize_pos_embed, kind.resize_pos),
        ("time_embed", resize_time_embed, kind.resize_time),
    ):
        if name not in values or name not in own or values[name].shape == own[name]:
            continue
        old, new = values[name].shape, own[name]
        if can_resize(old, new, squares=name == "pos_embed"):
            size = new[1] - (name == "pos_embed")
            values[name] = values[name].then(partial(resize, size=size, mode=mode), new)
            resized[name] = f"{list(old)} -> {list(new)}, {mode}"
    return resized


def _to_rgb(values: State) -> State:
    """The first layer, [D, C, p, p], of a TimeSformer that was trained on BGR, for RGB."""
    first = {name: values[name] for name in ("patch_embed.proj.weight",) if name in values}
    return {name: tensor.then(lambda weight: weight[:, ::-1], tensor.shape) for name, tensor in first.items()}


def _check_fit(
    values: State,
    own: Mapping[str, tuple[int, ...]],
    may_be_new: Iterable[str],
    renamed: Renamed,
    message: str,
    kind: Source,
) -> None:
    homeless = [name for name in values if name not in own]
    missing = [name for name in own if name not in values and name not in set(may_be_new)]
    differing = [name for name in own if name in values and values[name].shape != own[name]]
    not_numbers = [name for name, value in values.items() if value.dtype.kind != "f"]
    if kind is OWN and len(homeless) == len(values):
        raise WeightsError(
            f"{message}: it is of no known source; its names are like {few(homeless)}, the model's {few(own)}"
        )
    parts = []
    if homeless:
        ours = {name: name for name in missing or own}
        named = [_nearest(renamed.origin(name), name, ours) for name in homeless[:SHOWN]] + homeless[SHOWN:]
        parts.append(f"{len(homeless)} of its {len(values)} tensors have no place: {few(named)}")
    if missing:
        theirs = {name: renamed.origin(name) for name in homeless or values}
        named = [_nearest(name, name, theirs) for name in missing[:SHOWN]] + missing[SHOWN:]
        parts.append(f"{len(missing)} of {len(own)} parameters are not in it: {few(named)}")
    if differing:
        named = [f"{renamed.origin(n)} {list(values[n].shape)}, the model's {n} {list(own[n])}" for n in differing]
        parts.append(f"{len(differing)} differ in shape: {few(named)}")
    if not_numbers:
        parts.append(
            f"{len(not_numbers)} are no floating-point numbers: {few(f'{n} of {values[n].dtype}' for n in not_numbers)}"
        )
    if renamed.misfit:
        parts.append(renamed.misfit)
    if parts:
        raise WeightsError(f"{message}: {'; '.join(parts)}")


def _nearest(shown: str, name: str, others: Mapping[str, str]) -> str:
    """`shown`, with the one of `others`, our name -> the name to show, that is spelt most like `name`."""
    close = difflib.get_close_matches(name, others, n=1)
    return f"{shown} (nearest: {others[close[0]]})" if close else shown
