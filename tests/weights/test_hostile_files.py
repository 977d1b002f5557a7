"""Files that carry code, files cut off, and files with flipped bits: an error in one line, and nothing else happens."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from paddlevid.errors import WeightsError
from paddlevid.weights import read_state, safe_unpickle
from tests.weights.torch_bytes import (
    call,
    code,
    legacy_file,
    legacy_state,
    mapping,
    pickled,
    tensor,
    zip_file,
    zip_state,
)

FILES = Path(__file__).resolve().parent.parent / "golden" / "files"


def numpy_load(command: str) -> bytes:
    """Loads an array of objects, which runs `command`, with allow_pickle=True."""

    class Runs:
        def __reduce__(self):
            return os.system, (command,)

    np.save("evil.npy", np.array([Runs()], dtype=object), allow_pickle=True)
    return call("numpy", "load", os.path.abspath("evil.npy"), None, True)


def getattr_chain(command: str) -> bytes:
    """Namespace.__init__.__globals__.get("_os").system(command), of names that checkpoints of MMEngine ask for."""
    function = call("builtins", "getattr", b"cargparse\nNamespace\n", "__init__")
    names = call("builtins", "getattr", function, "__globals__")
    module = call("builtins", "getattr", names, "get") + b"(" + code("_os") + b"tR"
    return call("builtins", "getattr", module, "system") + b"(" + code(command) + b"tR"


# What a pickle asks for first, and its code that runs a shell command
CALLS = {
    "os.system": lambda command: call("os", "system", command),
    "posix.system": lambda command: call("posix", "system", command),
    "nt.system": lambda command: call("nt", "system", command),
    "builtins.eval": lambda command: call("builtins", "eval", f"__import__('os').system({command!r})"),
    "builtins.exec": lambda command: call("__builtin__", "exec", f"__import__('os').system({command!r})"),
    "subprocess.check_call": lambda command: call("subprocess", "check_call", command.split()),
    "subprocess.Popen": lambda command: b"(csubprocess\nPopen\n" + code(command.split()) + b"o",
    "numpy.load": numpy_load,
    "torch.load": lambda command: call("torch", "load", "evil.pth"),
    "torch.storage._load_from_bytes": lambda command: call("torch.storage", "_load_from_bytes", command),
    "functools.partial": lambda command: call("functools", "partial", b"cos\nsystem\n", command) + b")R",
    "builtins.getattr": getattr_chain,
}
NOT_HERE = {"nt.system", "torch.load", "torch.storage._load_from_bytes"}  # of Windows, or they need PyTorch
OPCODES = {
    "inst": lambda command: b"(" + code(command) + b"ios\nsystem\n",
    "obj": lambda command: b"(cos\nsystem\n" + code(command) + b"o",
    "stack_global": lambda command: b"\x8c\x02os\x8c\x06system\x93(" + code(command) + b"tR",
}
HIDDEN = {
    "paddle": pickled,
    "zip": lambda body: zip_file(body, {}),
    "legacy": lambda body: legacy_file(body, {}),
}


@pytest.fixture
def witness(tmp_path, monkeypatch):
    """A file that is there once a command has run; PyTorch and Windows count as not installed."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "witness"


def refused(path, witness, name):
    words = name.replace(".", r"\.")
    with pytest.raises(WeightsError, match=rf"asks for {words}, which weights do not need; nothing of it was run"):
        read_state(path)
    assert not witness.exists()


@pytest.mark.parametrize("name", [name for name in CALLS if name not in NOT_HERE])
def test_the_calls_would_run_in_an_unpickler_that_admits_them(witness, name):
    body = CALLS[name](f"touch {witness}")
    Path("w").write_bytes(pickled(body))
    subprocess.run([sys.executable, "-c", "import pickle; pickle.load(open('w', 'rb'))"], check=True)
    for _ in range(100):  # Popen does not wait
        if witness.exists():
            break
        subprocess.run(["sleep", "0.05"], check=True)
    assert witness.exists()


@pytest.mark.parametrize("kind", HIDDEN)
@pytest.mark.parametrize("name", CALLS)
def test_nothing_that_a_file_names_is_run(witness, kind, name):
    body = mapping({"w": CALLS[name](f"touch {witness}")})
    Path("w.pth").write_bytes(HIDDEN[kind](body))
    if name == "builtins.getattr" and kind != "paddle":  # checkpoints of MMEngine need it: it gives nothing there
        with pytest.raises(WeightsError, match="holds a Python object under 'w', not a tensor"):
            read_state("w.pth")
        assert not witness.exists()
    else:
        refused("w.pth", witness, name)


@pytest.mark.parametrize("kind", HIDDEN)
@pytest.mark.parametrize("opcode", OPCODES)
def test_every_way_to_name_a_function_is_refused(witness, kind, opcode):
    Path("w.pth").write_bytes(HIDDEN[kind](OPCODES[opcode](f"touch {witness}")))
    refused("w.pth", witness, "os.system")


