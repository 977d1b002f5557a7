import pickle
import tracemalloc
import zipfile
from collections import OrderedDict

import numpy as np
import paddle
import pytest
from safetensors.numpy import save, save_file

from paddlevid.errors import WeightsError
from paddlevid.weights import read_state, safe_unpickle
from paddlevid.weights.read import read_file
from tests.weights.torch_bytes import legacy_state, zip_state


@pytest.fixture
def layer():
    paddle.seed(0)
    return paddle.nn.Sequential(paddle.nn.Linear(3, 4), paddle.nn.BatchNorm1D(4))


def arrays(layer):
    return {name: value.numpy() for name, value in layer.state_dict().items()}


def assert_same(state, expected):
    assert sorted(state) == sorted(expected)
    for name, value in expected.items():
        array = state[name].read()
        np.testing.assert_array_equal(array, value)
        assert array.dtype == state[name].dtype == value.dtype
        assert array.shape == state[name].shape == value.shape


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_what_paddle_saves_is_read(layer, tmp_path, protocol):
    path = tmp_path / "w.pdparams"
    layer.add_sublayer("big", paddle.nn.Linear(50, 60))  # big enough to be left in the file
    paddle.save(layer.state_dict(), str(path), protocol=protocol)
    assert_same(read_state(path), arrays(layer))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("size", [3, 100])
def test_arrays_are_read_in_every_order_and_kind(tmp_path, protocol, size):
    path = tmp_path / "w.pdparams"
    base = np.arange(size * 4 * 5, dtype="float32").reshape(size, 4, 5)
    content = {
        "plain": base,
        "fortran": np.asfortranarray(base),
        "part": base[::2, :, 1:3],
        "axes": base.transpose(1, 0, 2),
        "big_endian": base.astype(">f8"),
        "number": np.float32(3) + np.zeros(()),
        "empty": np.zeros((0, 3), "int32"),
        "half": base.astype("float16"),
        "bool": base > 9,
    }
    path.write_bytes(pickle.dumps(content, protocol))
    native = {name: value.astype(value.dtype.newbyteorder("=")) for name, value in content.items()}
    assert_same(read_state(path), native)


def test_files_of_python_2_are_read(tmp_path):
    # As its pickle wrote an array: SHORT_BINSTRING, or BINSTRING (T) for long ones
    def array(values):
        data = values.tobytes()
        text = b"U" + bytes([len(data)]) + data if len(data) < 256 else b"T" + len(data).to_bytes(4, "little") + data
        new = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntU\x01btR"
        dtype = b"cnumpy\ndtype\n(U\x02f4I0\nI1\ntR(I3\nU\x01<NNNI-1\nI-1\nI0\ntb"
        return new + b"(I1\n(I" + str(values.size).encode() + b"\nt" + dtype + b"I00\n" + text + b"tb"

    short, long = np.arange(5, dtype="float32"), np.arange(5000, dtype="float32") - 2500
    path = tmp_path / "w.pdparams"
    path.write_bytes(b"\x80\x02}(U\x05short" + array(short) + b"U\x04long" + array(long) + b"u.")
    assert_same(read_state(path), {"short": short, "long": long})


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


@pytest.mark.parametrize(
    "table",
    [
        {"big": {"OriginShape": (2, 4), "slices": ["a", "b"]}},
        {"big": {"OriginShape": (-2, -3), "slices": ["a", "b"]}},
        {"big": {"OriginShape": (2**40, 2**40), "slices": ["a", "b"]}},
        {"big": {"OriginShape": (2, 3), "slices": ["a", "c"]}},
        {"big": {"OriginShape": (2, 3), "slices": []}},
        {"big": {"slices": ["a", "b"]}},
        {"big": 3},
        [1],
    ],
)
def test_cuts_that_do_not_add_up_are_refused(tmp_path, table):
    path = tmp_path / "w.pdparams"
    path.write_bytes(pickle.dumps({"a": np.ones(4), "b": np.ones(2), "UnpackBigParamInfor@@": table}))
    with pytest.raises(WeightsError, match=r"w\.pdparams cuts its tensors in a way that does not add up"):
        read_state(path)


def test_tensors_outside_a_plain_state_are_read(tmp_path):
    # Beside a nested list paddle.save writes tensors as (name, array)
    path = tmp_path / "w.pdparams"
    path.write_bytes(pickle.dumps({"w": ("linear_0.w_0", np.ones(2, "float32"))}))
    assert_same(read_state(path), {"w": np.ones(2, "float32")})


