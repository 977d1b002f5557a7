"""Write the reference arrays of tests/golden: what the networks of other authors answer, and how each tensor counts.

    python tests/golden/make_golden.py [CASE ...]

Needs torch and transformers. Weights and videos are functions of the seeds (peers/seeded.py), so a file holds only
names, shapes and answers:

    about      JSON: case, seed, video shape, arguments of our model, what is compared, names and shapes of the state
    logits     float64 [B, K], or features [B, D], of the source computed in float64
    float32    the same of the source in float32, where its framework is PyTorch: what its rounding alone amounts to
    perturbed  JSON: names of the tensors that were perturbed, each by itself
    changes    float64 [P, B, K]: how the answer moved; of features, the first eight of each, or those that `about`
               gives as `picked`

One ResNet-50 is perturbed in every tensor, the other large networks in every third to sixth, each in others.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from peers.cases import CASES, Case
from peers.running import Peer, TorchPeer, build_peer, change_of, reference
from peers.seeded import COUNTERS, State

GOLDEN = Path(__file__).resolve().parent
# What of an image network has no part in its features
IMAGE_HEADS = ("head.", "fc.", "out.", "classifier.", "last_linear.", "AuxLogits.")
# How much of a vector of features a change is kept of; those of an Inception come from branches, one behind the other
FEATURES = 8
FEATURES_OF_BRANCHES = 32
STEPS = {"resnet34": 3, "resnet50": 3, "resnet101": 6, "mobilenet_v2": 3, "bn_inception": 6, "inception_v3": 6}
COMPLETE = {"official-tsm-resnet50", "official-tsm-mobilenet_v2"}


def tensors_to_perturb(case: Case, peer: Peer, state: State) -> list[str]:
    """All but counters and, where features are compared, the head, which has no part in them."""
    names = [name for name in state if not name.endswith(COUNTERS)]
    if case.compare == "features":
        names = [name for name in names if not name.startswith(IMAGE_HEADS)]
    step = STEPS.get(case.model.get("backbone", ""), 1)
    return names if case.name in COMPLETE else names[case.seed % step :: step]


def golden(case: Case) -> dict[str, np.ndarray]:
    peer = build_peer(case)
    state, video, answer = reference(case, peer)
    names = tensors_to_perturb(case, peer, state)
    picked = list(range(min(FEATURES, answer.shape[1])))
    if "inception" in case.model.get("backbone", "") and case.compare == "features":
        picked = np.linspace(0, answer.shape[1] - 1, FEATURES_OF_BRANCHES).astype(int).tolist()
    changes = [change_of(peer, state, name, video, answer, case.seed)[:, picked] for name in names]
    about = {
        "case": case.name,
        "seed": case.seed,
        "video": case.video,
        "model": case.model,
        "compare": case.compare,
        "shapes": peer.shapes,
    }
    about |= {} if case.norm is None else {"norm": case.norm}
    about |= {} if len(picked) <= FEATURES else {"picked": picked}
    arrays = {"about": np.array(json.dumps(about)), "logits": answer}
    arrays |= {"perturbed": np.array(json.dumps(names)), "changes": np.array(changes)}
    if isinstance(peer, TorchPeer):
        arrays["float32"] = peer.float32(video)
    return arrays


def main() -> None:
    wanted = sys.argv[1:]
    for case in CASES:
        if not wanted or case.name in wanted:
            arrays = golden(case)
            np.savez_compressed(GOLDEN / f"{case.name}.npz", **arrays)
            peaks = np.abs(arrays["changes"]).max(axis=(1, 2)) / np.abs(arrays["logits"]).max()
            least = json.loads(str(arrays["perturbed"]))[int(peaks.argmin())]
            print(f"{case.name}: {len(peaks)} tensors, the least change {peaks.min():.1e} is of {least}", flush=True)


if __name__ == "__main__":
    main()
