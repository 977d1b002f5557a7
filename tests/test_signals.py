"""SIGTERM and Ctrl-C, to a process of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import ROOT

from paddlevid.training.signals import StopRequest

# Says when it is ready, stays in one long call that no Python handler can interrupt, then says what it knows
SCRIPT = """
import sys, time, threading
from paddlevid.training.signals import StopRequest
with StopRequest() as stop:
    print("ready", flush=True)
    lock = threading.Lock()
    lock.acquire()
    end = time.monotonic() + float(sys.argv[1])
    while not stop and time.monotonic() < end:
        time.sleep(0.05)
    if sys.argv[2] == "hangs":
        import ctypes
        ctypes.CDLL(None).sleep(60)
    print("asked by", stop.signal_name, flush=True)
"""


def start(seconds, what):
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(seconds), what],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_asks(number):
    process = start(30, "answers")
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert out == f"asked by {number.name}\n"
    assert err == f"{number.name}: finishing this step and saving; once more to stop at once\n"


def test_what_comes_at_once_is_the_same_wish():
    process = start(30, "answers")
    for number in (signal.SIGINT, signal.SIGTERM):
        process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err.count("once more")) == (0, 1)
    assert out.startswith("asked by SIG")


def test_the_second_ends_even_what_hangs():
    process = start(30, "hangs")
    process.send_signal(signal.SIGTERM)
    time.sleep(2.5)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    started = time.monotonic()
    assert process.wait(timeout=30) == 128 + signal.SIGTERM
    assert time.monotonic() - started < 10  # it would have slept for a minute


def test_handlers_are_put_back():
    def mine(*_):
        pass

    before = signal.signal(signal.SIGTERM, mine)
    try:
        with StopRequest(announce=False) as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.signal_name == "SIGTERM"
        assert signal.getsignal(signal.SIGTERM) is mine
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "paddlevid-signals" not in [thread.name for thread in threading.enumerate()]


def test_elsewhere_than_in_the_main_thread_it_does_nothing():
    seen = []

    def use():
        with StopRequest() as stop:
            seen.append(bool(stop))

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert seen == [False]
