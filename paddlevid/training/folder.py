"""The output folder of a run, looked at before the first step: can all be written that the run will write?"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from paddlevid.checkpoint import list_checkpoints
from paddlevid.data.class_names import CLASS_NAMES_FILE
from paddlevid.errors import ConfigError
from paddlevid.runtime import atomic_write

if TYPE_CHECKING:
    from paddlevid.training.run import Run

KEPT = ("last", "best")  # with the suffix of their format
# How many times the size of the weights an optimizer keeps
OPTIMIZER_COPIES = {"sgd": 0, "momentum": 1, "adamw": 2}


def check_folder(out: Path) -> None:
    """See before the first step that a run can write what it will. Raises ConfigError."""
    try:
        for folder in (out, out / "checkpoints"):
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".writable.{os.getpid()}"
            probe.touch()
            probe.unlink()
    except OSError as error:
        raise ConfigError(f"output_dir {out} cannot be written: {error.strerror}; choose another one") from None
    for name in KEPT:
        for path in out.glob(f"{name}.*"):
            if path.is_dir():
                raise ConfigError(f"output_dir {out}: {path.name} is a folder, in the place of the run's own file")


def check_room(run: Run) -> None:
    """See before the first step that there is room for what the run keeps. Raises ConfigError."""
    weights = sum(tensor.size * tensor.element_size() for tensor in run.model.state_dict().values())
    a_checkpoint = 1 + OPTIMIZER_COPIES[run.cfg.optimizer.name] + (run.ema is not None)
    there_already = min(run.cfg.train.keep_checkpoints, len(list_checkpoints(run.out / "checkpoints")))
    # Those that are kept, a new one beside them, and the best weights
    needed = weights * (a_checkpoint * (run.cfg.train.keep_checkpoints + 1 - there_already) + 1)
    free = shutil.disk_usage(run.out).free
    if free < needed:
        raise ConfigError(
            f"output_dir {run.out} has {free / 1e6:,.1f} MB free; the checkpoints and the best weights of this model "
            f"take {needed / 1e6:,.1f} MB: make room, choose another one, or keep fewer with train.keep_checkpoints"
        )


def write_class_names(run: Run, *, resumed: bool) -> None:
    """Write them beside the weights, where testing and export look for them."""
    path, names = run.out / CLASS_NAMES_FILE, run.known_names
    if names:
        text = "".join(f"{name}\n" for name in names)
        atomic_write(path, lambda temporary: Path(temporary).write_text(text, encoding="utf-8"))
    elif not resumed:
        path.unlink(missing_ok=True)  # of a run that kept nothing else
