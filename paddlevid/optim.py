"""Learning rate of a step, and optimizers over groups of parameters."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import paddle

from paddlevid.errors import ConfigError


@dataclass(frozen=True)
class Schedule:
    """The learning rate as a pure function of the optimizer step: nothing to save, nothing to restore.

    `kind` is `step` (times `gamma` at each milestone), `cosine` (from `base_lr` to `min_lr`) or `constant`; each starts
    with a linear warm-up from `warmup_start_factor * base_lr`. Epochs may be fractions; they count from 0.
    """

    kind: str
    base_lr: float
    steps_per_epoch: int
    epochs: int
    milestone_epochs: Sequence[float] = ()
    gamma: float = 0.1
    min_lr: float = 0.0
    warmup_epochs: float = 0.0
    warmup_start_factor: float = 0.0

    def __call__(self, step: int) -> float:
        warmup_steps = round(self.warmup_epochs * self.steps_per_epoch)
        if step < warmup_steps:
            factor = self.warmup_start_factor + (1 - self.warmup_start_factor) * step / warmup_steps
            return self.base_lr * factor
        if self.kind == "step":
            passed = sum(step >= round(epoch * self.steps_per_epoch) for epoch in self.milestone_epochs)
            return self.base_lr * self.gamma**passed
        if self.kind == "cosine":
            total_steps = self.epochs * self.steps_per_epoch
            done = (step - warmup_steps) / max(1, total_steps - warmup_steps)
            return self.min_lr + (self.base_lr - self.min_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        return self.base_lr


@dataclass(frozen=True)
class Group:
    """Multipliers for the parameters whose name the regular expression finds; the first group that matches wins."""

    pattern: str
    lr_mult: float = 1.0
    decay_mult: float = 1.0


def group_parameters(model: paddle.nn.Layer, groups: Sequence[Group], weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups in the form that Paddle's optimizers take; their `learning_rate` is a multiplier.

    Raises:
        ConfigError: a pattern matches no parameter.
    """
    members: list[list[paddle.Tensor]] = [[] for _ in groups]
    rest: list[paddle.Tensor] = []
    for name, parameter in model.named_parameters():
        if parameter.stop_gradient:
            continue
        index = next((i for i, group in enumerate(groups) if re.search(group.pattern, name)), None)
        (rest if index is None else members[index]).append(parameter)
    for group, parameters in zip(groups, members, strict=True):
        if not parameters:
            raise ConfigError(f"optimizer.groups: pattern {group.pattern!r} matches no parameter of the model")
    result = [
        {"params": parameters, "learning_rate": group.lr_mult, "weight_decay": weight_decay * group.decay_mult}
        for group, parameters in zip(groups, members, strict=True)
    ]
    if rest:
        result.append({"params": rest, "learning_rate": 1.0, "weight_decay": weight_decay})
    return result


def build_optimizer(
    name: str,
    model: paddle.nn.Layer,
    *,
    lr: float,
    weight_decay: float,
    groups: Sequence[Group] = (),
    clip_grad_norm: float | None = None,
    momentum: float = 0.9,
    nesterov: bool = False,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    master_weights: bool = False,
) -> paddle.optimizer.Optimizer:
    """`sgd`, `momentum` or `adamw` (decoupled decay) over the model's parameters; `set_lr` drives it each step."""
    common = {
        "learning_rate": lr,
        "parameters": group_parameters(model, groups, weight_decay),
        "grad_clip": paddle.nn.ClipGradByGlobalNorm(clip_grad_norm) if clip_grad_norm else None,
        "multi_precision": master_weights,
    }
    if name == "adamw":
        return paddle.optimizer.AdamW(beta1=beta1, beta2=beta2, epsilon=epsilon, **common)
    if name == "momentum":
        return paddle.optimizer.Momentum(momentum=momentum, use_nesterov=nesterov, **common)
    if name == "sgd":
        return paddle.optimizer.SGD(**common)
    raise ConfigError(f"optimizer {name!r} is not one of sgd, momentum, adamw")
