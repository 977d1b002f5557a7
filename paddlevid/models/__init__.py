"""Video classifiers, made from plain arguments: `video` float32 [B, T, C, H, W], normalised -> logits [B, K]."""

import difflib
import inspect
import math
from typing import Any, Literal, get_args, get_origin, get_type_hints

from paddle import nn

from paddlevid.errors import ConfigError
from paddlevid.models.explain import forward_maps
from paddlevid.models.normalize import Normalize, RawFrameClassifier, RawFrameExplainer, RawFrameStep
from paddlevid.models.timesformer import TimeSformer
from paddlevid.models.tsm import TSM, OnlineTSM
from paddlevid.models.tsn import TSN

__all__ = [
    "MODELS",
    "TSM",
    "TSN",
    "Normalize",
    "OnlineTSM",
    "RawFrameClassifier",
    "RawFrameExplainer",
    "RawFrameStep",
    "TimeSformer",
    "create_model",
    "forward_maps",
]

MODELS: dict[str, type[nn.Layer]] = {
    "timesformer": TimeSformer,
    "tsm": TSM,
    "tsn": TSN,
}


def create_model(name: str, **options: Any) -> nn.Layer:
    """Build a model of the table by name; the options are those of its constructor.

    Raises ConfigError, in one line, for an unknown name or option and for a value that the model cannot use.
    """
    if name not in MODELS:
        raise ConfigError(f"unknown model {name!r}; {_nearest(name, list(MODELS))}")
    constructor = MODELS[name]
    hints = get_type_hints(constructor.__init__)
    parameters = inspect.signature(constructor).parameters
    for option, value in options.items():
        if option not in parameters:
            raise ConfigError(f"{name} has no option {option!r}; {_nearest(option, list(parameters))}")
        if not _fits(value, hints[option]):
            expected = _describe(hints[option])
            raise ConfigError(f"{name}: {option} must be {expected}, not {value!r}{_suggestion(value, hints[option])}")
    missing = [p.name for p in parameters.values() if p.default is p.empty and p.name not in options]
    if missing:
        raise ConfigError(f"{name} needs {', '.join(missing)}")
    return constructor(**options)


def _nearest(word: str, choices: list[str]) -> str:
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(choices)}"


def _fits(value: object, hint: Any) -> bool:
    """Whether a plain value can stand for an argument annotated int, float, str, bool or Literal, `| None` included."""
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_args(hint):
        return any(_fits(value, choice) for choice in get_args(hint))
    if isinstance(value, bool):
        return hint is bool
    if hint is float:
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, hint)


def _describe(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(repr, get_args(hint)))
    if get_args(hint):
        return " or ".join(_describe(choice) for choice in get_args(hint))
    return {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}.get(hint, "null")


def _suggestion(value: object, hint: Any) -> str:
    if get_origin(hint) is Literal and isinstance(value, str):
        close = difflib.get_close_matches(value, get_args(hint), n=1, cutoff=0.5)
        return f"; did you mean {close[0]!r}?" if close else ""
    return ""
