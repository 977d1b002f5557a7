"""Blocks that are computed again: the same numbers from less memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import paddle
import pytest
from conftest import ROOT
from paddle import nn

from paddlevid.models import TimeSformer, create_model
from paddlevid.models.freeze import freeze_parameters

ATTENTIONS = ("divided_space_time", "joint_space_time", "space_only")


def tiny(recompute: bool, attention: str = "divided_space_time", depth: int = 3, rate: float = 0.2) -> TimeSformer:
    paddle.seed(0)
    return create_model(
        "timesformer",
        num_classes=5,
        num_frames=3,
        image_size=32,
        embed_dim=16,
        depth=depth,
        num_heads=2,
        attention=attention,
        drop_rate=rate,
        attn_drop_rate=rate,
        drop_path_rate=rate,
        temporal_fc_zero=False,
        recompute=recompute,
    )


def gradients(model: nn.Layer) -> dict[str, np.ndarray]:
    return {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}


def train(model: TimeSformer, steps: int = 3) -> tuple[list[bytes], dict[str, np.ndarray]]:
    """Losses of steps of two micro-batches each, and the gradients of the last."""
    optimizer = paddle.optimizer.Momentum(0.1, parameters=[p for p in model.parameters() if not p.stop_gradient])
    video = paddle.to_tensor(np.random.default_rng(0).normal(size=(4, 3, 3, 32, 32)).astype(np.float32))
    model.train()
    losses = []
    for step in range(steps):
        optimizer.clear_grad()
        paddle.seed(step)
        for part in video.split(2):
            loss = (model(part) ** 2).mean()
            loss.backward()
            losses.append(loss.numpy().tobytes())
        # What is drawn after a step must not differ either
        losses.append(paddle.rand([2]).numpy().tobytes())
        optimizer.step()
    return losses, gradients(model)


@pytest.mark.parametrize("attention", ATTENTIONS)
# Frozen first layers give the first block inputs that need no gradient
@pytest.mark.parametrize("freeze", [[], ["embed|cls_token"], [r"embed|cls_token|blocks\.[01]\."]], ids=len)
def test_losses_gradients_and_draws_are_the_same_bits(attention: str, freeze: list[str]) -> None:
    results = []
    for recompute in (False, True):
        model = tiny(recompute, attention)
        freeze_parameters(model, freeze)
        results.append(train(model))
    (losses, expected), (found_losses, found) = results
    assert found_losses == losses
    assert found.keys() == expected.keys()
    assert len(found) == sum(not p.stop_gradient for p in tiny(True, attention).parameters()) - frozen(model)
    for name, gradient in expected.items():
        np.testing.assert_array_equal(found[name], gradient, err_msg=name)


def frozen(model: nn.Layer) -> int:
    return sum(p.stop_gradient for p in model.parameters())


MEMORY = """
import sys
import paddle
from paddlevid.models import create_model

def resident() -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))

paddle.set_device("cpu")
sizes = {"num_frames": 8, "image_size": 64, "embed_dim": 64, "depth": 8, "num_heads": 2}
model = create_model("timesformer", num_classes=5, recompute=sys.argv[1] == "True", **sizes)
model.train()
video = paddle.randn([16, 8, 3, 64, 64])
model(video[:1])
before = resident()
logits = model(video)
print(resident() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads the memory of a process as Linux tells it")
def test_what_a_forward_pass_keeps() -> None:
    kept = {}
    for recompute in (False, True):
        command = [sys.executable, "-c", MEMORY, str(recompute)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        kept[recompute] = int(done.stdout.split()[-1])
    # Of a block, which has some forty tensors of the size of its tokens to keep, its input alone
    assert kept[False] > 80_000  # kB
    assert kept[True] < 0.4 * kept[False]


def count_calls(model: TimeSformer, act: Callable[[], object]) -> int:
    calls: list[int] = []
    hook = model.blocks[0].register_forward_pre_hook(lambda *_: calls.append(1))
    act()
    hook.remove()
    return len(calls)


def test_only_training_computes_blocks_again() -> None:
    model, video = tiny(True), paddle.randn([1, 3, 3, 32, 32])
    model.train()
    assert count_calls(model, lambda: model(video).sum().backward()) == 2
    model.eval()
    assert count_calls(model, lambda: model(video).sum().backward()) == 1
    plain = tiny(False)
    plain.set_state_dict(model.state_dict())
    plain.eval()
    np.testing.assert_array_equal(model(video).numpy(), plain(video).numpy())


def test_weights_have_the_same_names() -> None:
    assert list(tiny(True).state_dict()) == list(tiny(False).state_dict())


# Two steps of two micro-batches a process; a backward pass within another, as of Paddle's default, ends with an error
WORKER = """
import sys
from contextlib import nullcontext
import numpy as np
import paddle
from paddlevid.models import create_model

paddle.set_device("cpu")
paddle.distributed.init_parallel_env()
rank = paddle.distributed.get_rank()
results = []
for recompute in (False, True):
    paddle.seed(0)
    sizes = {"num_frames": 3, "image_size": 32, "embed_dim": 16, "depth": 3, "num_heads": 2}
    model = create_model("timesformer", num_classes=5, temporal_fc_zero=False, recompute=recompute, **sizes)
    parallel = paddle.DataParallel(model)
    optimizer = paddle.optimizer.Momentum(0.1, parameters=model.parameters())
    video = np.random.default_rng(rank).normal(size=(4, 3, 3, 32, 32)).astype("float32")
    for step in range(2):
        paddle.seed(step)
        for number, part in enumerate(paddle.to_tensor(video).split(2)):
            with nullcontext() if number else parallel.no_sync():
                (parallel(part) ** 2).mean().backward()
        optimizer.step()
        optimizer.clear_grad()
    results.append([parameter.numpy() for parameter in model.parameters()])
assert all(np.array_equal(plain, again) for plain, again in zip(*results, strict=True))
open(f"{sys.argv[1]}.{rank}", "w").write("the same")
"""


@pytest.mark.slow
def test_processes_that_share_gradients(tmp_path: Path) -> None:
    script, result = tmp_path / "worker.py", tmp_path / "result"
    script.write_text(WORKER)
    launcher = ["-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--log_dir", str(tmp_path / "log")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *launcher, str(script), str(result)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert [(tmp_path / f"result.{rank}").read_text() for rank in (0, 1)] == ["the same", "the same"]
