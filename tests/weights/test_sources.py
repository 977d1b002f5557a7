"""What only one source does, and what weights do not show."""

import json
import re

import numpy as np
import paddle
import pytest
from safetensors.numpy import save_file

from paddlevid import create_model
from paddlevid.errors import WeightsError
from paddlevid.weights import load_trained, load_weights, zoo
from paddlevid.weights.resize import nearest, resize_pos_embed, resize_time_embed

SMALL = {"num_frames": 2, "image_size": 16, "patch_size": 8, "embed_dim": 8, "depth": 1, "num_heads": 2}


def timesformer(**options):
    return create_model("timesformer", num_classes=3, **(SMALL | options))


def official(model):
    """Our weights as the authors of TimeSformer name and turn theirs."""
    return {
        f"model.{name}": np.ascontiguousarray(value.numpy().T if value.ndim == 2 else value.numpy())
        for name, value in model.state_dict().items()
    }


def network_of_authors(model, wrapped=""):
    """Our TSN or TSM as its authors name theirs; `wrapped` layers are inside a TemporalShift."""
    state = {}
    kinds = {"_mean": "running_mean", "_variance": "running_var"}
    for name, value in model.state_dict().items():
        layer, _, kind = name.replace("backbone.", "base_model.").replace("head.", "new_fc.").rpartition(".")
        kind = kinds.get(kind, kind)
        inside = wrapped and layer.endswith(wrapped) and ".layer" in layer
        array = value.numpy()
        state[f"module.{layer}.net.{kind}" if inside else f"module.{layer}.{kind}"] = (
            array.T if array.ndim == 2 else array
        )
    return state


def paddlevideo(model):
    """Our ResNet-50 as PaddleVideo names its own."""
    parts = {"downsample.0": "short._conv", "downsample.1": "short._batch_norm"}
    parts |= {f"conv{i}": f"conv{i - 1}._conv" for i in (1, 2, 3)}
    parts |= {f"bn{i}": f"conv{i - 1}._batch_norm" for i in (1, 2, 3)}
    stem = {"conv1": "conv._conv", "bn1": "conv._batch_norm"}
    state = {}
    for name, value in model.state_dict().items():
        layer, _, kind = name.rpartition(".")
        words = layer.split(".")
        if words[0] == "head":
            theirs = "head.fc"
        elif words[1].startswith("layer"):
            stage = f"res{int(words[1][-1]) + 1}{'abcdef'[int(words[2])]}"
            theirs = f"backbone.{stage}.{parts['.'.join(words[3:])]}"
        else:
            theirs = f"backbone.{stem[words[1]]}"
        state[f"{theirs}.{kind}"] = value.numpy()
    return state


def test_weights_of_a_tsn_are_but_a_start_for_a_tsm_and_the_other_way_round(tmp_path):
    tsn = create_model("tsn", num_classes=3, backbone="resnet18")
    tsm = create_model("tsm", num_classes=3, backbone="resnet18")
    for source, model, wrapped, kind in ((tsn, tsm, "", "TSN"), (tsm, tsn, ".conv1", "TSM")):
        save_file(network_of_authors(source, wrapped), tmp_path / "w.safetensors")
        report = load_weights(model, tmp_path / "w.safetensors")
        assert report.start_only == f"weights of a {kind}"
        assert report.new == ()
        with pytest.raises(WeightsError, match=f"a start: weights of a {kind}"):
            load_trained(model, tmp_path / "w.safetensors")
        load_trained(source, tmp_path / "w.safetensors")


@pytest.mark.parametrize("source", ["authors", "PaddleVideo"])
def test_weights_that_look_ahead_are_but_a_start_for_an_online_tsm(tmp_path, source):
    tsm = create_model("tsm", num_classes=3, backbone="resnet50")
    state = network_of_authors(tsm, ".conv1") if source == "authors" else paddlevideo(tsm)
    save_file(state, tmp_path / "w.safetensors")
    model = create_model("tsm", num_classes=3, backbone="resnet50", online=True)
    report = load_weights(model, tmp_path / "w.safetensors")
    assert "looks ahead" in report.start_only
    assert report.new == ()
    with pytest.raises(WeightsError, match="looks ahead"):
        load_trained(model, tmp_path / "w.safetensors")
    assert load_trained(tsm, tmp_path / "w.safetensors").start_only == ""


