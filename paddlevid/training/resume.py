"""Going on with a run: from which checkpoint, and whether the recipe and the list are still those of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paddlevid.checkpoint import list_checkpoints, what_is_torn
from paddlevid.data.class_names import number_names
from paddlevid.data.dataset import TrainDataset
from paddlevid.data.records import digest_of
from paddlevid.errors import ConfigError, WeightsError
from paddlevid.runtime import logger

# What a resumed run may change and still end with the same weights.
WITHOUT_EFFECT = {
    "output_dir",
    "data.root",  # what is on the list is compared by itself
    "data.class_names",  # and so are the names
    "data.read_timeout_sec",
    "model.recompute",
    "train.list",
    "train.num_workers",
    "train.shard_optimizer",
    "train.max_bad_share",
    "train.max_nonfinite_steps",
    "train.early_stop_epochs",
    "train.log_every_steps",
    "train.histograms",
    "train.checkpoint_every_steps",
    "train.checkpoint_every_minutes",
    "train.keep_checkpoints",
    "train.checkpoint_format",
    "valid.num_workers",
    "test.num_workers",
}


def find_checkpoint(root: Path, resume: str | None) -> Path | None:
    """The checkpoint under `root` that `--resume` means: none, the newest whole one (`auto`), or the one of a path.

    Raises:
        ConfigError: there is a run already, and it is not to be resumed.
        WeightsError: what is to be resumed is no checkpoint, or none of them is whole.
    """
    existing = list_checkpoints(root)
    if resume is None:
        if existing:
            raise ConfigError(
                f"{root.parent} already holds a run ({existing[-1].name}): continue it with --resume, or choose "
                "another one with -o output_dir=..."
            )
        return None
    if resume == "auto":
        return _newest_whole(existing)
    path = Path(resume)
    inside = list_checkpoints(path) or list_checkpoints(path / "checkpoints")
    if inside:
        return _newest_whole(inside)
    if not path.is_dir():
        raise WeightsError(f"--resume {resume}: no such checkpoint directory")
    if torn := what_is_torn(path):
        raise WeightsError(f"{path}: not a checkpoint to resume from: {torn}")
    return path


def _newest_whole(checkpoints: Sequence[Path]) -> Path | None:
    """The last of them whose files are as they were written; those passed over are named."""
    for path in reversed(checkpoints):
        torn = what_is_torn(path)
        if not torn:
            return path
        logger.warning(f"warning: {path} is passed over: {torn}")
    if checkpoints:
        raise WeightsError(
            f"none of the {len(checkpoints)} checkpoint(s) under {checkpoints[0].parent} is whole; start another run "
            "with -o output_dir=..., from the weights that are left: -w .../best.pdparams"
        )
    return None


def warn_of_changes(old: dict, new: dict, prefix: str = "") -> None:
    """Name what differs from the checkpoint's recipe: such a run continues, but not as it would have."""
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            warn_of_changes(before, after, f"{prefix}{key}.")
        elif before != after and prefix + key not in WITHOUT_EFFECT:
            logger.warning(f"warning: {prefix}{key} is {after!r}, the checkpoint was trained with {before!r}")


def check_steps(old: dict[str, Any], new: dict[str, Any]) -> None:
    """Steps are counted in global batches. Raises ConfigError where these have another size."""
    before, after = (config.get("train", {}).get("global_batch") for config in (old, new))
    if before != after:
        raise ConfigError(
            f"train.global_batch is {after}, the run to resume has {before}, and counts its steps in it; start another "
            "run from its weights instead: -w .../last.pdparams -o output_dir=..."
        )


def describe_data(dataset: TrainDataset) -> dict:
    """What tells one training list from another, for checkpoints."""
    return {"num_samples": len(dataset), "sha256": digest_of(dataset.records)}


def compare_data(old: dict[str, Any], new: dict[str, Any]) -> None:
    """Steps count through the samples of a list: on another list a run cannot go on where it was.

    Raises:
        ConfigError: the list has another length.
    """
    if old["num_samples"] != new["num_samples"]:
        raise ConfigError(
            f"train.list has {new['num_samples']} videos, the run to resume has {old['num_samples']}; start another "
            "run from its weights instead: -w .../last.pdparams -o output_dir=..."
        )
    if old["sha256"] != new["sha256"]:
        logger.warning("warning: train.list names other videos or labels than those of the run to resume")


def names_to_go_on_with(old: list[str], new: list[str]) -> list[str]:
    """The class names of a resumed run: the new ones or, where these are but numbers, those of the checkpoint, if any.

    Tells where a class has got another name.
    """
    if len(old) != len(new) or old == new:
        return new
    if new == number_names(len(new)):
        return old
    label = next(label for label in range(len(new)) if old[label] != new[label])
    logger.warning(
        f"warning: class {label} is named {new[label]!r}, in the run to resume {old[label]!r}: are the labels of "
        "train.list still the same?"
    )
    return new
