"""Files that torch.save wrote; `golden/make_torch_files.py` made those of PyTorch, the others are made by hand."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from paddlevid.errors import WeightsError
from paddlevid.weights.read import read_file, read_state
from tests.weights.torch_bytes import (
    call,
    code,
    legacy_file,
    legacy_state,
    mapping,
    state_code,
    tensor,
    zip_file,
    zip_state,
)

FILES = Path(__file__).resolve().parent.parent / "golden" / "files"
STATE = {"weight": np.arange(6, dtype="float32").reshape(2, 3), "bias": np.array([1, 2])}


def assert_same(state, expected):
    assert list(state) == list(expected)
    for name, value in expected.items():
        array = state[name].read()
        assert (state[name].shape, state[name].dtype) == (value.shape, value.dtype), name
        assert (array.shape, array.dtype) == (value.shape, value.dtype), name
        np.testing.assert_array_equal(array, value, err_msg=name)


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth.tar"])
def test_what_pytorch_saved_is_read(name):
    file = read_file(FILES / name)
    with np.load(FILES / "torch.npz") as expected:
        assert_same(file.state, {key: expected[key] for key in expected.files})
    assert file.others == ("epoch", "best_prec1", "optimizer", "facts")


@pytest.mark.parametrize("write", [zip_state, legacy_state])
def test_the_files_made_by_hand_are_read(tmp_path, write):
    (tmp_path / "w.bin").write_bytes(write(STATE))
    assert_same(read_state(tmp_path / "w.bin"), STATE)


def test_an_array_that_was_read_belongs_to_its_reader():
    tensor = read_state(FILES / "small_zip.pt")["weight"]
    tensor.read()[:] = 9
    np.testing.assert_array_equal(tensor.read(), STATE["weight"])


def test_pytorch_is_not_needed():
    script = f"""
import sys
sys.modules["torch"] = None  # an import of it fails
from paddlevid.weights.read import read_state
for name in ("zip.pth", "legacy.pth.tar"):
    for tensor in read_state({str(FILES)!r} + "/" + name).values():
        tensor.read()
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=FILES.parent.parent.parent)


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state", "model_state_dict", "model", "net"])
def test_a_state_is_found_under_the_names_of_training_scripts(tmp_path, wrapper):
    content = {"epoch": code(3), wrapper: state_code(STATE), "cfg": code("text")}
    data = {name: value.tobytes() for name, value in STATE.items()}
    (tmp_path / "w.pth").write_bytes(zip_file(mapping(content), data))
    file = read_file(tmp_path / "w.pth")
    assert_same(file.state, STATE)
    assert file.others == ("epoch", "cfg")


def test_of_two_states_the_first_in_order_is_taken_and_the_other_named(tmp_path):
    content = {"model": state_code({"x": STATE["bias"]}), "state_dict": state_code(STATE), "net": code({})}
    data = {name: value.tobytes() for name, value in (STATE | {"x": STATE["bias"]}).items()}
    (tmp_path / "w.pth").write_bytes(zip_file(mapping(content), data))
    file = read_file(tmp_path / "w.pth")
    assert_same(file.state, STATE)
    assert file.others == ("model", "net")


def test_what_frameworks_leave_beside_the_weights_is_passed_over(tmp_path):
    history = b"cmmengine.logging.history_buffer\nHistoryBuffer\n)\x81" + code({"_max_length": 5}) + b"b"
    config = b"cyacs.config\nCfgNode\n)\x81(" + code("LR") + code(0.1) + b"u" + code({"frozen": True}) + b"b"
    content = {
        "state_dict": state_code(STATE),
        "history": history,
        "method": call("builtins", "getattr", b"cmmengine.logging.history_buffer\nHistoryBuffer\n", "mean"),
        "cfg": config,
        "args": b"cargparse\nNamespace\n)\x81" + code({"lr": 1}) + b"b",
        "path": call("pathlib", "PosixPath", "/", "home"),
        "milestones": call("collections", "Counter", {3: 1}),
    }
    data = {name: value.tobytes() for name, value in STATE.items()}
    (tmp_path / "w.pth").write_bytes(zip_file(mapping(content), data))
    file = read_file(tmp_path / "w.pth")
    assert_same(file.state, STATE)
    assert file.others == ("history", "method", "cfg", "args", "path", "milestones")


def test_attributes_of_a_state_are_passed_over(tmp_path):
    # torch.nn.Module.state_dict() is an OrderedDict that bears `_metadata`
    body = call("collections", "OrderedDict") + state_code(STATE)[1:] + code({"_metadata": {"": {"version": 1}}}) + b"b"
    (tmp_path / "w.pth").write_bytes(zip_file(body, {name: value.tobytes() for name, value in STATE.items()}))
    assert_same(read_state(tmp_path / "w.pth"), STATE)


