"""Time and memory of loading and converting a TimeSformer-B file of each kind: python benchmarks/weights.py

Memory is how much the peak of a process that imported everything grows, as a ratio to the file's size; loading fills a
model that was built before. Kinds of PyTorch need torch to be written, not to be read.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

MIB = 2**20


def write_files(folder: Path) -> list[Path]:
    """The same model as files of each kind."""
    import paddle

    from paddlevid.models import create_model
    from paddlevid.weights.tensor import LazyTensor
    from paddlevid.weights.write import write_weights

    model = create_model("timesformer", num_classes=400)
    state = {name: LazyTensor.of(value.numpy()) for name, value in model.state_dict().items()}
    paths = [folder / "paddle_save.pdparams", folder / "paddlevid.pdparams", folder / "paddlevid.safetensors"]
    paddle.save(model.state_dict(), str(paths[0]))
    for path in paths[1:]:
        write_weights(state, path)
    if importlib.util.find_spec("torch"):
        import torch

        official = {
            f"model.{name}": torch.tensor(tensor.read().T if len(tensor.shape) == 2 else tensor.read())
            for name, tensor in state.items()
        }
        for name, is_zip in (("torch_zip.pyth", True), ("torch_legacy.pyth", False)):
            paths.append(folder / name)
            torch.save({"model_state": official, "epoch": 1}, paths[-1], _use_new_zipfile_serialization=is_zip)
    return paths


def peak_mib() -> float:
    """Of this process; what resource.getrusage calls the peak is inherited from the parent."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) / 1024


def measure(action: str, path: Path) -> None:
    """Print seconds and MiB; runs in a process of its own."""
    import paddle  # noqa: F401

    from paddlevid.models import create_model
    from paddlevid.weights import convert_weights, load_weights

    model = create_model("timesformer", num_classes=400) if action == "load" else None
    before, start = peak_mib(), time.perf_counter()
    if model is not None:
        load_weights(model, path)
    else:
        convert_weights(path, path.with_name("converted" + action))
    print("measured", time.perf_counter() - start, peak_mib() - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", nargs=2, metavar=("ACTION", "FILE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.measure[0], Path(args.measure[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        print(f"{'file':24}{'MiB':>6}   {'action':24}{'seconds':>8}{'memory / file':>16}")
        for path in write_files(Path(folder)):
            size = path.stat().st_size / MIB
            for action in ("load", ".pdparams", ".safetensors"):
                command = [sys.executable, __file__, "--measure", action, str(path)]
                output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                seconds, mib = map(float, output.split("measured")[1].split()[:2])
                what = action if action == "load" else f"convert to {action}"
                print(f"{path.name:24}{size:6.0f}   {what:24}{seconds:8.1f}{mib / size:16.2f}", flush=True)


if __name__ == "__main__":
    main()
