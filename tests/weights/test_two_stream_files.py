"""Files of tsn-pytorch and of the networks that it starts from: what they are taken for, and what they want."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from safetensors.numpy import load_file, save_file

from paddlevid import create_model, load_weights
from paddlevid.errors import WeightsError
from paddlevid.models import TSN
from paddlevid.weights import convert_weights
from paddlevid.weights.convert import infer_options
from paddlevid.weights.load import Plan, plan_load, recognise
from paddlevid.weights.opening import open_source
from paddlevid.weights.report import LoadReport

State = dict[str, np.ndarray]
ONE = np.float32(1)
K1 = 1 / 255
FLOW = {"modality": "flow", "snippet_length": 5}
DIFF = {"modality": "rgb_diff", "snippet_length": 5}
WITH_RGB = {**DIFF, "keep_rgb": True}


@cache
def light(backbone: str, name: str = "tsn", **options: Any) -> TSN:
    """A model of names and shapes alone."""
    with paddle.LazyGuard():
        return create_model(name, num_classes=3, backbone=backbone, **options)


@cache
def ours(backbone: str, **options: Any) -> State:
    """A state of ones, in one number's memory each."""
    return {name: np.broadcast_to(ONE, tuple(v.shape)) for name, v in light(backbone, **options).state_dict().items()}


def torch_names(state: State, prefix: str, head: str) -> State:
    """Our tensors as PyTorch has them; no `head` leaves the classifier out."""
    result = {}
    for name, array in state.items():
        if head or not name.startswith("head."):
            renamed = name.replace("._mean", ".running_mean").replace("._variance", ".running_var")
            renamed = re.sub("^backbone\\.", prefix, re.sub(r"^head\.", head, renamed))
            result[renamed] = array.T if array.ndim == 2 else array
    return result


def tsn_pytorch(backbone: str, **options: Any) -> State:
    return torch_names(ours(backbone, **options), "module.base_model.", "module.new_fc.")


def bn_inception(last: str = "fc", *, old: bool = False) -> State:
    """The image network; in the `old` file norms have two axes."""
    state = torch_names(ours("bn_inception"), "", "")
    if old:
        state = {name: array[None] if "_bn." in name else array for name, array in state.items()}
    return state | {f"{last}.weight": np.zeros((7, 1024), "float32"), f"{last}.bias": np.zeros(7, "float32")}


def accounted(plan: Plan, state: State) -> None:
    """Each tensor of the file is used once or dropped, each of the model's is loaded or the head's."""
    assert len(plan.values) + len(plan.report.dropped) == len(state)
    assert set(plan.report.new) <= {"head.weight", "head.bias"}


# ---- what frames the networks want ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backbone", "options", "mean", "std"),
    [
        ("resnet18", {}, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ("resnet18", FLOW, [0.5] * 2, [(0.229 + 0.224 + 0.225) / 3] * 2),
        ("resnet18", {**FLOW, "modality": "warped_flow"}, [0.5] * 2, [0.226] * 2),
        ("resnet18", DIFF, [0.0] * 3, [1.0] * 3),
        ("mobilenet_v2", WITH_RGB, [0.0] * 3, [1.0] * 3),
        ("bn_inception", {}, [128 / 255, 117 / 255, 104 / 255], [K1] * 3),
        ("bn_inception", {}, [0.50196, 0.45882, 0.40784], [0.0039216] * 3),
        ("bn_inception", FLOW, [128 / 255] * 2, [K1] * 2),
        ("bn_inception", DIFF, [0.3, 0.4, 0.5], [K1] * 3),
        ("bn_inception", WITH_RGB, [0.0] * 3, [K1] * 3),
    ],
)
def test_the_norm_of_the_authors_is_wanted(
    backbone: str, options: dict[str, Any], mean: list[float], std: list[float]
) -> None:
    report = plan_load(light(backbone, **options), tsn_pytorch(backbone, **options)).report
    assert report.start_only == ""
    assert report.norm_warning(mean, std) == ""
    assert report.norm_warning(mean, [2 * number for number in std]).startswith("these weights were trained with ")
    assert report.norm_warning([*mean, 0.5], [*std, 0.5]) != ""
    shifted = report.norm_warning([number + 0.1 for number in mean], std)
    assert (shifted == "") == (options.get("modality") == "rgb_diff")  # the difference of two frames has no mean


