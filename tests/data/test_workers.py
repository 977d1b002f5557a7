"""Workers crash, hang and are killed; what is read stays the same, and nothing waits for ever."""

import ctypes
import dataclasses
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from paddlevid import build
from paddlevid.config import load_config
from paddlevid.data import workers
from paddlevid.data.dataset import FrameSource
from paddlevid.data.loader import TrainPlan, train_batches, view_batches
from paddlevid.data.shared_memory import SharedBytes
from paddlevid.data.workers import read_ahead
from paddlevid.errors import DataError

PLAN = TrainPlan(16, 4, 4, epochs=2, seed=0)


@dataclasses.dataclass(frozen=True)
class Treacherous(FrameSource):
    """Reads videos, but some make it crash, and others never end; `once` is a file that tells of a first time."""

    crashes: tuple[str, ...] = ()
    hangs: tuple[str, ...] = ()
    once: str = ""

    def open(self, record):
        if record.name in self.crashes and not (self.once and os.path.exists(self.once)):
            if self.once:
                Path(self.once).touch()
            ctypes.string_at(0)
        while record.name in self.hangs:
            time.sleep(1)
        return super().open(record)


@pytest.fixture
def dataset(tiny_recipe):
    return build.build_train_dataset(load_config(tiny_recipe()))


def with_source(dataset, timeout_sec=60.0, **how):
    return dataclasses.replace(dataset, source=Treacherous(timeout_sec=timeout_sec, **how))


def read_all(dataset, num_workers):
    # All are kept: what comes later must not be written over what came before
    batches = list(train_batches(dataset, PLAN, start_step=0, rank=0, world=1, num_workers=num_workers))
    return [
        (batch["frames"].numpy(), batch["targets"].numpy(), batch["indices"].numpy().tolist(), batch["failures"])
        for batch in batches
    ]


def assert_equal(one, other):
    assert len(one) == len(other) == PLAN.total_steps
    for (frames, targets, indices, failures), expected in zip(one, other, strict=True):
        np.testing.assert_array_equal(frames, expected[0])
        np.testing.assert_array_equal(targets, expected[1])
        assert (indices, failures) == (expected[2], expected[3])


def own_workers(before):
    return set(multiprocessing.active_children()) - before


def test_a_video_that_crashes_its_decoder_is_a_bad_video(dataset):
    names = tuple(dataset.records[index].name for index in (3, 7))
    read = read_all(with_source(dataset, crashes=names), 2)
    failures = [failure for batch in read for failure in batch[3]]
    assert {index for index, _ in failures} == {3, 7}
    for index, reason in failures:
        assert reason == (
            f"{dataset.records[index].path}: the process that read this video died 2 times (its process ended by"
            " SIGSEGV)"
        )
    # The same videos take their place as that of a video that is missing
    missing = [
        dataclasses.replace(record, path=record.path + ".missing") if record.name in names else record
        for record in dataset.records
    ]
    expected = read_all(dataclasses.replace(dataset, records=missing), 0)
    assert [batch[2] for batch in read] == [batch[2] for batch in expected]
    for got, want in zip(read, expected, strict=True):
        np.testing.assert_array_equal(got[0], want[0])


def test_a_test_scores_all_but_the_video_that_crashes_its_decoder(tiny_recipe):
    cfg = load_config(tiny_recipe())
    dataset = build.build_eval_dataset(cfg, cfg.test)
    source = Treacherous(crashes=(dataset.records[4].name,))
    treacherous = dataclasses.replace(dataset, views=dataclasses.replace(dataset.views, source=source))
    batches = list(view_batches(treacherous, videos_per_batch=3, rank=0, world=1, num_workers=2))
    errors = [error for batch in batches for error in batch["errors"]]
    assert [number for number, error in enumerate(errors) if error] == [4]
    assert errors[4].startswith(f"{dataset.records[4].path}: the process that read this video died 2 times")
    frames = np.concatenate([batch["frames"].numpy() for batch in batches])
    assert not frames[4].any()
    for number in (3, 5):
        np.testing.assert_array_equal(frames[number], dataset[number]["frames"])


def test_a_crash_that_does_not_come_again_changes_nothing(dataset, tmp_path):
    once = tmp_path / "crashed"
    read = read_all(with_source(dataset, crashes=(dataset.records[5].name,), once=str(once)), 2)
    assert once.exists()
    assert_equal(read, read_all(dataset, 0))


def test_workers_that_are_killed_change_nothing(dataset):
    before = set(multiprocessing.active_children())
    read = []
    batches = train_batches(dataset, PLAN, start_step=0, rank=0, world=1, num_workers=2)
    for number, batch in enumerate(batches):
        read.append((batch["frames"].numpy(), batch["targets"].numpy(), batch["indices"].tolist(), batch["failures"]))
        if number % 2 == 0:
            for worker in own_workers(before):
                os.kill(worker.pid, signal.SIGKILL)
    assert_equal(read, read_all(dataset, 0))
    assert not own_workers(before)


def test_a_video_that_never_ends_is_a_bad_video(dataset):
    name = dataset.records[2].name
    started = time.monotonic()
    read = read_all(with_source(dataset, hangs=(name,), timeout_sec=4.0), 2)
    assert time.monotonic() - started < 60
    failures = [failure for batch in read for failure in batch[3]]
    assert {index for index, _ in failures} == {2}
    assert "gave no answer in 4 s (data.read_timeout_sec)" in failures[0][1]


