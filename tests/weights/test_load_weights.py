import numpy as np
import paddle
import pytest

from paddlevid.errors import WeightsError
from paddlevid.models import TSM, TSN, TimeSformer
from paddlevid.weights import load_weights

D = 8


def timesformer(num_classes=3, **options):
    sizes = {"num_frames": 4, "image_size": 32, "patch_size": 8, "embed_dim": D, "depth": 2, "num_heads": 2}
    model = TimeSformer(num_classes, **(sizes | options))
    rng = np.random.default_rng(len(options))
    for parameter in model.parameters():
        parameter.set_value(rng.standard_normal(parameter.shape).astype("float32"))
    return model


def arrays(model):
    return {name: value.numpy().copy() for name, value in model.state_dict().items()}


def assert_same(state, expected):
    assert sorted(state) == sorted(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(state[name], value, err_msg=name)


def test_a_model_takes_the_weights_of_its_equal(tmp_path):
    source, model = timesformer(), timesformer(drop_rate=0.1)
    paddle.save(source.state_dict(), str(tmp_path / "w.pdparams"))
    report = load_weights(model, tmp_path / "w.pdparams")
    assert_same(arrays(model), arrays(source))
    assert sorted(report.loaded) == sorted(arrays(source))
    assert (report.resized, report.new, report.dropped) == ({}, (), {})
    assert "w.pdparams" in report.source


def test_a_head_for_other_classes_stays_new():
    source, model = timesformer(num_classes=7), timesformer()
    before = arrays(model)
    report = load_weights(model, arrays(source))
    assert_same(arrays(model), arrays(source) | {name: before[name] for name in ("head.weight", "head.bias")})
    assert report.new == ("head.weight", "head.bias")
    assert report.dropped == dict.fromkeys(report.new, "for 7 classes; the model has 3, its head starts anew")
    assert "7 classes; the model has 3, its head starts anew" in str(report)


def cubic(distance, a=-0.75):
    """The weight of a neighbour in bicubic interpolation (Keys, 1981)."""
    d = abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0.0


def test_embeddings_are_resized():
    source, model = timesformer(), timesformer(num_frames=8, image_size=64)
    state = arrays(source)
    report = load_weights(model, state)
    assert report.resized == {
        "pos_embed": "[1, 17, 8] -> [1, 65, 8], bicubic",
        "time_embed": "[1, 4, 8] -> [1, 8, 8], linear",
    }
    loaded = arrays(model)
    # From four points to eight: point i lies at (i + 0.5) / 2 - 0.5 of the old ones; borders repeat
    linear, bicubic = np.zeros((8, 4)), np.zeros((8, 4))
    for i in range(8):
        place = (i + 0.5) / 2 - 0.5
        for j in range(-3, 7):
            linear[i, min(max(j, 0), 3)] += max(0.0, 1 - abs(place - j))
            bicubic[i, min(max(j, 0), 3)] += cubic(place - j)
    np.testing.assert_allclose(loaded["time_embed"][0], linear @ state["time_embed"][0], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(loaded["pos_embed"][:, 0], state["pos_embed"][:, 0])
    old_grid = state["pos_embed"][0, 1:].reshape(4, 4, D)
    new_grid = np.einsum("ij,kl,jld->ikd", bicubic, bicubic, old_grid)
    np.testing.assert_allclose(loaded["pos_embed"][0, 1:].reshape(8, 8, D), new_grid, rtol=1e-4, atol=1e-4)


def test_an_image_transformer_starts_a_divided_one():
    model = timesformer()
    state = {
        name: value + 1 for name, value in arrays(model).items() if "temporal" not in name and name != "time_embed"
    }
    before = arrays(model)
    report = load_weights(model, state)
    loaded = arrays(model)
    assert_same(
        {name: loaded[name] for name in state if "head" not in name},
        {n: v for n, v in state.items() if "head" not in n},
    )
    for block in ("blocks.0", "blocks.1"):
        for ours, theirs in (
            ("temporal_attn.qkv", "attn.qkv"),
            ("temporal_attn.proj", "attn.proj"),
            ("temporal_norm1", "norm1"),
        ):
            for kind in ("weight", "bias"):
                np.testing.assert_array_equal(loaded[f"{block}.{ours}.{kind}"], state[f"{block}.{theirs}.{kind}"])
        assert not loaded[f"{block}.temporal_fc.weight"].any()
        assert not loaded[f"{block}.temporal_fc.bias"].any()
    for name in ("time_embed", "head.weight", "head.bias"):
        np.testing.assert_array_equal(loaded[name], before[name])
    fcs = {f"blocks.{i}.temporal_fc.{kind}" for i in (0, 1) for kind in ("weight", "bias")}
    assert set(report.new) == {"time_embed", "head.weight", "head.bias"} | fcs
    assert set(report.dropped) == {"head.weight", "head.bias"}
    assert "ViT" in report.source


@pytest.mark.parametrize("attention", ["joint_space_time", "space_only"])
def test_an_image_transformer_starts_the_other_kinds(attention):
    model = timesformer(attention=attention)
    state = {name: value for name, value in arrays(timesformer(image_size=16)).items() if "temporal" not in name}
    state.pop("time_embed")
    report = load_weights(model, state)
    # Without time it may be a trained model of ours as well: nothing is new
    assert set(report.new) == ({"time_embed", "head.weight", "head.bias"} if attention == "joint_space_time" else set())
    assert list(report.resized) == ["pos_embed"]


@pytest.mark.parametrize(("backbone", "head"), [("resnet18", "fc"), ("mobilenet_v2", "classifier.1")])
@pytest.mark.parametrize("model_class", [TSN, TSM])
def test_an_image_network_starts_a_video_network(backbone, head, model_class):
    model = model_class(3, num_segments=2, backbone=backbone)
    networks = {"resnet18": paddle.vision.models.resnet18, "mobilenet_v2": paddle.vision.models.mobilenet_v2}
    state = arrays(networks[backbone]())
    kept = arrays(model)
    report = load_weights(model, state)
    expected = {f"backbone.{name}": value for name, value in state.items() if not name.startswith(head)}
    assert_same(arrays(model), expected | {name: kept[name] for name in ("head.weight", "head.bias")})
    assert sorted(report.dropped) == [f"{head}.bias", f"{head}.weight"]
    assert report.new == ("head.weight", "head.bias")


def test_tsn_and_tsm_take_each_others_weights():
    tsn, tsm = TSN(3, backbone="resnet18"), TSM(3, backbone="resnet18")
    load_weights(tsm, arrays(tsn))
    assert_same(arrays(tsm), arrays(tsn))
    load_weights(tsn, arrays(TSM(3, backbone="resnet18")))


def test_what_is_skipped_stays_as_it_is():
    source, model = timesformer(), timesformer(drop_rate=0.1)
    before = arrays(model)
    report = load_weights(model, arrays(source), skip=["^head", r"blocks\.1\.mlp", "time_embed"])
    skipped = {n for n in before if n.startswith(("head.", "blocks.1.mlp.")) or n == "time_embed"}
    assert set(report.new) == skipped == set(report.dropped)
    assert_same(arrays(model), arrays(source) | {name: before[name] for name in skipped})
    with pytest.raises(WeightsError, match="did you mean 'head'"):
        load_weights(model, arrays(source), skip=["heads"])


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (lambda: arrays(timesformer(depth=3)), ["have no place", "blocks.2."]),
        (lambda: arrays(timesformer(depth=1)), ["are not in it", "blocks.1."]),
        (lambda: arrays(timesformer(embed_dim=16)), ["differ in shape", "[1, 1, 16]", "[1, 1, 8]"]),
        (lambda: arrays(timesformer(patch_size=4, image_size=16)), ["patch_embed.proj.weight", "4, 4]", "8, 8]"]),
        (lambda: arrays(timesformer(attention="joint_space_time")), ["are not in it", "temporal_"]),
        (lambda: arrays(TSN(3, backbone="resnet18")), ["have no place", "are not in it", "backbone."]),
        (lambda: arrays(paddle.vision.models.resnet18()), ["have no place", "are not in it"]),
        (
            lambda: {n.replace("mlp", "mpl"): v for n, v in arrays(timesformer()).items()},
            ["blocks.0.mpl.fc1.weight (nearest: blocks.0.mlp.fc1.weight)", "(nearest: blocks.0.mpl.fc1.weight)"],
        ),
        (lambda: {n: v for n, v in arrays(timesformer()).items() if n != "head.bias"}, ["1 of", "head.bias"]),
    ],
)
def test_weights_of_another_model_are_refused_and_change_nothing(state, words):
    model = timesformer()
    before = arrays(model)
    with pytest.raises(WeightsError) as error:
        load_weights(model, state())
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 1000
    assert [word for word in words if word not in message] == []
    assert_same(arrays(model), before)


@pytest.mark.parametrize(("backbone", "other"), [("resnet18", "resnet34"), ("resnet50", "mobilenet_v2")])
def test_weights_of_another_backbone_are_refused(backbone, other):
    with pytest.raises(WeightsError, match="does not fit this TSN"):
        load_weights(TSN(3, backbone=backbone), arrays(TSM(3, backbone=other)))


def test_the_report_is_short():
    model = timesformer()
    state = {name: value for name, value in arrays(timesformer(num_classes=7)).items() if "temporal" not in name}
    state.pop("time_embed")
    lines = str(load_weights(model, state)).splitlines()
    assert len(lines) == 4
    assert lines[1].startswith("a start: ")
    assert lines[2].startswith("new, 7: ")
    assert lines[3].startswith("dropped, 2: head.")
