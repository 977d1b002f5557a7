"""What may happen to a run: signals, full disks, damaged checkpoints, broken videos, numbers that are none."""

from __future__ import annotations

import json
import os
import resource
import signal
import time
from pathlib import Path

import numpy as np
import paddle
import pytest
from killing import bits, options, start

from paddlevid.checkpoint import list_checkpoints
from paddlevid.journal import read_metrics


def wait_for(path, pattern, seconds=60):
    for _ in range(seconds * 20):
        if list(path.glob(pattern)):
            return
        time.sleep(0.05)
    raise AssertionError(f"no {pattern} in {path} after {seconds} s")


# ---- signals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGTERM, 0), (signal.SIGINT, 2)])
def test_a_signal_saves_and_asks_to_be_started_again(tiny_recipe, tmp_path, run_main, number, workers):
    arguments = ["-c", tiny_recipe(), *options("train.epochs=2000", f"train.num_workers={workers}")]
    process = start(arguments)
    wait_for(tmp_path / "output" / "checkpoints", "step_*")
    os.killpg(process.pid, number)  # as a terminal does: to the workers, too
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 75, output
    assert f"stopped by {number.name} after step" in output.splitlines()[-1]
    assert "Traceback" not in output
    step = int(list_checkpoints(tmp_path / "output" / "checkpoints")[-1].name.removeprefix("step_"))
    assert f"after step {step} of 4000" in output
    assert run_main(*arguments, "--resume", "auto", "--max_iters", step + 1) == 0
    rows = read_metrics(tmp_path / "output" / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, step + 2)), "each step once, in order"


def test_a_run_that_ended_before_its_validation_makes_up_for_it(tiny_recipe, tmp_path, run_main, capsys):
    recipe = tiny_recipe()
    assert run_main("-c", recipe, "--max_iters", 2) == 0
    checkpoint = list_checkpoints(tmp_path / "output" / "checkpoints")[-1]
    state = json.loads((checkpoint / "state.json").read_text())
    (checkpoint / "state.json").write_text(json.dumps({**state, "validated": False}))
    assert run_main("-c", recipe, "--validate", "--resume") == 0
    rows = read_metrics(tmp_path / "output" / "metrics.jsonl")
    assert [row["step"] for row in rows if row["split"] == "valid"] == [2, 4]


# ---- checkpoints -----------------------------------------------------------------------------------------------------


def test_a_damaged_checkpoint_is_named_and_passed_over(tiny_recipe, tmp_path, run_main, capsys):
    recipe = tiny_recipe()
    every = options("train.checkpoint_every_steps=1", "train.keep_checkpoints=3")
    assert run_main("-c", recipe, *every, "--max_iters", 3, *options(f"output_dir={tmp_path / 'straight'}")) == 0
    assert run_main("-c", recipe, *every, "--max_iters", 3) == 0
    root = tmp_path / "output" / "checkpoints"
    newest = list_checkpoints(root)[-1]
    content = (newest / "optimizer.pdopt").read_bytes()
    (newest / "optimizer.pdopt").write_bytes(content[: len(content) // 2])
    capsys.readouterr()
    assert run_main("-c", recipe, *every, "--resume", newest) == 2
    assert f"optimizer.pdopt has {len(content) // 2} of {len(content)} bytes" in capsys.readouterr().err
    assert run_main("-c", recipe, *every, "--resume", "auto", "--max_iters", 3) == 0
    out = capsys.readouterr()
    assert f"{newest} is passed over: optimizer.pdopt has" in out.out + out.err
    assert "at step 2" in out.out
    assert bits(root.parent / "last.pdparams") == bits(tmp_path / "straight" / "last.pdparams")

    for checkpoint in list_checkpoints(root):
        (checkpoint / "model.pdparams").write_bytes(b"")
    assert run_main("-c", recipe, *every, "--resume", "auto") == 2
    assert "none of the 3 checkpoint(s)" in capsys.readouterr().err


def test_an_output_folder_that_cannot_be_written(tiny_recipe, tmp_path, run_main, capsys):
    (tmp_path / "file").write_text("")
    assert run_main("-c", tiny_recipe(), *options(f"output_dir={tmp_path / 'file' / 'output'}")) == 2
    assert "cannot be written: Not a directory" in capsys.readouterr().err


def test_a_disk_without_room_is_found_before_the_first_step(tiny_recipe, tmp_path, run_main, capsys, monkeypatch):
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100_000))
    assert run_main("-c", tiny_recipe()) == 2
    assert "has 0.1 MB free; the checkpoints and the best weights of this model take" in capsys.readouterr().err
    assert not list_checkpoints(tmp_path / "output" / "checkpoints")


