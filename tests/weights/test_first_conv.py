"""The first convolution of RGB frames as the start of that of flow or of differences."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import numpy as np
import paddle
import pytest

from paddlevid import create_model
from paddlevid.errors import WeightsError
from paddlevid.models import TSN
from paddlevid.weights import load_trained, load_weights
from paddlevid.weights.load import Plan, plan_load

# The names are those of paddle.vision, and of tsn-pytorch
FIRST = {
    "resnet18": "conv1",
    "resnet34": "conv1",
    "resnet50": "conv1",
    "resnet101": "conv1",
    "mobilenet_v2": "features.0.0",
    "bn_inception": "conv1_7x7_s2",
    "vgg16": "features.0",
    "inception_v3": "inception_stem.conv_1a_3x3.0",
}
HAS_BIAS = {"bn_inception", "vgg16"}
MODALITIES = {
    "flow": ({"modality": "flow", "snippet_length": 5}, "RGB kernel averaged and repeated for 10 channels of flow"),
    "warped_flow": (
        {"modality": "warped_flow", "snippet_length": 3},
        "RGB kernel averaged and repeated for 6 channels of flow",
    ),
    "diff": (
        {"modality": "rgb_diff", "snippet_length": 5},
        "RGB kernel averaged and repeated for 15 channels of differences",
    ),
    "diff with rgb": (
        {"modality": "rgb_diff", "snippet_length": 5, "keep_rgb": True},
        "RGB kernel kept, and its average repeated for 15 channels of differences",
    ),
}
RNG = np.random.default_rng(7)


@cache
def light(backbone: str, **options: Any) -> TSN:
    """A model of names and shapes alone, which takes no memory."""
    with paddle.LazyGuard():
        return create_model("tsn", num_classes=3, backbone=backbone, **options)


def of_ours(model: TSN) -> dict[str, np.ndarray]:
    """A state of an RGB model whose tensors but those of the first convolution have one number each."""
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    state = {name: np.broadcast_to(np.float32(1), shape) for name, shape in shapes.items()}
    for layer in FIRST.values():
        for name in (f"backbone.{layer}.weight", f"backbone.{layer}.bias"):
            if name in shapes:
                state[name] = RNG.standard_normal(shapes[name]).astype("float32")
    return state


def by_the_formula(kernel: np.ndarray, name: str, channels: int) -> np.ndarray:
    """Section 3.2 of the paper, channel by channel: the mean over R, G and B for each; the RGB kernel in front."""
    mean = (kernel[:, 0] + kernel[:, 1] + kernel[:, 2]) / 3
    front = [kernel[:, i] for i in range(3)] if name == "diff with rgb" else []
    return np.stack(front + [mean] * (channels - len(front)), axis=1)


def check(plan: Plan, kernel: np.ndarray, backbone: str, modality: str, bias: np.ndarray | None = None) -> None:
    name = f"backbone.{FIRST[backbone]}"
    said = MODALITIES[modality][1]
    channels = {"flow": 10, "warped_flow": 6, "diff": 15, "diff with rgb": 18}[modality]
    np.testing.assert_allclose(
        plan.values[f"{name}.weight"].read(), by_the_formula(kernel, modality, channels), rtol=1e-5, atol=1e-6
    )
    if bias is not None:
        np.testing.assert_array_equal(plan.values[f"{name}.bias"].read(), bias)
    assert plan.report.first_conv.removeprefix("turned from BGR to RGB; ") == said
    assert f"first convolution: {plan.report.first_conv}" in str(plan.report)
    assert plan.report.start_only


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("backbone", FIRST)
def test_the_formula_of_the_reference_for_each_backbone(backbone: str, modality: str) -> None:
    """From our own file of a trained RGB model."""
    state = of_ours(light(backbone))
    plan = plan_load(light(backbone, **MODALITIES[modality][0]), state)
    name = f"backbone.{FIRST[backbone]}"
    assert (f"{name}.bias" in state) == (backbone in HAS_BIAS)
    check(plan, state[f"{name}.weight"], backbone, modality, state.get(f"{name}.bias"))
    assert plan.report.start_only == "weights for RGB"
    assert (plan.report.new, plan.report.dropped) == ((), {})


def of_torch(state: dict[str, np.ndarray], prefix: str, head: str, *, with_head: bool = True) -> dict[str, np.ndarray]:
    """Our tensors as PyTorch would have them, `backbone.` and `head.` under other names."""
    result = {}
    for name, array in state.items():
        if name.startswith("head.") and not with_head:
            continue
        theirs = name.replace("._mean", ".running_mean").replace("._variance", ".running_var")
        theirs = re.sub("^backbone\\.", prefix, re.sub(r"^head\.", head, theirs))
        result[theirs] = array.T if array.ndim == 2 else array
    return result


@pytest.mark.parametrize("modality", ["flow", "diff", "diff with rgb"])
@pytest.mark.parametrize("backbone", ["resnet18", "bn_inception"])
def test_from_files_of_tsn_pytorch(backbone: str, modality: str) -> None:
    """Its BNInception takes BGR: the kernel that is kept is turned, and the mean is the same."""
    state = of_ours(light(backbone))
    theirs = of_torch(state, "module.base_model.", "module.new_fc.")
    plan = plan_load(light(backbone, **MODALITIES[modality][0]), theirs)
    kernel = state[f"backbone.{FIRST[backbone]}.weight"]
    check(plan, kernel[:, ::-1] if backbone == "bn_inception" else kernel, backbone, modality)
    assert ("turned from BGR to RGB; " in plan.report.first_conv) == (backbone == "bn_inception")


@pytest.mark.parametrize("modality", ["flow", "diff", "diff with rgb"])
@pytest.mark.parametrize("backbone", ["resnet18", "bn_inception", "vgg16"])
def test_from_image_networks_in_pytorch(backbone: str, modality: str) -> None:
    state = of_ours(light(backbone))
    theirs = of_torch(state, "", "", with_head=False)
    last = "classifier.6" if backbone == "vgg16" else "fc"
    theirs |= {f"{last}.weight": np.zeros((7, 4), "float32"), f"{last}.bias": np.zeros(7, "float32")}
    plan = plan_load(light(backbone, **MODALITIES[modality][0]), theirs)
    kernel = state[f"backbone.{FIRST[backbone]}.weight"]
    check(plan, kernel[:, ::-1] if backbone == "bn_inception" else kernel, backbone, modality)
    assert plan.report.new == ("head.weight", "head.bias")
    assert sorted(plan.report.dropped) == [f"{last}.bias", f"{last}.weight"]


def mmaction2(name: str) -> str:
    name = re.sub(r"^head\.", "cls_head.fc_cls.", name)
    name = name.replace(".downsample.0.", ".downsample.conv.").replace(".downsample.1.", ".downsample.bn.")
    name = re.sub(r"\.conv(\d)\.", r".conv\1.conv.", name)
    return re.sub(r"\.bn(\d)\.", r".conv\1.bn.", name)


def paddlevideo(name: str) -> str:
    name = re.sub(r"^head\.", "head.fc.", name)
    name = name.replace(".downsample.0.", ".short._conv.").replace(".downsample.1.", ".short._batch_norm.")
    name = re.sub(r"^backbone\.conv1\.", "backbone.conv._conv.", name)
    name = re.sub(r"^backbone\.bn1\.", "backbone.conv._batch_norm.", name)
    name = re.sub(r"\.layer(\d)\.(\d)\.", lambda m: f".res{int(m[1]) + 1}{'abcdef'[int(m[2])]}.", name)
    name = re.sub(r"\.conv(\d)\.weight$", lambda m: f".conv{int(m[1]) - 1}._conv.weight", name)
    return re.sub(r"\.bn(\d)\.", lambda m: f".conv{int(m[1]) - 1}._batch_norm.", name)


@pytest.mark.parametrize("modality", ["flow", "diff", "diff with rgb"])
@pytest.mark.parametrize("source", ["MMAction2", "PaddleVideo"])
def test_from_other_sources(source: str, modality: str) -> None:
    state = of_ours(light("resnet50"))
    if source == "MMAction2":
        theirs = {mmaction2(name): array for name, array in of_torch(state, "backbone.", "head.").items()}
    else:
        theirs = {paddlevideo(name): array for name, array in state.items()}
    plan = plan_load(light("resnet50", **MODALITIES[modality][0]), theirs)
    assert source in plan.report.source
    check(plan, state["backbone.conv1.weight"], "resnet50", modality)


def test_a_start_is_loaded_into_the_model_and_is_no_trained_model() -> None:
    source = create_model("tsn", num_classes=3, backbone="resnet18")
    model = create_model("tsn", num_classes=3, backbone="resnet18", modality="flow", snippet_length=5)
    state = {name: value.numpy() for name, value in source.state_dict().items()}
    with pytest.raises(WeightsError, match="a start: weights for RGB"):
        load_trained(model, state)
    load_weights(model, state)
    # A grey picture of value v gives in RGB what flow of value v * 3 / 10 gives in the start
    source.eval()
    model.eval()
    grey = paddle.full([1, 2, 3, 32, 32], 1.0)
    flow = paddle.full([1, 10, 2, 32, 32], 0.3)
    with paddle.no_grad():
        np.testing.assert_allclose(model(flow).numpy(), source(grey).numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("file", "model", "words"),
    [
        ("flow", {}, ["takes 10 channels, the model's 3 (RGB)"]),
        ("diff", {}, ["takes 15 channels, the model's 3 (RGB)"]),
        ("diff", MODALITIES["flow"][0], ["takes 15 channels, the model's 10 (flow of 5)"]),
        ("flow", MODALITIES["diff with rgb"][0], ["takes 10 channels, the model's 18 (rgb_diff of 5 with RGB)"]),
        ("flow", {"modality": "flow", "snippet_length": 3}, ["takes 10 channels, the model's 6 (flow of 3)"]),
    ],
)
def test_other_channels_are_refused(file: str, model: dict[str, Any], words: list[str]) -> None:
    state = of_ours(light("resnet18", **MODALITIES[file][0]))
    with pytest.raises(WeightsError) as error:
        plan_load(light("resnet18", **model), state)
    assert "\n" not in str(error.value)
    assert [word for word in words if word not in str(error.value)] == []


def test_an_image_network_is_of_rgb_even_where_a_difference_has_three_channels() -> None:
    """One difference has as many channels as a frame: of a trained model they are what they were trained with."""
    options = {"modality": "rgb_diff", "snippet_length": 1}
    state = of_ours(light("resnet18"))
    kernel = state["backbone.conv1.weight"]
    plan = plan_load(light("resnet18", **options), of_torch(state, "", "fc."))
    np.testing.assert_allclose(
        plan.values["backbone.conv1.weight"].read(), by_the_formula(kernel, "diff", 3), rtol=1e-5, atol=1e-6
    )
    trained = plan_load(light("resnet18", **options), state)
    np.testing.assert_array_equal(trained.values["backbone.conv1.weight"].read(), kernel)
    assert (trained.report.first_conv, trained.report.start_only) == ("", "")


def test_a_skipped_first_convolution_stays_new() -> None:
    model = light("resnet18", **MODALITIES["flow"][0])
    plan = plan_load(model, of_ours(light("resnet18")), skip=r"^backbone\.conv1\.")
    assert plan.report.new == ("backbone.conv1.weight",)
    assert plan.report.first_conv == ""


@pytest.mark.parametrize("shape", [(64, 3, 5, 5), (32, 3, 7, 7), (64, 3), (64, 3, 7, 7, 1), (), (64, 0, 7, 7)])
def test_a_first_convolution_of_another_size_is_named(shape: tuple[int, ...]) -> None:
    state = of_ours(light("resnet18")) | {"backbone.conv1.weight": np.zeros(shape, "float32")}
    with pytest.raises(WeightsError, match=r"backbone\.conv1\.weight|takes 0 channels"):
        plan_load(light("resnet18", **MODALITIES["flow"][0]), state)


def test_whole_numbers_are_no_kernel() -> None:
    state = of_ours(light("resnet18")) | {"backbone.conv1.weight": np.ones((64, 3, 7, 7), "int32")}
    with pytest.raises(WeightsError, match=r"no floating-point numbers: backbone\.conv1\.weight of int32"):
        plan_load(light("resnet18", **MODALITIES["flow"][0]), state)


def test_the_kernel_of_half_precision_is_averaged_in_single() -> None:
    state = of_ours(light("resnet18"))
    half = {name: array.astype("float16") for name, array in state.items()}
    plan = plan_load(light("resnet18", **MODALITIES["flow"][0]), half)
    made = plan.values["backbone.conv1.weight"].read()
    assert made.dtype == np.float32
    kernel = half["backbone.conv1.weight"].astype("float64")
    np.testing.assert_allclose(made[:, 0], kernel.mean(axis=1), rtol=1e-5, atol=1e-6)
