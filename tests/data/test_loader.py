import numpy as np
import pytest

from paddlevid.data.loader import TrainPlan


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize(("num_samples", "global_batch", "batch_size"), [(10, 4, 2), (7, 8, 3), (23, 6, 8), (1, 4, 1)])
def test_an_epoch_has_each_sample_once_whatever_the_division(world, num_samples, global_batch, batch_size):
    plan = TrainPlan(num_samples, global_batch, batch_size, epochs=3, seed=0)
    for epoch in range(3):
        seen = []
        for step in range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch):
            shares = [plan.micro_batches(step, rank, world) for rank in range(world)]
            assert len({len(share) for share in shares}) == 1, "processes must meet at the same micro-batches"
            pieces = [piece for share in shares for piece in share]
            assert sum(piece.weights.sum() for piece in pieces) == pytest.approx(1.0, abs=1e-6)
            assert all(len(piece.keys) <= batch_size for piece in pieces)
            for piece in pieces:
                seen += [key for key, weight in zip(piece.keys, piece.weights, strict=True) if weight > 0]
        assert sorted(seen) == [(epoch, index) for index in range(num_samples)]


def test_a_step_holds_the_same_samples_however_it_is_divided():
    plan = TrainPlan(50, 12, 5, epochs=2, seed=3)
    for step in range(plan.total_steps):
        sets = []
        for world in (1, 2, 4):
            pieces = [piece for rank in range(world) for piece in plan.micro_batches(step, rank, world)]
            sets.append({key for p in pieces for key, weight in zip(p.keys, p.weights, strict=True) if weight > 0})
        assert sets[0] == sets[1] == sets[2]


def test_epochs_and_seeds_shuffle_differently():
    def order(seed, epoch):
        plan = TrainPlan(40, 40, 40, epochs=2, seed=seed)
        return [index for _, index in plan.micro_batches(epoch, 0, 1)[0].keys]

    assert order(0, 0) != order(0, 1) != order(1, 1)
    assert order(0, 1) == order(0, 1)


def test_weights_are_equal_within_a_step():
    plan = TrainPlan(10, 4, 4, epochs=1, seed=0)
    assert np.allclose(plan.micro_batches(0, 0, 1)[0].weights, 1 / 4)
    assert np.allclose(plan.micro_batches(2, 0, 1)[0].weights, 1 / 2), "the last step has two samples"
