"""What the clips of a recipe are of: how flow is computed, whether stored flow is that, and both in words."""

from __future__ import annotations

import sys
from pathlib import Path

from paddlevid.config import load_config
from paddlevid.data.flow.method import FlowMethod, choose_algorithm
from paddlevid.data.flow.note import find_note, read_note
from paddlevid.data.records import Records
from paddlevid.errors import ConfigError
from paddlevid.schema import Config
from paddlevid.schema.data import DataConfig, FlowConfig


def build_flow(data: DataConfig) -> FlowMethod:
    """How optical flow is computed from two frames.

    Raises:
        ConfigError: the algorithm is not installed.
    """
    flow = data.flow or FlowConfig()
    return FlowMethod(flow_algorithm(data), flow.bound, flow.short_side, data.modality == "warped_flow")


def flow_algorithm(data: DataConfig) -> str:
    """The algorithm of `data.flow`; "auto" is that of the stored flow, where this is there and tells, or the best.

    Raises:
        ConfigError: it is not installed, and flow is not read from folders.
    """
    wanted = (data.flow or FlowConfig()).algorithm
    if data.format != "flow":
        return choose_algorithm(wanted)
    if wanted != "auto":
        return wanted
    note = read_note(data.root) if data.root else None
    return note.algorithm if note is not None else choose_algorithm(wanted)


def check_stored_flow(data: DataConfig, records: Records) -> None:
    """See that folders of flow hold the flow that the recipe describes, as `flow.json` above the first of them says.

    Without such a note, what is taken for granted is said.

    Raises:
        ConfigError: they hold another one.
    """
    if data.format != "flow" or not len(records):
        return
    flow = data.flow or FlowConfig()
    found = find_note(records[0].path)
    if found is None:
        print(
            f"note: there is no flow.json above {records[0].path}; its pictures, {data.template}, are taken for "
            f"{data.modality} whose 0 and 255 are {flow.bound:g} pixels",
            file=sys.stderr,
        )
        return
    folder, note = found
    modality = "warped_flow" if note.warp else "flow"
    for key, stored, own in (
        ("data.modality", modality, data.modality),
        ("data.flow.bound", note.bound, flow.bound),
        ("data.flow.short_side", note.short_side, flow.short_side),
        ("data.flow.algorithm", note.algorithm, note.algorithm if flow.algorithm == "auto" else flow.algorithm),
        ("data.frame_template", note.template, data.template),
        ("data.frame_start_index", note.start_index, data.frame_start_index),
    ):
        if stored != own:
            given, there = ("null" if value is None else value for value in (own, stored))
            raise ConfigError(f"{key} is {given}, but the flow in {folder} has {there}: -o {key}={there}")


def warn_of_other_clips(cfg: Config, weights: str | Path) -> None:
    """Say where the run that made the weights saw clips of another kind: shapes do not always tell.

    Its recipe is the `config.yaml` beside them.
    """
    recipe = Path(weights).parent / "config.yaml"
    if not (Path(weights).exists() and recipe.is_file()):  # a name or an address has nothing beside it
        return
    try:
        trained = load_config(recipe)
    except ConfigError:
        return  # another version's
    for key, get in (
        ("data.modality", lambda recipe: recipe.data.modality),
        ("data.snippet_length", lambda recipe: recipe.data.snippet_length),
        ("model.keep_rgb", lambda recipe: getattr(recipe.model, "keep_rgb", False)),
        ("data.flow.bound", lambda recipe: (recipe.data.flow or FlowConfig()).bound),
    ):
        own, theirs = get(cfg), get(trained)
        if own != theirs:
            print(f"warning: {key} is {own}, {weights} was trained with {theirs}", file=sys.stderr)


def describe_clip(data: DataConfig, num_frames: int) -> str:
    """What a model takes at once, in words."""
    frames = f"{num_frames} frames"
    if data.modality != "rgb":
        kind = {"rgb_diff": "differences", "flow": "flows", "warped_flow": "warped flows"}[data.modality]
        frames = f"{num_frames} snippets of {data.snippet_length} {kind}"
        if data.is_flow:
            frames += f" ({flow_algorithm(data)})"
    return f"{frames} of {data.image_size} x {data.image_size}, {data.sampling.kind} sampling"