def test_the_warning_says_what_to_type() -> None:
    report = plan_load(light("bn_inception", **FLOW), tsn_pytorch("bn_inception", **FLOW)).report
    assert report.norm_warning([0.5, 0.5], [0.226, 0.226]) == (
        "these weights were trained with mean [0.501961, 0.501961] and std [0.00392157, 0.00392157], the config has "
        "mean [0.5, 0.5] and std [0.226, 0.226]: "
        "-o data.mean='[0.501961, 0.501961]' -o data.std='[0.00392157, 0.00392157]'"
    )
    report = plan_load(light("resnet18", **DIFF), tsn_pytorch("resnet18", **DIFF)).report
    assert report.norm_warning([0.5] * 3, [0.25] * 3) == (
        "these weights were trained with std [1.0, 1.0, 1.0], the config has std [0.25, 0.25, 0.25]: "
        "-o data.std='[1.0, 1.0, 1.0]'"
    )


@pytest.mark.parametrize("options", [{}, FLOW, DIFF])
def test_a_start_is_warned_of_on_another_scale_alone(options: dict[str, Any]) -> None:
    """BN-Inception takes 0 to 255: fifty times what a ResNet takes."""
    channels = 2 if options.get("modality") == "flow" else 3
    report = plan_load(light("bn_inception", **options), bn_inception()).report
    assert report.norm_warning([0.4] * channels, [0.005] * channels) == ""
    warning = report.norm_warning([0.5] * channels, [0.226] * channels)
    assert warning.startswith("these weights want frames of ")
    assert "0.00392157" in warning
    resnet = plan_load(light("resnet18", **FLOW), tsn_pytorch("resnet18")).report
    assert resnet.start_only == "weights for RGB"
    assert resnet.norm_warning([128 / 255] * 2, [128 / 255] * 2) == ""  # no norm of RGB is asked of flow


def test_flow_of_mmaction2_has_a_norm_of_its_own() -> None:
    theirs = {}
    for name, array in torch_names(ours("resnet18", **FLOW), "backbone.", "cls_head.fc_cls.").items():
        renamed = name.replace(".downsample.0.", ".downsample.conv.").replace(".downsample.1.", ".downsample.bn.")
        theirs[re.sub(r"\.bn(\d)\.", r".conv\1.bn.", re.sub(r"\.conv(\d)\.w", r".conv\1.conv.w", renamed))] = array
    report = plan_load(light("resnet18", **FLOW), theirs).report
    assert "MMAction2" in report.source
    assert report.norm_warning([128 / 255] * 2, [128 / 255] * 2) == ""
    assert report.norm_warning([0.5] * 2, [0.226] * 2) != ""


# ---- colours --------------------------------------------------------------------------------------------------------


def numbered(channels: int) -> np.ndarray:
    """A first convolution whose input channel i holds i."""
    return np.broadcast_to(np.arange(channels, dtype="float32")[:, None, None], (64, channels, 7, 7))


FIRST = "backbone.conv1_7x7_s2.weight"


@pytest.mark.parametrize(
    ("options", "order"),
    [
        ({}, [2, 1, 0]),
        (FLOW, list(range(10))),
        ({**FLOW, "snippet_length": 3}, list(range(6))),  # as many as of two differences
        (DIFF, [2, 1, 0, 5, 4, 3, 8, 7, 6, 11, 10, 9, 14, 13, 12]),
        (WITH_RGB, [2, 1, 0, 5, 4, 3, 8, 7, 6, 11, 10, 9, 14, 13, 12, 17, 16, 15]),
    ],
)
def test_bn_inception_of_the_authors_is_turned_to_rgb_and_ours_is_not(
    options: dict[str, Any], order: list[int]
) -> None:
    state = ours("bn_inception", **options) | {FIRST: numbered(len(order))}
    model = light("bn_inception", **options)
    theirs = plan_load(model, torch_names(state, "module.base_model.", "module.new_fc."))
    assert theirs.values[FIRST].read()[0, :, 0, 0].tolist() == order
    assert theirs.report.first_conv == ("" if order == sorted(order) else "turned from BGR to RGB")
    kept = plan_load(model, state)
    assert "paddlevid" in kept.report.source
    assert kept.values[FIRST].read()[0, :, 0, 0].tolist() == list(range(len(order)))
    assert kept.report.first_conv == ""