def test_another_place_of_the_shift_is_an_error():
    model = create_model("tsm", num_classes=3, backbone="resnet18", shift_place="block")
    before = model.head.weight.numpy()
    state = network_of_authors(create_model("tsm", num_classes=3, backbone="resnet18"), ".conv1")
    with pytest.raises(WeightsError, match="shift_place 'block'"):
        load_weights(model, state)
    np.testing.assert_array_equal(model.head.weight.numpy(), before)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("module.base_model.layer2.0.nl.g.0.weight", "non-local"),
        ("module.base_model.layer2.net.0.conv1.net.weight", "temporal pooling"),
    ],
)
def test_what_we_have_not_is_named(key, words):
    state = network_of_authors(create_model("tsm", num_classes=3, backbone="resnet18"), ".conv1")
    with pytest.raises(WeightsError, match=words):
        load_weights(create_model("tsm", num_classes=3, backbone="resnet18"), state | {key: np.zeros(1, "float32")})


def test_paddlevideo_shifts_one_part_in_num_segments():
    source = create_model("tsm", num_classes=3, backbone="resnet50")
    state = paddlevideo(source)
    model = create_model("tsm", num_classes=3, backbone="resnet50", num_segments=16)
    with pytest.raises(WeightsError, match=r"set model\.shift_div=16"):
        load_weights(model, state)
    with pytest.raises(WeightsError, match="shift_place 'blockres', this model 'block'"):
        load_weights(create_model("tsm", num_classes=3, backbone="resnet50", shift_place="block"), state)
    load_weights(create_model("tsm", num_classes=3, backbone="resnet50", num_segments=16, shift_div=16), state)
    with pytest.raises(WeightsError, match="uneven parts"):
        load_weights(create_model("tsm", num_classes=3, backbone="resnet50", num_segments=5, shift_div=5), state)


def test_paddlevideo_shifts_the_other_way():
    """What looks back in one network looks ahead in the other: their answers agree on a film run backwards."""
    source = create_model("tsm", num_classes=3, backbone="resnet50", num_segments=4, shift_div=4).eval()
    source.head.weight.set_value(paddle.randn(source.head.weight.shape))
    model = create_model("tsm", num_classes=3, backbone="resnet50", num_segments=4, shift_div=4).eval()
    load_weights(model, paddlevideo(source))
    clip = paddle.rand([2, 4, 3, 32, 32])
    with paddle.no_grad():
        forwards, backwards = source(clip).numpy(), source(clip.flip(axis=1)).numpy()
        loaded = model(clip).numpy()
    np.testing.assert_allclose(loaded, backwards, rtol=1e-4, atol=1e-4 * np.abs(backwards).max())
    assert np.abs(loaded - forwards).max() > 1e-2 * np.abs(forwards).max()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_attention_heads", 4),
        ("attention_type", "joint_space_time"),
        ("hidden_act", "relu"),
        ("layer_norm_eps", 1e-12),
    ],
)
def test_the_config_beside_weights_of_hugging_face_is_compared(key, value, tmp_path):
    names = {
        r"timesformer\.head\.": "classifier.",
        r"timesformer\.norm\.": "timesformer.layernorm.",
        r"blocks\.0\.": "encoder.layer.0.",
        "temporal_norm1": "temporal_layernorm",
        "temporal_attn.qkv": "temporal_attention.attention.qkv",
        "temporal_attn.proj": "temporal_attention.output.dense",
        "temporal_fc": "temporal_dense",
        "norm1": "layernorm_before",
        "0.attn.qkv": "0.attention.attention.qkv",
        "0.attn.proj": "0.attention.output.dense",
        "norm2": "layernorm_after",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
        "cls_token": "embeddings.cls_token",
        "pos_embed": "embeddings.position_embeddings",
        "time_embed": "embeddings.time_embeddings",
        "patch_embed.proj": "embeddings.patch_embeddings.projection",
    }
    state = {}
    for name, tensor in timesformer().state_dict().items():
        array = tensor.numpy()
        theirs = f"timesformer.{name}"
        for pattern, replacement in names.items():
            theirs = re.sub(pattern, replacement, theirs)
        state[theirs] = np.ascontiguousarray(array.T if array.ndim == 2 else array)
    save_file(state, tmp_path / "model.safetensors")
    config = {"model_type": "timesformer", "num_attention_heads": 2, "attention_type": "divided_space_time"}
    config |= {"hidden_act": "gelu", "layer_norm_eps": 1e-6}
    (tmp_path / "config.json").write_text(json.dumps(config))
    load_trained(timesformer(), tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {key: value}))
    for path in (tmp_path, tmp_path / "model.safetensors"):
        with pytest.raises(WeightsError, match=key):
            load_weights(timesformer(), path)


