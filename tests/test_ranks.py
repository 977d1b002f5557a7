"""What processes tell each other, over gloo."""

from __future__ import annotations

import numpy as np
import pytest
from launches import PROGRAMS, start_host, start_hosts

from paddlevid.errors import DataError
from paddlevid.ranks import any_rank, broadcast_state, meet, on_first
from paddlevid.runtime import ALONE


def test_alone_nothing_is_asked_of_anyone():
    meet(ALONE)
    assert any_rank(ALONE, True, False) == [True, False]
    assert on_first(ALONE, lambda: 5) == 5
    state = {"step": 3, "model": {"a": np.ones(2), "b": np.zeros(3)}}
    got = broadcast_state(state, ALONE, keep=lambda path: path == ("model", "b"))
    assert got["step"] == 3
    assert list(got["model"]) == ["b"]

    def refuse() -> None:
        raise DataError("no list")

    with pytest.raises(DataError, match="no list"):
        on_first(ALONE, refuse)


def test_processes_agree(tmp_path):
    host = start_host(tmp_path, PROGRAMS, "agree")
    assert host.wait() == 0, host.lines()
    for rank in range(2):
        assert "agreed" in host.log(rank)


@pytest.mark.slow
def test_processes_of_two_hosts_agree(tmp_path):
    hosts = start_hosts(tmp_path, PROGRAMS, [("agree",), ("agree",)])
    for host in hosts:
        assert host.wait() == 0, host.lines()
        assert "agreed" in host.log(0)


@pytest.mark.slow
def test_a_wait_longer_than_gloo_allows(tmp_path):
    # Gloo ends a collective operation after 30 seconds
    host = start_host(tmp_path, PROGRAMS, "agree", "35")
    assert host.wait() == 0, host.lines()
    assert "agreed" in host.log(1)
