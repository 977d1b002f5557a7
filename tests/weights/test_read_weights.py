import pickle
from collections import OrderedDict

import numpy as np
import paddle
import pytest
from safetensors.numpy import save_file

from paddlevid.errors import WeightsError
from paddlevid.weights import read_state, safe_unpickle


@pytest.fixture
def layer():
    paddle.seed(0)
    return paddle.nn.Sequential(paddle.nn.Linear(3, 4), paddle.nn.BatchNorm1D(4))


def arrays(layer):
    return {name: value.numpy() for name, value in layer.state_dict().items()}


def assert_same(state, expected):
    assert sorted(state) == sorted(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(state[name], value)
        assert state[name].dtype == value.dtype


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_what_paddle_saves_is_read(layer, tmp_path, protocol):
    path = tmp_path / "w.pdparams"
    paddle.save(layer.state_dict(), str(path), protocol=protocol)
    assert_same(read_state(path), arrays(layer))


def test_the_internal_names_of_older_files_are_left_out(layer, tmp_path):
    path = tmp_path / "w.pdparams"
    path.write_bytes(pickle.dumps(arrays(layer) | {"StructuredToParameterName@@": {"0.weight": "linear_0.w_0"}}))
    assert_same(read_state(path), arrays(layer))


def test_cut_tensors_are_joined(tmp_path):
    # The form that paddle.save gives to tensors of more than 1 GiB with protocols 2 and 3
    path = tmp_path / "w.pdparams"
    parts = {"big@@.0": np.arange(4.0), "big@@.1": np.arange(4.0, 6.0), "small": np.ones(2)}
    table = {"UnpackBigParamInfor@@": {"big": {"OriginShape": (2, 3), "slices": ["big@@.0", "big@@.1"]}}}
    path.write_bytes(pickle.dumps(parts | table, protocol=2))
    assert_same(read_state(path), {"big": np.arange(6.0).reshape(2, 3), "small": np.ones(2)})


def test_tensors_outside_a_plain_state_are_read(tmp_path):
    # Beside a nested list paddle.save writes tensors as (name, array)
    path = tmp_path / "w.pdparams"
    path.write_bytes(pickle.dumps({"w": ("linear_0.w_0", np.ones(2, "float32"))}))
    assert_same(read_state(path), {"w": np.ones(2, "float32")})


def test_bfloat16_comes_as_float32(tmp_path):
    path = tmp_path / "w.pdparams"
    paddle.save({"w": paddle.to_tensor([1.0, -2.5, 0.15625]).astype("bfloat16")}, str(path))
    assert_same(read_state(path), {"w": np.array([1.0, -2.5, 0.15625], "float32")})


def test_safetensors_are_read(layer, tmp_path):
    save_file(arrays(layer), tmp_path / "w.safetensors")
    assert_same(read_state(tmp_path / "w.safetensors"), arrays(layer))


def test_the_state_of_an_optimizer_is_read(layer, tmp_path):
    schedule = paddle.optimizer.lr.CosineAnnealingDecay(0.1, T_max=5)
    optimizer = paddle.optimizer.AdamW(schedule, parameters=layer.parameters())
    layer(paddle.ones([2, 3])).sum().backward()
    optimizer.step()
    schedule.step()
    path = tmp_path / "w.pdopt"
    paddle.save(optimizer.state_dict(), str(path))
    state = safe_unpickle(path)
    assert state["LR_Scheduler"]["last_epoch"] == 1
    moments = [name for name in state if "moment1" in name]
    assert len(moments) == 4
    for name in moments:
        value = state[name][1] if isinstance(state[name], tuple) else state[name]
        np.testing.assert_array_equal(value, optimizer.state_dict()[name].numpy())


def test_plain_containers_are_read(tmp_path):
    content = {
        "list": [1, 2.5, None, True, "text", b"bytes"],
        "tuple": ((), {"a": np.float32(1.5)}, {1, 2}),
        "ordered": OrderedDict(a=np.arange(3)),
    }
    for protocol in range(2, 6):
        path = tmp_path / f"{protocol}.pkl"
        path.write_bytes(pickle.dumps(content, protocol=protocol))
        read = safe_unpickle(path)
        np.testing.assert_array_equal(read["ordered"].pop("a"), np.arange(3))
        assert read == content | {"ordered": {}}


class Evil:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("hidden", [lambda e: {"w": e}, lambda e: e, lambda e: {"w": np.array([e], dtype=object)}])
def test_nothing_that_a_file_names_is_run(tmp_path, protocol, hidden):
    witness = tmp_path / "witness"
    path = tmp_path / "w.pdparams"
    path.write_bytes(pickle.dumps(hidden(Evil(eval, f"open({str(witness)!r}, 'w')")), protocol=protocol))
    with pytest.raises(WeightsError, match=r"w\.pdparams cannot be read: it asks for builtins\.eval"):
        read_state(path)
    assert not witness.exists()


def test_a_class_is_refused_by_name(tmp_path):
    path = tmp_path / "w.pdparams"
    path.write_bytes(pickle.dumps({"w": OrderedDict(a=paddle.nn.Linear)}))
    with pytest.raises(WeightsError, match=r"it asks for paddle\.nn\.layer\.common\.Linear"):
        read_state(path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.pdparams", None, "does not exist"),
        ("empty.pdparams", b"", "is empty"),
        ("empty.safetensors", b"", "is empty"),
        ("text.pdparams", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "text.pdparams"),
        ("html.pdparams", b"<!DOCTYPE html><html>404</html>", "html.pdparams"),
        ("zip.pdparams", b"PK\x03\x04" + bytes(100), "zip.pdparams"),
        ("zeros.pdparams", bytes(1000), "zeros.pdparams"),
        ("zeros.safetensors", bytes(1000), "zeros.safetensors"),
        ("list.pdparams", pickle.dumps([1, 2]), "holds a list"),
        ("numbers.pdparams", pickle.dumps({"epoch": 3}), "holds a int under 'epoch'"),
        ("none.pdparams", pickle.dumps({}), "holds no tensors"),
        ("torch.pyth", b"x", r"files of PyTorch \(\.pyth\) are not read yet"),
        ("other.npz", b"x", r"unknown kind of weights '\.npz'"),
    ],
)
def test_files_that_are_no_weights_are_named_in_one_line(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=words) as error:
        read_state(tmp_path / name)
    assert "\n" not in str(error.value)
    assert name in str(error.value)


@pytest.mark.parametrize("suffix", ["pdparams", "safetensors"])
def test_a_file_cut_anywhere_is_named(layer, tmp_path, suffix):
    whole = tmp_path / f"whole.{suffix}"
    if suffix == "pdparams":
        paddle.save(layer.state_dict(), str(whole))
    else:
        save_file(arrays(layer), whole)
    content = whole.read_bytes()
    cut = tmp_path / f"cut.{suffix}"
    for length in range(1, len(content), 7):
        cut.write_bytes(content[:length])
        with pytest.raises(WeightsError, match="cut"):
            read_state(cut)


def test_a_folder_is_not_a_file(tmp_path):
    (tmp_path / "w.pdparams").mkdir()
    with pytest.raises(WeightsError, match="is not a file"):
        read_state(tmp_path / "w.pdparams")
