"""Options of training through whole runs."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from killing import bits, options

from paddlevid import build
from paddlevid.checkpoint import list_checkpoints
from paddlevid.config import load_config
from paddlevid.journal import read_metrics
from paddlevid.weights import read_state

MOMENTUM = options("optimizer={name: momentum, lr: 0.05}")


def arrays(path):
    return {name: tensor.read() for name, tensor in read_state(path).items()}


def initial(recipe):
    """The weights that a run of the recipe starts with."""
    cfg = load_config(recipe, [])
    paddle.seed(cfg.seed)
    return {name: value.numpy() for name, value in build.build_model(cfg).state_dict().items()}


def test_early_stopping(tiny_recipe, tmp_path, run_main, capsys):
    recipe = tiny_recipe()
    stop = options("train.early_stop_epochs=2", "train.epochs=30", "optimizer.lr=1e-12")
    assert run_main("-c", recipe, *stop) == 2
    assert "needs --validate" in capsys.readouterr().err
    assert run_main("-c", recipe, *stop, "--validate") == 0
    assert "stopping early: no epoch since epoch 1 was better" in capsys.readouterr().out
    rows = read_metrics(tmp_path / "output" / "metrics.jsonl")
    assert [row["step"] for row in rows if row["split"] == "valid"] == [2, 4, 6]
    assert run_main("-c", recipe, *stop, "--validate", "--resume") == 0
    assert len(read_metrics(tmp_path / "output" / "metrics.jsonl")) == len(rows)


def test_the_average_of_the_weights_is_what_is_kept(tiny_recipe, tmp_path, run_main):
    """SGD with a constant rate: the average can be computed from the weights of each step."""
    recipe = tiny_recipe()
    sgd = options("optimizer={name: sgd, lr: 0.5}", "schedule={kind: constant}", "train.keep_checkpoints=9")
    sgd += options("train.ema_decay=0.15", "train.checkpoint_every_steps=1")
    assert run_main("-c", recipe, *sgd) == 0
    expected = {name: value.astype("float64") for name, value in initial(recipe).items()}
    checkpoints = list_checkpoints(tmp_path / "output" / "checkpoints")
    assert len(checkpoints) == 4
    for updates, checkpoint in enumerate(checkpoints):
        decay = min(0.15, (1 + updates) / (10 + updates))
        for name, value in arrays(checkpoint / "model.pdparams").items():
            expected[name] = decay * expected[name] + (1 - decay) * value
    last = arrays(tmp_path / "output" / "last.pdparams")
    for name, value in expected.items():
        np.testing.assert_allclose(last[name], value, atol=1e-6, err_msg=name)
    assert bits(tmp_path / "output" / "last.pdparams") == bits(checkpoints[-1] / "ema.pdparams")


@pytest.mark.parametrize("mixing", ["null", "{mixup_alpha: 0.8, cutmix_alpha: 1.0}"])
def test_how_a_batch_is_divided_changes_nothing(tiny_recipe, tmp_path, run_main, mixing):
    """16 videos in steps of 6: the last step of an epoch has 4, its micro-batches 4, 2 + 2, and 1 + 1 + 1 + 1."""
    common = options("train.global_batch=6", "optimizer={name: momentum, lr: 0.05}", f"train.mixing={mixing}")
    curves = []
    for size in (8, 3, 2, 1):
        output = tmp_path / f"size{size}"
        assert run_main("-c", tiny_recipe(), *common, *options(f"train.batch_size={size}", f"output_dir={output}")) == 0
        curves.append([row["loss"] for row in read_metrics(output / "metrics.jsonl")])
    assert len(curves[0]) == 6
    for curve in curves[1:]:
        assert curve == pytest.approx(curves[0], abs=1e-5)


def test_a_linear_probe_changes_the_head_alone(tiny_recipe, tmp_path, run_main, capsys):
    recipe = tiny_recipe("tsm")  # has batch statistics
    assert run_main("-c", recipe, *options(r"train.freeze=['^(?!head\.)']")) == 0
    before, after = initial(recipe), arrays(tmp_path / "output" / "last.pdparams")
    changed = {name for name in after if not np.array_equal(before[name], after[name])}
    assert changed == {"head.weight", "head.bias"}
    assert "11.18 M of them frozen" in capsys.readouterr().out
    assert run_main("-c", recipe, *options("train.freeze=['^hed']", f"output_dir={tmp_path / 'other'}")) == 2
    assert "the nearest are head." in capsys.readouterr().err


def test_partial_bn_holds_all_batch_norms_but_the_first(tiny_recipe, tmp_path, run_main, capsys):
    recipe = tiny_recipe("tsn")
    assert run_main("-c", recipe, "--validate", *options("train.partial_bn=true")) == 0
    assert "holds batch norms that nothing has trained; start from weights with -w" in capsys.readouterr().out
    before, after = initial(recipe), arrays(tmp_path / "output" / "last.pdparams")
    norms = {name.rpartition(".")[0] for name in after if name.endswith("._mean")}
    parts = [(norm, part) for norm in norms for part in ("weight", "bias", "_mean", "_variance")]
    changed = {norm for norm, part in parts if not np.array_equal(before[f"{norm}.{part}"], after[f"{norm}.{part}"])}
    assert changed == {"backbone.bn1"}
    assert not np.array_equal(before["backbone.layer4.1.conv2.weight"], after["backbone.layer4.1.conv2.weight"])


@pytest.mark.parametrize("ema", [(), ("train.ema_decay=0.9",)])
def test_precise_statistics_are_those_of_the_clips_of_the_epoch(tiny_recipe, tmp_path, run_main, ema):
    recipe = tiny_recipe("tsn")
    arguments = options("train.precise_bn_steps=1", "train.epochs=1", *ema)
    assert run_main("-c", recipe, *arguments) == 0
    after = arrays(tmp_path / "output" / "last.pdparams")
    # The first batch norm looks at what the first convolution makes of the first step's clips
    cfg = load_config(recipe, arguments[1::2])
    dataset, normalize = build.build_train_dataset(cfg), build.build_normalize(cfg)
    keys = [key for piece in build.build_plan(cfg, dataset).micro_batches(0, 0, 1) for key in piece.keys]
    frames = np.concatenate([dataset[key]["frames"] for key in keys])  # [8, T, H, W, C]
    video = normalize(paddle.to_tensor(frames)).flatten(0, 1)  # [8*T, C, H, W]
    weight = paddle.to_tensor(after["backbone.conv1.weight"])
    maps = paddle.nn.functional.conv2d(video, weight, stride=2, padding=3).numpy().astype("float64")
    np.testing.assert_allclose(after["backbone.bn1._mean"], maps.mean(axis=(0, 2, 3)), atol=1e-5)
    np.testing.assert_allclose(after["backbone.bn1._variance"], maps.var(axis=(0, 2, 3)), rtol=1e-4)


def test_a_checkpoint_every_so_many_minutes(tiny_recipe, tmp_path, run_main):
    every = options("train.checkpoint_every_minutes=1e-9", "train.keep_checkpoints=9", "train.global_batch=4")
    assert run_main("-c", tiny_recipe(), *every) == 0
    assert len(list_checkpoints(tmp_path / "output" / "checkpoints")) == 8


def test_histograms_of_weights_and_gradients(tiny_recipe, tmp_path, run_main):
    from visualdl import LogReader

    assert run_main("-c", tiny_recipe(), *options("train.histograms=true")) == 0
    (log,) = (tmp_path / "output" / "visualdl").glob("vdlrecords*")
    reader = LogReader(file_path=str(log))
    tags = reader.get_tags()
    assert {"weights/head.weight", "gradients/head.weight"} <= set(tags["histogram"])
    assert [record.id for record in reader.get_data("histogram", "weights/head.weight")] == [2, 4]
    assert "train/clips" in tags["image"]


def test_class_weights_and_balance_reach_the_loss(tiny_recipe, tmp_path, run_main):
    """Weights of 3 for all classes make the loss 3 times as large."""
    sgd = options("optimizer={name: sgd, lr: 1e-9}")
    losses = {}
    for name, more in (
        ("plain", []),
        ("tripled", options(f"train.class_weights={[3.0] * 8}")),
        ("balanced", options("train.class_weights=balanced")),
        ("sampled", options("train.class_balanced=true")),
    ):
        output = tmp_path / name
        assert run_main("-c", tiny_recipe(), *sgd, *more, *options(f"output_dir={output}")) == 0
        losses[name] = [row["loss"] for row in read_metrics(output / "metrics.jsonl")]
    assert losses["tripled"] == pytest.approx([3 * loss for loss in losses["plain"]], rel=1e-4)
    assert losses["balanced"] == pytest.approx(losses["plain"], rel=1e-4)  # the motion set is balanced
    assert len(losses["sampled"]) == 4


@pytest.mark.parametrize("model", ["timesformer", pytest.param("tsn", marks=pytest.mark.slow)])
def test_a_compiled_model_learns_the_same(tiny_recipe, tmp_path, run_main, model):
    weights, losses = [], []
    for name, more in (("plain", []), ("compiled", options("train.compile=true"))):
        output = ("-o", f"output_dir={tmp_path / name}", *MOMENTUM)
        assert run_main("-c", tiny_recipe(model), *output, *more) == 0
        losses.append([row["loss"] for row in read_metrics(tmp_path / name / "metrics.jsonl")])
        weights.append(arrays(tmp_path / name / "last.pdparams"))
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    for name, array in weights[0].items():  # with the statistics of batch norms
        np.testing.assert_allclose(weights[1][name], array, atol=1e-4, err_msg=name)


def test_the_log_names_what_is_not_as_usual(tiny_recipe, run_main, capsys):
    told = options("train.ema_decay=0.5", "optimizer.no_decay=[norm]", "train.sync_bn=true", "train.batch_size=4")
    assert run_main("-c", tiny_recipe("tsn"), *told, "--max_iters", 1, "--resume") == 0
    printed = capsys.readouterr().out
    assert "with micro-batches of 4, train.sync_bn True, train.ema_decay 0.5, optimizer.no_decay ('norm',)" in printed
    assert "train.sync_bn has no effect in one process" in printed
    assert "no checkpoint in" in printed


def test_a_crop_that_sees_little_is_warned_of(tiny_recipe, run_main, capsys):
    assert run_main("-c", tiny_recipe(), "--validate", "--max_iters", 1, *options("valid.short_side=128")) == 0
    assert "data.image_size 32 of frames resized to short_side 128: a crop sees 6% of" in capsys.readouterr().err
