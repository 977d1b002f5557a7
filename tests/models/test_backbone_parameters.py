"""Parameters of the backbones: the first convolution, the groups of partial BN, and the order of the layers."""

from typing import get_args

import paddle
import pytest
from paddle import nn

from paddlevid.models import create_model
from paddlevid.models.backbones import FEATURE_DIMS, BackboneName, build_backbone
from paddlevid.models.batch_norm import batch_norms, partial_bn
from paddlevid.models.parameters import describe_parameters, layer_distances
from paddlevid.optim import RoleMultipliers, group_parameters

K = 4
BACKBONES = get_args(BackboneName)
# Their first convolutions: name, output channels, side of the kernel, whether it has a bias
FIRST_CONVS = {
    "resnet18": ("conv1", 64, 7, False),
    "resnet34": ("conv1", 64, 7, False),
    "resnet50": ("conv1", 64, 7, False),
    "resnet101": ("conv1", 64, 7, False),
    "mobilenet_v2": ("features.0.0", 32, 3, False),
    "bn_inception": ("conv1_7x7_s2", 64, 7, True),
    "vgg16": ("features.0", 64, 3, True),
    "inception_v3": ("inception_stem.conv_1a_3x3.0", 32, 3, False),
}
INCEPTIONS = ("bn_inception", "inception_v3")


def unfilled(name, **options):
    """A model whose parameters have no values yet: enough to ask for names and shapes, in no time and no memory."""
    with paddle.LazyGuard():
        return create_model(name, num_classes=K, **options)


def test_each_backbone_has_its_size():
    assert set(BACKBONES) == set(FEATURE_DIMS) == set(FIRST_CONVS)


# ---- the first convolution ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_first_convolution_takes_what_the_snippets_give(backbone):
    name, outputs, side, has_bias = FIRST_CONVS[backbone]
    for options, channels in (({}, 3), ({"modality": "flow", "snippet_length": 5}, 10)):
        found = [
            (info.name, info.parameter.shape)
            for info in describe_parameters(unfilled("tsn", backbone=backbone, **options))
            if "first_conv" in info.roles
        ]
        weight = (f"backbone.{name}.weight", [outputs, channels, side, side])
        assert found == [weight, (f"backbone.{name}.bias", [outputs])][: 1 + has_bias]


@pytest.mark.parametrize("backbone", ["resnet18", *INCEPTIONS])
def test_other_channels_change_the_first_convolution_alone(backbone):
    three, ten = (dict(unfilled("tsn", backbone=backbone, **o).state_dict()) for o in ({}, {"modality": "flow"}))
    assert list(three) == list(ten)
    other = [name for name in three if three[name].shape != ten[name].shape]
    assert other == [f"backbone.{FIRST_CONVS[backbone][0]}.weight"]


@pytest.mark.parametrize("backbone", ["resnet18", "bn_inception"])
def test_a_first_convolution_of_other_channels_begins_by_he_et_al(backbone):
    """std = sqrt(2 / fan_in), over 10 k^2 inputs."""
    paddle.seed(3)
    name, outputs, side, has_bias = FIRST_CONVS[backbone]
    layer = dict(build_backbone(backbone, 10).named_sublayers())[name]
    weight = layer.weight.numpy()
    assert weight.shape == (outputs, 10, side, side)
    assert weight.std() == pytest.approx((2 / (10 * side * side)) ** 0.5, rel=0.03)
    assert abs(weight.mean()) < 0.03 * weight.std()
    assert has_bias == (layer.bias is not None)


@pytest.mark.parametrize(
    ("backbone", "grid"),
    [("resnet18", (17, 20)), ("mobilenet_v2", (17, 20)), ("bn_inception", (17, 20)), ("inception_v3", (16, 19))],
)
def test_strides_and_paddings_of_a_first_convolution_stay(backbone, grid):
    """All have stride 2; Inception v3 does without padding."""
    with paddle.LazyGuard():
        layer = dict(build_backbone(backbone, 10).named_sublayers())[FIRST_CONVS[backbone][0]]
    for parameter in layer.parameters():
        parameter.initialize()
    assert layer(paddle.zeros([1, 10, 33, 40])).shape[2:] == list(grid)