def test_codes_of_the_extension_registry_are_refused(witness):
    Path("w.pth").write_bytes(pickled(b"\x82\x01"))
    refused("w.pth", witness, "copyreg.extension 1")


@pytest.mark.parametrize("place", ["magic", "version", "machine", "keys"])
def test_no_part_of_a_legacy_file_is_trusted(witness, place):
    evil = pickled(CALLS["os.system"](f"touch {witness}"))
    parts = legacy_parts()
    parts[["magic", "version", "machine", "content", "keys"].index(place)] = evil
    Path("w.pth").write_bytes(b"".join(parts))
    refused("w.pth", witness, "os.system")


def legacy_parts():
    content = legacy_state({"w": np.ones(2, "float32")})
    parts = []
    while len(parts) < 5:
        end = len(content) - len(content.split(b".\x80\x02", 1)[1]) - 2 if b".\x80\x02" in content else None
        parts.append(content[:end])
        content = content[end:] if end else b""
    return parts


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("hide", [lambda e: {"w": e}, lambda e: e, lambda e: {"w": np.array([e], dtype=object)}])
def test_an_optimizer_state_runs_nothing(witness, protocol, hide):
    class Runs:
        def __reduce__(self):
            return eval, (f"open({str(witness)!r}, 'w')",)

    Path("w.pdopt").write_bytes(pickle.dumps(hide(Runs()), protocol=protocol))
    with pytest.raises(WeightsError, match=r"w\.pdopt asks for builtins\.eval"):
        safe_unpickle("w.pdopt")
    assert not witness.exists()


NAMES = b"cnumpy\ndtype\n"
FLOAT32 = NAMES + b"(" + code("f4") + b"\x89\x89tR"  # without a copy: the one dtype that the whole process shares


@pytest.mark.parametrize(
    "body",
    [
        FLOAT32 + code((3, ">", None, None, None, -1, -1, 0)) + b"b",
        b"ctorch._utils\n_rebuild_tensor_v2\n" + code({"__doc__": "changed"}) + b"b",
        b"ctorch._utils\n_rebuild_tensor_v2\nN" + code({"__defaults__": (1,)}) + b"\x86b",
        b"ccollections\nOrderedDict\n" + code({"__doc__": "changed"}) + b"b",
        b"cnumpy\nndarray\n" + code({"__doc__": "changed"}) + b"b",
        b"cargparse\nNamespace\n" + code({"__doc__": "changed"}) + b"b",
    ],
)
def test_nothing_of_this_process_is_changed(tmp_path, body):
    from paddlevid.weights import standins, torch_standins

    def looks():
        objects = {**standins.PLAIN, **torch_standins.TORCH}.values()
        return [(vars(thing).copy() if hasattr(thing, "__dict__") else None) for thing in objects] + [
            getattr(thing, "__defaults__", None) for thing in objects
        ]

    before = looks()
    for content in (pickled(body), zip_file(body, {}), legacy_file(body, {})):
        (tmp_path / "w").write_bytes(content)
        with pytest.raises(WeightsError):
            read_state(tmp_path / "w")
    assert looks() == before
    assert np.dtype("f4").byteorder == "="


def nested(depth):
    """((((), ()), ((), ())), ...): twice as much work to hash with each level."""
    return b")" + b"q\x00h\x00\x86" * depth


ARRAY = b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR"


@pytest.mark.parametrize(
    "body",
    [
        b"}" + nested(200) + b"Ns",
        b"}(" + nested(200) + b"Nu",
        b"(" + nested(200) + b"Nd",
        b"\x8f(" + nested(200) + b"\x90",
        b"(" + nested(200) + b"\x91",
        b"cbuiltins\nset\n(](" + nested(200) + b"etR",
        b"ccollections\nOrderedDict\n(]((" + nested(200) + b"NtetR",
        b"cbuiltins\nbytearray\n(" + code(2**28) + b"tR",
        b"cbuiltins\nbytes\n(" + code(2**28) + b"tR",
        b"cnumpy\nndarray\n(" + code((2**40,)) + b"tR",
        b"B\xff\xff\xff\xff",
        b"\x8e" + b"\xff" * 7 + b"\x0f",
        b"\x96" + b"\xff" * 7 + b"\x0f",
        b"X\xff\xff\xff\xff",
        b"T\xff\xff\xff\x7f",
        b"\x8b\xff\xff\xff\x7f",
        b"r\xff\xff\xff\xff",
        b"\x95" + b"\xff" * 8,
        mapping({"w": ARRAY + b"(K\x01" + code((2**60,)) + FLOAT32 + b"\x89C\x04abcdtb"}),
        mapping({"w": ARRAY + b"(K\x01" + code((2**32, 2**32)) + FLOAT32 + b"\x89C\x00tb"}),
        mapping({"w": ARRAY + b"(K\x01" + code((-1, -1)) + FLOAT32 + b"\x89C\x04abcdtb"}),
        mapping({"w": ARRAY + b"(K\x01" + code((2,)) + FLOAT32 + b"\x89C\x04abcdtb"}),
        mapping({"w": tensor("0", 2**60, (2**60,), (1,))}),
    ],
)
def test_no_number_in_a_file_costs_memory_or_time(tmp_path, body):
    for content in (pickled(body), zip_file(body, {"0": bytes(4)}), legacy_file(body, {"0": np.ones(1, "float32")})):
        (tmp_path / "w").write_bytes(content)
        tracemalloc.start()
        with pytest.raises(WeightsError):
            read_state(tmp_path / "w")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
        tracemalloc.stop()


