"""Runs that are killed at any moment end with the weights of a run that was not."""

from __future__ import annotations

import pytest
from killing import bits, kill_and_resume, options, random_moment, start, while_writing

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
    ("workers", "world", "times", "epochs"),
    [
        (0, 1, 3, 20),
        pytest.param(0, 1, 20, 100, marks=pytest.mark.slow),
        pytest.param(2, 1, 20, 100, marks=pytest.mark.slow),
        pytest.param(2, 2, 20, 100, marks=pytest.mark.slow),
    ],
)
def test_killed_at_random_moments(tiny_recipe, tmp_path, workers, world, times, epochs):
    arguments = ["-c", tiny_recipe(), "--validate", *options(*ALL_ON)]
    arguments += options(f"train.num_workers={workers}", f"train.epochs={epochs}")
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    process = start([*arguments, "-o", f"output_dir={straight}"], world, tmp_path / "log")
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output[-3000:]
    count = kill_and_resume(
        [*arguments, "-o", f"output_dir={killed}"],
        times=times,
        until=random_moment(1, 9),
        world=world,
        log_dir=tmp_path / "log",
    )
    assert count >= min(times, 3)
    assert_same_run(straight, killed)


@pytest.mark.slow
def test_killed_while_a_checkpoint_is_written(tiny_recipe, tmp_path):
    root = tmp_path / "output" / "checkpoints"
    arguments = [
        "-c",
        tiny_recipe(),
        *options("model.embed_dim=256", "train.checkpoint_every_steps=1", "train.epochs=500"),
    ]
    # Each start finds a whole checkpoint, or it would end with an error and the count fall short
    count = kill_and_resume([*arguments, "--max_iters", 400], times=50, until=while_writing(root))
    assert count == 50
    assert not what_is_torn(list_checkpoints(root)[-1])
