"""What a user names as weights -> their tensors, and what is known about where they are from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from paddlevid.errors import WeightsError
from paddlevid.weights.download import locate, weights_folder
from paddlevid.weights.read import read_file
from paddlevid.weights.sources import huggingface
from paddlevid.weights.tensor import LazyTensor, State
from paddlevid.weights.transfer import shown
from paddlevid.weights.zoo import PublicWeights, list_weights


@dataclass(frozen=True)
class Opened:
    """`where` is fit to be printed; `config` is a config.json of Hugging Face beside the file, {} without one."""

    where: str
    state: State
    others: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    public: PublicWeights | None = None


def open_source(source: str | Path | Mapping[str, np.ndarray]) -> Opened:
    """Open a file, a folder, a URL or public weights; arrays by name are taken as they are.

    Raises WeightsError where there are no weights.
    """
    if not isinstance(source, str | Path):
        if not source:
            raise WeightsError("the given state holds no tensors")
        return Opened("the given state", {name: LazyTensor.of(np.asarray(value)) for name, value in source.items()})
    where = shown(str(source))
    path = locate(source)
    try:
        file = read_file(path)
    except WeightsError as error:
        if path.parent == weights_folder():
            raise WeightsError(f"{error} (it was fetched from {where}; delete it to have it fetched again)") from error
        raise
    return Opened(where, file.state, file.others, huggingface.read_config(path), public_weights(source))


def public_weights(source: str | Path) -> PublicWeights | None:
    """The row of `list_weights()` that a name or an address means, None for files of one's own."""
    text = str(source)
    if Path(text).exists():
        return None
    return next((weights for weights in list_weights() if text in (weights.name, weights.url)), None)
