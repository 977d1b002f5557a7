"""Shards of an optimizer's state, over gloo."""

from __future__ import annotations

import numpy as np
import pytest
from launches import PROGRAMS, start_host

from paddlevid.runtime import ALONE
from paddlevid.sharding import deal


def test_the_largest_go_to_whom_has_least():
    # 9 -> 0, 7 -> 1, 4 -> 1 (7 < 9), 4 -> 0 (9 < 11), 2 -> 1 (11 < 13), 1 -> 0 (13 = 13)
    sizes = {"a": 4, "b": 9, "c": 1, "d": 7, "e": 2, "f": 4}
    assert deal(sizes, 2) == {"b": 0, "d": 1, "a": 1, "f": 0, "e": 1, "c": 0}
    assert deal(sizes, 1) == dict.fromkeys("bdafec", 0)
    assert sorted(deal({"a": 1, "b": 1}, 3).values()) == [0, 1]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What two processes leave, and one alone whose checkpoint they go on from."""
    import rank_programs

    folder = tmp_path_factory.mktemp("shards")
    rank_programs.train_toy(ALONE, folder / "alone", sharded=False)
    host = start_host(folder / "launch", PROGRAMS, "shards", folder)
    assert host.wait() == 0, host.log(0) + host.log(1)
    return folder


def weights(path):
    with np.load(path) as arrays:
        return dict(arrays)


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


def test_weights_are_those_of_a_run_without_shards(results):
    expected = weights(results / "scratch_False" / "final_0.npz")
    alone = weights(results / "alone" / "final_0.npz")
    for name, array in expected.items():
        np.testing.assert_allclose(array, alone[name], atol=1e-5, err_msg=name)
        assert np.abs(array - weights(results / "alone" / "step_3.npz")[name]).max() > 1e-3  # it did learn
    for rank in (0, 1):
        assert_same(weights(results / "scratch_True" / f"final_{rank}.npz"), expected)


def test_the_state_is_divided(results):
    # Of each parameter: two moments, and two numbers of 4 bytes each
    with np.load(results / "alone" / "final_0.npz") as arrays:
        sizes = [arrays[name].size for name in arrays]
    whole = sum(2 * 4 * size + 2 * 4 for size in sizes)
    for rank in (0, 1):
        assert int((results / "scratch_False" / f"bytes_{rank}.txt").read_text()) == whole
    shares = [int((results / "scratch_True" / f"bytes_{rank}.txt").read_text()) for rank in (0, 1)]
    assert sum(shares) == whole
    assert max(shares) < 0.6 * whole


@pytest.mark.parametrize("name", ["optimizer.safetensors", "optimizer.pdopt"])
def test_checkpoints_are_the_same_files(results, name):
    assert (results / "scratch_True" / name).read_bytes() == (results / "scratch_False" / name).read_bytes()


@pytest.mark.parametrize("run", ["resumed_False_True", "resumed_True_False", "resumed_True_True"])
def test_resumed_runs_end_with_the_same_weights(results, run):
    expected = weights(results / "scratch_False" / "final_0.npz")
    for rank in (0, 1):
        assert_same(weights(results / run / f"final_{rank}.npz"), expected)


def test_shares_stay_shares_after_resuming(results):
    for rank in (0, 1):
        name = f"bytes_{rank}.txt"
        assert (results / "resumed_True_True" / name).read_text() == (results / "scratch_True" / name).read_text()


def test_a_run_goes_on_with_another_number_of_processes(results, tmp_path):
    import rank_programs

    alone = weights(results / "alone" / "final_0.npz")
    rank_programs.train_toy(ALONE, tmp_path, sharded=False, checkpoint=results / "scratch_True")
    for folder in (tmp_path, results / "resumed_from_alone"):
        for name, array in weights(folder / "final_0.npz").items():
            np.testing.assert_allclose(array, alone[name], atol=1e-5, err_msg=name)
