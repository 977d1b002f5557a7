"""Weights under the names of other authors give the logits of their code.

The answers of that code lie in tests/golden, computed in float64 from the networks of tests/peers; their weights are
functions of a seed. So neither torch nor transformers is needed here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from peers.ours import our_video
from peers.seeded import State, perturbed, seeded_frames, seeded_state, seeded_video

from paddlevid import create_model
from paddlevid.weights import load_weights

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
FILES = sorted(GOLDEN.glob("*.npz"))
# Of the largest logit: float32 rounds to 6e-8, and a hundred layers add up
ROUNDING = 2e-5
# Of the change that a tensor makes
CHANGE = 1e-4
# Of the largest logit: what each tensor moves at least, or its test could not fail
LEAST_CHANGE = 5e-4
# A BNInception has numbers of up to 255 in its first layers, beside which the biases of its convolutions are small
LEAST_CHANGE_OF_CAFFE = 1e-4
# A bias of the keys adds the same to all of a softmax
SILENT = ".attention.key.bias"
# Tensors of each network that are perturbed by default; the transformers are small enough for all of theirs
SHARE = 7
# Of the networks that have a name for each source, backbone and modality, one of each is quick, and two tensors of it
SNIPPETS = ("tsnpytorch-", "pretrainedmodels-", "torchvision-inception_v3", "mmaction-tsn-resnet18-flow")
QUICK = {
    "tsnpytorch-tsn-resnet18-rgb_diff-with_rgb",
    "tsnpytorch-tsn-bn_inception-rgb",
    "tsnpytorch-tsn-bn_inception-flow",
    "pretrainedmodels-bn_inception",
}


class Golden:
    """One file of answers, the state it belongs to, and our model."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as arrays:
            about: dict[str, Any] = json.loads(str(arrays["about"]))
            self.names: list[str] = json.loads(str(arrays["perturbed"]))
            self.logits, self.changes = arrays["logits"], arrays["changes"]
        self.seed: int = about["seed"]
        self.state = seeded_state({name: tuple(shape) for name, shape in about["shapes"].items()}, self.seed)
        norm = about.get("norm")
        video = (seeded_video if norm is None else seeded_frames)(tuple(about["video"]), self.seed)
        self.is_features = about["compare"] == "features"
        if self.is_features:
            video = np.repeat(video[:, :1], video.shape[1], axis=1)
        self.video = our_video(video, norm)
        self.model = create_model(**about["model"])
        self.model.eval()
        self.picked: list[int] = about.get("picked", list(range(self.changes.shape[2])))
        self.peak = np.abs(self.logits).max()
        self.is_small = about["model"]["name"] == "timesformer"
        is_caffe = about["model"].get("backbone") == "bn_inception"
        self.least_change = LEAST_CHANGE_OF_CAFFE if is_caffe else LEAST_CHANGE
        self.share = 2 if path.stem.startswith(SNIPPETS) else SHARE

    def answer(self, state: State) -> np.ndarray:
        load_weights(self.model, state)
        with paddle.no_grad():
            answer = self.model.forward_features(self.video) if self.is_features else self.model(self.video)
        return answer.numpy().astype(np.float64)

    def check_changes(self, indices: list[int]) -> None:
        """Perturb each of these tensors in turn; our answer moves as that of the source did."""
        before = self.answer(self.state)[:, self.picked]
        wrong = []
        for i in indices:
            name, theirs = self.names[i], self.changes[i]
            changed = self.state | {name: perturbed(name, self.state[name], self.seed)}
            ours = self.answer(changed)[:, self.picked] - before
            size = np.abs(theirs).max()
            assert (size > self.least_change * self.peak) != name.endswith(SILENT), name
            off = np.abs(ours - theirs).max()
            if off > CHANGE * size + ROUNDING * self.peak:
                wrong.append(f"{name} {self.state[name].shape}: moves by {size:.3g}, ours is off by {off:.3g}")
        assert wrong == []


def quick_first(path: Path) -> Any:
    is_slow = path.stem.startswith(SNIPPETS) and path.stem not in QUICK
    return pytest.param(path, id=path.stem, marks=pytest.mark.slow if is_slow else ())


@pytest.fixture(scope="module", params=[quick_first(path) for path in FILES])
def golden(request: pytest.FixtureRequest) -> Golden:
    return Golden(request.param)


def test_there_are_answers_of_each_family() -> None:
    families = {path.stem.split("-")[0] for path in FILES}
    assert families == {
        *("official", "transformers", "mmaction", "paddlevideo"),
        *("timm", "paddleclas", "torchvision", "tsm", "tsnpytorch", "pretrainedmodels"),
    }


def test_the_logits_are_those_of_the_source(golden: Golden) -> None:
    off = np.abs(golden.answer(golden.state) - golden.logits).max()
    assert off <= ROUNDING * golden.peak


def test_each_tensor_moves_the_logits_as_in_the_source(golden: Golden) -> None:
    count = len(golden.names)
    step = 1 if golden.is_small else max(1, count // golden.share)
    golden.check_changes(list(range(golden.seed % step, count, step)))


@pytest.mark.slow
def test_every_single_tensor_moves_the_logits_as_in_the_source(golden: Golden) -> None:
    golden.check_changes(list(range(len(golden.names))))


def test_the_bias_of_the_keys_has_its_place() -> None:
    """No logit tells of it, so its numbers are looked at."""
    golden = Golden(GOLDEN / "transformers-vit.npz")
    load_weights(golden.model, golden.state)
    own = golden.model.state_dict()
    for i in range(2):
        theirs = golden.state[f"vit.encoder.layer.{i}.attention.attention.key.bias"]
        np.testing.assert_array_equal(np.split(own[f"blocks.{i}.attn.qkv.bias"].numpy(), 3)[1], theirs)
