"""What became of each tensor of a file and of each parameter of a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from paddlevid.runtime import logger
from paddlevid.weights.source import ImageNorm

SHOWN = 4  # names of a long list in a message


@dataclass(frozen=True)
class LoadReport:
    """What became of each tensor of a source and of each parameter of a model; `str` gives it in a few lines.

    `resized` gives the two shapes by name, `new` the parameters that were not in the source, `dropped` the reason by
    tensor of the source, `others` what the file held besides weights. `start_only` says why these are no weights of a
    trained model of this kind, `note` what else is known of public ones. `image_norm` is mean and std, on a scale where
    255 is 1, that a trained source expects.
    """

    source: str
    loaded: tuple[str, ...]
    resized: Mapping[str, str] = field(default_factory=dict)
    new: tuple[str, ...] = ()
    dropped: Mapping[str, str] = field(default_factory=dict)
    others: tuple[str, ...] = ()
    start_only: str = ""
    note: str = ""
    image_norm: ImageNorm | None = None

    def __str__(self) -> str:
        lines = [f"{self.source}: {len(self.loaded)} tensors loaded"]
        if self.start_only:
            lines.append(f"a start: {self.start_only}")
        if self.resized:
            lines.append("resized: " + few(f"{name} {shapes}" for name, shapes in self.resized.items()))
        if self.new:
            lines.append(f"new, {len(self.new)}: " + few(self.new))
        for reason in dict.fromkeys(self.dropped.values()):
            names = [name for name, why in self.dropped.items() if why == reason]
            lines.append(f"dropped, {len(names)}: {few(names)} ({reason})")
        if self.others:
            lines.append(f"no weights: {few(self.others)}")
        if self.note:
            lines.append(f"note: {self.note}")
        return "\n".join(lines)

    def log(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Say it in the log, and warn where the weights want frames of another mean and std than the given."""
        logger.info(str(self))
        if warning := self.norm_warning(mean, std):
            logger.warning(f"warning: {warning}")

    def norm_warning(self, mean: Sequence[float], std: Sequence[float]) -> str:
        """What to say where frames are normalised otherwise than these weights were trained with; "" where not."""
        if self.image_norm is None or self.start_only:
            return ""
        own = (tuple(mean), tuple(std))
        if all(
            len(a) == len(b) and all(abs(x - y) < 0.002 for x, y in zip(a, b, strict=True))
            for a, b in zip(own, self.image_norm, strict=True)
        ):
            return ""
        theirs_mean, theirs_std = (list(numbers) for numbers in self.image_norm)
        return (
            f"these weights were trained with mean {theirs_mean} and std {theirs_std}, the config has mean "
            f"{list(mean)} and std {list(std)}: -o data.mean='{theirs_mean}' -o data.std='{theirs_std}'"
        )


def few(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:SHOWN]) + (f", and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
