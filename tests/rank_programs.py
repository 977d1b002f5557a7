"""What tests have each process of a launch do: python tests/rank_programs.py NAME ARGUMENT ..."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from paddlevid.errors import DataError
from paddlevid.runtime import Ranks

CLIPS = 8  # a step
STEPS = 6
STEPS_BEFORE = 3  # a checkpoint


def join() -> Ranks:
    from paddlevid import watch
    from paddlevid.runtime import init_ranks, set_device

    set_device("cpu")
    ranks = init_ranks()
    watch.start(*ranks)
    print(f"joined as {ranks.rank} with pid {os.getpid()}", flush=True)
    return ranks


def run_program(run: Callable[[], None]) -> None:
    """Run and end as main.py does."""
    import paddle  # noqa: F401  before the signals: it sets handlers of its own

    from paddlevid.runtime import run_command
    from paddlevid.training.signals import StopRequest

    def main() -> None:
        with StopRequest():
            run()

    run_command(main)


def fail(how: str, victim: str) -> None:
    """All add up a number for ever, until the process `victim` fails."""
    import paddle

    ranks = join()
    number = paddle.zeros([1])
    for step in range(10**9):
        if step == 5 and ranks.rank == int(victim):
            if how == "user_error":
                raise DataError("list.txt: line 7 has no label")
            if how == "bug":
                raise KeyError("no such key")
            os.kill(os.getpid(), {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "busy": signal.SIGKILL}[how])
        if step == 5 and how == "busy":
            while True:  # and hears of no broken connection
                time.sleep(0.1)
        paddle.distributed.all_reduce(number)
        time.sleep(0.02)


def stop() -> None:
    """Work until one process is asked to stop; then the first saves, and all end with code 75."""
    from paddlevid import watch
    from paddlevid.ranks import any_rank, meet
    from paddlevid.training.signals import StopRequest

    with StopRequest() as asked:
        ranks = join()
        while not any_rank(ranks, bool(asked))[0]:
            time.sleep(0.02)
        if ranks.rank == 0:
            time.sleep(4.0)  # longer than the launcher leaves to the others once one has ended
            print("saved", flush=True)
        meet(ranks)
        watch.leave()
    sys.exit(75)


def agree(wait_sec: str = "0") -> None:
    from paddlevid.ranks import any_rank, broadcast_state, meet, on_first

    ranks = join()
    first = ranks.rank == 0

    def slow() -> dict[str, int]:
        time.sleep(float(wait_sec))
        return {"pid": os.getpid()}

    def refuse() -> None:
        raise DataError("list.txt: no such file")

    pid = on_first(ranks, slow)["pid"]
    assert (pid == os.getpid()) == first
    with pytest.raises(DataError, match=r"^list.txt: no such file$"):
        on_first(ranks, refuse)

    assert any_rank(ranks, False, not first, first) == [False, True, True]

    weights = np.arange(12, dtype=np.float32).reshape(3, 4)
    state = {
        "step": 7,
        "name": "run",
        "model": {"head.weight": weights, "steps": np.array([5], np.int64), "bits": np.array([[1, 65535]], np.uint16)},
        "optimizer": {"head.weight_moment1_0": -weights, "none": np.zeros((0, 3), np.float32), "scale": np.array(0.5)},
    }
    got = broadcast_state(state if first else None, ranks)
    assert got["step"] == 7
    assert got["name"] == "run"
    for part in ("model", "optimizer"):
        assert got[part].keys() == state[part].keys()
        for name, array in state[part].items():
            assert got[part][name].dtype == array.dtype
            np.testing.assert_array_equal(got[part][name], array)
    kept = broadcast_state(state if first else None, ranks, keep=lambda path: first or path[0] == "model")
    assert ("head.weight_moment1_0" in kept["optimizer"]) == first
    assert kept["model"].keys() == state["model"].keys()

    # As many meetings as one likes, each of which waits for the last to come
    for number in range(3):
        time.sleep(0.3 * (ranks.rank + number) % 0.5)
        meet(ranks)
    print("agreed", flush=True)


def shards(folder: str) -> None:
    """Train with and without shards, from scratch and from each other's checkpoints; `folder` takes the results."""
    ranks = join()
    out = Path(folder)
    for sharded in (False, True):
        train_toy(ranks, out / f"scratch_{sharded}", sharded=sharded)
    for written, sharded in ((False, True), (True, False), (True, True)):
        train_toy(ranks, out / f"resumed_{written}_{sharded}", sharded=sharded, checkpoint=out / f"scratch_{written}")
    train_toy(ranks, out / "resumed_from_alone", sharded=True, checkpoint=out / "alone")


