"""What a configuration may hold: one frozen section per part of a recipe, with types, ranges and defaults.

Numbers that concern the whole pipeline (frames, pixels, classes) stand once, under `data`.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
PerChannel = tuple[float, float, float]
Backbone = Literal["resnet18", "resnet34", "resnet50", "resnet101", "mobilenet_v2"]


class Section(BaseModel):
    """A part of the file: unknown keys are errors, and values never change after checking."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# ---- model ----------------------------------------------------------------------------------------------------------


class TimeSformerConfig(Section):
    name: Literal["timesformer"]
    attention: Literal["divided_space_time", "joint_space_time", "space_only"] = "divided_space_time"
    patch_size: PositiveInt = 16
    embed_dim: PositiveInt = 768
    depth: PositiveInt = 12
    num_heads: PositiveInt = 12
    mlp_ratio: PositiveFloat = 4.0
    drop_rate: Probability = 0.0
    attn_drop_rate: Probability = 0.0
    drop_path_rate: Probability = 0.1
    pos_embed_std: NonNegativeFloat = 0.02
    time_embed_std: NonNegativeFloat = 0.0

    @model_validator(mode="after")
    def _heads_divide_width(self) -> TimeSformerConfig:
        if self.embed_dim % self.num_heads:
            raise ValueError(f"embed_dim {self.embed_dim} is not a multiple of num_heads {self.num_heads}")
        return self


class TSNConfig(Section):
    name: Literal["tsn"]
    backbone: Backbone = "resnet50"
    consensus: Literal["avg", "identity"] = "avg"
    dropout: Probability = 0.4


class TSMConfig(Section):
    name: Literal["tsm"]
    backbone: Backbone = "resnet50"
    shift_div: PositiveInt = 8
    shift_place: Literal["blockres", "block"] = "blockres"
    dropout: Probability = 0.5


ModelConfig = Annotated[TimeSformerConfig | TSNConfig | TSMConfig, Field(discriminator="name")]


# ---- data -----------------------------------------------------------------------------------------------------------


class SegmentSamplingConfig(Section):
    kind: Literal["segment"]


class DenseSamplingConfig(Section):
    kind: Literal["dense"]
    window: PositiveInt = 64


class ClipSamplingConfig(Section):
    kind: Literal["clip"]
    rate: PositiveInt
    target_fps: PositiveFloat = 30.0


class LinspaceSamplingConfig(Section):
    kind: Literal["linspace"]


SamplingConfig = Annotated[
    SegmentSamplingConfig | DenseSamplingConfig | ClipSamplingConfig | LinspaceSamplingConfig,
    Field(discriminator="kind"),
]


class DataConfig(Section):
    num_classes: Annotated[int, Field(ge=2)]
    num_frames: PositiveInt
    image_size: PositiveInt
    mean: PerChannel
    std: PerChannel
    sampling: SamplingConfig
    format: Literal["video", "frames"] = "video"
    decoder: Literal["auto", "decord", "pyav"] = "auto"
    frame_template: str = "img_{:05d}.jpg"
    frame_start_index: NonNegativeInt = 1
    root: str = ""
    class_names: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> DataConfig:
        if min(self.std) <= 0:
            raise ValueError(f"std {list(self.std)} must be positive")
        if isinstance(self.sampling, DenseSamplingConfig) and self.sampling.window < self.num_frames:
            raise ValueError(f"sampling.window {self.sampling.window} is shorter than num_frames {self.num_frames}")
        return self


# ---- transforms: the fields are the constructor arguments of paddlevid.data.transforms, less `size` ------------------


class ResizeShortSideConfig(Section):
    kind: Literal["resize_short_side"]
    short_side: PositiveInt
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"


class ShortSideJitterConfig(Section):
    kind: Literal["short_side_jitter"]
    min_size: PositiveInt = 256
    max_size: PositiveInt = 320
    inverse: bool = False


class RandomCropConfig(Section):
    kind: Literal["random_crop"]


class CenterCropConfig(Section):
    kind: Literal["center_crop"]


class MultiScaleCropConfig(Section):
    kind: Literal["multi_scale_crop"]
    scales: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (1.0, 0.875, 0.75, 0.66)
    max_distort: NonNegativeInt = 1
    fix_crop: bool = True
    more_fix_crop: bool = True


class RandomResizedCropConfig(Section):
    kind: Literal["random_resized_crop"]
    scale: tuple[PositiveFloat, PositiveFloat] = (0.08, 1.0)
    ratio: tuple[PositiveFloat, PositiveFloat] = (0.75, 4 / 3)


class HorizontalFlipConfig(Section):
    kind: Literal["horizontal_flip"]
    prob: Probability = 0.5


class ColorJitterConfig(Section):
    kind: Literal["color_jitter"]
    brightness: NonNegativeFloat = 0.4
    contrast: NonNegativeFloat = 0.4
    saturation: NonNegativeFloat = 0.4
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    prob: Probability = 1.0


class GrayscaleConfig(Section):
    kind: Literal["grayscale"]
    prob: Probability = 0.2


class GaussianBlurConfig(Section):
    kind: Literal["gaussian_blur"]
    prob: Probability = 0.5
    sigma: tuple[PositiveFloat, PositiveFloat] = (0.1, 2.0)


class SolarizeConfig(Section):
    kind: Literal["solarize"]
    prob: Probability = 0.2
    threshold: Annotated[int, Field(ge=0, le=256)] = 128


class RandAugmentConfig(Section):
    kind: Literal["rand_augment"]
    num_ops: NonNegativeInt = 2
    magnitude: Annotated[float, Field(ge=0, le=10)] = 9.0
    magnitude_std: NonNegativeFloat = 0.5
    op_prob: Probability = 0.5


TransformConfig = Annotated[
    ResizeShortSideConfig
    | ShortSideJitterConfig
    | RandomCropConfig
    | CenterCropConfig
    | MultiScaleCropConfig
    | RandomResizedCropConfig
    | HorizontalFlipConfig
    | ColorJitterConfig
    | GrayscaleConfig
    | GaussianBlurConfig
    | SolarizeConfig
    | RandAugmentConfig,
    Field(discriminator="kind"),
]
CROPS_TO_SIZE = (RandomCropConfig, CenterCropConfig, MultiScaleCropConfig, RandomResizedCropConfig)


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

    @model_validator(mode="after")
    def _ends_at_image_size(self) -> TrainConfig:
        if not any(isinstance(transform, CROPS_TO_SIZE) for transform in self.transforms):
            raise ValueError(
                "transforms never crop to data.image_size; add one of random_crop, center_crop, multi_scale_crop, "
                "random_resized_crop"
            )
        return self


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
    seed: NonNegativeInt = 0
    device: Literal["auto", "cpu", "gpu"] = "auto"

    @model_validator(mode="after")
    def _parts_fit(self) -> Config:
        model, data = self.model, self.data
        if isinstance(model, TimeSformerConfig) and data.image_size % model.patch_size:
            raise ValueError(
                f"data.image_size {data.image_size} is not a multiple of model.patch_size {model.patch_size}"
            )
        for name in ("valid", "test"):
            split = getattr(self, name)
            if split is None:
                continue
            if split.short_side < data.image_size:
                raise ValueError(
                    f"{name}.short_side {split.short_side} is smaller than data.image_size {data.image_size}"
                )
            if split.num_frames is not None and not isinstance(model, TSNConfig):
                raise ValueError(f"{name}.num_frames differs from data.num_frames only for tsn, not for {model.name}")
        return self
