"""Config -> model, datasets, optimizer: the only file that knows both the config and the classes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from paddlevid.data import color, rand_augment, sampling, transforms
from paddlevid.data.annotations import check_files, read_list
from paddlevid.data.class_names import number_names, read_class_names
from paddlevid.data.dataset import FrameSource, TrainDataset, Transform, ViewDataset, Views
from paddlevid.data.loader import TrainPlan
from paddlevid.data.mixing import Mixing
from paddlevid.data.records import Records
from paddlevid.data.sampling import Sampling, SnippetSampling
from paddlevid.data.shards import shard_numbers
from paddlevid.errors import ConfigError
from paddlevid.modality import build_flow, check_stored_flow, flow_algorithm
from paddlevid.schema import Config, EvalConfig, TimeSformerConfig, ViewsConfig
from paddlevid.schema.data import CROPS_TO_SIZE, DataConfig, MultiScaleCropConfig

SAMPLINGS: dict[str, type] = {
    "segment": sampling.SegmentSampling,
    "dense": sampling.DenseSampling,
    "clip": sampling.ClipSampling,
    "linspace": sampling.LinspaceSampling,
}
TRANSFORMS: dict[str, type] = {
    "resize_short_side": transforms.ResizeShortSide,
    "short_side_jitter": transforms.ShortSideJitter,
    "random_crop": transforms.RandomCrop,
    "center_crop": transforms.CenterCrop,
    "multi_scale_crop": transforms.MultiScaleCrop,
    "random_resized_crop": transforms.RandomResizedCrop,
    "horizontal_flip": transforms.HorizontalFlip,
    "color_jitter": color.ColorJitter,
    "grayscale": color.Grayscale,
    "gaussian_blur": color.GaussianBlur,
    "solarize": color.Solarize,
    "rand_augment": rand_augment.RandAugment,
}

# Sides of crops, as shares of the short side: of differences and flow, and of RGB (TSN, `get_augmentation`)
MULTI_SCALES = ((1.0, 0.875, 0.75), (1.0, 0.875, 0.75, 0.66))


def _options(section: BaseModel, *leave_out: str) -> dict[str, Any]:
    return section.model_dump(exclude={"kind", "name", *leave_out})


def build_model(cfg: Config) -> Any:
    """The network: normalised float32 `[B, T, C, H, W]` -> logits `[B, K]`."""
    from paddlevid.models import create_model

    data = cfg.data
    if isinstance(cfg.model, TimeSformerConfig):
        sizes: dict[str, Any] = {"num_frames": data.num_frames, "image_size": data.image_size}
    else:
        sizes = {
            "num_segments": data.num_frames,
            "modality": data.modality,
            "snippet_length": data.snippet_length,
        }
    return create_model(cfg.model.name, num_classes=data.num_classes, **sizes, **_options(cfg.model))


def build_normalize(cfg: Config) -> Any:
    """The layer before the network: raw uint8 frames `[..., T, H, W, C]` -> normalised float32 `[N, T, C, H, W]`."""
    from paddlevid.models.normalize import Normalize

    return Normalize(cfg.data.mean, cfg.data.std)


def build_source(data: DataConfig) -> FrameSource:
    """How frames are read, and flow is computed.

    Raises:
        ConfigError: the algorithm of flow is not installed.
    """
    return FrameSource(
        data.decoder,
        data.template,
        data.frame_start_index,
        frame_fps=data.frame_fps,
        timeout_sec=data.read_timeout_sec,
        flow=build_flow(data) if data.is_flow else None,
        stored_flow=data.format == "flow",
        flow_cache=data.flow.cache if data.flow else None,
    )


def build_sampling(data: DataConfig, num_frames: int) -> Sampling:
    """Which frames make clips of `num_frames` frames or, where a model sees several of them at once, snippets."""
    sampling = SAMPLINGS[data.sampling.kind](num_frames=num_frames, **_options(data.sampling))
    return sampling if data.frames_per_snippet == 1 else SnippetSampling(sampling, data.frames_per_snippet)


def build_transform(section: Any, data: DataConfig) -> Transform:
    options = _options(section)
    if isinstance(section, CROPS_TO_SIZE):
        options["size"] = data.image_size
    if isinstance(section, MultiScaleCropConfig) and section.scales is None:
        options["scales"] = MULTI_SCALES[data.modality == "rgb"]
    try:
        return TRANSFORMS[section.kind](**options)
    except ValueError as error:
        raise ConfigError(f"train.transforms: {section.kind}: {error}") from None


def build_views(data: DataConfig, views: ViewsConfig) -> Views:
    """The deterministic views that validation, test and an exported model look at."""
    num_snippets = views.num_frames or data.num_frames
    return Views(
        source=build_source(data),
        sampling=build_sampling(data, num_snippets),
        num_frames=num_snippets * data.frames_per_snippet,
        num_clips=views.num_clips,
        short_side=views.short_side,
        crop=views.crop,
        size=data.image_size,
        channels=data.channels,
    )


def _class_names(
    data: DataConfig, list_path: str, train_list: str | None, weights: str | Path | None
) -> list[str] | None:
    """What classes are called in a list; None where they have no names."""
    names = read_class_names(
        data.class_names, data.num_classes, weights=weights, train_list=train_list, list_path=list_path
    )
    return None if names == number_names(data.num_classes) else names


def read_recipe_list(
    data: DataConfig, list_path: str, *, train_list: str | None = None, weights: str | Path | None = None
) -> Records:
    """A list with labels, written as the recipe says; whether its files are there is another matter.

    Labels by name are numbered as `weights` have it, else as `train_list` has it: see `read_class_names`.

    Raises:
        DataError: the list cannot be read, or a line or a label is wrong.
    """
    return read_list(
        list_path,
        format=data.list_format,
        root=data.root,
        num_classes=data.num_classes,
        multi_label=data.multi_label,
        class_names=partial(_class_names, data, list_path, train_list, weights),
    )


def read_records(
    cfg: Config, list_path: str, *, max_missing_share: float, weights: str | Path | None = None
) -> Records:
    """Read and check a list file with labels; files that are missing are warned of.

    Raises:
        DataError: the list cannot be read, a line or a label is wrong, or more files are missing than this share.
    """
    records = read_recipe_list(cfg.data, list_path, train_list=cfg.train.list, weights=weights)
    if cfg.data.format != "shards":  # whose index is read from them
        check_files(records, max_missing_share=max_missing_share)
    return records


def build_train_dataset(cfg: Config) -> TrainDataset:
    data = cfg.data
    records = read_records(cfg, cfg.train.list, max_missing_share=cfg.train.max_bad_share)
    check_stored_flow(data, records)
    if data.is_flow and data.format != "flow" and flow_algorithm(data) == "tvl1":
        print(
            "warning: TV-L1 takes about a second a flow, for each flow of each clip: extract it before with "
            "tools/extract_flow.py, or set data.flow.algorithm=dis",
            file=sys.stderr,
        )
    return TrainDataset(
        records=records,
        source=build_source(data),
        sampling=build_sampling(data, data.num_frames),
        transforms=[build_transform(section, data) for section in cfg.train.transforms],
        num_frames=data.num_frames * data.frames_per_snippet,
        size=data.image_size,
        num_classes=data.num_classes,
        seed=cfg.seed,
        mixing=Mixing(seed=cfg.seed, **_options(cfg.train.mixing)) if cfg.train.mixing else None,
        channels=data.channels,
    )


def build_plan(cfg: Config, dataset: TrainDataset) -> TrainPlan:
    """Which samples make up each step of the run."""
    train = cfg.train
    return TrainPlan(
        num_samples=len(dataset),
        global_batch=train.global_batch,
        batch_size=train.batch_size,
        epochs=train.epochs,
        seed=cfg.seed,
        labels=dataset.labels if train.class_balanced else None,
        shards=shard_numbers(dataset.records),
        shards_at_once=train.shards_at_once,
    )


def build_loss(cfg: Config, dataset: TrainDataset) -> Any:
    """The loss of each clip; "balanced" class weights are those of the training list."""
    from paddlevid.losses import ClipLoss, balanced_class_weights

    train, num_classes = cfg.train, cfg.data.num_classes
    weights: Sequence[float] | None = None
    if train.class_weights == "balanced":
        weights = balanced_class_weights(dataset.labels, num_classes)
    elif train.class_weights is not None:
        weights = train.class_weights
    return ClipLoss(
        num_classes, multi_label=cfg.data.multi_label, label_smoothing=train.label_smoothing, class_weights=weights
    )


def build_eval_dataset(cfg: Config, split: EvalConfig, *, weights: str | Path | None = None) -> ViewDataset:
    """The videos to score, with labels as the `weights` to test number them, or else the training list.

    Raises:
        DataError: as `read_records`, or the list numbers its classes in another way.
    """
    _class_names(cfg.data, split.list, cfg.train.list, weights)
    if split.short_side >= 2 * cfg.data.image_size:
        share = (cfg.data.image_size / split.short_side) ** 2
        print(
            f"warning: data.image_size {cfg.data.image_size} of frames resized to short_side {split.short_side}: a "
            f"crop sees {share:.0%} of a square picture; usual is a short_side of 1 to 1.2 times image_size",
            file=sys.stderr,
        )
    # Missing videos are named and counted like unreadable ones; only where all are missing is something else wrong
    records = read_records(cfg, split.list, max_missing_share=1.0, weights=weights)
    check_stored_flow(cfg.data, records)
    return ViewDataset(records, build_views(cfg.data, split))


def build_optimizer(cfg: Config, model: Any) -> Any:
    from paddlevid import optim

    section = cfg.optimizer
    return optim.build_optimizer(
        section.name,
        model,
        lr_mult=optim.RoleMultipliers(**section.lr_mult.model_dump()),
        groups=[optim.Group(**group.model_dump()) for group in section.groups],
        master_weights=cfg.train.amp.enabled and cfg.train.amp.level == "O2",
        **_options(section, "groups", "lr_mult"),
    )


def build_schedule(cfg: Config, steps_per_epoch: int) -> Any:
    from paddlevid.optim import Schedule

    return Schedule(
        kind=cfg.schedule.kind,
        base_lr=cfg.optimizer.lr,
        steps_per_epoch=steps_per_epoch,
        epochs=cfg.train.epochs,
        **_options(cfg.schedule),
    )
