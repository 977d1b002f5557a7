"""Batch norms that hold, precise statistics, and statistics over processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
from conftest import ROOT
from paddle import nn

from paddlevid.models import create_model
from paddlevid.models.batch_norm import (
    batch_norms,
    held_batch_norms,
    partial_bn,
    precise_statistics,
    running_statistics,
    synchronize_batch_norms,
    train_mode,
)
from paddlevid.models.freeze import freeze_parameters


def small_tsn() -> nn.Layer:
    paddle.seed(0)
    return create_model("tsn", num_classes=3, num_segments=2, backbone="resnet18")


def values(model: nn.Layer) -> list[np.ndarray]:
    return [statistic.numpy().copy() for statistic in running_statistics(model)]


def changed(model: nn.Layer, before: list[np.ndarray]) -> list[bool]:
    """Of each batch norm, whether mean or variance did."""
    differ = [not np.array_equal(old, new) for old, new in zip(before, values(model), strict=True)]
    return [mean or variance for mean, variance in zip(differ[::2], differ[1::2], strict=True)]


# ---- held -----------------------------------------------------------------------------------------------------------


def test_partial_bn_leaves_the_first_one_alone_to_learn_and_to_follow() -> None:
    model = small_tsn()
    assert partial_bn(model) == 19  # a ResNet-18 has 1 + 8 x 2 + 3
    first, *others = batch_norms(model)
    assert first is model.backbone.bn1
    assert (first.weight.stop_gradient, first.bias.stop_gradient) == (False, False)
    assert all(layer.weight.stop_gradient and layer.bias.stop_gradient for layer in others)
    held = held_batch_norms(model)
    assert held == others
    train_mode(model, held)
    before = values(model)
    model(paddle.randn([2, 2, 3, 32, 32])).sum().backward()
    assert changed(model, before) == [True] + [False] * 19
    assert first.weight.grad is not None
    assert all(layer.weight.grad is None for layer in others)


def test_statistics_hold_where_weight_and_bias_are_frozen() -> None:
    model = small_tsn()
    freeze_parameters(model, [r"layer[12]\.", r"layer3\.0\.bn1\.weight"])
    held = held_batch_norms(model)
    assert len(held) == 4 + 5  # two blocks of two each, the second stage with one in its shortcut
    model.eval()
    train_mode(model, held)
    before = values(model)
    model(paddle.randn([2, 2, 3, 32, 32]))
    assert changed(model, before) == [True] + [False] * 9 + [True] * 10


# ---- precise --------------------------------------------------------------------------------------------------------


class TwoNorms(nn.Layer):
    """[B, T, C, H, W] -> the same; the second norm sees the square of what the first gives."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.BatchNorm2D(3)
        self.second = nn.BatchNorm2D(3)

    def forward(self, video: paddle.Tensor) -> paddle.Tensor:
        return self.second(self.first(video.flatten(0, 1)) ** 2)


def clips(*sizes: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=(n, 2, 3, 4, 5)).astype(np.float32) * (i + 1) + 30 for i, n in enumerate(sizes)]


def test_precise_statistics_are_those_of_all_elements() -> None:
    model, videos = TwoNorms(), clips(4, 4, 1)
    precise_statistics(model, map(paddle.to_tensor, videos))
    assert model.training
    axes = (0, 1, 3, 4)
    everything = np.concatenate(videos).astype(np.float64)
    np.testing.assert_allclose(model.first._mean.numpy(), everything.mean(axes), rtol=1e-6)
    np.testing.assert_allclose(model.first._variance.numpy(), everything.var(axes), rtol=1e-5)
    # In training each batch is normalised by its own statistics
    squares = []
    for video in videos:
        x = video.astype(np.float64)
        mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
        squares.append((x - mean) ** 2 / (variance + 1e-5))
    everything = np.concatenate(squares)
    np.testing.assert_allclose(model.second._mean.numpy(), everything.mean(axes), rtol=1e-5)
    np.testing.assert_allclose(model.second._variance.numpy(), everything.var(axes), rtol=1e-4)


