"""What one looks at while a model trains: VisualDL scalars, `metrics.jsonl`, and their curves as a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from paddlevid.runtime import atomic_write

CURVES = (("train", "loss"), ("train", "top1"), ("train", "lr"), ("valid", "top1"))


class Journal:
    """Scalars of a run under `output_dir`; a resumed run continues the files from its step."""

    def __init__(self, output_dir: str | Path, start_step: int = 0):
        from visualdl import LogWriter

        self.path = Path(output_dir) / "metrics.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        kept = [row for row in read_metrics(self.path) if row["step"] <= start_step] if start_step else []
        lines = "".join(json.dumps(row) + "\n" for row in kept)
        atomic_write(self.path, lambda path: Path(path).write_text(lines))
        self.writer = LogWriter(str(Path(output_dir) / "visualdl"))

    def write(self, split: str, step: int, **scalars: float) -> None:
        """Record the scalars of `train` or `valid` after an optimizer step."""
        with self.path.open("a") as file:
            file.write(json.dumps({"split": split, "step": step, **scalars}) + "\n")
        for name, value in scalars.items():
            self.writer.add_scalar(f"{split}/{name}", value, step)

    def close(self) -> None:
        self.writer.close()

    def plot(self) -> None:
        """Draw what there is so far into `curves.png`."""
        plot_curves(self.path, self.path.with_name("curves.png"))


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a `metrics.jsonl`; a last line that a killed process left torn is passed over."""
    rows = []
    try:
        lines = Path(path).read_text().splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def plot_curves(metrics_path: str | Path, png_path: str | Path) -> None:
    """Draw loss, learning rate and accuracy over steps into a PNG."""
    from matplotlib.figure import Figure

    rows = read_metrics(metrics_path)
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    loss_axes, top1_axes, lr_axes = figure.subplots(1, 3)
    panels = {"loss": loss_axes, "top1": top1_axes, "lr": lr_axes}
    for split, name in CURVES:
        points = [(row["step"], row[name]) for row in rows if row["split"] == split and name in row]
        if points:
            steps, values = zip(*points, strict=True)
            style = {"marker": "o", "markersize": 4} if split == "valid" else {"alpha": 0.8}
            panels[name].plot(steps, values, label=split, **style)
    for axes, title in ((loss_axes, "training loss"), (top1_axes, "top-1 accuracy"), (lr_axes, "learning rate")):
        axes.set(title=title, xlabel="step")
        axes.grid(alpha=0.3)
    loss_axes.set_ylim(bottom=0)
    top1_axes.set_ylim(0, 1.02)
    if top1_axes.lines:
        top1_axes.legend(loc="lower right")
    atomic_write(png_path, lambda path: figure.savefig(path, dpi=110))