def test_a_disk_that_fills_up_costs_no_good_checkpoint(tiny_recipe, tmp_path, run_main, capsys):
    """A limit on the size of files stands in for a full disk: both fail in the middle of a write."""
    recipe = tiny_recipe()
    every = options("train.checkpoint_every_steps=1", "model.embed_dim=128")
    assert run_main("-c", recipe, *every, "--max_iters", 1) == 0
    good = list_checkpoints(tmp_path / "output" / "checkpoints")
    last = bits(tmp_path / "output" / "last.pdparams")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        assert run_main("-c", recipe, *every, "--resume", "auto", "--validate") == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    out = capsys.readouterr()
    assert out.err.count("\n") == 1
    assert "File too large" in out.err
    assert out.out.count("is not saved: ") == 3
    assert list_checkpoints(tmp_path / "output" / "checkpoints") == good
    assert bits(tmp_path / "output" / "last.pdparams") == last
    assert run_main("-c", recipe, *every, "--resume", "auto") == 0


# ---- broken videos ---------------------------------------------------------------------------------------------------


@pytest.fixture
def list_with_bad(motion_set, tmp_path):
    """`list_with_bad(3)` writes the training list with three videos more, which are none."""

    def write(number):
        lines = (motion_set / "train.txt").read_text().splitlines()
        for i in range(number):
            path = tmp_path / f"bad{i}.mp4"
            path.write_text("no video")
            lines.insert(4 * i, f"{path} {i}")
        listed = tmp_path / f"train{number}.txt"
        listed.write_text("\n".join(lines))
        return listed

    return write


@pytest.mark.parametrize("workers", [2, pytest.param(0, marks=pytest.mark.slow)])
def test_broken_videos_are_named_once_and_replaced(tiny_recipe, tmp_path, run_main, capsys, list_with_bad, workers):
    share = options(f"train.list={list_with_bad(2)}", "train.max_bad_share=0.2", f"train.num_workers={workers}")
    assert run_main("-c", tiny_recipe(), *share) == 0
    printed = capsys.readouterr().out
    listed = (tmp_path / "output" / "bad_videos.txt").read_text().splitlines()
    assert sorted(line.split("\t")[0] for line in listed) == [str(tmp_path / f"bad{i}.mp4") for i in range(2)]
    for i in range(2):
        assert printed.count(f"unreadable, another video takes its place: {tmp_path / f'bad{i}.mp4'}") == 1
    assert all("Invalid data" in line or "no video" in line for line in listed), listed
    state = json.loads((list_checkpoints(tmp_path / "output" / "checkpoints")[-1] / "state.json").read_text())
    assert len(state["bad_videos"]) == 2
    # Two epochs more do not name them again
    assert run_main("-c", tiny_recipe(), *share, "--resume", *options("train.epochs=4")) == 0
    assert "takes its place" not in capsys.readouterr().out


def test_too_many_broken_videos_end_the_run(tiny_recipe, tmp_path, run_main, capsys, list_with_bad):
    share = options(f"train.list={list_with_bad(3)}", "train.max_bad_share=0.1")
    assert run_main("-c", tiny_recipe(), *share) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "2 of 19 videos could not be read so far" in error or "3 of 19" in error
    assert "more than train.max_bad_share 0.1 of them; they are listed in" in error
    assert len((tmp_path / "output" / "bad_videos.txt").read_text().splitlines()) >= 2


