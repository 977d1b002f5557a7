from __future__ import annotations

import numpy as np
import paddle
import pytest

from paddlevid.checkpoint import TrainState, load_checkpoint, save_checkpoint
from paddlevid.errors import WeightsError

STATE = TrainState(5, 0.5, {}, {})


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


def numbers(optimizer):
    state = optimizer.state_dict()
    tensors = {**state, **state.get("master_weights", {})}
    return [value.astype("float32").numpy() for value in tensors.values() if isinstance(value, paddle.Tensor)]


@pytest.mark.parametrize("optimizer", ["Momentum", "AdamW"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_restored_under_other_names(tmp_path, optimizer, dtype):
    layer, opt = trained(optimizer, dtype)
    path = save_checkpoint(tmp_path, STATE, layer, opt)
    paddle.nn.Linear(1, 1)  # moves the names that Paddle gives to what is made next
    other, other_opt = trained(optimizer, dtype)
    other.weight.set_value(paddle.zeros([3, 2]).astype(dtype))
    assert load_checkpoint(path, other, other_opt) == STATE
    np.testing.assert_array_equal(layer.weight.astype("float32").numpy(), other.weight.astype("float32").numpy())
    assert other.weight.dtype == layer.weight.dtype
    mine, theirs = numbers(opt), numbers(other_opt)
    assert len(mine) == len(theirs) > 1
    for one, two in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(one, two)


def test_the_checkpoint_of_another_model(tmp_path):
    layer, opt = trained("Momentum")
    path = save_checkpoint(tmp_path, STATE, layer, opt)
    wider = paddle.nn.Linear(4, 2)
    with pytest.raises(WeightsError, match="another model"):
        load_checkpoint(path, wider, paddle.optimizer.Momentum(0.1, parameters=wider.parameters()))
    with pytest.raises(WeightsError, match="not a checkpoint"):
        load_checkpoint(tmp_path, layer, opt)
