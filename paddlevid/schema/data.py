"""What a configuration may say of data: which frames, from where, and how they are augmented."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from paddlevid.schema.types import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Probability, Section

PerChannel = tuple[float, float, float]


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
    multi_label: bool = False
    num_frames: PositiveInt
    image_size: PositiveInt
    mean: PerChannel
    std: PerChannel
    sampling: SamplingConfig
    format: Literal["video", "frames", "shards"] = "video"
    decoder: Literal["auto", "decord", "opencv", "pyav"] = "auto"
    read_timeout_sec: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    frame_template: str = "img_{:05d}.jpg"
    frame_start_index: NonNegativeInt = 1
    frame_fps: Annotated[float, Field(gt=0, le=1000)] = 30.0
    root: str = ""
    class_names: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> DataConfig:
        if min(self.std) <= 0:
            raise ValueError(f"std {list(self.std)} must be positive")
        try:
            numbered = self.frame_template.format(1) != self.frame_template.format(2)
        except (ValueError, IndexError, KeyError):
            numbered = False
        if not numbered:
            raise ValueError(
                f"frame_template {self.frame_template!r} has no place for a number, such as img_{{:05d}}.jpg"
            )
        if isinstance(self.sampling, DenseSamplingConfig) and self.sampling.window < self.num_frames:
            raise ValueError(f"sampling.window {self.sampling.window} is shorter than num_frames {self.num_frames}")
        return self


# ---- transforms: the fields are the arguments of the constructors in build.TRANSFORMS, less `size` -------------------


class ResizeShortSideConfig(Section):
    kind: Literal["resize_short_side"]
    short_side: PositiveInt
    interpolation: Literal["nearest", "bilinear", "bicubic", "area"] = "bilinear"


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
RESIZES = (ResizeShortSideConfig, ShortSideJitterConfig)