# ---- numbers ---------------------------------------------------------------------------------------------------------


def poison(monkeypatch, steps):
    """Have the loss of the clips of some steps be no number, and return the list of the steps seen."""
    from paddlevid.losses import ClipLoss

    seen, forward = [], ClipLoss.forward

    def poisoned(self, logits, targets):
        seen.append(len(seen))
        return forward(self, logits, targets) * (float("nan") if seen[-1] in steps else 1.0)

    monkeypatch.setattr(ClipLoss, "forward", poisoned)


def test_a_step_without_numbers_changes_nothing(tiny_recipe, tmp_path, run_main, capsys, monkeypatch):
    recipe = tiny_recipe("tsm")  # has batch statistics
    one = options("train.batch_size=8", f"output_dir={tmp_path / 'one'}")
    assert run_main("-c", recipe, *one, "--max_iters", 1) == 0
    capsys.readouterr()
    poison(monkeypatch, {1, 2})
    two = options("train.batch_size=8", f"output_dir={tmp_path / 'two'}", "train.log_every_steps=4")
    assert run_main("-c", recipe, *two, "--max_iters", 3) == 0
    assert bits(tmp_path / "one" / "last.pdparams") == bits(tmp_path / "two" / "last.pdparams")
    assert "1 step(s) without finite numbers skipped" in capsys.readouterr().out
    rows = read_metrics(tmp_path / "two" / "metrics.jsonl")
    assert sum(row["nonfinite_steps"] for row in rows) == 2
    assert all(np.isfinite(row.get("loss", 0)) for row in rows)


def test_too_many_of_them_end_the_run_with_the_names(tiny_recipe, tmp_path, run_main, capsys, monkeypatch, motion_set):
    poison(monkeypatch, set(range(1, 100)))
    arguments = options("train.batch_size=8", "train.max_nonfinite_steps=3", "train.checkpoint_every_steps=1")
    assert run_main("-c", tiny_recipe(), *arguments, "--resume", "auto") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: no finite loss and gradients in 3 steps in a row, up to step 4")
    names = {line.rsplit(" ", 1)[0] for line in (motion_set / "train.txt").read_text().splitlines()}
    assert sum(name in error for name in names) == 8
    # What was saved before has the weights of the last good step
    assert all(paddle.isfinite(paddle.to_tensor(value)).all() for value in _arrays(tmp_path / "output/last.pdparams"))


def _arrays(path):
    from paddlevid.weights import read_state

    return [tensor.read() for tensor in read_state(path).values()]


def test_the_gradient_norm_and_its_clipping(tiny_recipe, tmp_path, run_main):
    """One step of SGD: without a limit the change is lr * gradient, with one it has the length lr * limit."""
    sgd = options("optimizer={name: sgd, lr: 0.5}", "schedule={kind: constant}")
    for name, more in (("free", []), ("clipped", options("train.clip_grad_norm=0.01"))):
        assert (
            run_main("-c", tiny_recipe(), *sgd, *more, *options(f"output_dir={tmp_path / name}"), "--max_iters", 1) == 0
        )
    start_weights = _initial(tiny_recipe())
    changes = {}
    for name in ("free", "clipped"):
        after = _named(tmp_path / name / "last.pdparams")
        changes[name] = np.sqrt(sum(((after[k] - start_weights[k]).astype("float64") ** 2).sum() for k in after))
    (row,) = read_metrics(tmp_path / "free" / "metrics.jsonl")
    assert changes["free"] == pytest.approx(0.5 * row["grad_norm"], rel=1e-4)
    assert changes["clipped"] == pytest.approx(0.5 * 0.01, rel=1e-3)


def _named(path):
    from paddlevid.weights import read_state

    return {name: tensor.read() for name, tensor in read_state(path).items()}


def _initial(recipe):
    from paddlevid import build
    from paddlevid.config import load_config

    cfg = load_config(recipe, [])
    paddle.seed(cfg.seed)
    return {name: value.numpy() for name, value in build.build_model(cfg).state_dict().items()}


