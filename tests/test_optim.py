import math

import numpy as np
import paddle
import pytest

from paddlevid.errors import ConfigError
from paddlevid.models import create_model
from paddlevid.models.freeze import freeze_parameters
from paddlevid.models.parameters import describe_parameters, layer_distances
from paddlevid.optim import Group, RoleMultipliers, Schedule, build_optimizer, group_parameters


def test_step_schedule_of_the_timesformer_recipe():
    schedule = Schedule("step", base_lr=0.005, steps_per_epoch=10, epochs=15, milestone_epochs=(11, 14))
    assert [schedule(step) for step in (0, 109, 110, 139, 140, 149)] == pytest.approx(
        [0.005, 0.005, 5e-4, 5e-4, 5e-5, 5e-5]
    )


def test_cosine_goes_from_base_to_min():
    schedule = Schedule("cosine", base_lr=1.0, steps_per_epoch=10, epochs=10, min_lr=0.2)
    assert schedule(0) == 1.0
    assert schedule(50) == pytest.approx(0.6)
    assert schedule(25) == pytest.approx(0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi / 4)))
    assert schedule(100) == pytest.approx(0.2)


def test_warmup_is_linear_and_meets_the_schedule():
    schedule = Schedule("constant", base_lr=2.0, steps_per_epoch=4, epochs=5, warmup_epochs=1, warmup_start_factor=0.5)
    assert [schedule(step) for step in range(6)] == pytest.approx([1.0, 1.25, 1.5, 1.75, 2.0, 2.0])


def test_cosine_begins_after_the_warmup():
    schedule = Schedule("cosine", base_lr=1.0, steps_per_epoch=10, epochs=3, warmup_epochs=1)
    assert schedule(10) == 1.0
    assert schedule(20) == pytest.approx(0.5)


# ---- groups ---------------------------------------------------------------------------------------------------------


VALUES = {"token": 0.5, "conv.weight": 1.0, "conv.bias": 2.0, "norm.weight": 3.0, "norm.bias": 4.0}
VALUES |= {"fc.weight": 5.0, "fc.bias": 6.0, "head.weight": 7.0, "head.bias": 8.0}


class Tiny(paddle.nn.Layer):
    """A parameter of each role, with one number in each: what it is, its value and its gradient are known."""

    def __init__(self):
        super().__init__()
        self.token = self.create_parameter([1])
        self.conv = paddle.nn.Conv2D(1, 1, 1)
        self.norm = paddle.nn.LayerNorm(1)
        self.fc = paddle.nn.Linear(1, 1)
        self.head = paddle.nn.Linear(1, 1)
        for name, parameter in self.named_parameters():
            parameter.set_value(np.full(parameter.shape, VALUES[name], np.float32))

    def values(self):
        return {name: parameter.item() for name, parameter in self.named_parameters()}


GRADIENTS = {name: 0.1 * (i + 1) for i, name in enumerate(VALUES)}
ROLES = RoleMultipliers(first_conv=3, bias=2, norm=0.5, head=10)
# Worked out by hand: the rate's multiplier, and whether there is decay of all but biases, norms and embeddings
EXPECTED = {
    "token": (1, 0),
    "conv.weight": (3, 1),
    "conv.bias": (6, 0),
    "norm.weight": (0.5, 0),
    "norm.bias": (0.5, 0),
    "fc.weight": (1, 1),
    "fc.bias": (2, 0),
    "head.weight": (10, 1),
    "head.bias": (20, 0),
}


def steps(name, model, count=1, **options):
    """Values after steps with the gradients of `GRADIENTS`."""
    optimizer = build_optimizer(name, model, **options)
    for _ in range(count):
        paddle.add_n([(p * GRADIENTS[key]).sum() for key, p in model.named_parameters()]).backward()
        optimizer.step()
        optimizer.clear_grad()
    return model.values()


def by_hand(name, lr, decay, count):
    """The optimizers as their papers have them, in Python's float64."""
    result = {}
    for key, (rate, decays) in EXPECTED.items():
        w, g, wd, velocity, m, v = VALUES[key], GRADIENTS[key], decay * decays, 0.0, 0.0, 0.0
        for t in range(1, count + 1):
            if name == "sgd":
                w -= lr * rate * (g + wd * w)
            elif name == "momentum":
                velocity = 0.9 * velocity + g + wd * w
                w -= lr * rate * velocity
            else:
                m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
                update = (m / (1 - 0.9**t)) / (math.sqrt(v / (1 - 0.999**t)) + 1e-8)
                w -= lr * rate * (update + wd * w)
        result[key] = w
    return result


