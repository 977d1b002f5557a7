"""What one looks at while a model trains: `metrics.jsonl`, its curves as a picture, clips, and all in VisualDL."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from paddlevid.journal.curves import plot_curves
from paddlevid.journal.visualdl_log import AppendedFile, histogram_record, image_record, scalar_records, start_log
from paddlevid.pictures import clip_grid, encode_png
from paddlevid.runtime import atomic_write, logger


class Journal:
    """Scalars, clips and histograms of a run under `output_dir`; a resumed run continues the files from its step.

    Once it is there, a disk that takes no more does not end the run: a warning says so, once, and what could not be
    written is written as soon as there is space.

    Args:
        start_step: what the files have of later steps is dropped, because the run does these steps again.
        keep_valid_at_start: False where the run also validates `start_step` again.
    """

    def __init__(self, output_dir: str | Path, start_step: int = 0, *, keep_valid_at_start: bool = True):
        self.folder = Path(output_dir)
        self.path = self.folder / "metrics.jsonl"
        (self.folder / "visualdl").mkdir(parents=True, exist_ok=True)
        rows = _kept(read_metrics(self.path), start_step, keep_valid_at_start) if start_step else []
        lines = "".join(map(_line, rows))
        atomic_write(self.path, lambda path: Path(path).write_text(lines, encoding="utf-8"))
        log_path = start_log(self.folder / "visualdl", rows, start_step)
        self._metrics, self._log = AppendedFile(self.path), AppendedFile(log_path)
        self._start_step = start_step
        self._has_warned = False

    def write(self, split: str, step: int, **scalars: float) -> None:
        """Record the scalars of `train` or `valid` after an optimizer step."""
        row = {"split": split, "step": step, **{name: float(value) for name, value in scalars.items()}}
        with self._sparing_the_run():
            self._metrics.append(_line(row).encode())
        self._append_to_log(scalar_records(row))

    def clips(self, frames: np.ndarray, captions: Sequence[str]) -> None:
        """Show what the run learns from first: uint8 `[B, 1, T, H, W, C]` into `train_clips.png` and VisualDL."""
        png = encode_png(clip_grid(frames, captions))
        with self._sparing_the_run():
            atomic_write(self.folder / "train_clips.png", lambda path: Path(path).write_bytes(png))
        self._append_to_log(image_record("train/clips", self._start_step, png))

    def histograms(
        self, step: int, named_parameters: Iterable[tuple[str, Any]], gradients: Mapping[str, Any] | None = None
    ) -> None:
        """Histograms of weights and, by the same names, of gradients: tensors or arrays of any float type."""
        for kind, tensors in (("weights", named_parameters), ("gradients", (gradients or {}).items())):
            for name, tensor in tensors:
                values = np.asarray(tensor.astype("float32"))  # bfloat16 is not known to NumPy
                self._append_to_log(histogram_record(f"{kind}/{name}", step, values.ravel()))

    def plot(self) -> None:
        """Draw what there is so far into `curves.png`."""
        with self._sparing_the_run():
            plot_curves(read_metrics(self.path), self.folder / "curves.png")

    def close(self) -> None:
        """Try once more to write what a full disk refused."""
        for file in (self._metrics, self._log):
            with self._sparing_the_run():
                file.append(b"")

    def _append_to_log(self, records: bytes) -> None:
        with self._sparing_the_run():
            self._log.append(records)

    @contextmanager
    def _sparing_the_run(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._has_warned:
                self._has_warned = True
                where = error.filename or self.folder
                logger.warning(
                    f"warning: {where}: {error.strerror or error}; training goes on, its curves may lack steps"
                )


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a `metrics.jsonl`; a line that a killed process left torn is passed over."""
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and {"split", "step"} <= row.keys():
            rows.append(row)
    return rows


def _kept(rows: list[dict[str, Any]], start_step: int, keep_valid_at_start: bool) -> list[dict[str, Any]]:
    """What a run resumed at `start_step` does not do again; of rows of one step the last."""
    latest = {(row["split"], row["step"]): row for row in rows}
    return [
        row
        for (split, step), row in latest.items()
        if step < start_step or (step == start_step and (split == "train" or keep_valid_at_start))
    ]


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row) + "\n"
