"""Processes that really fail, are killed or stopped, and what the others make of it."""

from __future__ import annotations

import os
import re
import signal
import time

import pytest
from launches import PROGRAMS, is_running, start_host, start_hosts, wait_until

KILLED = "ended without a word: killed, perhaps for want of memory"


def joined(host, local_rank):
    """The process id of a process, once it has joined."""
    wait_until(lambda: "joined as" in host.log(local_rank))
    return int(re.search(r"joined as \d+ with pid (\d+)", host.log(local_rank)).group(1))


def errors(host, local_rank):
    return [line for line in host.log(local_rank).splitlines() if line.startswith(("error:", "Traceback"))]


def first_error(host):
    return next(line for line in host.lines() if not line.startswith("joined as"))


def test_the_launcher_shows_the_error_of_the_process_that_fails(tmp_path):
    host = start_host(tmp_path, PROGRAMS, "fail", "user_error", 1)
    assert host.wait() == 2
    told = r"error: process 1 of 2 on \S+: list\.txt: line 7 has no label"
    assert re.fullmatch(told, first_error(host))
    assert len(errors(host, 0)) == 1
    assert errors(host, 1) == ["error: list.txt: line 7 has no label"]


@pytest.mark.slow
def test_a_host_hears_of_a_process_killed_on_another(tmp_path):
    # There no launcher sees it; "busy": nor does the process meet a broken connection
    hosts = start_hosts(tmp_path, PROGRAMS, [("fail", "busy", 1), ("fail", "busy", 1)])
    assert hosts[1].wait() != 0
    ended = time.monotonic()
    assert hosts[0].wait() == 1
    assert time.monotonic() - ended < 15
    assert re.fullmatch(rf"error: process 1 of 2 on \S+: {KILLED}", first_error(hosts[0]))


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_bug_shows_its_own_traceback(tmp_path, victim):
    host = start_host(tmp_path, PROGRAMS, "fail", "bug", victim, world=3)
    assert host.wait() == 1
    lines = host.lines()
    start = next(i for i, line in enumerate(lines) if "Traceback" in line)
    assert any("KeyError: 'no such key'" in line for line in lines[start : start + 20])
    for rank in range(3):
        assert len([line for line in errors(host, rank) if line.startswith("Traceback")]) == 1
        assert "KeyError: 'no such key'" in host.log(rank)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process(tmp_path, victim):
    host = start_host(tmp_path, PROGRAMS, "fail", "kill", victim, world=3)
    host.wait()
    for rank in {0, 1, 2} - {victim}:
        assert errors(host, rank) == [f"error: process {victim} of 3 on {os.uname().nodename}: {KILLED}"]


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_stopped_process(tmp_path, monkeypatch, victim):
    monkeypatch.setenv("PADDLEVID_PEER_TIMEOUT_SEC", "4")
    host = start_host(tmp_path, PROGRAMS, "fail", "stop", victim)
    assert host.wait() != 0
    assert "nothing heard of it for 4 s: stopped, or cut off" in errors(host, 1 - victim)[0]


def test_a_timeout_that_is_no_number(tmp_path, monkeypatch):
    from paddlevid import watch
    from paddlevid.errors import ConfigError

    monkeypatch.setenv("PADDLEVID_PEER_TIMEOUT_SEC", "ten")
    with pytest.raises(ConfigError, match="PADDLEVID_PEER_TIMEOUT_SEC=ten: a number of seconds is expected"):
        watch.start(0, 2)
    watch.start(0, 1)  # alone there is nothing to wait for
    assert watch.fail(2, "a failure") is None


@pytest.mark.slow
@pytest.mark.parametrize("to", ["launcher", "process"])
def test_asked_to_stop_all_save_and_end(tmp_path, to):
    host = start_host(tmp_path, PROGRAMS, "stop")
    pids = [joined(host, rank) for rank in (0, 1)]
    time.sleep(1)
    os.kill(host.launcher.pid if to == "launcher" else pids[1], signal.SIGTERM)
    # The launcher ends with the signal's number where it was the one to get it
    assert host.wait(60) == (signal.SIGTERM if to == "launcher" else 75)
    assert "saved" in host.log(0)
    assert not errors(host, 0) + errors(host, 1)


@pytest.mark.slow
def test_processes_do_not_outlive_their_launcher(tmp_path):
    host = start_host(tmp_path, PROGRAMS, "stop")
    pids = [joined(host, rank) for rank in (0, 1)]
    host.launcher.kill()
    host.wait()
    wait_until(lambda: not any(map(is_running, pids)), 30)
    assert "saved" in host.log(0)
    assert "SIGTERM" in host.log(1)
