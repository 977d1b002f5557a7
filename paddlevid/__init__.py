"""Video classification with PaddlePaddle: TSN, TSM and TimeSformer, from a list of videos to a serving model."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "create_model": "paddlevid.models",
    "list_weights": "paddlevid.weights",
    "load_weights": "paddlevid.weights",
    "load_config": "paddlevid.config",
    "Predictor": "paddlevid.deploy.predictor",
    "Prediction": "paddlevid.deploy.predictor",
}
__all__ = ["Prediction", "Predictor", "create_model", "list_weights", "load_config", "load_weights"]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: a command that only parses arguments need not wait for Paddle."""
    if name in _HOMES:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="No ccache found")  # Paddle's, and nothing to act on
            return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