# ---- image networks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("last", ["fc", "last_linear"])
def test_the_files_of_bn_inception(last: str, old: bool) -> None:
    state = bn_inception(last, old=old) | {"conv1_7x7_s2.weight": numbered(3)}
    rng = np.random.default_rng(3)
    mean = rng.standard_normal(64).astype("float32")
    state["conv2_3x3_reduce_bn.running_mean"] = mean[None] if old else mean
    plan = plan_load(light("bn_inception"), state)
    accounted(plan, state)
    assert plan.report.start_only == "weights of an image network"
    assert set(plan.report.dropped) == {f"{last}.weight", f"{last}.bias"}
    np.testing.assert_array_equal(plan.values["backbone.conv2_3x3_reduce_bn._mean"].read(), mean)
    assert plan.values[FIRST].read()[0, :, 0, 0].tolist() == [2, 1, 0]


def test_a_network_of_flow_without_its_classifier_is_a_start() -> None:
    """As the authors of SSN publish theirs, trained on Kinetics."""
    state = torch_names(ours("bn_inception", **FLOW), "", "") | {"conv1_7x7_s2.weight": numbered(10)}
    plan = plan_load(light("bn_inception", **FLOW), state)
    accounted(plan, state)
    assert plan.report.start_only == "weights of a network without its classifier"
    assert plan.report.first_conv == ""
    assert plan.values[FIRST].read()[0, :, 0, 0].tolist() == list(range(10))
    with pytest.raises(WeightsError, match="takes 10 channels, the model's 3"):
        plan_load(light("bn_inception"), state)


@pytest.mark.parametrize("of_torch", [True, False])
def test_vgg_of_torchvision_and_of_paddle(of_torch: bool) -> None:
    """Both have the same names, and matrices turned to each other."""
    state = {
        name.removeprefix("backbone."): a.T if of_torch and a.ndim == 2 else a
        for name, a in ours("vgg16").items()
        if name.startswith("backbone.")
    }
    square = np.triu(np.broadcast_to(ONE, (4096, 4096)))
    state["classifier.3.weight"] = square.T if of_torch else square
    state |= {"classifier.6.weight": np.broadcast_to(ONE, (1000, 4096) if of_torch else (4096, 1000))}
    state |= {"classifier.6.bias": np.broadcast_to(ONE, (1000,))}
    plan = plan_load(light("vgg16"), state)
    accounted(plan, state)
    assert set(plan.report.dropped) == {"classifier.6.weight", "classifier.6.bias"}
    assert plan.values["backbone.classifier.0.weight"].shape == (25088, 4096)
    np.testing.assert_array_equal(plan.values["backbone.classifier.3.weight"].read()[:2, :2], [[1, 1], [0, 1]])


def test_inception_v3_of_torchvision() -> None:
    """Its layers come in the order of paddle.vision's, by which they are named here."""
    blocks = ["5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"]
    state = {}
    for name, array in torch_names(ours("inception_v3"), "", "").items():
        layer, index, kind = name.rsplit(".", 2)
        layer = re.sub(r"^inception_block_list\.(\d+)", lambda m: f"Mixed_{blocks[int(m[1])]}", layer)
        layer = layer.replace("inception_stem.conv_", "Conv2d_").replace("branch_pool_conv", "branch_pool")
        state[f"{layer}.{'conv' if index == '0' else 'bn'}.{kind}"] = array
        if index == "1" and kind == "running_var":
            state[f"{layer}.bn.num_batches_tracked"] = np.array(9)
    assert "Mixed_7c.branch3x3dbl_3b.bn.running_var" in state
    state |= {"AuxLogits.conv0.conv.weight": np.ones((128, 768, 1, 1), "float32"), "fc.bias": np.ones(7, "float32")}
    state |= {"AuxLogits.fc.weight": np.ones((7, 768), "float32"), "fc.weight": np.ones((7, 2048), "float32")}
    plan = plan_load(light("inception_v3"), state)
    accounted(plan, state)
    reasons = {name.split(".")[0]: reason for name, reason in plan.report.dropped.items()}
    assert "auxiliary classifier" in reasons["AuxLogits"]
    assert "classifier of the image network" in reasons["fc"]
    with pytest.raises(WeightsError, match="Mixed_8a is no block"):
        plan_load(light("inception_v3"), state | {"Mixed_8a.branch1x1.conv.weight": np.ones((1, 1, 1, 1), "float32")})