def train_toy(ranks: Ranks, out: Path, *, sharded: bool, checkpoint: Path | None = None) -> None:
    """Six steps, or the last three of them, of a small network under AdamW in three groups.

    The first process leaves the final weights in `out`, and what a checkpoint holds after step 3; each one how many
    bytes its optimizer's state has.
    """
    import paddle

    from paddlevid.optimizer_state import READERS, WRITERS, check_optimizer, optimizer_state, rename_back
    from paddlevid.ranks import broadcast_state, on_first
    from paddlevid.sharding import Shards

    out.mkdir(parents=True, exist_ok=True)
    paddle.seed(3)
    model, optimizer = toy()
    shards = Shards(model, ranks) if sharded else None
    start = 0
    if checkpoint is not None:
        source = checkpoint

        def read() -> dict:
            state = READERS["safetensors"](source / "optimizer.safetensors")
            check_optimizer(state["optimizer"], model, optimizer, str(source))
            with np.load(source / "step_3.npz") as weights:
                return {"model": dict(weights), **state}

        loaded = read() if ranks.rank == 0 else None
        state = broadcast_state(loaded, ranks, keep=lambda path: shards is None or shards.keeps(path))
        for name, tensor in model.state_dict().items():
            tensor.set_value(state["model"][name])
        optimizer.set_state_dict(rename_back(model, state["optimizer"]))
        start = STEPS_BEFORE
    parallel = paddle.DataParallel(model) if ranks.world > 1 else model
    for step in range(start, STEPS):
        toy_step(step, ranks, parallel, optimizer, shards)
        if step + 1 == STEPS_BEFORE:
            whole = shards.gather(optimizer) if shards else optimizer_state(model, optimizer)
            if ranks.rank == 0:
                np.savez(out / "step_3.npz", **arrays(model))
                for kind, suffix in (("safetensors", "safetensors"), ("pdparams", "pdopt")):
                    WRITERS[kind]({"optimizer": dict(sorted(whole.items()))}, str(out / f"optimizer.{suffix}"))
    (out / f"bytes_{ranks.rank}.txt").write_text(str(bytes_of(optimizer)))
    np.savez(out / f"final_{ranks.rank}.npz", **arrays(model))
    on_first(ranks, lambda: None)  # the next run reads what this one has written


def toy():
    """A network, and AdamW with a group for the head's bias, one for vectors without decay, one for matrices."""
    import paddle

    layers = [(16, 48), (48, 48), (48, 48), (48, 48)]
    model = paddle.nn.Sequential(
        *(
            layer
            for sizes in layers
            for layer in (paddle.nn.Linear(*sizes), paddle.nn.LayerNorm(sizes[1]), paddle.nn.GELU())
        ),
        paddle.nn.Linear(48, 5),
    )
    head = model[-1].bias
    vectors = [item for item in model.parameters() if item.ndim == 1 and item is not head]
    groups = [
        {"params": [head], "learning_rate": 5.0, "weight_decay": 0.0},
        {"params": vectors, "learning_rate": 1.0, "weight_decay": 0.0},
        {"params": [item for item in model.parameters() if item.ndim > 1], "learning_rate": 0.5, "weight_decay": 0.05},
    ]
    return model, paddle.optimizer.AdamW(learning_rate=1e-2, parameters=groups)


def toy_step(step: int, ranks: Ranks, parallel, optimizer, shards) -> None:
    """Two micro-batches whose gradients add up, clipped as a whole."""
    import paddle

    clips = np.random.default_rng([step]).normal(size=(CLIPS, 16)).astype(np.float32)
    own = clips[ranks.rank :: ranks.world]
    halves = np.array_split(own, 2)
    for number, half in enumerate(halves):
        last = number == len(halves) - 1
        with nullcontext() if last or ranks.world == 1 else parallel.no_sync():
            ((parallel(paddle.to_tensor(half)) - 1) ** 2).mean(axis=1).sum().scale(ranks.world / CLIPS).backward()
    with paddle.no_grad():
        gradients = [item.grad for item in parallel.parameters()]
        norm = paddle.add_n([(gradient**2).sum() for gradient in gradients]).sqrt()
        for gradient in gradients:
            gradient.scale_(min(1.0, 1 / float(norm)))
    if shards is not None:
        shards.drop_gradients()
    optimizer.set_lr(1e-2 / (step + 1))
    optimizer.step()
    if shards is not None:
        shards.share_parameters()
    optimizer.clear_grad()


def arrays(model) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def bytes_of(optimizer) -> int:
    import paddle

    return sum(value.numpy().nbytes for value in optimizer.state_dict().values() if isinstance(value, paddle.Tensor))


PROGRAMS: dict[str, Callable[..., None]] = {"fail": fail, "stop": stop, "agree": agree, "shards": shards}

if __name__ == "__main__":
    run_program(lambda: PROGRAMS[sys.argv[1]](*sys.argv[2:]))