def test_a_state_inside_a_checkpoint_is_found(layer, tmp_path):
    path = tmp_path / "w.pdparams"
    path.write_bytes(pickle.dumps({"epoch": 3, "state_dict": arrays(layer), "note": "x" * 5000}))
    file = read_file(path)
    assert_same(file.state, arrays(layer))
    assert file.others == ("epoch", "note")


@pytest.mark.parametrize("shape", [(3,), (), (50, 60)])
def test_bfloat16_comes_as_float32(tmp_path, shape):
    values = np.resize(np.array([1.0, -2.5, 0.15625, np.inf], "float32"), shape)  # all are bfloat16
    tensor = paddle.to_tensor(values).astype("bfloat16")
    paddle.save({"w": tensor}, str(tmp_path / "w.pdparams"))
    assert_same(read_state(tmp_path / "w.pdparams"), {"w": values})


def safetensors_bytes(dtype, shape, data):
    header = f'{{"w":{{"dtype":"{dtype}","shape":{list(shape)},"data_offsets":[0,{len(data)}]}}}}'.encode()
    return len(header).to_bytes(8, "little") + header + data


def test_safetensors_are_read(layer, tmp_path):
    content = arrays(layer) | {"half": np.arange(6, dtype="float16"), "bool": np.array([True, False])}
    save_file(content, tmp_path / "w.safetensors", {"format": "pt"})
    file = read_file(tmp_path / "w.safetensors")
    assert_same(file.state, content)
    assert file.others == ()


def test_bfloat16_of_safetensors_comes_as_float32(tmp_path):
    # 1.0 and -2.5 are 0x3f80 and 0xc020
    (tmp_path / "w.safetensors").write_bytes(safetensors_bytes("BF16", [2], b"\x80\x3f\x20\xc0"))
    assert_same(read_state(tmp_path / "w.safetensors"), {"w": np.array([1.0, -2.5], "float32")})


