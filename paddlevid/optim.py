"""Learning rate of a step, and optimizers over groups of parameters."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import paddle

from paddlevid.errors import ConfigError
from paddlevid.models.parameters import describe_parameters, layer_distances


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


@dataclass(frozen=True)
class RoleMultipliers:
    """Multipliers of the learning rate by what a parameter is for; one with two roles has both."""

    first_conv: float = 1.0
    bias: float = 1.0
    norm: float = 1.0
    head: float = 1.0


def group_parameters(
    model: paddle.nn.Layer,
    *,
    weight_decay: float,
    lr_mult: RoleMultipliers = RoleMultipliers(),
    layer_decay: float = 1.0,
    no_decay: Sequence[str] = (),
    groups: Sequence[Group] = (),
) -> list[dict[str, Any]]:
    """Parameter groups in the form that Paddle's optimizers take; their `learning_rate` is a multiplier.

    Those with the same two numbers form a group; frozen ones are in none. `layer_decay` ** n multiplies the rate of a
    parameter n layers before the head's; `no_decay` are roles without weight decay.

    Raises:
        ConfigError: a pattern matches no parameter that learns, or none learns.
    """
    distances = layer_distances(model) if layer_decay != 1 else {}
    by_role = asdict(lr_mult)
    matched: set[Group] = set()
    members: dict[tuple[float, float], list[paddle.Tensor]] = {}
    for info in describe_parameters(model):
        if info.parameter.stop_gradient:
            continue
        group = next((group for group in groups if re.search(group.pattern, info.name)), Group(""))
        matched.add(group)
        rate = math.prod((by_role.get(role, 1.0) for role in sorted(info.roles)), start=group.lr_mult)
        rate *= layer_decay ** distances.get(id(info.parameter), 0)
        decay = 0.0 if info.roles.intersection(no_decay) else weight_decay * group.decay_mult
        members.setdefault((rate, decay), []).append(info.parameter)
    for group in groups:
        if group not in matched:
            raise ConfigError(f"optimizer.groups: pattern {group.pattern!r} matches no parameter that learns")
    if not members:
        raise ConfigError("train.freeze: every parameter is frozen, so nothing is left to learn")
    return [
        {"params": parameters, "learning_rate": rate, "weight_decay": decay}
        for (rate, decay), parameters in members.items()
    ]


def build_optimizer(
    name: str,
    model: paddle.nn.Layer,
    *,
    lr: float,
    weight_decay: float,
    lr_mult: RoleMultipliers = RoleMultipliers(),
    layer_decay: float = 1.0,
    no_decay: Sequence[str] = (),
    groups: Sequence[Group] = (),
    momentum: float = 0.9,
    nesterov: bool = False,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    master_weights: bool = False,
) -> paddle.optimizer.Optimizer:
    """`sgd`, `momentum` or `adamw` (decoupled decay) over the groups of `group_parameters`; `set_lr` drives it."""
    parameters = group_parameters(
        model,
        weight_decay=weight_decay,
        lr_mult=lr_mult,
        layer_decay=layer_decay,
        no_decay=no_decay,
        groups=groups,
    )
    common = {"learning_rate": lr, "parameters": parameters, "multi_precision": master_weights}
    if name == "adamw":
        return paddle.optimizer.AdamW(beta1=beta1, beta2=beta2, epsilon=epsilon, **common)
    if name == "momentum":
        return paddle.optimizer.Momentum(momentum=momentum, use_nesterov=nesterov, **common)
    if name == "sgd":
        return paddle.optimizer.SGD(**common)
    raise ConfigError(f"optimizer {name!r} is not one of sgd, momentum, adamw")
