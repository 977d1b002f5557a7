import math

import numpy as np
import paddle
import pytest

from paddlevid.errors import ConfigError
from paddlevid.optim import Group, Schedule, build_optimizer


def test_step_schedule_of_the_timesformer_recipe():
    schedule = Schedule("step", base_lr=0.005, steps_per_epoch=10, epochs=15, milestone_epochs=(11, 14))
    assert [schedule(step) for step in (0, 109, 110, 139, 140, 149)] == pytest.approx(
        [0.005, 0.005, 5e-4, 5e-4, 5e-5, 5e-5]
    )


def test_cosine_goes_from_base_to_min():
    schedule = Schedule("cosine", base_lr=1.0, steps_per_epoch=10, epochs=10, min_lr=0.2)
    assert schedule(0) == 1.0
    assert schedule(50) == pytest.approx(0.6)
    assert schedule(25) == pytest.approx(0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi / 4)))
    assert schedule(100) == pytest.approx(0.2)


def test_warmup_is_linear_and_meets_the_schedule():
    schedule = Schedule("constant", base_lr=2.0, steps_per_epoch=4, epochs=5, warmup_epochs=1, warmup_start_factor=0.5)
    assert [schedule(step) for step in range(6)] == pytest.approx([1.0, 1.25, 1.5, 1.75, 2.0, 2.0])


def test_cosine_begins_after_the_warmup():
    schedule = Schedule("cosine", base_lr=1.0, steps_per_epoch=10, epochs=3, warmup_epochs=1)
    assert schedule(10) == 1.0
    assert schedule(20) == pytest.approx(0.5)


def one_step(name, **options):
    """The change of a weight of ones with gradient 1, and of a bias of ones with gradient 2."""
    layer = paddle.nn.Linear(1, 1)
    layer.weight.set_value(np.ones((1, 1), np.float32))
    layer.bias.set_value(np.ones(1, np.float32))
    optimizer = build_optimizer(name, layer, **options)
    (layer.weight.sum() + 2 * layer.bias.sum()).backward()
    optimizer.step()
    return 1 - layer.weight.item(), 1 - layer.bias.item()


def test_group_multipliers_of_learning_rate_and_decay():
    groups = [Group(r"bias$", lr_mult=10, decay_mult=0)]
    weight, bias = one_step("momentum", lr=0.01, weight_decay=0.5, groups=groups)
    assert weight == pytest.approx(0.01 * (1 + 0.5), rel=1e-4)
    assert bias == pytest.approx(0.1 * 2, rel=1e-4)


def test_adamw_decay_is_decoupled_and_per_group():
    weight, bias = one_step("adamw", lr=0.1, weight_decay=0.5, groups=[Group("bias", decay_mult=0)])
    assert weight == pytest.approx(0.1 + 0.1 * 0.5, rel=1e-3)
    assert bias == pytest.approx(0.1, rel=1e-3)


def test_gradients_are_clipped_by_their_global_norm():
    weight, bias = one_step("sgd", lr=1.0, weight_decay=0.0, clip_grad_norm=1.0)
    assert (weight, bias) == pytest.approx((1 / math.sqrt(5), 2 / math.sqrt(5)), rel=1e-4)


def test_a_pattern_that_matches_nothing_is_an_error():
    with pytest.raises(ConfigError, match="nothing_like_this"):
        one_step("sgd", lr=1.0, weight_decay=0.0, groups=[Group("nothing_like_this")])
