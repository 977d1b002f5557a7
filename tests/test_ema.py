from __future__ import annotations

import numpy as np
import paddle
import pytest

from paddlevid.ema import EMA


def test_the_average_is_the_formula():
    model = paddle.nn.Linear(1, 1)
    model.weight.set_value(paddle.to_tensor([[1.0]]))
    ema = EMA(model, decay=0.5)
    expected = 1.0
    for updates, value in enumerate((3.0, -2.0, 7.0, 7.0, 1.0, 0.5, 4.0, 4.0, 9.0)):
        model.weight.set_value(paddle.to_tensor([[value]]))
        ema.update(model, updates)
        decay = min(0.5, (1 + updates) / (10 + updates))  # 0.1, 2/11, 0.25, 4/13, ...
        expected = decay * expected + (1 - decay) * value
        assert ema.shadow["weight"].item() == pytest.approx(expected, rel=1e-6)


def test_statistics_and_frozen_weights_are_taken_over():
    model = paddle.nn.Sequential(paddle.nn.Linear(3, 3), paddle.nn.BatchNorm1D(3))
    model[0].weight.stop_gradient = True
    ema = EMA(model, decay=0.9)
    model[0].weight.set_value(paddle.full([3, 3], 5.0))
    model[1]._mean.set_value(paddle.full([3], 2.0))
    ema.update(model, 100)
    assert (ema.shadow["0.weight"] == 5).all()
    assert (ema.shadow["1._mean"] == 2).all()


def test_applied_lends_the_average_and_gives_the_weights_back():
    model = paddle.nn.Linear(2, 2)
    ema = EMA(model, decay=0.9)
    before = model.weight.numpy().copy()
    model.weight.set_value(paddle.full([2, 2], 8.0))
    with ema.applied(model):
        np.testing.assert_array_equal(model.weight.numpy(), before)
        model.bias.set_value(paddle.full([2], 3.0))
        ema.keep(model)
    assert (model.weight == 8).all()
    assert (model.bias == 0).all()
    assert (ema.shadow["bias"] == 3).all()


def test_the_shadow_is_no_part_of_the_model():
    model = paddle.nn.Linear(2, 2)
    ema = EMA(model, decay=0.9)
    model.weight.set_value(paddle.full([2, 2], 8.0))
    assert not (ema.shadow["weight"] == 8).any()
    ema.load({"weight": np.full((2, 2), 4.0, np.float32), "bias": np.zeros(2, np.float32)})
    assert (ema.shadow["weight"] == 4).all()
    assert (model.weight == 8).all()
