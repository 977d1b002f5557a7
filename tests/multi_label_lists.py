"""Multi-label lists of the motion set: what its classes have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

NAMES = ["across", "up or down", "turns", "changes its size", "the first of two ways"]
# Of each motion, as its field in a list
LABELS = {
    "left": "0,4",
    "right": "0",
    "up": "4,1",
    "down": "1",
    "clockwise": "2,4",
    "counter-clockwise": "2",
    "growing": "3,4",
    "shrinking": "-",
}


def write_multi_label_list(source: Path, target: Path) -> np.ndarray:
    """Write the videos of a list of the motion set with the labels of `LABELS`; return them as bool `[N, K]`."""
    lines, rows = [], []
    for line in source.read_text().splitlines():
        path = line.rsplit(" ", 1)[0]
        labels = LABELS[path.rsplit("_", 1)[1].removesuffix(".mp4")]
        lines.append(f"{path} {labels}\n")
        rows.append([str(label) in labels.split(",") for label in range(len(NAMES))])
    target.write_text("".join(lines))
    return np.array(rows)


def to_multi_label(recipe: dict[str, Any], motion_set: Path, folder: Path) -> dict[str, Any]:
    """A recipe for the motion set with multi-label lists, which are written into `folder`."""
    for split in ("train", "valid", "test"):
        write_multi_label_list(motion_set / f"{split}.txt", folder / f"{split}.txt")
        recipe = {**recipe, split: {**recipe[split], "list": str(folder / f"{split}.txt")}}
    (folder / "names.txt").write_text("\n".join(NAMES))
    data = {"num_classes": len(NAMES), "multi_label": True, "class_names": str(folder / "names.txt")}
    return {**recipe, "data": {**recipe["data"], **data}}
