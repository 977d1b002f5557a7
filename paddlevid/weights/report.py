"""What became of each tensor of a file and of each parameter of a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from paddlevid.runtime import logger
from paddlevid.weights.source import ImageNorm

SHOWN = 4  # names of a long list in a message
# Up to where a mean, and the ratio of two deviations, count as the same; of a start, as another scale
SAME_MEAN, SAME_STD, OTHER_SCALE = 0.002, 1.01, 4.0


@dataclass(frozen=True)
class LoadReport:
    """What became of each tensor of a source and of each parameter of a model; `str` gives it in a few lines.

    `resized` gives the two shapes by name, `new` the parameters that were not in the source, `dropped` the reason by
    tensor of the source, `others` what the file held besides weights. `start_only` says why these are no weights of a
    trained model of this kind, `first_conv` what was done to the first convolution, `note` what else is known of public
    ones. `image_norm` is mean and std by channel of a frame, on a scale where 255 is 1, that the source expects; the
    mean is () where it does not count.
    """

    source: str
    loaded: tuple[str, ...]
    resized: Mapping[str, str] = field(default_factory=dict)
    new: tuple[str, ...] = ()
    dropped: Mapping[str, str] = field(default_factory=dict)
    others: tuple[str, ...] = ()
    start_only: str = ""
    first_conv: str = ""
    note: str = ""
    image_norm: ImageNorm | None = None

    def __str__(self) -> str:
        lines = [f"{self.source}: {len(self.loaded)} tensors loaded"]
        if self.start_only:
            lines.append(f"a start: {self.start_only}")
        if self.first_conv:
            lines.append(f"first convolution: {self.first_conv}")
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
        if self.image_norm is None:
            return ""
        theirs_mean, theirs_std = self.image_norm
        # Training makes up for another mean and std, but hardly for another scale
        ratio = OTHER_SCALE if self.start_only else SAME_STD
        same_std = len(std) == len(theirs_std) and all(
            theirs / ratio < own < theirs * ratio for own, theirs in zip(std, theirs_std, strict=True)
        )
        same_mean = len(mean) == len(theirs_mean) and all(
            abs(own - theirs) < SAME_MEAN for own, theirs in zip(mean, theirs_mean, strict=True)
        )
        if same_std and (same_mean or not theirs_mean or self.start_only):
            return ""
        wanted = {"mean": theirs_mean, "std": theirs_std} if theirs_mean else {"std": theirs_std}
        shown = {name: [float(f"{number:.6g}") for number in numbers] for name, numbers in wanted.items()}
        own = {"mean": list(mean), "std": list(std)}
        return (
            f"these weights {'want frames of' if self.start_only else 'were trained with'} "
            + " and ".join(f"{name} {numbers}" for name, numbers in shown.items())
            + ", the config has "
            + " and ".join(f"{name} {own[name]}" for name in shown)
            + ": "
            + " ".join(f"-o data.{name}='{numbers}'" for name, numbers in shown.items())
        )


def few(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:SHOWN]) + (f", and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
