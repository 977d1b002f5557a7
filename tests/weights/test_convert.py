import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
from peers.seeded import seeded_state
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from paddlevid import create_model
from paddlevid.errors import UserError, WeightsError
from paddlevid.weights import convert_weights, load_weights, read_state
from paddlevid.weights.tensor import LazyTensor
from paddlevid.weights.write import write_weights

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"


def golden(name):
    """The state of another code's network, and the arguments that our model of it is made with."""
    about = json.loads(str(np.load(GOLDEN / f"{name}.npz")["about"]))
    return seeded_state({key: tuple(shape) for key, shape in about["shapes"].items()}, about["seed"]), about["model"]


@pytest.fixture
def state():
    rng = np.random.default_rng(0)
    return {
        "a.weight": rng.standard_normal((3, 4)).astype("float32"),
        "b": rng.standard_normal((2, 3)).astype("float32").T,  # not in the order of C
        "half": rng.standard_normal(5).astype("float16"),
        "count": np.array(3, "int64"),
    }


def lazy(state):
    return {name: LazyTensor.of(value) for name, value in state.items()}


def assert_same(state, expected):
    assert list(state) == list(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(np.asarray(state[name]), value, err_msg=name)
        assert np.asarray(state[name]).dtype == value.dtype


def test_paddle_reads_what_is_written(state, tmp_path):
    write_weights(lazy(state), tmp_path / "w.pdparams")
    assert_same(paddle.load(str(tmp_path / "w.pdparams"), return_numpy=True), state)


def test_safetensors_reads_what_is_written(state, tmp_path):
    write_weights(lazy(state), tmp_path / "w.safetensors")
    read = load_file(tmp_path / "w.safetensors")
    assert_same({name: read[name] for name in state}, state)
    assert len(read) == len(state)


@pytest.mark.parametrize("suffix", [".pdparams", ".safetensors"])
def test_a_written_file_has_the_usual_permissions(suffix, state, tmp_path):
    (tmp_path / "other").touch()
    write_weights(lazy(state), tmp_path / f"w{suffix}")
    assert (tmp_path / f"w{suffix}").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_bfloat16_stays_bfloat16(tmp_path):
    bits = paddle.to_tensor([1.5, -2.0]).astype("bfloat16").numpy()
    write_weights({"w": LazyTensor.of(bits)}, tmp_path / "w.safetensors")
    with safe_open(tmp_path / "w.safetensors", framework="numpy") as file:
        assert file.get_slice("w").get_dtype() == "BF16"
    np.testing.assert_array_equal(read_state(tmp_path / "w.safetensors")["w"].read(), np.array([1.5, -2.0], "float32"))


@pytest.mark.parametrize("suffix", [".pdparams", ".safetensors"])
def test_a_write_that_fails_leaves_the_older_file(suffix, state, tmp_path):
    path = tmp_path / f"w{suffix}"
    path.write_bytes(b"older")

    def fail():
        raise OSError(28, "No space left on device")

    broken = {"x": LazyTensor((1,), np.dtype("float32"), fail)}
    with pytest.raises(OSError, match="No space"):
        write_weights(lazy(state) | broken, path)
    assert path.read_bytes() == b"older"
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(
    "name",
    [
        "official-timesformer-divided_space_time",
        "official-timesformer-joint_space_time",
        "official-timesformer-space_only",
        "mmaction-timesformer-divided_space_time",
        "transformers-timesformer-joint_space_time",
        "paddlevideo-timesformer-divided_space_time",
        "official-tsm-resnet18",
        "official-tsm-resnet50-block",
        "official-tsn-mobilenet_v2",
        "mmaction-tsn-resnet18",
    ],
)
def test_the_shapes_tell_the_model(name, tmp_path):
    state, arguments = golden(name)
    save_file({key: np.ascontiguousarray(value) for key, value in state.items()}, tmp_path / "theirs.safetensors")
    conversion = convert_weights(tmp_path / "theirs.safetensors", tmp_path / "ours.pdparams")
    # These small models have heads of another size than all published ones; segments leave no trace in weights
    told = {key: value for key, value in arguments.items() if key not in ("num_heads", "num_segments", "shift_div")}
    if "space_only" in name:
        del told["num_frames"]
    assert {key: conversion.options[key] for key in told if key in conversion.options} == {
        key: value for key, value in told.items() if key in conversion.options
    }
    assert set(told) - set(conversion.options) <= {"shift_place"}
    direct, converted = create_model(**arguments), create_model(**arguments)
    load_weights(direct, state)
    load_weights(converted, tmp_path / "ours.pdparams")
    assert_same(converted.state_dict(), {key: value.numpy() for key, value in direct.state_dict().items()})


def test_paddlevideo_does_not_tell_tsm_from_tsn(tmp_path):
    state, arguments = golden("paddlevideo-tsm-resnet50-8")
    paddle.save(state, str(tmp_path / "pv.pdparams"))
    with pytest.raises(WeightsError, match="--model"):
        convert_weights(tmp_path / "pv.pdparams", tmp_path / "ours.pdparams")
    convert_weights(tmp_path / "pv.pdparams", tmp_path / "ours.pdparams", name="tsm")
    direct, converted = create_model(**arguments), create_model(**arguments)
    load_weights(direct, state)
    load_weights(converted, tmp_path / "ours.pdparams")
    assert_same(converted.state_dict(), {key: value.numpy() for key, value in direct.state_dict().items()})


def test_an_image_network_is_converted_for_a_model(tmp_path):
    state, arguments = golden("timm-vit")
    save_file(state, tmp_path / "vit.safetensors")
    with pytest.raises(WeightsError, match="-c"):
        convert_weights(tmp_path / "vit.safetensors", tmp_path / "ours.safetensors")
    assert not (tmp_path / "ours.safetensors").exists()
    model = create_model(**arguments)
    conversion = convert_weights(tmp_path / "vit.safetensors", tmp_path / "ours.safetensors", model=model)
    assert conversion.options is None
    written = load_file(tmp_path / "ours.safetensors")
    kept = ["head.weight", "time_embed"]
    assert set(kept) <= set(conversion.report.new)
    for name in kept:
        np.testing.assert_array_equal(written[name], model.state_dict()[name].numpy())
    load_weights(model, state)
    assert_same(
        {name: written[name] for name in model.state_dict()}, {n: v.numpy() for n, v in model.state_dict().items()}
    )


@pytest.mark.parametrize(
    ("source", "destination", "words"),
    [
        ("w.safetensors", "w.bin", ".pdparams or .safetensors"),
        ("none.pth", "w.pdparams", "does not exist"),
        ("w.safetensors", "w.pdparams", "no weights of a whole video model"),
    ],
)
def test_the_tool_refuses_in_one_line(source, destination, words, state, tmp_path):
    save_file({"a.weight": state["a.weight"]}, tmp_path / "w.safetensors")
    command = [sys.executable, str(ROOT / "tools" / "convert_weights.py"), source, destination]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert result.returncode == 2
    lines = [line for line in result.stderr.splitlines() if line]
    assert len(lines) == 1
    assert words in lines[0]
    assert not (tmp_path / destination).exists()


def test_the_tool_says_what_it_did(tmp_path):
    state, _ = golden("official-timesformer-divided_space_time")
    save_file(state, tmp_path / "theirs.safetensors")
    command = [sys.executable, str(ROOT / "tools" / "convert_weights.py"), "theirs.safetensors", "ours.pdparams"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert f"{len(state)} tensors loaded" in result.stdout
    assert "create_model('timesformer', " in result.stdout
    assert "written: ours.pdparams" in result.stdout


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"blocks.99999999.x": (2,)}, "blocks"),
        ({"cls_token": ()}, "TimeSformer"),
        ({"cls_token": (1, 1, 0)}, "TimeSformer"),
        ({"head.weight": ()}, "no weights of a whole video model"),
        ({"pos_embed": (5,)}, "TimeSformer"),
        ({"pos_embed": (1, 0, 8)}, "TimeSformer"),
        ({"blocks.0.mlp.fc1.bias": ()}, "TimeSformer"),
        ({"time_embed": (8,)}, "num_frames"),
    ],
)
def test_odd_shapes_are_an_error(changes, words, tmp_path):
    sizes = {"num_frames": 2, "image_size": 16, "patch_size": 8, "embed_dim": 8, "depth": 1, "num_heads": 2}
    state = {n: v.numpy() for n, v in create_model("timesformer", num_classes=3, **sizes).state_dict().items()}
    paddle.save(
        state | {name: np.zeros(shape, "float32") for name, shape in changes.items()}, str(tmp_path / "w.pdparams")
    )
    with pytest.raises(UserError, match=words):
        convert_weights(tmp_path / "w.pdparams", tmp_path / "ours.pdparams")


def test_a_converted_file_is_float32_for_plain_paddle(tmp_path):
    sizes = {"num_frames": 2, "image_size": 16, "patch_size": 8, "embed_dim": 8, "depth": 1, "num_heads": 1}
    model = create_model("timesformer", num_classes=3, **sizes)
    save_file({n: v.numpy().astype("float16") for n, v in model.state_dict().items()}, tmp_path / "half.safetensors")
    convert_weights(tmp_path / "half.safetensors", tmp_path / "ours.pdparams")
    assert model.set_state_dict(paddle.load(str(tmp_path / "ours.pdparams"))) == ([], [])


def test_names_that_tell_contradict_the_option(tmp_path):
    state, _ = golden("official-tsm-resnet18")
    save_file({key: np.ascontiguousarray(value) for key, value in state.items()}, tmp_path / "tsm.safetensors")
    with pytest.raises(WeightsError, match="those of a TSM"):
        convert_weights(tmp_path / "tsm.safetensors", tmp_path / "ours.pdparams", name="tsn")
