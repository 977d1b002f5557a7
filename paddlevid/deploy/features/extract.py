"""Videos -> features, one file a video, over as many processes and runs as it takes.

The views of a video go through the model in runs of their own, so its features depend on nothing but the video, the
model and the settings: not on other videos, on how many processes or threads share the work, nor on a run before.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

import paddlevid
from paddlevid import build
from paddlevid.deploy.features import files, tables
from paddlevid.deploy.features.files import Item, Shard, read_settings
from paddlevid.deploy.features.joined import write_set
from paddlevid.deploy.manifest import Manifest, Precision, make_manifest, read_manifest
from paddlevid.deploy.predictor import Predictor
from paddlevid.deploy.runtimes import ENGINES, choices, open_runtime
from paddlevid.errors import ConfigError, DataError
from paddlevid.schema import Config, ViewsConfig

Dtype = Literal["float32", "float16"]
WHOLE = Shard()


class DynamicModel:
    """A Paddle model that was never exported, as a runtime: uint8 `[B, T, H, W, C]` -> logits, features.

    Raises:
        WeightsError: the weights are not those of a whole model of this recipe.
    """

    name = "paddle-dynamic"
    precision = "fp32"

    def __init__(self, cfg: Config, weights: str | Path) -> None:
        import paddle

        from paddlevid.models.normalize import RawFrameClassifier
        from paddlevid.weights import load_trained

        if paddle.device.is_compiled_with_cuda():
            paddle.set_flags({"FLAGS_cudnn_deterministic": True})
        model = build.build_model(cfg)
        load_trained(model, weights)
        self._classifier = RawFrameClassifier(build.build_normalize(cfg), model)
        self._classifier.eval()

    def __call__(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        import paddle

        with paddle.no_grad():
            return tuple(output.numpy() for output in self._classifier(paddle.to_tensor(inputs[0])))


def open_folder(
    folder: str | Path,
    *,
    runtime: str = "auto",
    precision: Precision | None = None,
    use_gpu: bool = False,
    num_threads: int | None = None,
    num_clips: int | None = None,
    crop: str | None = None,
    batch_size: int = 8,
    num_workers: int | None = None,
) -> Predictor:
    """The predictor of an exported folder, with other views where `num_clips` or `crop` is given."""
    manifest = with_views(read_manifest(folder), num_clips, crop)
    opened = open_runtime(folder, manifest, name=runtime, precision=precision, use_gpu=use_gpu, num_threads=num_threads)
    return Predictor.from_parts(manifest, opened, batch_size=batch_size, num_readers=num_workers)


def settle_runtime(
    folder: str | Path, output: str | Path, precision: Precision | None, use_gpu: bool
) -> tuple[str, Precision | None]:
    """What runtime `auto` is: the one of the features that are in `output`, else the first that is installed, in fp32.

    Not the one that is the fastest here: features must be of one, also where shards run on different machines.
    """
    settings = read_settings(Path(output)) or {}
    if settings.get("runtime") in ENGINES and precision in (None, settings.get("precision")):
        return settings["runtime"], settings["precision"]
    manifest = read_manifest(folder)
    wanted: tuple[Precision | None, ...] = ("fp32", None) if precision is None else (precision,)
    for one in wanted:
        for choice in choices(manifest, graph="classify", name="auto", precision=one, use_gpu=use_gpu):
            return choice.name, choice.files.precision
    return "auto", precision  # which says what is missing


def open_model(
    cfg: Config,
    weights: str | Path,
    *,
    num_clips: int | None = None,
    crop: str | None = None,
    batch_size: int = 8,
    num_workers: int | None = None,
) -> Predictor:
    """A predictor of a recipe's model, on Paddle's current device."""
    from paddlevid.weights import locate
    from paddlevid.weights.read import checksum

    manifest = make_manifest(
        cfg, version=paddlevid.__version__, weights=weights, weights_sha256=checksum(locate(weights))
    )
    manifest = with_views(manifest, num_clips, crop)
    return Predictor.from_parts(manifest, DynamicModel(cfg, weights), batch_size=batch_size, num_readers=num_workers)


def with_views(manifest: Manifest, num_clips: int | None, crop: str | None) -> Manifest:
    """The manifest with other views of a video.

    Raises:
        ConfigError: the model's sampling has no such clips.
    """
    changes = {name: value for name, value in (("num_clips", num_clips), ("crop", crop)) if value is not None}
    views = ViewsConfig(**{**manifest.views.model_dump(), **changes})
    try:
        build.build_sampling(manifest.data, manifest.num_snippets)(1000, 30.0, rng=None, num_clips=views.num_clips)
    except ValueError as error:
        raise ConfigError(f"--num_clips {views.num_clips}: {error}") from None
    return manifest.model_copy(update={"views": views})


def describe(predictor: Predictor, dtype: Dtype, device: str) -> dict[str, Any]:
    """All that the bytes of features depend on, but for the machine."""
    manifest, views = predictor.manifest, predictor.manifest.views
    return {
        "paddlevid_version": paddlevid.__version__,
        "model": manifest.model,
        "weights_sha256": manifest.weights_sha256,
        "runtime": predictor.runtime.name,
        "precision": predictor.runtime.precision,
        "device": device,
        "dtype": dtype,
        "views_a_run": min(predictor.batch_size, predictor.views.num_views),
        "num_clips": views.num_clips,
        "crop": views.crop,
        "short_side": views.short_side,
        "image_size": manifest.data.image_size,
        "num_frames": manifest.num_frames,
        "modality": manifest.data.modality,
        "snippet_length": manifest.data.snippet_length,
        "flow": predictor.views.source.flow.settings() if predictor.views.source.flow else None,
        "sampling": manifest.data.sampling.model_dump(mode="json"),
        "mean": list(manifest.data.mean),
        "std": list(manifest.data.std),
    }


@dataclass(frozen=True)
class Report:
    """Videos of this shard, and how many of the whole list no process has tried yet."""

    found: int
    computed: int
    failed: int
    failed_of_all: int
    untried: int
    written_set: Path | None = None


def extract(
    predictor: Predictor,
    items: Sequence[Item],
    folder: str | Path,
    *,
    dtype: Dtype = "float32",
    device: str = "cpu",
    shard: Shard = WHOLE,
    overwrite: bool = False,
    set_format: str | None = None,
    on_start: Callable[[int, int], object] | None = None,
    on_video: Callable[[Item, DataError | None], object] | None = None,
) -> Report:
    """Write features `[clips, D]`, the mean over the crops of each clip, of those videos that have none yet.

    Args:
        items: the whole list; `shard` tells which part of it this process does.
        set_format: npz or parquet, to write all in one file as well once no video is untried.
        on_start: called with the number of videos of this shard and how many of them are done.
        on_video: called after each video, with the reason if it has no features.

    Raises:
        DataError: the folder holds features of another model, of other views or of other videos; or the disk is full.
    """
    folder = Path(folder)
    mine = items[shard.number - 1 :: shard.total]
    with files.named_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    done = files.find_done(folder, items, mine)
    done -= _claim(folder, items, mine, done, describe(predictor, dtype, device), shard, overwrite)
    wanted = {item.record: item for item in mine if item.file not in done}
    found = len(mine) - len(wanted)
    if on_start is not None:
        on_start(len(mine), found)
    failures = tables.Failures(folder, shard)
    with closing(cast(Generator[Any], predictor.read_ahead(wanted))) as videos:
        for record, views in videos:
            item = wanted[record]
            outcome = views if isinstance(views, DataError) else _features(predictor, views, dtype)
            if isinstance(outcome, DataError):
                failures.add(item, str(outcome))
            else:
                files.write_features(folder / item.file, outcome)
            if on_video is not None:
                on_video(item, outcome if isinstance(outcome, DataError) else None)
    done = files.find_done(folder, items, mine)
    failed = tables.failed_names(folder)
    missing = [item for item in items if item.file not in done]
    untried = sum(files.printable(item.name) not in failed for item in missing)
    written = None
    if set_format is not None and done and not untried:
        written = write_set(folder, [item for item in items if item.file in done], set_format, shard)
    computed = len(wanted) - failures.count
    return Report(found, computed, failures.count, len(missing) - untried, untried, written)


def _claim(
    folder: Path,
    items: Sequence[Item],
    mine: Sequence[Item],
    done: set[str],
    settings: Mapping[str, Any],
    shard: Shard,
    overwrite: bool,
) -> set[str]:
    """Make sure that what is in the folder was made in the same way, and note how and whose it is.

    Whoever writes features has written the settings first. Returns the files that `overwrite` has removed: all of them
    before any is written anew, or what a killed process leaves would pass for new.
    """
    old = read_settings(folder)
    if old is None and not overwrite and (present := {item.file for item in items} & set(files.walk(folder))):
        old = read_settings(folder)  # again: another process may just have begun
        if old is None:
            raise DataError(
                f"{folder / min(present)}: is there already, but no {files.SETTINGS_FILE} that tells what made it; "
                "use another folder, or --overwrite"
            )
    differing = files.differences(old, settings) if old is not None else []
    if differing and not overwrite:
        raise DataError(f"{folder}: has features with {'; '.join(differing)}; use another folder, or --overwrite")
    if differing and shard.total > 1:
        raise DataError(f"{folder}: has features with {'; '.join(differing)}; remove it: shards cannot --overwrite it")
    removed: set[str] = set()
    if overwrite:
        removed = {item.file for item in mine}
        if shard.total == 1:
            removed |= set(tables.read_index(folder))
            (folder / tables.INDEX_FILE).unlink(missing_ok=True)
        for file in removed:
            (folder / file).unlink(missing_ok=True)
    if old is None or differing:
        files.write_settings(folder, settings, shard)
    tables.write_index(folder, items, done - removed, shard)
    return removed


def _features(predictor: Predictor, views: np.ndarray, dtype: Dtype) -> np.ndarray | DataError:
    """Views uint8 `[V, T, H, W, C]` -> `[clips, D]`, or why not."""
    feats = predictor.run(views).features.astype(np.float32)  # [clips*crops, D]
    feats = feats.reshape(predictor.views.num_clips, -1, feats.shape[-1]).mean(axis=1)
    if not np.isfinite(feats).all():
        return DataError("the model gives features that are not finite")
    with np.errstate(over="ignore"):
        rounded = feats.astype(dtype)
    if not np.isfinite(rounded).all():
        return DataError(f"a feature of {np.abs(feats).max():.4g} is beyond float16; use --dtype float32")
    return rounded


def shard_of(text: str | None, environment: Mapping[str, str] = os.environ) -> Shard:
    """`2/4`, or the place of this process among those of `paddle.distributed.launch`; else the whole list.

    Raises:
        ConfigError: there is no such shard, or both are given.
    """
    world = int(environment.get("PADDLE_TRAINERS_NUM") or 1)
    if text is None:
        return Shard(int(environment["PADDLE_TRAINER_ID"]) + 1, world) if world > 1 else WHOLE
    if world > 1:
        raise ConfigError(f"--shard {text}: under paddle.distributed.launch each process takes its own shard already")
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise ConfigError(f"--shard {text}: expected I/N with I from 1 to N, such as 1/4, 2/4, 3/4 and 4/4")
    return Shard(int(number), int(count))