# ---- partial BN and the five groups ---------------------------------------------------------------------------------


def groups_of_the_authors(model, first_conv_mult):
    """{(rate, decay): names}, walking through the layers as `get_optim_policies` of tsn-pytorch does."""
    groups: dict[tuple[float, float], set[str]] = {}
    num_convs = num_norms = 0
    for prefix, layer in model.named_sublayers():
        is_conv = isinstance(layer, nn.Conv2D)
        num_convs += is_conv
        if is_conv or isinstance(layer, nn.Linear):
            mult = first_conv_mult if is_conv and num_convs == 1 else 1
            groups.setdefault((mult, 1), set()).add(f"{prefix}.weight")
            if layer.bias is not None:
                groups.setdefault((2 * mult, 0), set()).add(f"{prefix}.bias")
        elif isinstance(layer, nn.BatchNorm2D):
            num_norms += 1
            if num_norms == 1:
                groups.setdefault((1, 0), set()).update({f"{prefix}.weight", f"{prefix}.bias"})
    return groups


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize(("modality", "first_conv_mult"), [("rgb", 1), ("flow", 5)])
def test_the_groups_are_the_five_of_the_authors(backbone, modality, first_conv_mult):
    model = unfilled("tsn", backbone=backbone, modality=modality)
    num_norms = len(batch_norms(model))
    assert partial_bn(model) == max(0, num_norms - 1)
    names = {id(info.parameter): info.name for info in describe_parameters(model)}
    groups = group_parameters(
        model,
        weight_decay=5e-4,
        lr_mult=RoleMultipliers(first_conv=first_conv_mult, bias=2),
        no_decay=["bias", "norm"],
    )
    found = {
        (group["learning_rate"], group["weight_decay"] / 5e-4): {names[id(p)] for p in group["params"]}
        for group in groups
    }
    assert found == groups_of_the_authors(model, first_conv_mult)
    if modality == "flow":
        # Only two networks have convolutions with biases, and one of them has no batch norms
        no_first_bias = set() if FIRST_CONVS[backbone][3] else {(10, 0)}
        assert set(found) == {(5, 1), (10, 0), (1, 1), (2, 0), (1, 0)} - no_first_bias - (
            set() if num_norms else {(1, 0)}
        )


def test_numbers_of_batch_norms():
    """One behind each convolution, of which the authors' partial BN leaves one to learn; VGG-16 has none."""
    convs = {"resnet50": 53, "mobilenet_v2": 52, "bn_inception": 69, "inception_v3": 94, "vgg16": 0}
    assert {name: len(batch_norms(unfilled("tsn", backbone=name))) for name in convs} == convs


# ---- layers ---------------------------------------------------------------------------------------------------------


def distances(model):
    found = layer_distances(model)
    return {name: found[id(parameter)] for name, parameter in model.named_parameters()}


def test_distances_in_a_bn_inception():
    units = ["3a", "3b", "3c", "4a", "4b", "4c", "4d", "4e", "5a", "5b"]
    for name, distance in distances(unfilled("tsn", backbone="bn_inception")).items():
        part = name.removeprefix("backbone.").split("_")
        if part[0] == "inception":
            assert distance == 10 - units.index(part[1]), name
        else:
            assert distance == (0 if name.startswith("head") else 11), name


def test_distances_in_an_inception_v3():
    for name, distance in distances(unfilled("tsn", backbone="inception_v3")).items():
        part = name.split(".")
        if part[1] == "inception_block_list":
            assert distance == 11 - int(part[2]), name
        else:
            assert distance == (0 if part[0] == "head" else 12), name


def test_distances_in_a_vgg16():
    # Places of its 13 convolutions among pools and ReLUs, then the two linear layers
    convs = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    order = [f"features.{i}" for i in convs] + ["classifier.0", "classifier.3"]
    found = distances(unfilled("tsn", backbone="vgg16"))
    expected = {f"backbone.{layer}.{own}": 15 - i for i, layer in enumerate(order) for own in ("weight", "bias")}
    assert found == expected | {"head.weight": 0, "head.bias": 0}
