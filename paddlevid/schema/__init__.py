"""What a configuration may hold: one frozen section per part of a recipe, with types, ranges and defaults.

Numbers that concern the whole pipeline (frames, pixels, classes) stand once, under `data`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from paddlevid.schema.data import OF_COLOURS, DataConfig, LinspaceSamplingConfig
from paddlevid.schema.optimizer import CosineScheduleConfig, OptimizerConfig, ParameterGroup, ScheduleConfig
from paddlevid.schema.training import AmpConfig, EvalConfig, MixingConfig, TrainConfig, ViewsConfig
from paddlevid.schema.types import DropRate, NonNegativeFloat, PositiveFloat, PositiveInt, Section

__all__ = ["AmpConfig", "Config", "EvalConfig", "MixingConfig", "ParameterGroup", "TimeSformerConfig", "ViewsConfig"]

Backbone = Literal[
    "resnet18", "resnet34", "resnet50", "resnet101", "mobilenet_v2", "bn_inception", "vgg16", "inception_v3"
]
WITHOUT_BATCH_NORMS = ("timesformer", "vgg16")
# Of the others a TSM shifts the residual branches or whole blocks
SHIFT_PLACES: dict[str, tuple[str, ...]] = {
    "mobilenet_v2": ("blockres",),
    "bn_inception": ("block",),
    "vgg16": (),
    "inception_v3": (),
}
SMALLEST_IMAGES = {"vgg16": 32, "inception_v3": 75}  # in pixels; of a smaller one their last layers see nothing


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
    recompute: bool = False

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
    keep_rgb: bool = False


class TSMConfig(Section):
    name: Literal["tsm"]
    backbone: Backbone = "resnet50"
    shift_div: Annotated[int, Field(ge=3, le=24)] = 8
    shift_place: Literal["blockres", "block"] = "blockres"
    dropout: DropRate = 0.5
    keep_rgb: bool = False
    online: bool = False

    @model_validator(mode="after")
    def _place_exists(self) -> TSMConfig:
        places = SHIFT_PLACES.get(self.backbone, ("blockres", "block"))
        if not places:
            raise ValueError(f"a tsm has no shift for backbone {self.backbone}; a tsn runs on it")
        if self.shift_place not in places:
            raise ValueError(f"{self.backbone} has shift_place {places[0]} only: model.shift_place={places[0]}")
        return self


ModelConfig = Annotated[TimeSformerConfig | TSNConfig | TSMConfig, Field(discriminator="name")]


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
        if not isinstance(model, TimeSformerConfig) and data.image_size < SMALLEST_IMAGES.get(model.backbone, 1):
            raise ValueError(
                f"data.image_size {data.image_size}: {model.backbone} needs {SMALLEST_IMAGES[model.backbone]} or more"
            )
        self._modality_fits()
        self._options_fit()
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

    def _modality_fits(self) -> None:
        """Refuse what this model cannot see, and what cannot be done to it."""
        model, data = self.model, self.data
        if data.modality != "rgb":
            if isinstance(model, TimeSformerConfig):
                raise ValueError(f"data.modality {data.modality} is for tsn and tsm; timesformer takes rgb")
            if isinstance(model, TSMConfig) and model.online:
                raise ValueError(f"data.modality {data.modality}: an online tsm takes rgb")
        if not isinstance(model, TimeSformerConfig) and model.keep_rgb and data.modality != "rgb_diff":
            raise ValueError(f"model.keep_rgb is for data.modality rgb_diff, not for {data.modality}")
        for transform in self.train.transforms if data.is_flow else ():
            if isinstance(transform, OF_COLOURS):
                raise ValueError(f"train.transforms: {transform.kind} is for colours, which {data.modality} has not")

    def _options_fit(self) -> None:
        """Refuse options of training that this model or these labels cannot have."""
        model, data, train = self.model, self.data, self.train
        if isinstance(model, TimeSformerConfig) and model.recompute and train.compile:
            raise ValueError("model.recompute does nothing in a compiled model; leave out train.compile")
        network = model.name if isinstance(model, TimeSformerConfig) else model.backbone
        for name in ("partial_bn", "sync_bn", "precise_bn_steps") if network in WITHOUT_BATCH_NORMS else ():
            if getattr(train, name):
                raise ValueError(f"train.{name}: {network} has no batch norms")
        if data.multi_label:
            for name in ("label_smoothing", "class_balanced"):
                if getattr(train, name):
                    raise ValueError(f"train.{name} is for one label a video, and data.multi_label is true")
            if train.class_weights == "balanced":
                raise ValueError("train.class_weights: balanced is for one label a video; give a number a class")
        if train.class_balanced and train.class_weights == "balanced":
            raise ValueError("train.class_balanced and train.class_weights: balanced do the same, twice; choose one")
        if isinstance(train.class_weights, tuple) and len(train.class_weights) != data.num_classes:
            raise ValueError(
                f"train.class_weights has {len(train.class_weights)} numbers for data.num_classes {data.num_classes}"
            )