# ---- two runs at once ------------------------------------------------------------------------------------------------


def test_a_folder_takes_one_run_at_a_time(tiny_recipe, tmp_path, run_main, capsys, monkeypatch):
    from paddlevid.training import lock

    monkeypatch.setattr(lock, "PATIENCE_SEC", 0.5)
    arguments = ["-c", tiny_recipe(), *options("train.epochs=2000")]
    process = start(arguments)
    wait_for(tmp_path / "output" / "checkpoints", "step_*")
    assert run_main(*arguments, "--resume", "auto") == 2
    error = capsys.readouterr().err
    assert f"belongs to a run that goes on (process {process.pid} on " in error
    process.kill()
    process.communicate()
    step = int(list_checkpoints(tmp_path / "output" / "checkpoints")[-1].name.removeprefix("step_"))
    assert run_main(*arguments, "--resume", "auto", "--max_iters", step + 1) == 0


@pytest.mark.slow
def test_the_next_run_waits_for_one_that_is_about_to_end(tiny_recipe, tmp_path):
    arguments = ["-c", tiny_recipe(), *options("train.epochs=2000")]
    process = start(arguments)
    wait_for(tmp_path / "output" / "checkpoints", "step_*")
    following = start([*arguments, "--resume", "auto", "--max_iters", "6000"])
    time.sleep(1)
    process.terminate()
    assert process.wait(timeout=60) == 75
    process.communicate()
    wait_for(tmp_path / "output", "train.log")
    time.sleep(3)
    following.terminate()
    output, _ = following.communicate(timeout=60)
    assert following.returncode == 75, output
    assert "resumed from" in output


# ---- what is around a run --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["reader", "terminal"])
def test_whoever_watches_may_leave(tiny_recipe, tmp_path, what):
    """A closed pipe ends nothing; a closed terminal saves."""
    process = start(["-c", tiny_recipe(), *options("train.epochs=2000" if what == "terminal" else "train.epochs=4")])
    process.stdout.readline()
    process.stdout.close()
    if what == "terminal":
        wait_for(tmp_path / "output" / "checkpoints", "step_*")
        process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=60) == (75 if what == "terminal" else 0)
    log = (tmp_path / "output" / "train.log").read_text()
    assert ("step 8/8" in log) == (what == "reader")
    step = int(list_checkpoints(tmp_path / "output" / "checkpoints")[-1].name.removeprefix("step_"))
    assert f"step {step}/" in log


def test_another_global_batch_is_another_run(tiny_recipe, run_main, capsys):
    recipe = tiny_recipe()
    assert run_main("-c", recipe, "--max_iters", 1) == 0
    capsys.readouterr()
    assert run_main("-c", recipe, "--resume", *options("train.global_batch=4")) == 2
    assert "train.global_batch is 4, the run to resume has 8" in capsys.readouterr().err


def test_scores_of_a_part_of_the_list_are_not_compared(tiny_recipe, tmp_path, run_main, motion_set, capsys):
    lines = (motion_set / "valid.txt").read_text().splitlines()
    bad = tmp_path / "bad.mp4"
    bad.write_text("no video")
    (tmp_path / "valid.txt").write_text("\n".join([*lines, f"{bad} 1"]))  # 7 of 8 can be read
    assert run_main("-c", tiny_recipe(), "--validate", *options(f"valid.list={tmp_path / 'valid.txt'}")) == 0
    printed = capsys.readouterr().out
    assert "valid: 7 videos (1 unreadable), top1" in printed
    assert "only 88% of" in printed
    assert not (tmp_path / "output" / "best.pdparams").exists()


def test_what_is_written_through_a_link_and_to_a_device(tmp_path):
    from paddlevid.runtime import atomic_write

    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    atomic_write(tmp_path / "link", lambda path: Path(path).write_text("new"))
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    atomic_write(tmp_path / "pipe", lambda path: Path(path).write_text("text"))
    assert os.read(reader, 10) == b"text"
    os.close(reader)
