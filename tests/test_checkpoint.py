from __future__ import annotations

import json
import os
import pickle
import shutil

import numpy as np
import paddle
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from paddlevid.checkpoint import (
    MODEL_FILES,
    OPTIMIZER_FILES,
    TrainState,
    list_checkpoints,
    prepare_root,
    read_checkpoint,
    restore,
    save_checkpoint,
    save_weights,
    update_state,
    what_is_torn,
)
from paddlevid.ema import EMA
from paddlevid.errors import WeightsError
from paddlevid.optimizer_state import optimizer_state
from paddlevid.weights import read_state

STATE = TrainState(5, {}, {}, updates=5, best_score=0.5, bad_videos={"a b.mp4": "damaged"})
FORMATS = ("pdparams", "safetensors")


def save(root, state, layer, optimizer, *more, **options):
    return save_checkpoint(root, state, layer, optimizer_state(layer, optimizer), *more, **options)


def trained(optimizer, dtype="float32"):
    """A layer and its optimizer after two steps; of low precision as at AMP O2, with float32 master weights."""
    layer = paddle.nn.Linear(3, 2)
    layer.to(dtype=dtype)
    opt = getattr(paddle.optimizer, optimizer)(0.1, parameters=layer.parameters(), multi_precision=dtype != "float32")
    if dtype == "float32":
        for _ in range(2):
            layer(paddle.ones([1, 3])).sum().backward()
            opt.step()
            opt.clear_grad()
    else:
        block = paddle.static.default_main_program().global_block()
        opt._create_accumulators(block, layer.parameters())  # a CPU has no kernels of low precision to take a step with
    return layer, opt


def numbers(layer, optimizer):
    """The tensors of an optimizer by the model's names; bfloat16 as its bits."""
    state = optimizer_state(layer, optimizer)
    tensors = {**state, **{f"master {name}": value for name, value in state.pop("master_weights", {}).items()}}
    return {name: value.read() for name, value in tensors.items() if hasattr(value, "read")}


@pytest.mark.parametrize("optimizer", ["Momentum", "AdamW"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("weights_format", FORMATS)
def test_restored_under_other_names(tmp_path, optimizer, dtype, weights_format):
    layer, opt = trained(optimizer, dtype)
    path = save(tmp_path, STATE, layer, opt, weights_format=weights_format)
    names = {MODEL_FILES[weights_format], OPTIMIZER_FILES[weights_format], "state.json"}
    assert {file.name for file in path.iterdir()} == names
    paddle.nn.Linear(1, 1)  # moves the names that Paddle gives to what is made next
    other, other_opt = trained(optimizer, dtype)
    other.weight.set_value(paddle.zeros([3, 2]).astype(dtype))
    assert restore(read_checkpoint(path), other, other_opt) == STATE
    np.testing.assert_array_equal(layer.weight.astype("float32").numpy(), other.weight.astype("float32").numpy())
    assert other.weight.dtype == layer.weight.dtype
    mine, theirs = numbers(layer, opt), numbers(other, other_opt)
    assert mine.keys() == theirs.keys()
    assert len(mine) > 1
    for name in mine:
        np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name)
    assert {name: mine[name].dtype for name in mine} == {name: theirs[name].dtype for name in theirs}


@pytest.mark.parametrize("weights_format", FORMATS)
def test_the_schedule_and_the_scaler_are_restored(tmp_path, weights_format):
    def make():
        layer = paddle.nn.Linear(3, 2)
        cosine = paddle.optimizer.lr.CosineAnnealingDecay(0.1, T_max=7)
        schedule = paddle.optimizer.lr.LinearWarmup(cosine, 2, 0.0, 0.1)
        optimizer = paddle.optimizer.Momentum(schedule, parameters=layer.parameters())
        return layer, schedule, optimizer, paddle.amp.GradScaler(init_loss_scaling=4.0)

    layer, schedule, optimizer, scaler = make()
    for _ in range(3):
        layer(paddle.ones([1, 3])).sum().backward()
        optimizer.step()
        schedule.step()
    kept = {"scale": np.array([0.1], "float32"), "incr_count": 3, "decr_count": 1}
    if scaler.is_enable():
        scaler.load_state_dict(scaler.state_dict() | kept)
    else:  # a scaler on a CPU keeps no state: stand in for one that does
        scaler.state_dict = lambda: dict(kept)
    path = save(tmp_path, STATE, layer, optimizer, scaler, weights_format=weights_format)

    other, other_schedule, other_optimizer, other_scaler = make()
    given = {}
    other_scaler.load_state_dict = given.update
    restore(read_checkpoint(path), other, other_optimizer, other_scaler)
    assert other_schedule.state_dict() == schedule.state_dict()
    assert other_optimizer.get_lr() == optimizer.get_lr()
    assert {name: given[name] for name in ("incr_count", "decr_count")} == {"incr_count": 3, "decr_count": 1}
    assert given["scale"].dtype == np.float32
    assert given["scale"].tolist() == np.array([0.1], "float32").tolist()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("suffix", FORMATS)
def test_weights_are_written_by_the_suffix(tmp_path, dtype, suffix):
    layer, _ = trained("Momentum", dtype)
    save_weights(layer, tmp_path / f"w.{suffix}")
    assert [file.name for file in tmp_path.iterdir()] == [f"w.{suffix}"]
    state = read_state(tmp_path / f"w.{suffix}")
    for name, tensor in layer.state_dict().items():
        np.testing.assert_array_equal(state[name].read().astype("float32"), tensor.astype("float32").numpy())
    if suffix == "safetensors":
        with safe_open(tmp_path / "w.safetensors", framework="numpy") as file:
            kind = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}[dtype]
            assert {file.get_slice(name).get_dtype() for name in file.keys()} == {kind}  # noqa: SIM118
    elif dtype == "float32":
        np.testing.assert_array_equal(paddle.load(str(tmp_path / "w.pdparams"))["weight"].numpy(), layer.weight.numpy())