def test_precise_statistics_leave_held_layers_and_weights_alone() -> None:
    model = small_tsn()
    partial_bn(model)
    before, weights = values(model), [p.numpy().copy() for p in model.parameters() if not p.stop_gradient]
    precise_statistics(model, [paddle.randn([2, 2, 3, 32, 32])], held_batch_norms(model))
    assert changed(model, before) == [True] + [False] * 19
    learning = [p.numpy() for p in model.parameters() if not p.stop_gradient]
    assert all(np.array_equal(old, new) for old, new in zip(weights, learning, strict=True))


def test_precise_statistics_want_videos() -> None:
    with pytest.raises(ValueError, match="no videos"):
        precise_statistics(small_tsn(), [])


# ---- several processes ----------------------------------------------------------------------------------------------

# Precise statistics of a TSM, and a step of it, over 6 clips: 4 on the first process and 2 on the second
WORKER = """
import sys
import numpy as np
import paddle
from paddlevid.models import create_model
from paddlevid.models.batch_norm import precise_statistics, running_statistics, synchronize_batch_norms

paddle.set_device("cpu")
rank, world = paddle.distributed.ParallelEnv().rank, paddle.distributed.ParallelEnv().world_size
if world > 1:
    paddle.distributed.init_parallel_env()
paddle.seed(0)
model = create_model("tsm", num_classes=3, num_segments=2, backbone="resnet18", dropout=0.0)
names = list(model.state_dict())
video = np.random.default_rng(0).normal(size=(6, 2, 3, 32, 32)).astype("float32")
mine = paddle.to_tensor(video[[slice(0, 4), slice(4, 6)][rank]] if world > 1 else video)
found = {}

# A clip a batch: as many batches as clips, whichever process has them
precise_statistics(model, mine.split(mine.shape[0]), world=world)
found |= {f"precise {i}": statistic.numpy().copy() for i, statistic in enumerate(running_statistics(model))}

model = synchronize_batch_norms(model)
assert list(model.state_dict()) == names
parallel = paddle.DataParallel(model) if world > 1 else model
logits = parallel(mine)
# The sum over all clips of something that is not linear; DataParallel takes the mean over processes
(((logits - paddle.arange(3, dtype="float32")) ** 2).sum() * float(world)).backward()
logits = logits.detach()
if world > 1:
    parts = []
    paddle.distributed.all_gather(parts, paddle.concat([logits, paddle.zeros([4 - len(logits), 3])]))
    logits = paddle.concat([parts[0], parts[1][:2]])
found["logits"] = logits.numpy()
found |= {f"grad {name}": p.grad.numpy() for name, p in model.named_parameters() if not p.stop_gradient}
found |= {f"running {i}": statistic.numpy() for i, statistic in enumerate(running_statistics(model))}
if rank == 0:
    np.savez(sys.argv[1], **found)
"""


def run_worker(folder: Path, world: int) -> dict[str, np.ndarray]:
    script, result = folder / "worker.py", folder / f"world{world}.npz"
    script.write_text(WORKER)
    command = [sys.executable, str(script), str(result)]
    if world > 1:
        log = str(folder / "log")
        command[1:1] = ["-m", "paddle.distributed.launch", "--nproc_per_node", str(world), "--log_dir", log]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return dict(np.load(result))


@pytest.mark.slow
def test_two_processes_have_the_statistics_outputs_and_gradients_of_one(tmp_path: Path) -> None:
    one, two = run_worker(tmp_path, 1), run_worker(tmp_path, 2)
    assert one.keys() == two.keys()
    assert len(one) == 2 * 2 * 20 + 1 + 20 + 2 * 20 + 2  # statistics, logits, gradients of convolutions, norms and head
    for name, expected in one.items():
        scale = max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(two[name] / scale, expected / scale, atol=1e-5, err_msg=name)


def test_synchronised_batch_norms_of_one_process_are_ordinary_ones() -> None:
    results = []
    for change in (lambda model: model, synchronize_batch_norms):
        model = change(small_tsn())
        model.train()
        paddle.seed(1)
        results.append((model(paddle.randn([2, 2, 3, 32, 32])).numpy(), *values(model)))
    for expected, found in zip(*results, strict=True):
        np.testing.assert_array_equal(found, expected)