@pytest.mark.parametrize("master_weights", [False, True])
@pytest.mark.parametrize("name", ["sgd", "momentum", "adamw"])
def test_steps_with_multipliers_by_role(name, master_weights):
    found = steps(
        name,
        Tiny(),
        count=3,
        lr=0.01,
        weight_decay=0.5,
        lr_mult=ROLES,
        no_decay=("bias", "norm", "embedding"),
        master_weights=master_weights,
    )
    assert found == pytest.approx(by_hand(name, 0.01, 0.5, 3), rel=1e-5)


def test_the_rate_set_later_is_multiplied_as_well():
    model = Tiny()
    optimizer = build_optimizer("sgd", model, lr=1.0, weight_decay=0.0, lr_mult=ROLES)
    paddle.add_n([p.sum() for p in model.parameters()]).backward()
    optimizer.set_lr(0.01)
    optimizer.step()
    expected = {key: VALUES[key] - 0.01 * rate for key, (rate, _) in EXPECTED.items()}
    assert model.values() == pytest.approx(expected, rel=1e-5)


def test_patterns_multiply_on_top_and_the_first_one_wins():
    groups = [Group("head", lr_mult=0.1), Group("weight$", lr_mult=7, decay_mult=2), Group("head.bias", lr_mult=100)]
    with pytest.raises(ConfigError, match=r"'head\.bias' matches no parameter"):
        steps("sgd", Tiny(), lr=0.01, weight_decay=0.5, groups=groups)
    found = steps("sgd", Tiny(), lr=0.01, weight_decay=0.5, lr_mult=ROLES, no_decay=("norm",), groups=groups[:2])
    g = GRADIENTS
    assert found["head.weight"] == pytest.approx(7 - 0.01 * 1 * (g["head.weight"] + 0.5 * VALUES["head.weight"]))
    assert found["head.bias"] == pytest.approx(8 - 0.01 * 2 * (g["head.bias"] + 0.5 * VALUES["head.bias"]))
    assert found["conv.weight"] == pytest.approx(1 - 0.01 * 21 * (g["conv.weight"] + 1.0 * VALUES["conv.weight"]))
    assert found["norm.weight"] == pytest.approx(3 - 0.01 * 3.5 * g["norm.weight"])
    assert found["token"] == pytest.approx(0.5 - 0.01 * (g["token"] + 0.5 * VALUES["token"]))


def test_a_pattern_that_matches_nothing_is_an_error():
    with pytest.raises(ConfigError, match="nothing_like_this"):
        group_parameters(Tiny(), weight_decay=0.0, groups=[Group("nothing_like_this")])


def test_frozen_parameters_are_in_no_group():
    model = Tiny()
    freeze_parameters(model, ["^(?!head)"])
    found = steps("momentum", model, lr=0.1, weight_decay=0.5)
    assert {key for key, value in found.items() if value != VALUES[key]} == {"head.weight", "head.bias"}
    groups = group_parameters(model, weight_decay=0.5)
    assert sum(len(group["params"]) for group in groups) == 2
    with pytest.raises(ConfigError, match="'conv' matches no parameter that learns"):
        group_parameters(model, weight_decay=0.0, groups=[Group("conv")])


def test_with_everything_frozen_there_is_nothing_to_learn():
    model = Tiny()
    freeze_parameters(model, ["."])
    with pytest.raises(ConfigError, match="every parameter is frozen"):
        group_parameters(model, weight_decay=0.0)


# ---- roles and layers of the models ---------------------------------------------------------------------------------

TOKENS = {"num_frames": 2, "image_size": 32, "embed_dim": 16, "depth": 3, "num_heads": 2}
ATTENTIONS = ("divided_space_time", "joint_space_time", "space_only")


