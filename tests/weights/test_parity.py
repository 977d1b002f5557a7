"""Our models against the networks of other authors, live, over shapes, through real files, with fresh numbers.

PARITY_SEED=... repeats a run; the seed and the largest relative differences seen are printed at the end.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from peers.cases import ATTENTIONS, CASES, IMAGE_K, Case, K
from peers.ours import our_video
from peers.seeded import COUNTERS, State, perturbed, seeded_video

from paddlevid import create_model
from paddlevid.errors import WeightsError
from paddlevid.weights import load_weights

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from peers.image_networks import VGG16  # noqa: E402
from peers.running import Peer, TorchPeer, build_peer, change_of, reference  # noqa: E402

pytestmark = pytest.mark.parity

SEED = int(os.environ.get("PARITY_SEED", int.from_bytes(os.urandom(3), "little")))
# Of the largest logit, and of the change that a tensor makes: as in test_golden.py
ROUNDING, CHANGE, LEAST_CHANGE, LEAST_CHANGE_OF_CAFFE = 2e-5, 1e-4, 5e-4, 1e-4
SILENT = ".attention.key.bias"
IMAGE_HEADS = ("head.", "classifier.", "fc.", "out.", "last_linear.", "AuxLogits.")

BY_NAME = {case.name: replace(case, seed=case.seed + SEED) for case in CASES}
TRANSFORMERS = [case for case in BY_NAME.values() if "-timesformer-" in case.name]
VITS = [case for case in BY_NAME.values() if case.name.endswith("-vit")]
NETWORKS = [case for case in BY_NAME.values() if case not in TRANSFORMERS and case not in VITS]
DEEP = [case for case in NETWORKS if "resnet101" in case.name]
PADDLE_TSM = [case for case in NETWORKS if case.name.startswith("paddlevideo-tsm")]
FILES = [*TRANSFORMERS, *VITS, *(case for case in NETWORKS if case not in DEEP)]

largest: dict[str, float] = {}


@pytest.fixture(scope="module", autouse=True)
def _print_what_was_seen(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\nPARITY_SEED={SEED}; largest difference of logits, relative to the largest of them:")
        for family, difference in sorted(largest.items()):
            print(f"  {family}: {difference:.1e}")


def named(cases: list[Any]) -> Any:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


def answer(model: paddle.nn.Layer, video: np.ndarray, compare: str = "logits", norm: Any = None) -> np.ndarray:
    with paddle.no_grad():
        x = our_video(video, norm)
        return (model.forward_features(x) if compare == "features" else model(x)).numpy().astype(np.float64)


def our_model(case: Case, **changes: Any) -> paddle.nn.Layer:
    model = create_model(**{**case.model, **changes})
    model.eval()
    return model


def assert_equal(ours: np.ndarray, theirs: np.ndarray, family: str) -> None:
    assert ours.shape == theirs.shape
    difference = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    largest[family] = max(largest.get(family, 0.0), difference)
    assert difference <= ROUNDING, f"{family}, PARITY_SEED={SEED}"


def compare(case: Case, model: paddle.nn.Layer, source: State | Path, theirs: np.ndarray, video: np.ndarray) -> None:
    report = load_weights(model, source)
    assert not report.resized
    if case.norm is not None:
        assert report.norm_warning(*case.norm) == ""
    assert_equal(answer(model, video, case.compare, case.norm), theirs, case.name)


@named(list(BY_NAME.values()))
def test_logits(case: Case) -> None:
    state, video, theirs = reference(case, build_peer(case))
    compare(case, our_model(case), state, theirs, video)


@pytest.mark.parametrize(
    "sizes",
    [
        {"image_size": 32, "patch_size": 16, "embed_dim": 16, "depth": 1, "num_heads": 2, "num_frames": 1},
        {"image_size": 48, "patch_size": 8, "embed_dim": 64, "depth": 3, "num_heads": 1, "num_frames": 3},
        {"image_size": 64, "patch_size": 16, "embed_dim": 48, "depth": 2, "num_heads": 12, "num_frames": 8},
        {"image_size": 224, "patch_size": 32, "embed_dim": 32, "depth": 1, "num_heads": 8, "num_frames": 2},
        {"image_size": 16, "patch_size": 16, "embed_dim": 96, "depth": 12, "num_heads": 12, "num_frames": 5},
    ],
    ids=lambda sizes: "-".join(map(str, sizes.values())),
)
@named(TRANSFORMERS)
def test_logits_of_transformers_of_other_sizes(case: Case, sizes: dict[str, int]) -> None:
    side = sizes["image_size"]
    case = replace(case, video=(2, sizes["num_frames"], 3, side, side))
    state, video, theirs = reference(case, build_peer(case, **sizes))
    compare(case, our_model(case, **sizes), state, theirs, video)


@pytest.mark.parametrize("attention", ["divided_space_time", "space_only"])
@named(VITS)
def test_image_transformers_start_those_of_videos(case: Case, attention: str) -> None:
    sizes = {"image_size": 48, "patch_size": 16, "embed_dim": 48, "depth": 3, "num_heads": 6}
    case = replace(case, video=(2, 5, 3, 48, 48))
    state, video, theirs = reference(case, build_peer(case, **sizes))
    compare(case, our_model(case, **sizes, num_frames=5, attention=attention), state, theirs, video)


@pytest.mark.parametrize(("segments", "div", "side"), [(2, 8, 32), (3, 4, 40), (8, 8, 64), (5, 16, 33)])
@named([case for case in NETWORKS if case.layout == "frames" and case not in DEEP and case not in PADDLE_TSM])
def test_logits_over_other_numbers_of_segments(case: Case, segments: int, div: int, side: int) -> None:
    changes = {"num_segments": segments} | ({"shift_div": div} if case.model["name"] == "tsm" else {})
    case = replace(case, video=(2, segments, 3, side, side))
    state, video, theirs = reference(case, build_peer(case, **changes))
    compare(case, our_model(case, **changes), state, theirs, video)


@pytest.mark.parametrize("segments", [4, 16])
def test_logits_of_paddlevideo_over_other_numbers_of_segments(segments: int) -> None:
    """Its shift moves one part in so many of the channels."""
    case = replace(PADDLE_TSM[0], video=(1, segments, 3, 40, 40))
    state, video, theirs = reference(case, build_peer(case, num_segments=segments))
    compare(case, our_model(case, num_segments=segments, shift_div=segments), state, theirs, video)


@pytest.mark.parametrize("segments", [3, 5, 6, 7])
def test_paddlevideo_shifts_uneven_parts_where_the_segments_do_not_divide_the_channels(segments: int) -> None:
    """At 3 segments 170 of 512 channels come from the past and 171 from the future: no shift of ours does that."""
    case = PADDLE_TSM[0]
    state, _, _ = reference(replace(case, video=(1, segments, 3, 32, 32)), build_peer(case, num_segments=segments))
    with pytest.raises(WeightsError, match="shift"):
        load_weights(our_model(case, num_segments=segments, shift_div=segments), state)


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50", "mobilenet_v2"])
@pytest.mark.parametrize("nested", [True, False])
def test_an_image_network_starts_tsm_as_it_does_for_its_authors(backbone: str, nested: bool) -> None:
    """Their TSM with the convolutions of the image network in it: the same features of the same clip."""
    official = BY_NAME[f"official-tsm-{backbone}"]
    peer = build_peer(official)
    state, video, logits = reference(official, peer)
    image_case = BY_NAME[f"torchvision-{backbone}"]
    image_names = list(build_peer(image_case, **({} if nested else {"nested": False})).shapes)
    body = [name for name in state if "new_fc" not in name]
    # Both list their tensors in the order of the network
    image_state = dict(zip(image_names, (state[name] for name in body), strict=False))
    for name in image_names[len(body) :]:
        image_state[name] = np.ones((7, 2) if name.endswith("weight") else (7,), np.float32)
    model = our_model(official)
    report = load_weights(model, image_state)
    assert report.new == ("head.weight", "head.bias")
    head = {kind: state[f"module.new_fc.{kind}"].astype(np.float64) for kind in ("weight", "bias")}
    features = answer(model, video, "features")
    assert_equal(features @ head["weight"].T + head["bias"], logits, "start of tsm")


def test_a_vit_of_hugging_face_in_memory() -> None:
    """Since transformers 5 its parts have other names in memory than in files; without its head, it has no prefix."""
    case = BY_NAME["transformers-vit"]
    peer = build_peer(case)
    _, video, theirs = reference(case, peer)
    assert isinstance(peer, TorchPeer)
    for module in (peer.module, peer.module.vit):
        state = {name: value.float().numpy() for name, value in module.state_dict().items()}
        compare(case, our_model(case), state, theirs, video)


def torch_state(state: State) -> OrderedDict[str, Any]:
    return OrderedDict((name, torch.tensor(value)) for name, value in state.items())


def write(case: Case, peer: Peer, state: State, folder: Path) -> list[Path]:
    """The kinds of files that the source's own code writes these weights to."""
    if case.container == "paddle":
        path = folder / "weights.pdparams"
        paddle.save({name: paddle.to_tensor(value) for name, value in state.items()}, str(path))
        return [path]
    if case.container == "transformers":
        assert isinstance(peer, TorchPeer)
        peer.module.float().save_pretrained(folder / "safe")
        torch.save(torch_state(state), folder / "pytorch_model.bin")
        return [folder / "safe", folder / "safe" / "model.safetensors", folder / "pytorch_model.bin"]
    tensors: Any = torch_state(state)
    optimizer = {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    content, name = {
        "torch timesformer": (
            {"epoch": 14, "model_state": tensors, "optimizer_state": optimizer, "cfg": "TRAIN:\n  ENABLE: true\n"},
            "checkpoint_epoch_00015.pyth",
        ),
        "torch tsm": (
            {
                "epoch": 50,
                "arch": "resnet50",
                "state_dict": tensors,
                "optimizer": optimizer,
                "best_prec1": torch.tensor(71.2),
            },
            "ckpt.best.pth.tar",
        ),
        "torch mmaction": ({"meta": {"epoch": 100, "config": "model = dict()"}, "state_dict": tensors}, "mm.pth"),
        "torch plain": (tensors, "network.pth"),
    }[case.container]
    new, old = folder / name, folder / f"old_{name}"
    torch.save(content, new)
    torch.save(content, old, _use_new_zipfile_serialization=False)  # what PyTorch wrote before 1.6
    return [new, old]


@named(FILES)
def test_logits_through_files(case: Case, tmp_path: Path) -> None:
    peer = build_peer(case)
    state, video, theirs = reference(case, peer)
    for path in write(case, peer, state, tmp_path):
        compare(case, our_model(case), path, theirs, video)


def quick_first(case: Case) -> Any:
    quick = case not in NETWORKS or case.name in ("official-tsm-resnet18", "mmaction-tsn-resnet18")
    return pytest.param(case, marks=() if quick else pytest.mark.slow)


@named([quick_first(case) for case in BY_NAME.values()])
def test_each_tensor_moves_the_logits_as_in_the_source(case: Case) -> None:
    peer, model = build_peer(case), our_model(case)
    state, video, theirs = reference(case, peer)
    load_weights(model, state)
    before, peak = answer(model, video, case.compare, case.norm), np.abs(theirs).max()
    wrong = []
    for name in state:
        if name.endswith(COUNTERS) or (case.compare == "features" and name.startswith(IMAGE_HEADS)):
            continue
        moved = change_of(peer, state, name, video, theirs, case.seed)
        load_weights(model, state | {name: perturbed(name, state[name], case.seed)})
        off = np.abs(answer(model, video, case.compare, case.norm) - before - moved).max()
        size = np.abs(moved).max()
        least = LEAST_CHANGE_OF_CAFFE if case.model.get("backbone") == "bn_inception" else LEAST_CHANGE
        assert (size > least * peak) != name.endswith(SILENT), name
        if off > CHANGE * size + ROUNDING * peak:
            wrong.append((name, size, off))
    assert wrong == [], f"PARITY_SEED={SEED}"


@pytest.mark.slow
def test_a_vgg_of_torchvision_starts_ours(tmp_path: Path) -> None:
    """Of 138 million numbers, so in the precision of the file alone."""
    torch.manual_seed(SEED)
    peer = VGG16(IMAGE_K).eval()
    torch.save(peer.state_dict(), tmp_path / "vgg16.pth")
    model = create_model("tsn", backbone="vgg16", num_classes=K, num_segments=1)
    model.eval()
    report = load_weights(model, tmp_path / "vgg16.pth")
    assert (report.new, set(report.dropped)) == (
        ("head.weight", "head.bias"),
        {"classifier.6.weight", "classifier.6.bias"},
    )
    image = seeded_video((1, 1, 3, 224, 224), SEED)
    with torch.inference_mode():
        theirs = peer(torch.from_numpy(image[:, 0])).double().numpy()
    assert_equal(answer(model, image, "features"), theirs, "torchvision-vgg16")


def run_larger(case: Case, peer: Peer, frames: int, side: int) -> None:
    """Let the source's network take another number of frames and another size than it was built for."""
    if case.container == "transformers":
        assert isinstance(peer, TorchPeer)
        peer.module.config.num_frames, peer.module.config.image_size = frames, side


@pytest.mark.parametrize(
    ("built", "shown"),
    [
        ((4, 32), (8, 64)),
        ((8, 64), (4, 32)),
        ((4, 32), (4, 48)),
        ((8, 56), (3, 40)),
        ((3, 32), (8, 32)),
        ((8, 32), (96, 32)),
    ],
)
@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("family", ["official", "transformers"])
def test_weights_are_resized_as_the_source_does_when_it_runs(
    family: str, attention: str, built: tuple[int, int], shown: tuple[int, int]
) -> None:
    case = BY_NAME[f"{family}-timesformer-{attention}"]
    peer = build_peer(case, num_frames=built[0], image_size=built[1])
    state, _, _ = reference(replace(case, video=(1, built[0], 3, built[1], built[1])), peer)
    frames, side = shown
    run_larger(case, peer, frames, side)
    video = seeded_video((2, frames, 3, side, side), case.seed)
    model = our_model(case, num_frames=frames, image_size=side)
    report = load_weights(model, state)
    resized = {"pos_embed"} if built[1] != side else set()
    if attention != "space_only" and built[0] != frames:
        resized.add("time_embed")
    assert set(report.resized) == resized
    assert_equal(answer(model, video), peer(video), f"{family} resized")


@pytest.mark.parametrize(("built", "shown"), [((4, 32), (8, 64)), ((8, 64), (4, 32)), ((8, 48), (3, 32))])
def test_weights_of_paddlevideo_are_resized_as_it_does_when_it_loads(
    built: tuple[int, int], shown: tuple[int, int]
) -> None:
    """Places by a bilinear zoom with corners on corners, frames by the nearest."""
    case = BY_NAME["paddlevideo-timesformer-divided_space_time"]
    small = build_peer(case, num_frames=built[0], image_size=built[1])
    state, _, _ = reference(replace(case, video=(1, built[0], 3, built[1], built[1])), small)
    frames, side = shown
    old, new = built[1] // 8, side // 8
    pos = state["backbone.pos_embed"]
    hats = np.maximum(0, 1 - np.abs(np.linspace(0, old - 1, new)[:, None] - np.arange(old)))  # [new, old]
    zoomed = np.einsum("ij,kl,jld->ikd", hats, hats, pos[0, 1:].reshape(old, old, -1)).reshape(1, new * new, -1)
    nearest = np.arange(frames) * built[0] // frames
    large = build_peer(case, num_frames=frames, image_size=side)
    large.load(
        state
        | {
            "backbone.pos_embed": np.concatenate([pos[:, :1], zoomed], axis=1),
            "backbone.time_embed": state["backbone.time_embed"][:, nearest],
        }
    )
    video = seeded_video((2, frames, 3, side, side), case.seed)
    model = our_model(case, num_frames=frames, image_size=side)
    assert set(load_weights(model, state).resized) == {"pos_embed", "time_embed"}
    assert_equal(answer(model, video), large(video), "paddlevideo resized")
