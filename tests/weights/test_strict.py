"""One wrong key in a file of another author is an error that names it: the keys of each family, in three ways."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddlevid import create_model
from paddlevid.errors import WeightsError
from paddlevid.weights import load_weights
from paddlevid.weights.load import plan_load

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
FAMILIES = [
    *(f"official-timesformer-{kind}" for kind in ("divided_space_time", "joint_space_time", "space_only")),
    "transformers-timesformer-divided_space_time",
    "mmaction-timesformer-divided_space_time",
    "mmaction-timesformer-joint_space_time",
    "paddlevideo-timesformer-divided_space_time",
    "timm-vit",
    "transformers-vit",
    "paddleclas-vit",
    "official-tsm-resnet18",
    "official-tsm-mobilenet_v2",
    "mmaction-tsn-resnet18",
    "mmaction-tsm-mobilenet_v2",
    "paddlevideo-tsm-resnet50-4",
    "torchvision-resnet18",
    "torchvision-mobilenet_v2",
    "tsm-mobilenet_v2",
    "paddleclas-resnet50-old",
    "paddleclas-resnet50-new",
    "tsnpytorch-tsn-resnet18-rgb_diff-with_rgb",
    "tsnpytorch-tsn-bn_inception-flow",
    "mmaction-tsn-resnet18-flow",
    "pretrainedmodels-bn_inception",
    "torchvision-inception_v3",
]
# A family of each author and of each kind of key is quick; the others take longest
SLOW = {
    "official-tsm-mobilenet_v2",
    "mmaction-tsm-mobilenet_v2",
    "tsm-mobilenet_v2",
    "paddleclas-resnet50-old",
    "tsnpytorch-tsn-resnet18-rgb_diff-with_rgb",
    "tsnpytorch-tsn-bn_inception-flow",
    "mmaction-tsn-resnet18-flow",
    "pretrainedmodels-bn_inception",
    "torchvision-inception_v3",
}
# The head of an image network is not used, whatever its shape
IMAGE_HEADS = ("head.", "classifier.", "fc.", "out.", "last_linear.", "AuxLogits.")


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in FAMILIES],
)
def family(request: pytest.FixtureRequest) -> tuple[Any, dict[str, np.ndarray], dict[str, str]]:
    """Our model, a state of zeros under the names of the source, and our name by the source's, where it has one."""
    with np.load(GOLDEN / f"{request.param}.npz") as arrays:
        about = json.loads(str(arrays["about"]))
    model = create_model(**about["model"])
    # Broadcast from one number: a state of no bytes, of which nothing is ever read
    state = {name: np.broadcast_to(np.float32(0), shape) for name, shape in about["shapes"].items()}
    new = set(plan_load(model, state).report.new)
    used = [
        name
        for name in state
        if not name.endswith("num_batches_tracked")
        and not (about["compare"] == "features" and name.startswith(IMAGE_HEADS))
    ]
    ours = {}
    for name in used:
        skipped = set(plan_load(model, state, skip=[f"^{re.escape(name)}$"]).report.new) - new
        # An image transformer's attention over space starts that over time as well
        direct = [own for own in skipped if len(skipped) == 1 or "temporal_" not in own]
        assert len(direct) == 1, (name, skipped)
        ours[name] = direct[0]
    return model, state, ours


def refusal(model: Any, state: dict[str, np.ndarray]) -> str:
    """The message that these weights are refused with, or why that is not good."""
    try:
        load_weights(model, state)
    except WeightsError as error:
        return str(error)
    return "(no error)"


def test_a_renamed_key_is_named_with_its_nearest(family: Any) -> None:
    model, state, ours = family
    wrong = []
    for name, own in ours.items():
        layer, dot, kind = name.rpartition(".")
        renamed = f"{layer}x{dot}{kind}"
        others = {other: value for other, value in state.items() if other != name}
        message = refusal(model, others | {renamed: state[name]})
        if renamed not in message or (own not in message and name not in message.replace(renamed, "")):
            wrong.append((renamed, message))
    assert wrong == []


def test_a_missing_key_is_named(family: Any) -> None:
    model, state, ours = family
    wrong = []
    for name, own in ours.items():
        message = refusal(model, {other: value for other, value in state.items() if other != name})
        if own not in message and name not in message:
            wrong.append((name, message))
    assert wrong == []


def test_a_key_of_another_shape_is_named_with_both(family: Any) -> None:
    model, state, ours = family
    wrong = []
    for name, own in ours.items():
        shape = (*state[name].shape[:-1], state[name].shape[-1] + 1)
        message = refusal(model, state | {name: np.broadcast_to(np.float32(0), shape)})
        if (own not in message and name not in message) or str(shape[-1]) not in message:
            wrong.append((name, shape, message))
    assert wrong == []


def conv_norm(name: str, inputs: int, outputs: int, kernel: int) -> dict[str, tuple[int, ...]]:
    """Shapes of a convolution and its normalisation under the new names of PaddleClas."""
    norm = {f"{name}.bn.{kind}": (outputs,) for kind in ("weight", "bias", "_mean", "_variance")}
    return {f"{name}.conv.weight": (outputs, inputs, kernel, kernel), **norm}


@pytest.mark.parametrize(("depth", "counts"), [(18, (2, 2, 2, 2)), (34, (3, 4, 6, 3))])
def test_the_small_resnets_of_paddleclas_have_one_shortcut_more(depth: int, counts: tuple[int, ...]) -> None:
    """Their first block has a convolution in its shortcut where the network of the paper, and ours, has none."""
    shapes = conv_norm("stem.0", 3, 64, 7) | {"fc.weight": (512, 1000), "fc.bias": (1000,)}
    inputs, index = 64, 0
    for stage, count in enumerate(counts):
        width = 64 << stage
        for i in range(count):
            shapes |= conv_norm(f"blocks.{index}.conv0", inputs, width, 3)
            shapes |= conv_norm(f"blocks.{index}.conv1", width, width, 3)
            shapes |= {} if i else conv_norm(f"blocks.{index}.short", inputs, width, 1)
            inputs, index = width, index + 1
    state = {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}
    model = create_model("tsn", backbone=f"resnet{depth}", num_classes=3, num_segments=2)
    assert "blocks.0.short" in refusal(model, state)
    without = {name: value for name, value in state.items() if not name.startswith("blocks.0.short.")}
    assert load_weights(model, without).new == ("head.weight", "head.bias")