def test_an_array_that_needs_no_bytes_may_still_be_too_big(tmp_path):
    (tmp_path / "w").write_bytes(
        pickled(mapping({"w": ARRAY + b"(K\x01" + code((0, 2**62)) + FLOAT32 + b"\x89C\x00tb"}))
    )
    with pytest.raises(WeightsError):
        read_state(tmp_path / "w")


def test_containers_in_each_other_without_end_are_an_error(tmp_path):
    (tmp_path / "w").write_bytes(pickled(b"]" * 100_000 + b"a" * 99_999))
    with pytest.raises(WeightsError):
        safe_unpickle(tmp_path / "w")


def paddle_bytes(protocol):
    state = {"weight": np.arange(1100, dtype="float32").reshape(2, 550), "bias": np.array([1, 2])}
    table = {"StructuredToParameterName@@": {"weight": "linear_0.w_0"}}
    return pickle.dumps(state | table, protocol)


CONTENTS = {
    "paddle2": lambda: paddle_bytes(2),
    "paddle4": lambda: paddle_bytes(4),
    "safetensors": lambda: save({"weight": np.arange(6, dtype="float32").reshape(2, 3), "bias": np.array([1, 2])}),
    "zip": (FILES / "small_zip.pt").read_bytes,
    "legacy": (FILES / "small_legacy.pt").read_bytes,
    "zip by hand": lambda: zip_state({"weight": np.ones((2, 3), "float32")}),
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_a_file_cut_anywhere_is_an_error(tmp_path, kind):
    content = CONTENTS[kind]()
    path = tmp_path / "torn.bin"
    path.write_bytes(content)
    assert len(read_state(path)) >= 1
    inside = range(200, len(content) - 200) if len(content) > 3000 else ()
    for length in sorted({*range(len(content))} - {*inside} | {*inside[::101]}):
        path.write_bytes(content[:length])
        with pytest.raises(WeightsError, match=r"torn\.bin") as error:
            read_state(path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", CONTENTS)
def test_flipped_bits_give_an_error_or_a_state(tmp_path, kind):
    content = CONTENTS[kind]()
    path = tmp_path / "flipped.bin"
    path.write_bytes(content)
    whole = {name: lazy.read() for name, lazy in read_state(path).items()}
    chance = random.Random(0)
    errors = 0
    tracemalloc.start()
    for _ in range(400):
        damaged = bytearray(content)
        for _ in range(chance.choice((1, 1, 1, 4))):
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        try:
            state = {name: lazy.read() for name, lazy in read_state(path).items()}
        except WeightsError as error:
            errors += 1
            assert "\n" not in str(error)  # noqa: PT017
            continue
        if kind.startswith("zip"):  # whose checksums cover all that matters
            assert {name: array.tolist() for name, array in state.items()} == {n: a.tolist() for n, a in whole.items()}
    assert errors > 10
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_a_tensor_with_strides_reads_within_its_storage(tmp_path):
    # Each element of each view that is admitted is one of the storage, and is the one that PyTorch's formula gives
    values = np.arange(24, dtype="float32")
    chance = random.Random(1)
    read = 0
    for _ in range(300):
        shape = [chance.randrange(5) for _ in range(chance.randrange(4))]
        strides = [chance.randrange(9) for _ in shape]
        first = chance.randrange(24)
        (tmp_path / "w").write_bytes(
            zip_file(mapping({"w": tensor("0", 24, shape, strides, first)}), {"0": values.tobytes()})
        )
        last = first + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        if 0 not in shape and last >= 24:
            with pytest.raises(WeightsError, match="asks for elements"):
                read_state(tmp_path / "w")
            continue
        read += 1
        array = read_state(tmp_path / "w")["w"].read()
        assert array.shape == tuple(shape)
        for index in np.ndindex(*shape):
            assert array[index] == first + sum(i * stride for i, stride in zip(index, strides, strict=True))
    assert read > 50
