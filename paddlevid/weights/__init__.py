"""Reading files of weights safely, and loading them so that every tensor is accounted for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paddlevid.weights.convert import convert_weights
    from paddlevid.weights.download import locate
    from paddlevid.weights.load import load_trained, load_weights
    from paddlevid.weights.read import read_state, safe_unpickle
    from paddlevid.weights.report import LoadReport
    from paddlevid.weights.zoo import list_weights

_HOMES = {
    "LoadReport": "report",
    "convert_weights": "convert",
    "list_weights": "zoo",
    "load_trained": "load",
    "load_weights": "load",
    "locate": "download",
    "read_state": "read",
    "safe_unpickle": "read",
}
__all__ = [
    "LoadReport",
    "convert_weights",
    "list_weights",
    "load_trained",
    "load_weights",
    "locate",
    "read_state",
    "safe_unpickle",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for: the table of public weights needs no Paddle."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
