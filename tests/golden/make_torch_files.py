"""Small files as torch.save writes them, in both of its formats, and the arrays that they hold.

    python tests/golden/make_torch_files.py      # needs PyTorch; the files were made with 2.13

The tests read the files without PyTorch and compare with `torch.npz`, which PyTorch made of the same tensors.
"""

from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).parent / "files"


def make_state() -> dict[str, torch.Tensor]:
    """A network's state behind DataParallel's prefix, and tensors that are views of others in each possible way."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2))
    network(torch.randn(2, 3, 6, 6))
    state = OrderedDict((f"module.{name}", value) for name, value in network.state_dict().items())
    base = torch.randn(2, 3, 4)
    state["parameter"] = torch.nn.Parameter(torch.randn(3))
    state["half"] = base.half()
    state["bfloat16"] = base.bfloat16()
    state["double"] = base.double()
    state["bool"] = base > 0
    for kind in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
        state[str(kind).removeprefix("torch.")] = torch.arange(6, dtype=kind).reshape(2, 3)
    state["complex"] = torch.complex(base, -base)
    state["views.whole"] = base
    state["views.transposed"] = base.permute(2, 0, 1)
    state["views.part"] = base[:, 1:, ::2]
    state["views.column"] = base[:, 0, 3]
    state["views.number"] = base[1, 2, 3]
    state["views.expanded"] = base[:1, :1].expand(2, 3, 4)
    state["views.channels_last"] = torch.randn(1, 2, 3, 2).to(memory_format=torch.channels_last)
    state["empty"] = torch.zeros(0, 4)
    state["number"] = torch.tensor(7)
    return state


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    state = make_state()
    beside = {
        "epoch": 50,
        "best_prec1": torch.tensor(71.2),
        "optimizer": {"state": defaultdict(dict), "param_groups": [{"lr": 0.1, "params": [0, 1]}]},
        "facts": [torch.float16, torch.device("cuda:0"), torch.Size([2, 3]), np.float64(0.5), np.arange(3), "text"],
    }
    torch.save({"state_dict": state, **beside}, FOLDER / "zip.pth")
    torch.save({"state_dict": state, **beside}, FOLDER / "legacy.pth.tar", _use_new_zipfile_serialization=False)
    small = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.tensor([1, 2])}
    torch.save(small, FOLDER / "small_zip.pt")
    torch.save(small, FOLDER / "small_legacy.pt", _use_new_zipfile_serialization=False)
    arrays = {name: value.detach() for name, value in state.items()}
    arrays["bfloat16"] = arrays["bfloat16"].float()  # as it is read: numpy has no such type
    np.savez_compressed(FOLDER / "torch.npz", **{name: value.numpy() for name, value in arrays.items()})


if __name__ == "__main__":
    main()