def roles(model):
    return {info.name: set(info.roles) for info in describe_parameters(model)}


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_roles_of_a_timesformer(attention):
    model = create_model("timesformer", num_classes=3, attention=attention, **TOKENS)
    found = roles(model)
    assert set(found) == {name for name, _ in model.named_parameters()}
    embeddings = {"cls_token", "pos_embed"} | ({"time_embed"} if attention != "space_only" else set())
    assert {name for name, own in found.items() if "embedding" in own} == embeddings
    assert found["patch_embed.proj.weight"] == {"first_conv"}
    assert found["patch_embed.proj.bias"] == {"first_conv", "bias"}
    assert (found["head.weight"], found["head.bias"]) == ({"head"}, {"head", "bias"})
    assert found["norm.bias"] == found["blocks.2.norm1.weight"] == {"norm"}
    # A block has its attentions with two linear layers each, an MLP with two, and when divided another linear layer
    divided = attention == "divided_space_time"
    num_linear, num_norms = (7, 3) if divided else (4, 2)
    assert sum(own == {"bias"} for own in found.values()) == 3 * num_linear
    assert sum(own == set() for own in found.values()) == 3 * num_linear
    assert sum(own == {"norm"} for own in found.values()) == 2 * (3 * num_norms + 1)


@pytest.mark.parametrize(
    ("name", "backbone", "first_conv", "num_convs"),
    [("tsn", "resnet18", "backbone.conv1.weight", 20), ("tsm", "mobilenet_v2", "backbone.features.0.0.weight", 52)],
)
def test_roles_of_segment_models(name, backbone, first_conv, num_convs):
    found = roles(create_model(name, num_classes=3, backbone=backbone))
    learning = {key: own for key, own in found.items() if not key.endswith(("._mean", "._variance"))}
    assert learning.pop("head.weight") == {"head"}
    assert learning.pop("head.bias") == {"head", "bias"}
    assert [key for key, own in learning.items() if "first_conv" in own] == [first_conv]
    assert sum(own == {"norm"} for own in learning.values()) == 2 * num_convs
    assert sum(own == set() for own in learning.values()) == num_convs - 1


def distances(model):
    found = layer_distances(model)
    return {name: found[id(parameter)] for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_distances_in_a_timesformer(attention):
    found = distances(create_model("timesformer", num_classes=3, attention=attention, **TOKENS))
    for name, distance in found.items():
        part = name.split(".")
        if part[0] == "blocks":
            assert distance == 3 - int(part[1]), name
        else:
            assert distance == (0 if part[0] in ("norm", "head") else 4), name


def test_distances_in_a_resnet():
    found = distances(create_model("tsm", num_classes=3, backbone="resnet50"))
    first_blocks = {"layer1": 0, "layer2": 3, "layer3": 7, "layer4": 13}  # of 16, as many as 3 + 4 + 6 + 3
    for name, distance in found.items():
        part = name.split(".")
        if part[0] == "head":
            assert distance == 0
        elif part[1] in first_blocks:
            assert distance == 16 - first_blocks[part[1]] - int(part[2]), name
        else:
            assert distance == 17, name


def test_distances_in_a_mobilenet():
    found = distances(create_model("tsn", num_classes=3, backbone="mobilenet_v2"))
    for name, distance in found.items():
        part = name.split(".")
        # A stem, 17 blocks and a last convolution
        assert distance == (0 if part[0] == "head" else 19 - int(part[2])), name


def test_rates_decay_by_layers_and_roles_multiply():
    model = create_model("timesformer", num_classes=3, **TOKENS)
    before = {name: parameter.numpy().copy() for name, parameter in model.named_parameters()}
    optimizer = build_optimizer(
        "sgd", model, lr=0.1, weight_decay=0.0, layer_decay=0.5, lr_mult=RoleMultipliers(bias=3, head=7)
    )
    paddle.add_n([parameter.sum() for parameter in model.parameters()]).backward()
    optimizer.step()
    rates = {name: ((before[name] - p.numpy()) / 0.1).mean() for name, p in model.named_parameters()}
    expected = {
        "cls_token": 1 / 16,
        "patch_embed.proj.bias": 3 / 16,
        "blocks.0.temporal_fc.weight": 1 / 8,
        "blocks.1.mlp.fc1.bias": 3 / 4,
        "blocks.2.norm1.bias": 1 / 2,
        "norm.weight": 1,
        "head.weight": 7,
        "head.bias": 21,
    }
    assert {name: rates[name] for name in expected} == pytest.approx(expected, rel=1e-4)
