"""What every runtime says to inputs that its graph does not take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from paddlevid.errors import ConfigError


def wrong_inputs(path: str | Path, inputs: Sequence[np.ndarray], reason: str) -> ConfigError:
    """The error to raise; `reason` is the runtime's own."""
    sizes = " and ".join(str(list(array.shape[1:])) for array in inputs)
    return ConfigError(f"{path} does not take inputs of [B] + {sizes}; is the config of another model? {reason}")