def test_published_weights_of_width_768_want_12_heads():
    sizes = {"embed_dim": 768, "mlp_ratio": 0.01}
    state = official(timesformer(**sizes, num_heads=12))
    with pytest.raises(WeightsError, match="12 heads, this model has 8"):
        load_weights(timesformer(**sizes, num_heads=8), state)
    load_weights(timesformer(**sizes, num_heads=12), state)


def test_other_mean_and_std_are_warned_of():
    report = load_weights(timesformer(), official(timesformer()))
    assert report.norm_warning([0.45] * 3, [0.225] * 3) == ""
    warning = report.norm_warning([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert "-o data.mean='[0.45, 0.45, 0.45]' -o data.std='[0.225, 0.225, 0.225]'" in warning
    own = load_weights(timesformer(), {name: value.numpy() for name, value in timesformer().state_dict().items()})
    assert own.norm_warning([0.1] * 3, [1.0] * 3) == ""


def test_public_weights_of_bgr_frames_take_rgb(tmp_path, monkeypatch):
    source, by_file, by_name = timesformer(), timesformer(), timesformer()
    path = tmp_path / "ssv2.safetensors"
    save_file(official(source), path)
    weights = next(weights for weights in zoo.list_weights() if weights.is_bgr)
    load_weights(by_file, path)
    with monkeypatch.context() as patch:
        patch.setattr("paddlevid.weights.opening.locate", lambda _: path)
        for called in (weights.name, weights.url):
            assert "BGR" in str(load_weights(by_name, called))
    # A folder of one's own that happens to have the name is not those weights
    (tmp_path / weights.name).mkdir()
    path.rename(tmp_path / weights.name / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    own = timesformer()
    assert "BGR" not in str(load_weights(own, weights.name))
    np.testing.assert_array_equal(own.patch_embed.proj.weight.numpy(), by_file.patch_embed.proj.weight.numpy())
    clip = paddle.rand([2, 2, 3, 16, 16])
    expected = source.eval()(clip.flip(axis=2)).numpy()
    np.testing.assert_allclose(by_name.eval()(clip).numpy(), expected, rtol=1e-4, atol=1e-6)
    assert np.abs(by_file.eval()(clip).numpy() - expected).max() > 1e-4


def test_nearest_takes_the_point_that_pytorch_takes():
    assert nearest(4, 8).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert nearest(8, 4).tolist() == [0, 2, 4, 6]
    assert nearest(3, 5).tolist() == [0, 0, 1, 1, 2]
    # In float32 96 / 64 * i has no rounding, 14 / 20 * i has
    assert nearest(96, 64).tolist() == [i * 3 // 2 for i in range(64)]
    assert nearest(14, 20).tolist()[10] == 7


def test_bilinear_keeps_the_corners():
    rng = np.random.default_rng(0)
    embed = rng.standard_normal((1, 1 + 9, 2)).astype("float32")
    resized = resize_pos_embed(embed, 25, "bilinear")[0, 1:].reshape(5, 5, 2)
    old = embed[0, 1:].reshape(3, 3, 2)
    np.testing.assert_allclose(resized[::2, ::2], old, atol=1e-6)
    np.testing.assert_allclose(resized[1, 0], (old[0, 0] + old[1, 0]) / 2, atol=1e-6)
    np.testing.assert_array_equal(resize_pos_embed(embed, 25, "bilinear")[0, 0], embed[0, 0])


def test_times_are_taken_from_the_nearest():
    embed = np.arange(4, dtype="float32").reshape(1, 4, 1)
    assert resize_time_embed(embed, 8, "nearest").flatten().tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_public_weights_of_a_tsm_are_but_a_start_for_a_tsn(tmp_path, monkeypatch):
    """PaddleVideo's names do not tell, the table of public weights does."""
    path = tmp_path / "tsm.pdparams"
    paddle.save(paddlevideo(create_model("tsm", num_classes=3, backbone="resnet50")), str(path))
    monkeypatch.setattr("paddlevid.weights.opening.locate", lambda _: path)
    model = create_model("tsn", num_classes=3, backbone="resnet50")
    before = model.head.weight.numpy()
    with pytest.raises(WeightsError, match="a start: weights of a TSM"):
        load_trained(model, "tsm_k400_paddlevideo")
    np.testing.assert_array_equal(model.head.weight.numpy(), before)
    assert load_weights(model, "tsm_k400_paddlevideo").start_only == "weights of a TSM"


def test_secrets_of_an_address_are_not_told(monkeypatch, tmp_path):
    save_file(official(timesformer()), tmp_path / "w.safetensors")
    monkeypatch.setattr("paddlevid.weights.opening.locate", lambda _: tmp_path / "w.safetensors")
    url = "https://joe:geheim@example.org/w.safetensors?token=SECRET"
    told = [str(load_weights(timesformer(), url))]
    for options, skip in (({"depth": 2}, ()), ({}, "nothing of this name")):
        with pytest.raises(WeightsError) as error:
            load_weights(timesformer(**options), url, skip=skip)
        told.append(str(error.value))
    assert all("example.org" in text and "geheim" not in text and "SECRET" not in text for text in told)


def test_numbers_that_are_none_are_refused(tmp_path):
    state = official(timesformer())
    state["model.blocks.0.norm1.bias"][3] = np.nan
    with pytest.raises(WeightsError, match=r"blocks\.0\.norm1\.bias holds numbers that are not finite"):
        load_weights(timesformer(), state)
    state["model.blocks.0.norm1.bias"] = np.zeros(8, "int32")
    with pytest.raises(WeightsError, match=r"no floating-point numbers: blocks\.0\.norm1\.bias of int32"):
        load_weights(timesformer(), state)


def test_what_is_copied_and_half_skipped_is_not_called_dropped():
    own = {n: v.numpy() for n, v in timesformer().state_dict().items()}
    image = {name: value for name, value in own.items() if "temporal" not in name and name != "time_embed"}
    report = load_weights(timesformer(), image, skip="temporal")
    assert set(report.dropped) == {"head.weight", "head.bias"}
    with pytest.raises(WeightsError, match="nothing is left to load"):
        load_weights(timesformer(), own, skip="")
    with pytest.raises(WeightsError, match="holds no tensors"):
        load_weights(timesformer(), {})


@pytest.mark.parametrize(
    "state",
    [
        {"head.bias": ()},
        {"head.weight": (), "head.bias": (3,)},
        {"stem.0.conv.weight": (64, 3, 7, 7)},
        {"module.base_model.layer1.0.conv1.net.weight": (2,)},
        {"backbone.layer9.9.conv.0.conv.weight": (1,)},
        {"model.blocks.0.attn.qkv.weight": ()},
        {"blocks.0.attn.qkv.weight": (2, 2), "pos_embed": (3,)},
        {f"vit.encoder.layer.0.attention.attention.{part}.weight": () for part in ("query", "key", "value")},
        {"backbone.res2a.conv0._conv.weight": (), "backbone.res2a.conv0._batch_norm.weight": (), "head.fc.weight": ()},
    ],
    ids=lambda state: next(iter(state)),
)
@pytest.mark.parametrize("name", ["tsn", "tsm", "timesformer"])
def test_no_shape_is_too_odd_for_an_error(name, state):
    model = timesformer() if name == "timesformer" else create_model(name, num_classes=3, backbone="mobilenet_v2")
    with pytest.raises(WeightsError):
        load_weights(model, {key: np.zeros(shape, "float32") for key, shape in state.items()})