def test_a_count_that_is_a_plain_number_is_a_tensor_and_a_text_is_none(tmp_path):
    data = {name: value.tobytes() for name, value in STATE.items()}
    items = state_code(STATE)[:-1]
    (tmp_path / "w.pth").write_bytes(zip_file(items + code("bn.num_batches_tracked") + code(7) + b"u", data))
    assert_same(read_state(tmp_path / "w.pth"), STATE | {"bn.num_batches_tracked": np.asarray(7)})
    (tmp_path / "w.pth").write_bytes(zip_file(items + code("arch") + code("resnet50") + b"u", data))
    with pytest.raises(WeightsError, match="holds a str under 'arch', not a tensor"):
        read_state(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("shape", "strides", "first"),
    [
        ((7,), (1,), 0),
        ((2, 3), (3, 1), 1),
        ((2, 3), (4, 1), 0),
        ((2, 3), (-3, 1), 3),
        ((2, 3), (3, 1), -1),
        ((-2, -3), (3, 1), 0),
        ((2, 3), (1,), 0),
        ((2**60,), (0,), 0),
        ((2**30, 2**30), (0, 0), 0),
        ((0, 2**62), (1, 1), 0),
        ((2**25,), (0,), 0),
        ((1,) * 70, (1,) * 70, 0),
        ((2.0, 3), (3, 1), 0),
        ((True, True), (3, 1), 0),
        (("2",), (1,), 0),
        ((10**5000,), (1,), 0),
    ],
)
def test_a_tensor_that_passes_the_ends_of_its_storage_is_refused(tmp_path, shape, strides, first):
    values = np.arange(6, dtype="float32")
    body = mapping({"w": tensor("0", 6, shape, strides, first)})
    for content in (zip_file(body, {"0": values.tobytes()}), legacy_file(body, {"0": values})):
        (tmp_path / "w.pth").write_bytes(content)
        with pytest.raises(WeightsError, match=r"w\.pth"):
            read_state(tmp_path / "w.pth")


def test_the_size_of_a_storage_must_be_what_is_said(tmp_path):
    for count in (5, 7, 2**61, -1):
        body = mapping({"w": tensor("0", count, (1,), (1,))})
        for content in (zip_file(body, {"0": bytes(24)}), legacy_file(body, {"0": np.zeros(6, "float32")})):
            (tmp_path / "w.pth").write_bytes(content)
            with pytest.raises(WeightsError, match=r"w\.pth"):
                read_state(tmp_path / "w.pth")


def test_a_storage_that_is_missing_is_named(tmp_path):
    body = mapping({"w": tensor("5", 6, (6,), (1,))})
    (tmp_path / "w.pth").write_bytes(zip_file(body, {"0": bytes(24)}))
    with pytest.raises(WeightsError, match="archive/data/5 is not in it"):
        read_state(tmp_path / "w.pth")
    (tmp_path / "w.pth").write_bytes(legacy_file(body, {"0": np.zeros(6, "float32")}))
    with pytest.raises(WeightsError, match="list of storages"):
        read_state(tmp_path / "w.pth")


def test_parts_of_a_storage_in_old_files(tmp_path):
    # Before 0.4 a storage could be a view of another: (key, first element, number of elements)
    def viewed(view):
        pid = (
            b"(" + code("storage") + b"ctorch\nFloatStorage\n" + code("0") + code("cpu") + code(6) + code(view) + b"tQ"
        )
        return mapping({"w": call("torch._utils", "_rebuild_tensor", pid, 1, (2,), (1,))})

    values = np.arange(6, dtype="float32")
    (tmp_path / "w.pth").write_bytes(legacy_file(viewed(("1", 2, 3)), {"0": values}))
    assert_same(read_state(tmp_path / "w.pth"), {"w": np.array([3, 4], "float32")})
    for view in (("1", 2, 5), ("1", -1, 3), ("1", 2, 2), ("1", 2), "no view"):
        (tmp_path / "w.pth").write_bytes(legacy_file(viewed(view), {"0": values}))
        with pytest.raises(WeightsError, match=r"w\.pth"):
            read_state(tmp_path / "w.pth")


def test_a_damaged_tensor_is_named_when_it_is_read(tmp_path):
    content = bytearray(zip_state(STATE))
    place = content.index(STATE["weight"].tobytes())
    content[place + 5] ^= 1
    (tmp_path / "w.pth").write_bytes(content)
    state = read_state(tmp_path / "w.pth")
    np.testing.assert_array_equal(state["bias"].read(), STATE["bias"])
    with pytest.raises(WeightsError, match=r"w\.pth: the tensor 'weight' is damaged: .* checksum"):
        state["weight"].read()


def test_a_part_of_a_damaged_storage_is_damaged(tmp_path):
    content = bytearray(zip_file(mapping({"w": tensor("0", 600, (2,), (1,))}), {"0": b"abc" * 800}))
    content[content.index(b"abcabc") + 2000] ^= 1  # far from the two elements of the tensor
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(WeightsError, match="'w' is damaged"):
        read_state(tmp_path / "w.pth")["w"].read()


