"""Training, resuming and testing through main.py, on real video files."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import paddle
import pytest
from conftest import ROOT

from paddlevid import build
from paddlevid.checkpoint import list_checkpoints
from paddlevid.config import load_config
from paddlevid.data.loader import TrainPlan
from paddlevid.journal import read_metrics
from paddlevid.weights import read_state


def read_arrays(path):
    return {name: tensor.read() for name, tensor in read_state(path).items()}


ONE_EPOCH = ("-o", "train.epochs=1")
MOMENTUM = ("-o", "optimizer={name: momentum, lr: 0.05}")  # unlike AdamW, it minds the scale of gradients


def train_losses(output):
    return [row["loss"] for row in read_metrics(output / "metrics.jsonl") if row["split"] == "train"]


@pytest.mark.parametrize("model", ["timesformer", "tsm", pytest.param("tsn", marks=pytest.mark.slow)])
def test_train_validate_and_test(model, tiny_recipe, run_main, tmp_path, capsys):
    recipe, output = tiny_recipe(model), tmp_path / "output"
    assert run_main("-c", recipe, "--validate") == 0
    printed = capsys.readouterr().out
    assert "Already save the best model (top1 acc)0." in printed
    assert (output / "curves.png").stat().st_size > 1000
    assert list((output / "visualdl").glob("vdlrecords*"))
    rows = read_metrics(output / "metrics.jsonl")
    assert [row["step"] for row in rows if row["split"] == "train"] == [1, 2, 3, 4]
    assert {"loss", "lr", "top1", "clips_per_second", "data_wait_seconds"} <= rows[0].keys()
    assert [row["step"] for row in rows if row["split"] == "valid"] == [2, 4]
    assert "step 4/4" in (output / "train.log").read_text()

    assert run_main("--test", "-c", recipe, "-w", output / "best.pdparams") == 0
    printed = capsys.readouterr().out
    assert "1 clip(s) x 3 crop(s), mean of logits" in printed
    assert "7 scored, 0 unreadable" in printed
    saved = np.load(output / "test_scores.npz")
    assert saved["scores"].shape == (7, 8)
    predictions = list(csv.DictReader((output / "test_predictions.csv").open()))
    assert [row["name"] for row in predictions] == saved["names"].tolist()
    assert [int(row["predicted"]) for row in predictions] == saved["scores"].argmax(1).tolist()
    best = max(row["top1"] for row in rows if row["split"] == "valid")
    assert json.loads((list_checkpoints(output / "checkpoints")[-1] / "state.json").read_text())["best_score"] == best


@pytest.mark.parametrize("form", ["pdparams", "safetensors"])
def test_a_resumed_run_ends_with_the_same_weights(form, tiny_recipe, run_main, tmp_path):
    recipe = tiny_recipe()
    options = ("-o", "model.drop_path_rate=0.3", "-o", "train.checkpoint_every_steps=1")
    options += ("-o", f"train.checkpoint_format={form}")
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    assert run_main("-c", recipe, *options, "-o", f"output_dir={straight}", "--validate") == 0
    assert run_main("-c", recipe, *options, "-o", f"output_dir={stopped}", "--validate", "--max_iters", 3) == 0
    assert run_main("-c", recipe, *options, "-o", f"output_dir={stopped}", "--validate", "--resume") == 0
    one, two = read_arrays(straight / f"last.{form}"), read_arrays(stopped / f"last.{form}")
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)
    assert train_losses(straight) == train_losses(stopped)
    pickles = [path.name for path in stopped.rglob("*") if path.suffix in (".pdparams", ".pdopt")]
    assert bool(pickles) == (form == "pdparams")
    lrs = [[row.get("lr") for row in read_metrics(out / "metrics.jsonl")] for out in (straight, stopped)]
    assert lrs[0][-2] == lrs[1][-2], "the schedule goes on where it was"


def test_accumulated_micro_batches_equal_one_batch(tiny_recipe, run_main, tmp_path):
    recipe = tiny_recipe()
    curves, weights = [], []
    for batch_size in (8, 3):
        output = tmp_path / f"batch{batch_size}"
        options = ("-o", f"train.batch_size={batch_size}", "-o", f"output_dir={output}", *MOMENTUM)
        assert run_main("-c", recipe, *options) == 0
        curves.append(train_losses(output))
        weights.append(read_arrays(output / "last.pdparams"))
    assert curves[0] == pytest.approx(curves[1], abs=1e-5)
    for name in weights[0]:
        np.testing.assert_allclose(weights[0][name], weights[1][name], atol=1e-5, err_msg=name)


def test_one_step_of_sgd_is_the_learning_rate_times_the_gradient_of_the_mean_loss(tiny_recipe, run_main, tmp_path):
    recipe = tiny_recipe()
    sgd = ("-o", "optimizer={name: sgd, lr: 0.5}", "-o", "schedule={kind: constant}", "-o", "train.label_smoothing=0.1")
    cfg = load_config(recipe, sgd[1::2])
    paddle.seed(cfg.seed)
    model, normalize = build.build_model(cfg), build.build_normalize(cfg)
    before = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    dataset = build.build_train_dataset(cfg)
    keys = TrainPlan(len(dataset), 8, 8, epochs=2, seed=cfg.seed).micro_batches(0, 0, 1)[0].keys
    samples = [dataset[key] for key in keys]
    logits = model(normalize(paddle.to_tensor(np.concatenate([sample["frames"] for sample in samples]))))
    targets = np.full((8, 8), 0.1 / 8, np.float32)
    targets[np.arange(8), [dataset.records[sample["index"]].label for sample in samples]] += 0.9
    paddle.nn.functional.cross_entropy(logits, paddle.to_tensor(targets), soft_label=True).backward()

    assert run_main("-c", recipe, *sgd, "--max_iters", 1) == 0
    after = read_arrays(tmp_path / "output" / "last.pdparams")
    for name, parameter in model.named_parameters():
        expected = before[name] - 0.5 * parameter.grad.numpy()
        np.testing.assert_allclose(after[name], expected, atol=1e-5, err_msg=name)


def test_a_second_run_does_not_overwrite_the_first(tiny_recipe, run_main, capsys):
    recipe = tiny_recipe()
    assert run_main("-c", recipe, *ONE_EPOCH) == 0
    capsys.readouterr()
    assert run_main("-c", recipe, *ONE_EPOCH) == 2
    assert "--resume" in capsys.readouterr().err


def test_seeds_decide_the_result(tiny_recipe, run_main, tmp_path):
    curves = []
    for number, seed in enumerate((1, 1, 2)):
        output = tmp_path / f"run{number}"
        assert run_main("-c", tiny_recipe(), *ONE_EPOCH, "--seed", seed, "-o", f"output_dir={output}") == 0
        curves.append(train_losses(output))
    assert curves[0] == curves[1] != curves[2]


def test_amp_on_a_cpu_warns_once_and_trains(tiny_recipe, run_main, tmp_path, capsys):
    assert run_main("-c", tiny_recipe(), *ONE_EPOCH, "--amp", "--amp_dtype", "bfloat16") == 0
    captured = capsys.readouterr()
    assert (captured.out + captured.err).count("--amp has no effect on a CPU") == 1
    assert len(train_losses(tmp_path / "output")) == 2


def test_fine_tuning_replaces_a_head_of_other_classes(tiny_recipe, run_main, tmp_path, motion_set, capsys):
    recipe = tiny_recipe()
    assert run_main("-c", recipe, *ONE_EPOCH) == 0
    lines = [line.rsplit(" ", 1) for line in (motion_set / "train.txt").read_text().splitlines()]
    two = tmp_path / "two.txt"
    two.write_text("".join(f"{path} {label}\n" for path, label in lines if label in "01"))
    capsys.readouterr()
    options = ("-o", "data.num_classes=2", "-o", "data.class_names=null", "-o", f"train.list={two}")
    options += ("-o", f"output_dir={tmp_path / 'tuned'}")
    assert run_main("-c", recipe, *ONE_EPOCH, *options, "-w", tmp_path / "output" / "last.pdparams") == 0
    assert "head" in capsys.readouterr().out
    assert read_state(tmp_path / "tuned" / "last.pdparams")["head.weight"].shape == (32, 2)


def test_consensus_identity_trains_on_each_segment(tiny_recipe, run_main, tmp_path):
    recipe = tiny_recipe("tsn")
    assert run_main("-c", recipe, *ONE_EPOCH, "--validate", "-o", "model.consensus=identity") == 0
    assert all(np.isfinite(train_losses(tmp_path / "output")))


def test_a_loss_that_explodes_stops_the_run_and_spares_its_checkpoints(tiny_recipe, run_main, tmp_path, capsys):
    options = ("-o", "optimizer={name: sgd, lr: 1e30}", "-o", "train.epochs=50", "-o", "train.log_every_steps=1000")
    assert run_main("-c", tiny_recipe(), *options) == 2
    error = capsys.readouterr().err
    assert "no finite loss and gradients in 10 steps in a row" in error
    assert "optimizer.lr" in error
    assert not list_checkpoints(tmp_path / "output" / "checkpoints"), "the first epoch has exploded already"


def test_going_back_to_an_earlier_checkpoint_leaves_the_later_ones_behind(tiny_recipe, run_main, tmp_path, capsys):
    recipe, root = tiny_recipe(), tmp_path / "output" / "checkpoints"
    every = ("-o", "train.checkpoint_every_steps=1")
    assert run_main("-c", recipe, *every, "-o", "train.keep_checkpoints=4") == 0
    assert [path.name for path in list_checkpoints(root)] == [f"step_000000{step}" for step in (1, 2, 3, 4)]
    (root / ".step_0000009.123").mkdir()
    assert run_main("-c", recipe, *every, "--max_iters", 2, "--resume", root / "step_0000001") == 0
    assert [path.name for path in list_checkpoints(root)] == ["step_0000001", "step_0000002"]
    assert (tmp_path / "output" / "last.pdparams").samefile(root / "step_0000002" / "model.pdparams")
    assert not (root / ".step_0000009.123").exists()


def test_resuming_names_what_differs(tiny_recipe, run_main, tmp_path, motion_set, capsys):
    recipe = tiny_recipe()
    assert run_main("-c", recipe, "--max_iters", 2) == 0
    lines = (motion_set / "train.txt").read_text().splitlines()
    other, fewer = tmp_path / "other.txt", tmp_path / "fewer.txt"
    other.write_text("\n".join(lines[::-1]))
    fewer.write_text("\n".join(lines[:-1]))
    capsys.readouterr()
    assert run_main("-c", recipe, "--resume", "-o", f"train.list={fewer}") == 2
    assert "15 videos, the run to resume has 16" in capsys.readouterr().err
    changed = (
        "-o",
        f"train.list={other}",
        "-o",
        "optimizer.lr=0.5",
        "-o",
        "train.num_workers=1",
        "-w",
        "unused.pdparams",
    )
    assert run_main("-c", recipe, "--resume", *changed, "--max_iters", 2) == 0
    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")]
    assert len(warnings) == 4
    for expected in (
        "optimizer.lr is 0.5",
        "other videos or labels",
        "unused.pdparams has no effect",
        "2 steps were done",
    ):
        assert any(expected in line for line in warnings), expected


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes under /proc")
def test_a_killed_run_leaves_no_workers_and_goes_on(tiny_recipe, run_main, tmp_path):
    arguments = ["-c", str(tiny_recipe()), "-o", "train.checkpoint_every_steps=1"]
    many = ["-o", "train.epochs=10000", "-o", "train.num_workers=2"]
    process = subprocess.Popen(
        [sys.executable, "main.py", *arguments, *many], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    root = tmp_path / "output" / "checkpoints"
    wait_until(lambda: list_checkpoints(root))
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.wait()
    assert len(children) == 2
    wait_until(lambda: not any(is_alive(child) for child in children))
    step = int(list_checkpoints(root)[-1].name.removeprefix("step_"))
    assert run_main(*arguments, "-o", "train.epochs=10000", "--resume", "--max_iters", step + 2) == 0
    assert [path.name for path in list_checkpoints(root)] == [f"step_{n:07d}" for n in (step + 1, step + 2)]
    steps = [row["step"] for row in read_metrics(tmp_path / "output" / "metrics.jsonl")]
    assert steps == list(range(1, step + 3)), "each step once, in order"


def is_alive(pid):
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def wait_until(condition, seconds=60):
    for _ in range(seconds * 10):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError(f"did not come true in {seconds} s")


def test_a_run_goes_on_in_another_format(tiny_recipe, run_main, tmp_path):
    recipe = tiny_recipe()
    assert run_main("-c", recipe, "--validate", "--max_iters", 1) == 0
    other = ("-o", "train.checkpoint_format=safetensors")
    assert run_main("-c", recipe, "--validate", "--resume", *other) == 0
    files = {path.name for path in (tmp_path / "output").iterdir()}
    assert {"last.safetensors"} <= files
    assert not {"last.pdparams"} & files
    assert run_main("--test", "-c", recipe, "-w", tmp_path / "output" / "last.safetensors") == 0


def test_what_weights_skip_names_starts_anew(tiny_recipe, run_main, tmp_path, capfd):
    recipe = tiny_recipe()
    assert run_main("-c", recipe, "--max_iters", 1) == 0
    weights = ("-w", tmp_path / "output" / "last.pdparams")
    again = ("-c", recipe, "-o", f"output_dir={tmp_path / 'again'}", "--max_iters", 1, *weights)
    assert run_main(*again, "--weights-skip", "^head", "--weights-skip", "time_embed") == 0
    assert "new, 3: time_embed, head.weight, head.bias" in capfd.readouterr().out
    assert run_main("--test", "-c", recipe, *weights, "--weights-skip", "^head") == 2
    assert "nothing is loaded for head.weight" in capfd.readouterr().err


def test_a_run_goes_on_with_its_own_optimizer_only(tiny_recipe, run_main, tmp_path, capfd):
    recipe = tiny_recipe()
    assert run_main("-c", recipe, "--max_iters", 1) == 0
    assert run_main("-c", recipe, "--resume", *MOMENTUM) == 2
    assert "does not hold velocity of" in capfd.readouterr().err