def test_workers_that_hang_end_with_the_iterator(dataset):
    before = set(multiprocessing.active_children())
    ahead = read_ahead(read_numbers, dataset, range(80, 100), num_workers=2, batch_bytes=1000, timeout_sec=60)
    for _ in range(10):
        next(ahead)
    processes = own_workers(before)
    assert len(processes) == 2
    started = time.monotonic()
    ahead.close()
    assert time.monotonic() - started < 15
    assert not any(process.is_alive() for process in processes)


def read_numbers(dataset, key):
    """Large and small arrays, an empty one, and what is no array; keys 6 to 8 raise errors."""
    if key == 7:
        return {"bug": 1 // 0}
    if key == 8:
        raise DataError("x.mp4: no such thing")
    if key == 6:
        raise ConnectionResetError("a network disk")
    if key == 90:
        time.sleep(100)
    large = np.full((1000, 3), key, np.int32)
    return {"large": large, "small": np.array([key], np.uint8), "empty": np.zeros((0, 2)), "words": [(key, "a")]}


@pytest.mark.parametrize("batch_bytes", [64, 12_000 + 64, 10**6])
def test_what_is_read_arrives_in_order_whether_it_fits_or_not(dataset, batch_bytes):
    ahead = read_ahead(read_numbers, dataset, range(9, 40), num_workers=3, batch_bytes=batch_bytes, timeout_sec=60)
    for key, batch in zip(range(9, 40), ahead, strict=True):
        np.testing.assert_array_equal(batch["large"], np.full((1000, 3), key, np.int32))
        assert batch["small"].tolist() == [key]
        assert batch["empty"].shape == (0, 2)
        assert batch["words"] == [(key, "a")]


@pytest.mark.parametrize(
    ("key", "error", "words"),
    [(6, OSError, "network"), (7, ZeroDivisionError, "division"), (8, DataError, "x.mp4: no")],
)
def test_what_a_worker_raises_is_raised(dataset, key, error, words):
    before = set(multiprocessing.active_children())
    ahead = read_ahead(read_numbers, dataset, [1, 2, key, 3], num_workers=1, batch_bytes=10**5, timeout_sec=60)
    with pytest.raises(error, match=words) as caught:
        list(ahead)
    assert "in read_numbers" in str(caught.value.__cause__)
    assert not own_workers(before)


def test_workers_that_cannot_begin_are_told(dataset, monkeypatch):
    monkeypatch.setattr(workers, "serve", leave)
    ahead = read_ahead(read_numbers, dataset, [1, 2], num_workers=2, batch_bytes=10**5, timeout_sec=60)
    with pytest.raises(RuntimeError, match="ended with code 3"):
        next(ahead)


def leave(*_):
    os._exit(3)


def test_no_keys_no_batches(dataset):
    assert list(read_ahead(read_numbers, dataset, [], num_workers=2, batch_bytes=1, timeout_sec=60)) == []


def test_shared_bytes_go_to_workers_alone():
    shared = SharedBytes(100)
    shared.array(8, (2, 3), np.int16)[...] = 5
    assert shared.array(0, (100,), np.uint8).sum() == 30
    with pytest.raises(RuntimeError, match="inheritance"):
        multiprocessing.reduction.ForkingPickler.dumps(shared)


def test_a_process_ends_whatever_holds_the_iterator(tiny_recipe):
    script = f"""
from test_workers import PLAN, build, load_config, train_batches, with_source
dataset = build.build_train_dataset(load_config({str(tiny_recipe())!r}))
hanging = with_source(dataset, hangs=tuple(record.name for record in dataset.records[1:]))
batches = train_batches(dataset, PLAN, start_step=0, rank=0, world=1, num_workers=2)
next(batches)
waiting = train_batches(hanging, PLAN, start_step=0, rank=0, world=1, num_workers=2)
import multiprocessing, threading, time
threading.Thread(target=next, args=(waiting,), daemon=True).start()
while len(multiprocessing.active_children()) < 4:
    time.sleep(0.1)
time.sleep(0.5)
never_started = train_batches(dataset, PLAN, start_step=0, rank=0, world=1, num_workers=2)
print("done")
raise SystemExit(2)
"""
    folder = Path(__file__).parent
    command = [sys.executable, "-c", script]
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{folder.parent.parent}"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stdout) == (2, "done\n"), run.stderr
    assert "Traceback" not in run.stderr
    assert "rror" not in run.stderr


def test_workers_that_hang_end_with_a_killed_process(tiny_recipe):
    script = f"""
from test_workers import build, load_config, read_ahead, read_numbers
import multiprocessing, os, signal
dataset = build.build_train_dataset(load_config({str(tiny_recipe())!r}))
ahead = read_ahead(read_numbers, dataset, range(89, 100), num_workers=1, batch_bytes=1000, timeout_sec=60)
next(ahead)
print(multiprocessing.active_children()[0].pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    folder = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{folder.parent.parent}"}
    run = subprocess.run([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, check=False)
    assert run.returncode == -signal.SIGKILL
    worker = int(run.stdout)
    for _ in range(100):
        if not is_running(worker):
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    raise AssertionError("the worker lives on")


def is_running(pid):
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
