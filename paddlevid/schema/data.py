"""What a configuration may say of data: which frames, from where, and how they are augmented."""

from __future__ import annotations

import contextlib
from typing import Annotated, Literal

from pydantic import Field, model_validator

from paddlevid.schema.types import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Probability, Section

Modality = Literal["rgb", "rgb_diff", "flow", "warped_flow"]
FLOWS = ("flow", "warped_flow")
PerChannel = Annotated[tuple[float, ...], Field(min_length=1)]


TEMPLATES = {"frames": "img_{:05d}.jpg", "flow": "flow_{axis}_{:05d}.jpg"}
USUAL_OF_FLOW = {"mean": [0.5, 0.5], "std": [0.226, 0.226]}


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


class FlowConfig(Section):
    """How optical flow is computed; `bound` is in pixels, and so is `short_side`, to which frames are scaled before."""

    algorithm: Literal["auto", "tvl1", "dis", "farneback"] = "auto"
    bound: PositiveFloat = 20.0
    short_side: Annotated[int, Field(ge=16)] | None = None
    cache: str | None = None


class DataConfig(Section):
    """What a model sees. Of `rgb` a clip is `num_frames` frames; of the others as many snippets of consecutive ones."""

    num_classes: Annotated[int, Field(ge=2)]
    multi_label: bool = False
    modality: Modality = "rgb"
    num_frames: PositiveInt
    snippet_length: PositiveInt = 1
    image_size: PositiveInt
    mean: PerChannel
    std: PerChannel
    sampling: SamplingConfig
    flow: FlowConfig | None = None
    format: Literal["video", "frames", "flow", "shards"] = "video"
    decoder: Literal["auto", "decord", "opencv", "pyav"] = "auto"
    read_timeout_sec: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    frame_template: str | None = None
    frame_start_index: NonNegativeInt = 1
    frame_fps: Annotated[float, Field(gt=0, le=1000)] = 30.0
    root: str = ""
    class_names: str | None = None

    @property
    def is_flow(self) -> bool:
        return self.modality in FLOWS

    @property
    def channels(self) -> int:
        """Of a frame that a model takes: red, green and blue, or x and y of flow."""
        return 2 if self.is_flow else 3

    @property
    def list_format(self) -> Literal["video", "frames", "shards"]:
        """How a line of a list is written; one of flow has the number of flows where one of frames has theirs."""
        return "frames" if self.format == "flow" else self.format

    @property
    def frames_per_snippet(self) -> int:
        """Consecutive frames, or flows, that stand where one frame would; differences lie between one more of them."""
        return self.snippet_length + (self.modality == "rgb_diff")

    @property
    def template(self) -> str:
        """How the pictures of a folder are called: {} is a number and {axis}, of flow, x or y."""
        return self.frame_template or TEMPLATES["flow" if self.format == "flow" else "frames"]

    @model_validator(mode="after")
    def _consistent(self) -> DataConfig:
        for name in ("mean", "std"):
            numbers = getattr(self, name)
            if len(numbers) != self.channels:
                usual = f"; usual is {USUAL_OF_FLOW[name]}" if self.is_flow else ""
                raise ValueError(
                    f"{name} {list(numbers)} must have {self.channels} numbers, one a channel of {self.modality}{usual}"
                )
        if min(self.std) <= 0:
            raise ValueError(f"std {list(self.std)} must be positive")
        if self.modality == "rgb" and self.snippet_length != 1:
            raise ValueError(f"snippet_length is 1 for modality rgb, not {self.snippet_length}")
        if self.flow is not None and not self.is_flow:
            raise ValueError(f"flow is for modality flow or warped_flow, not for {self.modality}")
        if self.format == "flow" and not self.is_flow:
            raise ValueError(f"format flow is for modality flow or warped_flow, not for {self.modality}")
        self._check_template()
        if isinstance(self.sampling, DenseSamplingConfig) and self.sampling.window < self.num_frames:
            raise ValueError(f"sampling.window {self.sampling.window} is shorter than num_frames {self.num_frames}")
        return self

    def _check_template(self) -> None:
        names = []
        with contextlib.suppress(ValueError, IndexError, KeyError, AttributeError):
            names = [self.template.format(number, axis="x") for number in (1, 2)]
        if len(set(names)) != 2:
            raise ValueError(f"frame_template {self.template!r} has no place for a number, such as img_{{:05d}}.jpg")
        if self.format != "flow" and "{axis" in self.template:
            raise ValueError(
                f"frame_template {self.template!r} is one of flow: format: flow, modality: flow or warped_flow"
            )


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
    scales: tuple[Annotated[float, Field(gt=0, le=1)], ...] | None = None
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
OF_COLOURS = (ColorJitterConfig, GrayscaleConfig, GaussianBlurConfig, SolarizeConfig, RandAugmentConfig)
RESIZES = (ResizeShortSideConfig, ShortSideJitterConfig)