class RunsCommand:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("weights_format", FORMATS)
@pytest.mark.parametrize("names", [MODEL_FILES, OPTIMIZER_FILES])
def test_a_checkpoint_runs_nothing(tmp_path, weights_format, names):
    layer, opt = trained("Momentum")
    path = save(tmp_path, STATE, layer, opt, weights_format=weights_format)
    witness = tmp_path / "witness"
    (path / names[weights_format]).write_bytes(pickle.dumps({"optimizer": RunsCommand(f"touch {witness}")}))
    with pytest.raises(WeightsError, match=r"asks for posix\.system|is cut off or damaged"):
        restore(read_checkpoint(path), layer, opt)
    assert not witness.exists()


@pytest.mark.parametrize("weights_format", FORMATS)
@pytest.mark.parametrize("names", [MODEL_FILES, OPTIMIZER_FILES])
def test_a_checkpoint_cut_off_or_incomplete(tmp_path, weights_format, names):
    layer, opt = trained("Momentum")
    path = save(tmp_path, STATE, layer, opt, weights_format=weights_format)
    file = path / names[weights_format]
    content = file.read_bytes()
    for length in (0, 1, 9, 100, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(WeightsError, match="step_0000005"):
            restore(read_checkpoint(path), layer, opt)
    file.unlink()
    with pytest.raises(WeightsError, match=r"does not exist|it has no model"):
        restore(read_checkpoint(path), layer, opt)


def test_optimizer_tensors_without_their_place_are_named(tmp_path):
    layer, opt = trained("Momentum")
    path = save(tmp_path, STATE, layer, opt, weights_format="safetensors")
    file = path / "optimizer.safetensors"
    for metadata in (None, {"state": "[]"}, {"state": "{"}, {"state": json.dumps({"scaler": {}})}):
        save_file({"optimizer/weight_velocity_0": np.ones((3, 2), "float32")}, file, metadata)
        with pytest.raises(WeightsError, match="does not hold the state of an optimizer"):
            restore(read_checkpoint(path), layer, opt)


def test_the_checkpoint_of_another_model(tmp_path):
    layer, opt = trained("Momentum")
    path = save(tmp_path, STATE, layer, opt)
    wider = paddle.nn.Linear(4, 2)
    with pytest.raises(WeightsError, match="another model"):
        restore(read_checkpoint(path), wider, paddle.optimizer.Momentum(0.1, parameters=wider.parameters()))
    with pytest.raises(WeightsError, match="not a checkpoint"):
        restore(read_checkpoint(tmp_path), layer, opt)


@pytest.mark.parametrize("weights_format", FORMATS)
def test_averaged_weights_are_restored(tmp_path, weights_format):
    layer, opt = trained("AdamW")
    ema = EMA(layer, 0.9)
    ema.shadow["weight"].set_value(paddle.full([3, 2], 7.0))
    path = save(tmp_path, STATE, layer, opt, None, ema, weights_format=weights_format)
    other, other_opt = trained("AdamW")
    other_ema = EMA(other, 0.9)
    restore(read_checkpoint(path), other, other_opt, None, other_ema)
    assert (other_ema.shadow["weight"] == 7).all()
    np.testing.assert_array_equal(other.weight.numpy(), layer.weight.numpy())


def test_averages_begin_with_the_weights_of_a_run_that_had_none(tmp_path):
    layer, opt = trained("AdamW")
    path = save(tmp_path, STATE, layer, opt)
    other, other_opt = trained("AdamW")
    ema = EMA(other, 0.9)
    ema.shadow["weight"].set_value(paddle.full([3, 2], 7.0))
    restore(read_checkpoint(path), other, other_opt, None, ema)
    np.testing.assert_array_equal(ema.shadow["weight"].numpy(), layer.weight.numpy())


def test_an_optimizer_that_has_not_updated_yet(tmp_path):
    layer = paddle.nn.Linear(3, 2)
    opt = paddle.optimizer.AdamW(0.1, parameters=layer.parameters())
    path = save(tmp_path, TrainState(1, {}, {}, updates=0), layer, opt)
    assert restore(read_checkpoint(path), layer, opt).step == 1


def test_the_newest_are_kept(tmp_path):
    layer, opt = trained("SGD")
    for step in range(1, 6):
        save(tmp_path, TrainState(step, {}, {}), layer, opt, keep=3)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step_0000003", "step_0000004", "step_0000005"]


@pytest.mark.parametrize("weights_format", FORMATS)
def test_what_happened_to_a_checkpoint_shows(tmp_path, weights_format):
    layer, opt = trained("Momentum")
    path = save(tmp_path, STATE, layer, opt, weights_format=weights_format)
    assert what_is_torn(path) == ""
    for name in (MODEL_FILES[weights_format], OPTIMIZER_FILES[weights_format]):
        content = (path / name).read_bytes()
        (path / name).write_bytes(content[:-3])
        assert what_is_torn(path) == f"{name} has {len(content) - 3} of {len(content)} bytes"
        (path / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert what_is_torn(path) == f"{name} is damaged"
        (path / name).unlink()
        assert what_is_torn(path) == f"{name}: No such file or directory"
        (path / name).write_bytes(content)
    assert what_is_torn(path) == ""
    text = (path / "state.json").read_text()
    content = json.loads(text)
    spoiled = [{**content, "step": "5"}, {**content, "step": -3}, {**content, "files": {}}, {**content, "data": None}]
    spoiled += [{key: value for key, value in content.items() if key != "config"}]
    for damaged in (text[:50], "", "[]", "null", '{"files": 3}', *map(json.dumps, spoiled)):
        (path / "state.json").write_text(damaged)
        assert what_is_torn(path) == "state.json is damaged"
    (path / "state.json").write_text(json.dumps({**content, "step": 8}))
    assert what_is_torn(path) == "state.json is of step 8"


def test_a_score_is_added_to_a_checkpoint(tmp_path):
    layer, opt = trained("Momentum")
    path = save(tmp_path, TrainState(5, {}, {}, updates=5, validated=False), layer, opt)
    update_state(path, TrainState(5, {}, {}, updates=5, best_score=0.75, best_step=5))
    assert what_is_torn(path) == ""
    state = restore(read_checkpoint(path), layer, opt)
    assert (state.best_score, state.best_step, state.validated) == (0.75, 5, True)


def test_a_disk_that_refuses_leaves_the_older_checkpoint(tmp_path):
    """A limit on the size of files stands in for a full disk: both fail in the middle of a write."""
    resource = pytest.importorskip("resource")
    layer, opt = trained("Momentum")
    older = save(tmp_path, STATE, layer, opt, keep=1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            save(tmp_path, TrainState(6, {}, {}, updates=6), layer, opt, keep=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list_checkpoints(tmp_path) == [older]
    assert [path.name for path in tmp_path.iterdir()] == ["step_0000005"]
    assert what_is_torn(older) == ""


def test_what_a_user_has_copied_is_no_checkpoint_and_stays(tmp_path):
    layer, opt = trained("SGD")
    first = save(tmp_path, TrainState(1, {}, {}), layer, opt, keep=2)
    for name in ("step_0000001_good", "step_best"):
        shutil.copytree(first, tmp_path / name)
    (tmp_path / "step_0000007").symlink_to(first)
    for step in (2, 3, 4):
        save(tmp_path, TrainState(step, {}, {}), layer, opt, keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step_0000003", "step_0000004"]
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"step_0000003", "step_0000004", "step_0000001_good", "step_best", "step_0000007"}


def test_going_back_twice_leaves_both_behind(tmp_path):
    layer, opt = trained("SGD")
    for _ in range(2):
        for step in (1, 2):
            save(tmp_path, TrainState(step, {}, {}), layer, opt, keep=2)
        prepare_root(tmp_path, resumed_step=1)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["abandoned_step_0000002", "abandoned_step_0000002_1", "step_0000001"]