def test_kinds_of_safetensors_that_are_not_read_are_named(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(safetensors_bytes("F8_E4M3", [2], b"\x00\x00"))
    with pytest.raises(WeightsError, match="holds 'w' as F8_E4M3, which is not read"):
        read_state(tmp_path / "w.safetensors")
    (tmp_path / "w.safetensors").write_bytes(safetensors_bytes("F32", [0, 2**39, 2**39], b""))
    with pytest.raises(WeightsError, match="too big"):
        read_state(tmp_path / "w.safetensors")


WRITERS = {
    "pdparams": lambda state: pickle.dumps(state, 4),
    "safetensors": save,
    "zip": zip_state,
    "legacy": legacy_state,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_the_kind_is_told_by_the_content_and_not_by_the_name(tmp_path, kind):
    state = {"w": np.arange(4, dtype="float32")}
    for name in ("w.pdparams", "w.pth.tar", "w.safetensors", "w"):
        (tmp_path / name).write_bytes(WRITERS[kind](state))
        assert_same(read_state(tmp_path / name), state)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_big_file_is_not_read_before_its_tensors_are(tmp_path, kind):
    state = {f"layer{i}.weight": np.full((512, 1024), i, "float32") for i in range(16)}  # 2 MiB each
    path = tmp_path / "w.bin"
    path.write_bytes(WRITERS[kind](state))
    read_state(path)  # imports what it needs
    tracemalloc.start()
    lazy = read_state(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.reset_peak()
    assert lazy["layer7.weight"].read().sum() == 7 * 512 * 1024
    assert tracemalloc.get_traced_memory()[1] < 6 << 20
    tracemalloc.stop()


def test_a_folder_of_hugging_face_is_read(tmp_path):
    state = {"w": np.arange(4, dtype="float32")}
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"is a folder without weights: it has no model\.safetensors, pytorch_mod"):
        read_state(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(zip_state({"w": state["w"] + 1}))
    assert_same(read_state(tmp_path), {"w": state["w"] + 1})
    save_file(state, tmp_path / "model.safetensors")
    assert_same(read_state(tmp_path), state)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_weights_in_several_files_are_named(tmp_path, name):
    (tmp_path / f"{name}.index.json").write_text("{}")
    with pytest.raises(WeightsError, match="holds weights in several files"):
        read_state(tmp_path)


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
        "list": [1, 2.5, None, True, "text", b"bytes", "long" * 5000, b"long" * 5000],
        "tuple": ((), {"a": np.float32(1.5)}, {1, 2}, frozenset({"b"})),
        "ordered": OrderedDict(a=np.arange(3)),
    }
    for protocol in range(2, 6):
        path = tmp_path / f"{protocol}.pkl"
        path.write_bytes(pickle.dumps(content, protocol=protocol))
        read = safe_unpickle(path)
        np.testing.assert_array_equal(read["ordered"].pop("a"), np.arange(3))
        assert read == content | {"ordered": {}}


def test_an_array_in_two_places_and_a_list_in_itself_are_read(tmp_path):
    array = np.arange(3)
    loop = [array, array]
    loop.append(loop)
    (tmp_path / "w").write_bytes(pickle.dumps(loop))
    read = safe_unpickle(tmp_path / "w")
    assert read[2] is read
    assert read[0] is read[1]
    np.testing.assert_array_equal(read[0], array)


def zip_of(*names):
    def write(path):
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, b"x")

    return write


def text(content):
    return lambda path: path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "write", "words"),
    [
        ("missing.pdparams", lambda path: None, "does not exist"),
        ("empty.pdparams", text(b""), "is empty"),
        ("empty.safetensors", text(b""), "is empty"),
        ("lfs.pdparams", text(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n"), "git lfs pull"),
        ("html.pth", text(b"<!DOCTYPE html><html>404</html>"), "is a web page"),
        ("spaced.pth", text(b"\n\n <html>404</html>"), "is a web page"),
        ("torn.pth", text(b"PK\x03\x04" + bytes(100)), "zip archive that is cut off"),
        ("none.zip", text(b"PK\x05\x06" + bytes(18)), "is a zip archive, but no file of torch.save"),
        ("arrays.npz", lambda path: np.savez(path, a=np.ones(2)), r"is a zip archive, but arrays of numpy \(\.npz\)"),
        ("script.pt", zip_of("m/code/__torch__.py", "m/data.pkl", "m/constants.pkl"), "is a TorchScript program"),
        ("photos.zip", zip_of("a.jpg", "b.jpg"), r"is a zip archive, but no file of torch\.save"),
        ("old.pth", text(b"storages".ljust(257, b"\0") + b"ustar" + bytes(300)), "is a tar archive"),
        ("w.pth.gz", text(b"\x1f\x8b\x08" + bytes(40)), "is compressed; unpack it first"),
        ("m.json", text(b'{"base_code":{"magic":"pir","version":4}}'), "part of an exported Paddle model"),
        ("m.pdiparams", text(bytes(16) + b"\4\0\0\0\x08\x05\x10\x04" + bytes(16)), "part of an exported Paddle model"),
        ("renamed.pdparams", text(bytes(16) + b"\4\0\0\0\x08\x05\x10\x04" + bytes(9)), "use the .pdparams that it was"),
        ("m.pdmodel", text(b"\x0a\xd2\x28\x08\x00"), "part of an exported Paddle model"),
        ("zeros.pdparams", text(bytes(1000)), "is not weights of a kind that is known"),
        ("zeros.safetensors", text(bytes(1000)), "is not weights of a kind that is known"),
        ("short.pth", text(b"\x80"), "is cut off"),
        ("one.onnx", text(b"\x08\x08\x12\x07pytorch"), "is not weights of a kind that is known"),
        ("list.pdparams", text(pickle.dumps([1, 2])), "holds a list, not tensors by name"),
        ("numbers.pdparams", text(pickle.dumps({"epoch": 3})), "holds a int under 'epoch'"),
        ("none.pdparams", text(pickle.dumps({})), "holds no tensors"),
        ("none.safetensors", text(save({})), "holds no tensors"),
        (
            "texts.pdparams",
            text(pickle.dumps({"a": np.array(["x"])})),
            "holds an array of kind 'U1' under 'a', not a tensor",
        ),
        ("array.pdparams", text(pickle.dumps(np.ones(2))), "holds a tensor without a name"),
        ("later.pdparams", text(b"\x80\x09."), "unsupported pickle protocol: 9"),
        ("name.pdparams", text(pickle.dumps({3: np.ones(2)})), "holds a tensor under 3, which is no name"),
    ],
)
def test_files_that_are_no_weights_are_named_in_one_line(tmp_path, name, write, words):
    write(tmp_path / name)
    with pytest.raises(WeightsError, match=words) as error:
        read_state(tmp_path / name)
    assert "\n" not in str(error.value)
    assert name in str(error.value)


def test_what_paddle_exports_is_told_from_weights(layer, tmp_path):
    layer.eval()
    paddle.jit.save(layer, str(tmp_path / "m"), input_spec=[paddle.static.InputSpec([None, 3], "float32")])
    for name in ("m.json", "m.pdiparams"):
        (tmp_path / "renamed").write_bytes((tmp_path / name).read_bytes())
        with pytest.raises(WeightsError, match="is part of an exported Paddle model"):
            read_state(tmp_path / "renamed")