def test_inception_v3_of_paddle_vision() -> None:
    state = {n.removeprefix("backbone."): a for n, a in ours("inception_v3").items() if n.startswith("backbone.")}
    state |= {"fc.weight": np.ones((2048, 7), "float32"), "fc.bias": np.ones(7, "float32")}
    plan = plan_load(light("inception_v3"), state)
    accounted(plan, state)
    assert plan.report.start_only == "weights of an image network"


# ---- the model that a file is of ------------------------------------------------------------------------------------


def told(state: State, tmp_path: Path, name: str | None = None) -> dict[str, Any]:
    """What the names and shapes tell; their numbers are not looked at."""
    path = tmp_path / "w.safetensors"
    save_file({key: np.zeros(array.shape, "int8") for key, array in state.items()}, path)
    return infer_options(path, name)


@pytest.mark.parametrize(
    ("backbone", "options"),
    [
        ("resnet18", {}),
        ("resnet50", FLOW),
        ("resnet34", DIFF),
        ("mobilenet_v2", WITH_RGB),
    ],
)
def test_the_first_convolution_tells_the_modality(backbone: str, options: dict[str, Any], tmp_path: Path) -> None:
    expected = {"name": "tsn", "num_classes": 3, "backbone": backbone, **options}
    if backbone != "mobilenet_v2":  # its authors' names are those of another list of layers
        assert told(tsn_pytorch(backbone, **options), tmp_path) == expected
    assert told(ours(backbone, **options), tmp_path, "tsn") == expected


@pytest.mark.parametrize("options", [{}, FLOW, DIFF, WITH_RGB])
def test_bn_inception_does_not_tell_tsm_from_tsn(options: dict[str, Any], tmp_path: Path) -> None:
    state = tsn_pytorch("bn_inception", **options)
    with pytest.raises(WeightsError, match="--model"):
        told(state, tmp_path)
    expected = {"num_classes": 3, "backbone": "bn_inception", **options}
    assert told(state, tmp_path, "tsn") == {"name": "tsn", **expected}
    assert told(state, tmp_path, "tsm") == {"name": "tsm", "shift_place": "block", **expected}
    tsm = light("bn_inception", "tsm", shift_place="block", **options)
    assert plan_load(tsm, state).report.start_only == ""


@pytest.mark.parametrize(("length", "channels"), [(2, 4), (9, 18)])
def test_other_channels_ask_for_a_recipe(length: int, channels: int, tmp_path: Path) -> None:
    """18 channels are also those of nine flows: only the authors' five of a snippet are told."""
    state = tsn_pytorch("resnet18", modality="flow", snippet_length=length)
    if channels == 18:
        assert told(state, tmp_path)["modality"] == "rgb_diff"
    else:
        with pytest.raises(WeightsError, match=r"takes 4 channels.* say with -c which modality and snippet_length"):
            told(state, tmp_path)


