"""What a configuration may hold: one frozen section per part of a recipe, with types, ranges and defaults.

Numbers that concern the whole pipeline (frames, pixels, classes) stand once, under `data`.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from paddlevid.schema.data import (
    CROPS_TO_SIZE,
    RESIZES,
    CenterCropConfig,
    DataConfig,
    LinspaceSamplingConfig,
    ResizeShortSideConfig,
    ShortSideJitterConfig,
    TransformConfig,
)
from paddlevid.schema.types import (
    DropRate,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
    Section,
)

Backbone = Literal["resnet18", "resnet34", "resnet50", "resnet101", "mobilenet_v2"]


# ---- model ----------------------------------------------------------------------------------------------------------


class TimeSformerConfig(Section):
    name: Literal["timesformer"]
    attention: Literal["divided_space_time", "joint_space_time", "space_only"] = "divided_space_time"
    patch_size: PositiveInt = 16
    embed_dim: PositiveInt = 768
    depth: PositiveInt = 12
    num_heads: PositiveInt = 12
    mlp_ratio: PositiveFloat = 4.0
    drop_rate: DropRate = 0.0
    attn_drop_rate: DropRate = 0.0
    drop_path_rate: DropRate = 0.1
    pos_embed_std: NonNegativeFloat = 0.02
    time_embed_std: NonNegativeFloat = 0.0
    linear_std: PositiveFloat = 0.02
    temporal_fc_zero: bool = True

    @model_validator(mode="after")
    def _heads_divide_width(self) -> TimeSformerConfig:
        if self.embed_dim % self.num_heads:
            raise ValueError(f"embed_dim {self.embed_dim} is not a multiple of num_heads {self.num_heads}")
        return self


class TSNConfig(Section):
    name: Literal["tsn"]
    backbone: Backbone = "resnet50"
    consensus: Literal["avg", "identity"] = "avg"
    dropout: DropRate = 0.4


class TSMConfig(Section):
    name: Literal["tsm"]
    backbone: Backbone = "resnet50"
    shift_div: Annotated[int, Field(ge=3, le=24)] = 8
    shift_place: Literal["blockres", "block"] = "blockres"
    dropout: DropRate = 0.5
    online: bool = False

    @model_validator(mode="after")
    def _place_exists(self) -> TSMConfig:
        if self.backbone == "mobilenet_v2" and self.shift_place == "block":
            raise ValueError("mobilenet_v2 has shift_place blockres only")
        return self


ModelConfig = Annotated[TimeSformerConfig | TSNConfig | TSMConfig, Field(discriminator="name")]


# ---- training and testing -------------------------------------------------------------------------------------------


class AmpConfig(Section):
    enabled: bool = False
    level: Literal["O1", "O2"] = "O1"
    dtype: Literal["float16", "bfloat16"] = "float16"


class TrainConfig(Section):
    list: str
    transforms: tuple[TransformConfig, ...]
    epochs: PositiveInt
    global_batch: PositiveInt
    batch_size: PositiveInt
    num_workers: NonNegativeInt = 4
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    clip_grad_norm: PositiveFloat | None = None
    amp: AmpConfig = AmpConfig()
    log_every_steps: PositiveInt = 10
    checkpoint_every_steps: PositiveInt | None = None
    keep_checkpoints: PositiveInt = 1
    checkpoint_format: Literal["pdparams", "safetensors"] = "pdparams"

    @model_validator(mode="after")
    def _ends_at_image_size(self) -> TrainConfig:
        sizing = [transform for transform in self.transforms if isinstance(transform, CROPS_TO_SIZE + RESIZES)]
        if not sizing or not isinstance(sizing[-1], CROPS_TO_SIZE):
            raise ValueError(
                "transforms must end at data.image_size: after any resize, add one of random_crop, center_crop, "
                "multi_scale_crop, random_resized_crop"
            )
        if isinstance(sizing[-1], CenterCropConfig) and len(sizing) == 1:
            raise ValueError("transforms: center_crop needs a resize before it, or small videos do not fill it")
        return self

    def short_side_before_center_crop(self) -> int | None:
        """The least short side that reaches a final center_crop; None where another crop, which scales up, ends."""
        *before, last = [transform for transform in self.transforms if isinstance(transform, CROPS_TO_SIZE + RESIZES)]
        if not isinstance(last, CenterCropConfig):
            return None
        resize = before[-1]
        if isinstance(resize, ResizeShortSideConfig):
            return resize.short_side
        return resize.min_size if isinstance(resize, ShortSideJitterConfig) else None


class ViewsConfig(Section):
    """Which views of a video are looked at, `num_clips` temporal clips x the crops of `crop`, and what is averaged."""

    short_side: PositiveInt
    crop: Literal["center", "three", "ten"] = "center"
    num_clips: PositiveInt = 1
    num_frames: PositiveInt | None = None
    average: Literal["logits", "probabilities"] = "logits"


class EvalConfig(ViewsConfig):
    list: str
    batch_size: PositiveInt = 8
    num_workers: NonNegativeInt = 4


class ParameterGroup(Section):
    pattern: str
    lr_mult: NonNegativeFloat = 1.0
    decay_mult: NonNegativeFloat = 1.0

    @model_validator(mode="after")
    def _pattern_compiles(self) -> ParameterGroup:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"pattern {self.pattern!r} is not a regular expression: {error}") from None
        return self


class SGDConfig(Section):
    name: Literal["sgd"]
    lr: PositiveFloat
    weight_decay: NonNegativeFloat = 0.0
    groups: tuple[ParameterGroup, ...] = ()


class MomentumConfig(Section):
    name: Literal["momentum"]
    lr: PositiveFloat
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = False
    weight_decay: NonNegativeFloat = 0.0
    groups: tuple[ParameterGroup, ...] = ()


class AdamWConfig(Section):
    name: Literal["adamw"]
    lr: PositiveFloat
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    epsilon: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.01
    groups: tuple[ParameterGroup, ...] = ()


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


class Config(Section):
    """A whole recipe. `load_config` makes one; every value in it has been checked."""

    model: ModelConfig
    data: DataConfig
    train: TrainConfig
    valid: EvalConfig | None = None
    test: EvalConfig | None = None
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    output_dir: str
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    device: Literal["auto", "cpu", "gpu"] = "auto"

    @model_validator(mode="after")
    def _parts_fit(self) -> Config:
        model, data = self.model, self.data
        if isinstance(model, TimeSformerConfig) and data.image_size % model.patch_size:
            raise ValueError(
                f"data.image_size {data.image_size} is not a multiple of model.patch_size {model.patch_size}"
            )
        if self.schedule.warmup_epochs >= self.train.epochs:
            raise ValueError(
                f"schedule.warmup_epochs {self.schedule.warmup_epochs:g} must be below train.epochs {self.train.epochs}"
            )
        if isinstance(self.schedule, CosineScheduleConfig) and self.schedule.min_lr > self.optimizer.lr:
            raise ValueError(f"schedule.min_lr {self.schedule.min_lr:g} is above optimizer.lr {self.optimizer.lr:g}")
        if (resized := self.train.short_side_before_center_crop()) and resized < data.image_size:
            raise ValueError(
                f"train.transforms: center_crop to data.image_size {data.image_size} of frames resized to {resized}"
            )
        for name in ("valid", "test"):
            split = getattr(self, name)
            if split is None:
                continue
            if split.short_side < data.image_size:
                raise ValueError(
                    f"{name}.short_side {split.short_side} is smaller than data.image_size {data.image_size}"
                )
            if split.num_clips > 1 and isinstance(data.sampling, LinspaceSamplingConfig):
                raise ValueError(f"{name}.num_clips {split.num_clips}: linspace sampling has one clip a video")
            if split.num_frames is not None and not isinstance(model, TSNConfig):
                raise ValueError(f"{name}.num_frames differs from data.num_frames only for tsn, not for {model.name}")
        return self
