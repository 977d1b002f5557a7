"""A training step on CPU against PaddleVideo's, in one run and in turns: python benchmarks/train_step.py

A step is forward, loss, gradients and the recipe's optimizer, on one clip of random numbers: TimeSformer-B (8 frames of
224 pixels), or with --model tsm or tsn a ResNet-50. Ours is timed plain, with recompute (TimeSformer alone) and
compiled; against it PaddleVideo's network (tests/peers, written anew from its facts), with Paddle's own settings, as
its tools run it. Each measurement is a process of its own, so that its peak of memory is its own as well. Processor
seconds are told beside those of the clock, because they mind other work on the machine less.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

PEER = "PaddleVideo"
SMALL = {
    "timesformer": ("model.embed_dim=64", "model.depth=2", "model.num_heads=2", "data.image_size=64"),
    "tsm": ("model.backbone=resnet18", "data.image_size=64"),
    "tsn": ("model.backbone=resnet18", "data.image_size=64"),
}

# What must hold
PEER_SECONDS = 170.0  # of PaddleVideo's own code for this step, on 2 cores of another machine
LEAST_SPEED_UP = 8.0
MOST_GB = 5.0
MOST_RECOMPUTE_GB = 0.6
MOST_RECOMPUTE_SECONDS = 1.5


class Result(NamedTuple):
    """Of one process: median seconds of a step, its peak of memory, that before the first step, and the losses."""

    seconds: float
    cpu_seconds: float
    peak_gb: float
    model_gb: float
    losses: list[str]  # as hexadecimal texts, which keep every bit


# ---- one measurement ------------------------------------------------------------------------------------------------


def build(model: str, variant: str, small: bool) -> tuple[Any, Any, list[int]]:
    """The network, its optimizer, and the shape of the clip that it takes."""
    from paddlevid import build as builder
    from paddlevid.config import load_config

    sizes = [f"{split}.short_side=64" for split in ("valid", "test")] if small else []
    overrides = [*(SMALL[model] if small else ()), *sizes]
    if variant == "recompute":
        overrides.append("model.recompute=true")
    cfg = load_config(ROOT / "configs" / f"{model}_k400.yaml", overrides)
    data = cfg.data
    shape = [1, data.num_frames, 3, data.image_size, data.image_size]
    network = builder.build_model(cfg) if variant != PEER else build_peer(cfg)
    if variant == PEER:
        shape = [1, 3, *shape[1:2], *shape[3:]] if model == "timesformer" else shape[1:]
    return network, builder.build_optimizer(cfg, network), shape


def build_peer(cfg: Any) -> Any:
    from peers import paddlevideo

    data, model = cfg.data, cfg.model
    if model.name == "timesformer":
        names = ("embed_dim", "depth", "num_heads", "attention", "patch_size")
        sizes = {name: getattr(model, name) for name in names}
        network = paddlevideo.TimeSformerRecognizer(
            data.num_classes, num_frames=data.num_frames, image_size=data.image_size, **sizes
        )
        train_as_peer(network.backbone.blocks, model.drop_path_rate)
        return network
    depth = int(model.backbone.removeprefix("resnet"))
    return paddlevideo.SegmentRecognizer(depth, data.num_classes, data.num_frames, shifts=model.name == "tsm")


def train_as_peer(blocks: Any, last_rate: float) -> None:
    """What tests/peers leaves out, because it changes no answer.

    Facts: PaddlePaddle/PaddleVideo, paddlevideo/modeling/backbones/vit.py. Query, key and value are taken by their
    indices, and the outputs of each attention and MLP have rows dropped by a division and a product.
    """
    import paddle
    from peers import paddlevideo

    class Attention(paddlevideo.Attention):
        def forward(self, x: paddle.Tensor) -> paddle.Tensor:
            groups, length, dim = x.shape
            heads = self.qkv(x).reshape([groups, length, 3, self.heads, dim // self.heads]).transpose([2, 0, 3, 1, 4])
            query, key, value = (heads[i] for i in range(3))
            scores = query.matmul(key.transpose([0, 1, 3, 2])) * (dim // self.heads) ** -0.5
            mixed = paddle.nn.functional.softmax(scores, axis=-1).matmul(value)
            return self.proj(mixed.transpose([0, 2, 1, 3]).reshape([groups, length, dim]))

    def drop_rows(x: paddle.Tensor, rate: float) -> paddle.Tensor:
        keep = paddle.to_tensor(1 - rate)
        kept = paddle.floor(keep + paddle.rand([x.shape[0]] + [1] * (x.ndim - 1), dtype=x.dtype))
        return x.divide(keep) * kept

    for i, block in enumerate(blocks):
        rate = last_rate * i / max(len(blocks) - 1, 1)
        for layer in (block.temporal_attn, block.attn, block.mlp):
            if isinstance(layer, paddlevideo.Attention):
                layer.__class__ = Attention
            if rate:
                layer.register_forward_post_hook(lambda _layer, _inputs, output, rate=rate: drop_rows(output, rate))


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def measure(model: str, variant: str, steps: int, small: bool) -> Result:
    import paddle

    from paddlevid.runtime import tune_cpu, use_all_cores

    paddle.set_device("cpu")
    if variant != PEER:
        tune_cpu()
        use_all_cores()
    paddle.seed(0)
    network, optimizer, shape = build(model, variant, small)
    network.train()
    if variant == "compiled":
        network = paddle.jit.to_static(network, full_graph=True)
    video, label = paddle.randn(shape), paddle.to_tensor([3])
    before = peak_gb()
    seconds, cpu_seconds, losses = [], [], []
    for step in range(steps + 1):
        paddle.seed(step)
        started, cpu_started = time.perf_counter(), time.process_time()
        loss = paddle.nn.functional.cross_entropy(network(video), label)
        loss.backward()
        optimizer.step()
        optimizer.clear_grad(set_to_zero=variant == PEER)
        losses.append(float(loss).hex())
        seconds.append(time.perf_counter() - started)
        cpu_seconds.append(time.process_time() - cpu_started)
    # The first step allocates, and compiles
    return Result(statistics.median(seconds[1:]), statistics.median(cpu_seconds[1:]), peak_gb(), before, losses)


# ---- all of them ----------------------------------------------------------------------------------------------------


def compare(args: argparse.Namespace) -> dict[str, list[Result]]:
    variants = ["plain", *(["recompute"] if args.model == "timesformer" else []), "compiled", PEER]
    variants = [variant for variant in variants if variant in (args.variants or variants)]
    results: dict[str, list[Result]] = {variant: [] for variant in variants}
    for number in range(1, args.rounds + 1):
        for variant, found in results.items():
            print(f"  round {number} of {args.rounds}: {variant}", file=sys.stderr, flush=True)
            options = ["--one", variant, "--model", args.model, "--steps", str(args.steps)]
            command = [sys.executable, __file__, *options, *(["--small"] if args.small else [])]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{variant} failed:\n{done.stderr[-3000:]}")
            found.append(Result(**json.loads(done.stdout.splitlines()[-1])))
    return results


def report(model: str, small: bool, results: dict[str, list[Result]]) -> bool:
    """Print the table, and whether what must hold for TimeSformer-B does."""
    best = {
        variant: Result(
            min(result.seconds for result in found),
            min(result.cpu_seconds for result in found),
            max(result.peak_gb for result in found),
            max(result.model_gb for result in found),
            found[0].losses,
        )
        for variant, found in results.items()
    }
    print(f"\na training step of {model} on one clip, on CPU; ratios to ours, plain")
    print(f"{'':12}{'seconds':>9}{'ratio':>7}{'cpu s':>9}{'ratio':>7}{'peak GB':>9}{'ratio':>7}{'above model':>13}")
    plain = best.get("plain") or next(iter(best.values()))
    for variant, own in best.items():
        row = f"{variant:12}"
        for value, base in zip(own[:3], plain[:3], strict=True):
            row += f"{value:9.2f}{value / base:7.2f}"
        print(f"{row}{own.peak_gb - own.model_gb:13.2f}")
    for variant in set(best) & {"recompute", "compiled"}:
        differences = [
            abs(float.fromhex(a) - float.fromhex(b)) for a, b in zip(best[variant].losses, plain.losses, strict=True)
        ]
        print(f"losses of {variant}: at most {max(differences):.3g} from those of plain")
    if model != "timesformer" or small or "plain" not in best:
        return True
    checks = [(f"at most {MOST_GB:g} GB", plain.peak_gb <= MOST_GB)]
    if PEER in best:
        print(f"times as fast as {PEER}'s network, written anew: {best[PEER].seconds / plain.seconds:.1f}")
    limit = PEER_SECONDS / LEAST_SPEED_UP
    checks.append((f"at most {limit:.1f} s, {PEER}'s {PEER_SECONDS:g} s / {LEAST_SPEED_UP:g}", plain.seconds <= limit))
    if "recompute" in best:
        own = best["recompute"]
        checks += [
            ("recompute: the same losses", own.losses == plain.losses),
            (
                f"recompute: at most {MOST_RECOMPUTE_GB:g} of the memory",
                own.peak_gb / plain.peak_gb <= MOST_RECOMPUTE_GB,
            ),
            (
                f"recompute: at most {MOST_RECOMPUTE_SECONDS:g} times the seconds",
                own.seconds / plain.seconds <= MOST_RECOMPUTE_SECONDS,
            ),
        ]
    for what, holds in checks:
        print(f"{what}: {'holds' if holds else 'DOES NOT HOLD'}")
    return all(holds for _, holds in checks)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=SMALL, default="timesformer")
    parser.add_argument("--variants", nargs="+", choices=("plain", "recompute", "compiled", PEER))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="timed in each round (3)")
    parser.add_argument("--small", action="store_true", help="a small network: does all of it work?")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.model, args.one, args.steps, args.small)._asdict()))
        return 0
    from paddlevid.deploy.measure.machine import describe_machine

    machine = describe_machine()
    print(f"{machine['cpu']}, {machine['cores']} cores, {' '.join(machine['cpu_flags'])}")
    print(", ".join(f"{package} {version}" for package, version in machine["versions"].items()))
    return int(not report(args.model, args.small, compare(args)))


if __name__ == "__main__":
    sys.exit(main())
