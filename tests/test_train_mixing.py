"""Mixing, balancing and unreadable videos in whole runs: the division of a step makes no difference."""

from __future__ import annotations

import numpy as np
import pytest

from paddlevid.journal import read_metrics
from paddlevid.weights import read_state

MOMENTUM = ("-o", "optimizer={name: momentum, lr: 0.05}")  # unlike AdamW, it minds the scale of gradients


@pytest.fixture
def train(tiny_recipe, run_main, motion_set, tmp_path):
    """`train(name, option, ...)` trains on 16 good videos and a broken one -> losses by step, weights by name."""
    lines = (motion_set / "train.txt").read_text().splitlines()
    broken, listed = tmp_path / "broken.mp4", tmp_path / "list.txt"
    broken.write_text("no video")
    lines.insert(5, f"{broken} 1")
    listed.write_text("\n".join(lines) + "\n")
    recipe = tiny_recipe()

    def run(name, *options):
        output = tmp_path / name
        common = (f"train.list={listed}", "train.max_bad_share=0.1", "train.global_batch=7", f"output_dir={output}")
        overrides = [part for option in (*common, *options) for part in ("-o", option)]
        assert run_main("-c", recipe, *overrides, *MOMENTUM) == 0
        losses = [row["loss"] for row in read_metrics(output / "metrics.jsonl") if row["split"] == "train"]
        return losses, {key: tensor.read() for key, tensor in read_state(output / "last.pdparams").items()}

    return run


@pytest.mark.parametrize(
    "options",
    [
        ("train.mixing={}", "train.label_smoothing=0.1"),
        ("train.mixing={prob: 0.5}", "train.class_balanced=true", "train.class_weights=[1, 2, 3, 4, 5, 6, 7, 8]"),
    ],
)
def test_micro_batches_and_workers_make_no_difference(train, options):
    losses, weights = train("whole", *options, "train.batch_size=7")
    assert len(losses) == 6, "two epochs of 7, 7 and 3 clips"
    assert losses != pytest.approx(train("plain", "train.batch_size=7")[0], abs=1e-3)
    other_losses, other_weights = train("divided", *options, "train.batch_size=3", "train.num_workers=2")
    assert other_losses == pytest.approx(losses, abs=1e-5)
    for name in weights:
        np.testing.assert_allclose(other_weights[name], weights[name], atol=1e-5, err_msg=name)
