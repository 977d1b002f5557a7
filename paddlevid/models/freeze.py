"""Parameters that do not learn."""

import difflib
import re
from collections.abc import Sequence

from paddle import nn

from paddlevid.errors import ConfigError


def freeze_parameters(model: nn.Layer, patterns: Sequence[str]) -> int:
    """Stop the learning of each parameter whose name one of the regular expressions is found in; how many those are.

    `^(?!head\\.)` leaves the head alone to learn, a linear probe. Raises ConfigError for a pattern that finds nothing.
    """
    learning = {name: parameter for name, parameter in model.named_parameters() if not parameter.stop_gradient}
    frozen: set[str] = set()
    for pattern in patterns:
        found = {name for name in learning if re.search(pattern, name)}
        if not found:
            raise ConfigError(
                f"train.freeze: pattern {pattern!r} matches no parameter of the model; "
                f"the nearest are {', '.join(_nearest(pattern, list(learning)))}"
            )
        frozen |= found
    for name in frozen:
        learning[name].stop_gradient = True
    return len(frozen)


def _nearest(pattern: str, names: list[str]) -> list[str]:
    """The names that most resemble a pattern with its special characters taken out."""
    plain = re.sub(r"\\[a-zA-Z]|[^\w.]", "", pattern)

    def likeness(name: str) -> float:
        # As long as the pattern, for one often means to find a part
        parts = [name, name[: len(plain)], name[-len(plain) :]]
        return max(difflib.SequenceMatcher(None, plain, part).ratio() for part in parts)

    return sorted(names, key=likeness, reverse=True)[:3]
