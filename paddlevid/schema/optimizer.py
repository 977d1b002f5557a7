"""What a configuration may say of the optimizer and the learning rate."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from paddlevid.schema.types import NonNegativeFloat, Pattern, PositiveFloat, Probability, Section


class ParameterGroup(Section):
    """Multipliers for the parameters whose name the pattern is found in, on top of those of their role and layer."""

    pattern: Pattern
    lr_mult: NonNegativeFloat = 1.0
    decay_mult: NonNegativeFloat = 1.0


class RoleMultipliers(Section):
    """Multipliers of the learning rate; a bias of the head has both its own."""

    first_conv: NonNegativeFloat = 1.0
    bias: NonNegativeFloat = 1.0
    norm: NonNegativeFloat = 1.0
    head: NonNegativeFloat = 1.0


class OptimizerSection(Section):
    """What all optimizers share."""

    lr: PositiveFloat
    lr_mult: RoleMultipliers = RoleMultipliers()
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    weight_decay: NonNegativeFloat = 0.0
    no_decay: tuple[Literal["bias", "norm", "embedding"], ...] = ()
    groups: tuple[ParameterGroup, ...] = ()


class SGDConfig(OptimizerSection):
    name: Literal["sgd"]


class MomentumConfig(OptimizerSection):
    name: Literal["momentum"]
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = False


class AdamWConfig(OptimizerSection):
    name: Literal["adamw"]
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    epsilon: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.01


OptimizerConfig = Annotated[SGDConfig | MomentumConfig | AdamWConfig, Field(discriminator="name")]


class StepScheduleConfig(Section):
    kind: Literal["step"]
    milestone_epochs: tuple[PositiveFloat, ...]
    gamma: PositiveFloat = 0.1
    warmup_epochs: NonNegativeFloat = 0.0
    warmup_start_factor: Probability = 0.0

    @model_validator(mode="after")
    def _milestones_rise(self) -> StepScheduleConfig:
        if list(self.milestone_epochs) != sorted(set(self.milestone_epochs)):
            raise ValueError(f"milestone_epochs {list(self.milestone_epochs)} must rise")
        return self


class CosineScheduleConfig(Section):
    kind: Literal["cosine"]
    min_lr: NonNegativeFloat = 0.0
    warmup_epochs: NonNegativeFloat = 0.0
    warmup_start_factor: Probability = 0.0


class ConstantScheduleConfig(Section):
    kind: Literal["constant"]
    warmup_epochs: NonNegativeFloat = 0.0
    warmup_start_factor: Probability = 0.0


ScheduleConfig = Annotated[
    StepScheduleConfig | CosineScheduleConfig | ConstantScheduleConfig, Field(discriminator="kind")
]