def test_a_file_that_changes_before_its_tensors_are_read_is_an_error(tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(zip_state(STATE))
    state = read_state(path)
    path.unlink()
    with pytest.raises(WeightsError, match=r"w\.pth cannot be read: No such file"):
        state["weight"].read()
    path.write_bytes(zip_state({name: value + 1 for name, value in STATE.items()}))
    with pytest.raises(WeightsError, match="changed"):
        state["weight"].read()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (call("torch._utils", "_rebuild_sparse_tensor", None), "holds a sparse tensor, which is not read"),
        (call("torch._utils", "_rebuild_qtensor", None), r"holds a quantised tensor \(_rebuild_qtensor\)"),
        (b"ctorch\nQInt8Storage\n", r"holds a quantised tensor \(QInt8Storage\)"),
        (b"ctorch\nfloat8_e4m3fn\n", "holds a tensor of float8_e4m3fn"),
        (call("torch._utils", "_rebuild_meta_tensor_no_storage", None), "holds a tensor without contents"),
        (
            b"ctorchvision.models.resnet\nResNet\n",
            r"asks for torchvision\.models\.resnet\.ResNet, which weights do not",
        ),
        (code([1]), "holds a list, not tensors by name"),
        (code({"epoch": 3}), "holds a int under 'epoch', not a tensor"),
        (code({"encoder": {"a": 1}}), "holds a dict under 'encoder', not a tensor; a state is looked for under state_"),
        (code({}), "holds no tensors"),
        (tensor("0", 1, (1,), (1,)), "holds a tensor without a name, not tensors by name"),
        (b"}(K\x01" + tensor("0", 1, (1,), (1,)) + b"u", "holds a tensor under 1, which is no name"),
    ],
)
def test_what_is_no_state_is_named(tmp_path, body, words):
    storages = {"0": np.zeros(1, "float32")} if b"FloatStorage" in body else {}
    for content in (zip_file(body, {"0": bytes(4)}), legacy_file(body, storages)):
        (tmp_path / "w.pth").write_bytes(content)
        with pytest.raises(WeightsError, match=words) as error:
            read_state(tmp_path / "w.pth")
        assert "\n" not in str(error.value)


def test_files_of_big_endian_machines_are_refused(tmp_path):
    path = tmp_path / "w.pth"
    data = {name: value.tobytes() for name, value in STATE.items()}
    path.write_bytes(zip_file(state_code(STATE), data, {"archive/byteorder": b"big"}))
    with pytest.raises(WeightsError, match="big-endian"):
        read_state(path)
    path.write_bytes(legacy_file(state_code(STATE), STATE, little_endian=False))
    with pytest.raises(WeightsError, match="big-endian"):
        read_state(path)


def test_many_tensors_of_one_storage_are_read_apart(tmp_path):
    values = np.arange(3000, dtype="float32")
    body = mapping({str(i): tensor("0", 3000, (30,), (1,), 30 * i) for i in range(100)})
    (tmp_path / "w.pth").write_bytes(zip_file(body, {"0": values.tobytes()}))
    state = read_state(tmp_path / "w.pth")
    for i in range(100):
        np.testing.assert_array_equal(state[str(i)].read(), values[30 * i : 30 * i + 30])


@pytest.mark.parity
@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
def test_what_pytorch_saves_here_is_read(tmp_path, is_zip, protocol):
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(0)
    state = {}
    for i in range(40):
        base = torch.rand(torch.Size(torch.randint(1, 6, (3,), generator=generator).tolist()), generator=generator)
        kind = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int32)[i % 5]
        view = (base * 100).to(kind).permute(*torch.randperm(3, generator=generator).tolist())
        state[f"view{i}"] = view[:: 1 + i % 3, i % 2 :]
    weight = torch.nn.Parameter(torch.rand(2, generator=generator))
    weight.note = "attributes make another form of it"
    tensor = torch.rand(2, generator=generator)
    tensor.note = "of a tensor, too"
    state |= {"parameter": weight, "tensor": tensor}
    if is_zip:
        state["uint16"] = torch.arange(3).to(torch.uint16)
    path = tmp_path / "w.pth"
    torch.save({"model": state}, path, pickle_protocol=protocol, _use_new_zipfile_serialization=is_zip)
    loaded = torch.load(path, weights_only=False)["model"]
    expected = {name: (t.float() if t.dtype == torch.bfloat16 else t).detach().numpy() for name, t in loaded.items()}
    assert_same(read_state(path), expected)


@pytest.mark.parity
def test_what_pytorch_saves_but_is_not_read_is_named(tmp_path):
    torch = pytest.importorskip("torch")
    cases = {
        "a sparse tensor": torch.eye(3).to_sparse(),
        "a quantised tensor": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
        "a tensor of float8_e4m3fn": torch.ones(2).to(torch.float8_e4m3fn),
        "a tensor without contents": torch.ones(2, device="meta"),
    }
    for words, value in cases.items():
        torch.save({"w": value}, tmp_path / "w.pth")
        with pytest.raises(WeightsError, match=f"holds {words}"):
            read_state(tmp_path / "w.pth")
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="is a TorchScript program"):
        read_state(tmp_path / "w.pth")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"asks for torch\.nn\.modules\.linear\.Linear"):
        read_state(tmp_path / "w.pth")