def test_a_file_of_flow_is_converted_without_a_recipe(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    model = create_model("tsn", num_classes=3, backbone="resnet18", **FLOW)
    state = {name: rng.random(tuple(v.shape)).astype("float32") for name, v in model.state_dict().items()}
    theirs = torch_names(state, "module.base_model.", "module.new_fc.")
    save_file({name: np.ascontiguousarray(array) for name, array in theirs.items()}, tmp_path / "theirs.safetensors")
    conversion = convert_weights(tmp_path / "theirs.safetensors", tmp_path / "ours.safetensors")
    assert conversion.options == {"name": "tsn", "num_classes": 3, "backbone": "resnet18", **FLOW}
    assert conversion.report.image_norm == ((0.5, 0.5), (0.226, 0.226))
    written = load_file(tmp_path / "ours.safetensors")
    assert sorted(written) == sorted(state)
    for name, array in state.items():
        np.testing.assert_array_equal(written[name], array, err_msg=name)


# ---- odd files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backbone", "change", "words"),
    [
        ("bn_inception", {"module.base_model.fc.weight": (3, 1024)}, "two tensors of the file stand for head.weight"),
        ("bn_inception", {"module.base_model.conv2_3x3.bias": None}, "conv2_3x3.bias"),
        ("bn_inception", {"module.base_model.conv1_7x7_s2.bias": (3,)}, "conv1_7x7_s2.bias [3]"),
        ("bn_inception", {"module.base_model.conv1_7x7_s2.weight": (64, 3, 5, 5)}, "[64, 3, 5, 5]"),
        ("bn_inception", {"module.base_model.conv1_7x7_s2.weight": (64,)}, "conv1_7x7_s2.weight [64]"),
        ("bn_inception", {"module.base_model.conv1_7x7_s2.weight": None}, "conv1_7x7_s2.weight"),
        ("bn_inception", {"module.base_model.conv2_3x3_bn.weight": (2, 192)}, "conv2_3x3_bn.weight"),
        ("bn_inception", {"module.base_model.inception_6a_1x1.weight": (1,)}, "inception_6a_1x1.weight"),
        ("resnet18", {"module.base_model.top_cls_fc.weight": (3, 2048)}, "Inception v3 of a fork of tsn-pytorch"),
        ("resnet18", {"module.base_model.Mixed_5b.branch1x1.conv.weight": (1,)}, "a fork of tsn-pytorch"),
        ("resnet18", {"module.base_model.conv1.bias": (64,)}, "conv1.bias"),
    ],
)
def test_odd_files_are_an_error_that_names_the_tensor(
    backbone: str, change: dict[str, tuple[int, ...] | None], words: str
) -> None:
    state = tsn_pytorch(backbone)
    for name, shape in change.items():
        if shape is None:
            del state[name]
        else:
            state[name] = np.ones(shape, "float32")
    with pytest.raises(WeightsError) as error:
        plan_load(light(backbone), state)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("shape", [(), (2,), (4096, 25088, 1)])
def test_a_vgg_of_odd_shapes_is_an_error(shape: tuple[int, ...]) -> None:
    state = {name: np.zeros(shape, "int8") for name in ("features.0.weight", "classifier.0.weight")}
    with pytest.raises(WeightsError):
        plan_load(light("vgg16"), state)


def test_what_is_recognised() -> None:
    """The names of these networks with Paddle's norms are ours, and not to be turned."""
    backbone = {n.removeprefix("backbone."): a for n, a in ours("bn_inception").items() if n.startswith("backbone.")}
    assert recognise(open_source(backbone).state).name == "paddlevid"
    assert recognise(open_source(bn_inception()).state).name.startswith("BN-Inception")
    assert isinstance(plan_load(light("bn_inception"), bn_inception()).report, LoadReport)


def test_flow_weights_of_tsm_by_their_public_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {}
    for name, array in tsn_pytorch("resnet50", **FLOW).items():
        inside = re.fullmatch(r"(.*\.layer\d\.\d+\.conv1)\.weight", name)
        state[f"{inside[1]}.net.weight" if inside else name] = array
    path = tmp_path / "tsm.safetensors"
    save_file({name: np.zeros(array.shape, "int8") for name, array in state.items()}, path)
    monkeypatch.setattr("paddlevid.weights.opening.locate", lambda _: path)
    options = infer_options("tsm_r50_flow_k400")
    assert options == {"name": "tsm", "num_classes": 3, "backbone": "resnet50", **FLOW}
    report = plan_load(light("resnet50", "tsm", **FLOW), state).report
    assert report.start_only == ""
    assert report.image_norm == ((0.5, 0.5), (0.226, 0.226))


def test_inception_v3_of_paddle_vision_gives_its_features() -> None:
    """Which adds another epsilon to variances."""
    from paddle.vision.models import inception_v3

    paddle.seed(0)
    theirs = inception_v3(num_classes=0)
    rng = np.random.default_rng(0)
    for name, value in theirs.state_dict().items():
        if name.endswith("._variance"):
            value.set_value(rng.uniform(0.001, 0.1, value.shape).astype(np.float32))
    theirs.eval()
    model = create_model("tsn", num_classes=2, num_segments=1, backbone="inception_v3")
    load_weights(model, {name: value.numpy() for name, value in theirs.state_dict().items()})
    model.eval()
    frames = paddle.to_tensor(rng.standard_normal((1, 3, 75, 75), np.float32))
    expected = theirs(frames).numpy().reshape(1, -1)
    found = model.forward_features(frames.unsqueeze(1)).numpy()
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
