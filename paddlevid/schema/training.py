"""What a configuration may say of training, validation and testing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from paddlevid.schema.data import (
    CROPS_TO_SIZE,
    RESIZES,
    CenterCropConfig,
    ResizeShortSideConfig,
    ShortSideJitterConfig,
    TransformConfig,
)
from paddlevid.schema.types import (
    NonNegativeFloat,
    NonNegativeInt,
    Pattern,
    PositiveFloat,
    PositiveInt,
    Probability,
    Section,
)


class AmpConfig(Section):
    enabled: bool = False
    level: Literal["O1", "O2"] = "O1"
    dtype: Literal["float16", "bfloat16"] = "float16"


class MixingConfig(Section):
    """Mixup and CutMix of clips; where both have an alpha, `cutmix_prob` chooses between them."""

    mixup_alpha: NonNegativeFloat = 0.8
    cutmix_alpha: NonNegativeFloat = 1.0
    cutmix_prob: Probability = 0.5
    prob: Probability = 1.0

    @model_validator(mode="after")
    def _mixes(self) -> MixingConfig:
        if not self.mixup_alpha and not self.cutmix_alpha:
            raise ValueError("mixup_alpha and cutmix_alpha are both 0: leave out train.mixing instead")
        return self


class TrainConfig(Section):
    list: str
    transforms: tuple[TransformConfig, ...]
    epochs: PositiveInt
    global_batch: PositiveInt
    batch_size: PositiveInt
    num_workers: NonNegativeInt = 4
    shards_at_once: PositiveInt = 16

    # What is learned from
    class_balanced: bool = False
    mixing: MixingConfig | None = None
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weights: Literal["balanced"] | tuple[PositiveFloat, ...] | None = None

    # What learns, and how
    freeze: tuple[Pattern, ...] = ()
    partial_bn: bool = False
    sync_bn: bool = False
    precise_bn_steps: NonNegativeInt = 0
    clip_grad_norm: PositiveFloat | None = None
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    early_stop_epochs: PositiveInt | None = None
    amp: AmpConfig = AmpConfig()
    compile: bool = False
    shard_optimizer: bool = False

    # When to give up
    max_bad_share: Probability = 0.01
    max_nonfinite_steps: PositiveInt = 10

    # What is kept and shown
    log_every_steps: PositiveInt = 10
    histograms: bool = False
    checkpoint_every_steps: PositiveInt | None = None
    checkpoint_every_minutes: PositiveFloat | None = None
    keep_checkpoints: PositiveInt = 2
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
