"""Whose weights are compared with which of our models: one literal table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Case:
    """`peer` is the builder, "module:name" in this folder; `layout` how it takes videos; `model` our arguments.

    `compare` is "logits", or "features" where the network of an image starts that of a video of equal frames.
    `container` names the kind of file, `prefix` what its names begin with beside those of the network.
    """

    name: str
    peer: str
    peer_options: dict[str, Any]
    model: dict[str, Any]
    video: tuple[int, int, int, int, int]  # [B, T, C, H, W]
    layout: str
    container: str
    prefix: str = ""
    compare: str = "logits"
    seed: int = 0


K = 5  # classes
IMAGE_K = 7  # classes of an image network, whose head is dropped
ATTENTIONS = ("divided_space_time", "joint_space_time", "space_only")
TOKENS = {"image_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4}


def timesformer_cases(family: str, peer: str, layout: str, container: str) -> list[Case]:
    cases = []
    for seed, attention in enumerate(ATTENTIONS, 10):
        options = {"attention": attention, "num_classes": K, "num_frames": 4, **TOKENS}
        name = f"{family}-timesformer-{attention}"
        model = {"name": "timesformer", **options}
        cases.append(Case(name, peer, options, model, (2, 4, 3, 32, 32), layout, container, seed=seed))
    return cases


def image_transformer_case(family: str, peer: str, container: str, seed: int) -> Case:
    options = {"num_classes": IMAGE_K, **TOKENS}
    model = {"name": "timesformer", "num_frames": 3, **TOKENS, "num_classes": K}
    name, video = f"{family}-vit", (2, 3, 3, 32, 32)
    return Case(name, peer, options, model, video, "image", container, compare="features", seed=seed)


def segment_case(
    family: str, container: str, backbone: str, place: str | None, seed: int, segments: int = 4, prefix: str = ""
) -> Case:
    """TSN where `place` is None."""
    peer = {"official": "tsm:SegmentNetwork", "mmaction": "mmaction:SegmentRecognizer"}[family]
    kind = "tsn" if place is None else "tsm"
    model: dict[str, Any] = {"name": kind, "backbone": backbone, "num_classes": K, "num_segments": segments}
    options: dict[str, Any] = {"backbone": backbone, "num_classes": K, "num_segments": segments}
    if place is not None:
        options |= {"shift_place": place}
        model |= {"shift_place": place, "shift_div": 8}
    name = f"{family}-{kind}-{backbone}" + ("-block" if place == "block" else "")
    video = (1 if segments == 8 else 2, segments, 3, 48, 48)
    return Case(name, peer, options, model, video, "frames", container, prefix, seed=seed)


def paddlevideo_case(name: str, depth: int, segments: int, shifts: bool, seed: int) -> Case:
    """Its shift moves 1 / segments of the channels each way, so our `shift_div` is the number of segments."""
    options = {"depth": depth, "num_classes": K, "num_segments": segments, "shifts": shifts}
    model = {"name": "tsm" if shifts else "tsn", "backbone": f"resnet{depth}", "num_classes": K}
    model |= {"num_segments": segments} | ({"shift_div": segments} if shifts else {})
    video = (1, segments, 3, 48, 48)
    return Case(name, "paddlevideo:SegmentRecognizer", options, model, video, "frames", "paddle", seed=seed)


def image_network_case(name: str, peer: str, options: dict[str, Any], container: str, backbone: str, seed: int) -> Case:
    model = {"name": "tsn", "backbone": backbone, "num_classes": K, "num_segments": 2}
    options = {**options, "num_classes": IMAGE_K}
    video = (2, 2, 3, 48, 48)
    return Case(name, peer, options, model, video, "image", container, compare="features", seed=seed)


CASES = [
    *timesformer_cases("official", "timesformer:OfficialTimeSformer", "channels first", "torch timesformer"),
    *timesformer_cases("transformers", "hugging_face:timesformer", "frames first", "transformers"),
    *timesformer_cases("mmaction", "mmaction:TimeSformerRecognizer", "channels first", "torch mmaction"),
    *timesformer_cases("paddlevideo", "paddlevideo:TimeSformerRecognizer", "channels first", "paddle"),
    image_transformer_case("timm", "timesformer:ImageTransformer", "torch plain", 20),
    image_transformer_case("transformers", "hugging_face:vit", "transformers", 21),
    image_transformer_case("paddleclas", "paddlevideo:ImageTransformer", "paddle", 22),
    segment_case("official", "torch tsm", "resnet18", "blockres", 30, prefix="module."),
    segment_case("official", "torch tsm", "resnet34", "blockres", 31, prefix="module."),
    segment_case("official", "torch tsm", "resnet50", "blockres", 32, prefix="module."),
    segment_case("official", "torch tsm", "resnet50", "block", 33, prefix="module."),
    segment_case("official", "torch tsm", "resnet101", "blockres", 34, prefix="module."),
    segment_case("official", "torch tsm", "mobilenet_v2", "blockres", 35, prefix="module."),
    segment_case("official", "torch tsm", "resnet18", None, 36, prefix="module."),
    segment_case("official", "torch tsm", "resnet50", None, 37, segments=3, prefix="module."),
    segment_case("official", "torch tsm", "mobilenet_v2", None, 38, prefix="module."),
    segment_case("mmaction", "torch mmaction", "resnet18", None, 40),
    segment_case("mmaction", "torch mmaction", "resnet50", None, 41, segments=3),
    segment_case("mmaction", "torch mmaction", "resnet50", "blockres", 42, segments=8),
    segment_case("mmaction", "torch mmaction", "resnet50", "block", 43),
    segment_case("mmaction", "torch mmaction", "resnet101", "blockres", 44),
    segment_case("mmaction", "torch mmaction", "mobilenet_v2", "blockres", 45),
    paddlevideo_case("paddlevideo-tsn-resnet50", 50, 3, False, 50),
    paddlevideo_case("paddlevideo-tsn-resnet101", 101, 3, False, 51),
    paddlevideo_case("paddlevideo-tsm-resnet50-8", 50, 8, True, 52),
    paddlevideo_case("paddlevideo-tsm-resnet50-4", 50, 4, True, 53),
    *(
        image_network_case(f"torchvision-{net}", "tsm:image_network", {"backbone": net}, "torch plain", net, seed)
        for seed, net in enumerate(("resnet18", "resnet34", "resnet50", "resnet101", "mobilenet_v2"), 60)
    ),
    image_network_case(
        "tsm-mobilenet_v2",
        "tsm:image_network",
        {"backbone": "mobilenet_v2", "nested": False},
        "torch plain",
        "mobilenet_v2",
        66,
    ),
    *(
        image_network_case(
            f"paddleclas-resnet{depth}-{'new' if new else 'old'}",
            "paddlevideo:ImageResNet",
            {"depth": depth, "new_names": new},
            "paddle",
            f"resnet{depth}",
            seed,
        )
        for seed, (depth, new) in enumerate(((50, False), (50, True), (101, False), (101, True)), 70)
    ),
]
