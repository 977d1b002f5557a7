"""Runs that are killed at any moment end with the weights of a run that was not."""

from __future__ import annotations

import pytest
from killing import bits, finish, kill_again_and_again, options, random_moment, start, while_writing

from paddlevid.checkpoint import list_checkpoints, what_is_torn
from paddlevid.journal import read_metrics

# Everything that has a state, or draws at random
ALL_ON = (
    "train.ema_decay=0.9",
    "train.mixing={mixup_alpha: 0.8, cutmix_alpha: 1.0}",
    "model.drop_rate=0.1",
    "model.attn_drop_rate=0.1",
    "model.drop_path_rate=0.2",
    "train.label_smoothing=0.1",
    "train.clip_grad_norm=1",
    "train.global_batch=6",  # 16 videos: the last step of an epoch has 4
    "train.batch_size=2",
    "train.checkpoint_every_steps=2",
    "train.epochs=100000",
)


def assert_same_run(straight, killed):
    for name in ("last.pdparams", "best.pdparams"):
        assert bits(straight / name) == bits(killed / name), name
    one, two = (list_checkpoints(out / "checkpoints")[-1] for out in (straight, killed))
    assert one.name == two.name
    for name in ("model.pdparams", "ema.pdparams"):
        assert bits(one / name) == bits(two / name), name
    losses = [
        [(row["split"], row["step"], row.get("loss"), row.get("top1")) for row in read_metrics(out / "metrics.jsonl")]
        for out in (straight, killed)
    ]
    assert losses[0] == losses[1], "each step is in the log once, with the same numbers"


@pytest.mark.parametrize(
    ("workers", "world", "times"),
    [
        (0, 1, 1),
        pytest.param(0, 1, 20, marks=pytest.mark.slow),
        pytest.param(2, 1, 20, marks=pytest.mark.slow),
        pytest.param(2, 2, 20, marks=pytest.mark.slow),
    ],
)
def test_killed_at_random_moments(tiny_recipe, tmp_path, workers, world, times):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    arguments = ["-c", tiny_recipe(), "--validate", *options(*ALL_ON, f"train.num_workers={workers}")]
    into_killed = [*arguments, "-o", f"output_dir={killed}"]
    moments = random_moment(1 if times > 1 else 5, 9 if world == 1 else 14)
    kill_again_and_again(into_killed, times=times, wait=moments, world=world, log_dir=tmp_path / "log")
    done = [int(path.name.removeprefix("step_")) for path in list_checkpoints(killed / "checkpoints")]
    end = ["--max_iters", max(done, default=0) + 5]
    finish(start([*into_killed, "--resume", "auto", *end], world, tmp_path / "log"))
    finish(start([*arguments, "-o", f"output_dir={straight}", *end], world, tmp_path / "log"))
    assert_same_run(straight, killed)


@pytest.mark.slow
def test_killed_while_a_checkpoint_is_written(tiny_recipe, tmp_path):
    root = tmp_path / "output" / "checkpoints"
    arguments = ["-c", tiny_recipe(), *options("model.embed_dim=256", "train.checkpoint_every_steps=1")]
    arguments += options("train.epochs=100000")
    # Each start finds a whole checkpoint: it would end with an error where all of them are torn
    kill_again_and_again(arguments, times=50, wait=while_writing(root))
    step = int(list_checkpoints(root)[-1].name.removeprefix("step_"))
    assert step >= 25, "most got further than the one before"
    finish(start([*arguments, "--resume", "auto", "--max_iters", step + 1]))
    assert not what_is_torn(list_checkpoints(root)[-1])
