"""What `runtime.tune_cpu` and `use_all_cores` are worth: a step of a small TimeSformer with and without, in turns.

Each measurement is a process of its own, because Paddle reads its settings once: python benchmarks/cpu_settings.py
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def step_seconds(tuned: bool, steps: int = 12) -> float:
    """Median seconds of a step of 32 clips, 8 x 64 x 64 pixels, after two steps of warm-up."""
    import paddle

    from paddlevid.models import create_model
    from paddlevid.runtime import tune_cpu, use_all_cores

    paddle.set_device("cpu")
    if tuned:
        tune_cpu()
        use_all_cores()
    model = create_model("timesformer", num_classes=8, num_frames=8, image_size=64, embed_dim=64, depth=2, num_heads=2)
    optimizer = paddle.optimizer.AdamW(2e-3, parameters=model.parameters())
    video, labels = paddle.randn([32, 8, 3, 64, 64]), paddle.randint(0, 8, [32])
    seconds = []
    for _ in range(steps + 2):
        started = time.perf_counter()
        loss = paddle.nn.functional.cross_entropy(model(video), labels)
        loss.backward()
        optimizer.step()
        optimizer.clear_grad(set_to_zero=False)
        float(loss)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", choices=("plain", "tuned"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(step_seconds(args.one == "tuned"))
        return
    found: dict[str, list[float]] = {"plain": [], "tuned": []}
    for _ in range(args.rounds):
        for kind, seconds in found.items():
            command = [sys.executable, __file__, "--one", kind]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            seconds.append(float(done.stdout.split()[-1]))
    plain, tuned = (min(found[kind]) for kind in ("plain", "tuned"))
    print(f"step without: {plain * 1000:.0f} ms, with: {tuned * 1000:.0f} ms, {plain / tuned:.1f} times as fast")


if __name__ == "__main__":
    main()
