"""Whose weights are compared with which of our models: one literal table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Case:
    """`peer` is the builder, "module:name" in this folder; `layout` how it takes videos; `model` our arguments.

    `compare` is "logits", or "features" where the network of an image starts that of a video of equal frames.
    `container` names the kind of file, `prefix` what its names begin with beside those of the network. With a `norm`,
    mean and std by channel, both are given raw frames: the peer prepares them by its own rules, and ours with `norm`.
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
    norm: tuple[tuple[float, ...], tuple[float, ...]] | None = None


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


CAFFE = 1 / 255  # networks that were trained in Caffe take 0 to 255
# What tsn-pytorch trains with, on a scale where 255 is 1; differences cancel the mean
NORMS = {
    ("resnet", "RGB"): ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ("resnet", "RGBDiff"): ((0.0,) * 3, (1.0,) * 3),
    ("resnet", "Flow"): ((0.5,) * 2, (0.226,) * 2),
    ("bn_inception", "RGB"): ((128 / 255, 117 / 255, 104 / 255), (CAFFE,) * 3),
    ("bn_inception", "RGBDiff"): ((0.0,) * 3, (CAFFE,) * 3),
    ("bn_inception", "Flow"): ((128 / 255,) * 2, (CAFFE,) * 2),
}
OUR_MODALITY = {"RGB": "rgb", "RGBDiff": "rgb_diff", "Flow": "flow"}


def snippet_case(
    backbone: str,
    modality: str,
    seed: int,
    *,
    keep_rgb: bool = False,
    shift_place: str | None = None,
    dropout: bool = True,
) -> Case:
    """A network of tsn-pytorch, or TSM where `shift_place` is given, on two raw snippets."""
    segments, length = 2, 1 if modality == "RGB" else 5
    frames, channels = segments * (length + (modality == "RGBDiff")), 2 if modality == "Flow" else 3
    options = {"backbone": backbone, "num_classes": K, "num_segments": segments, "modality": modality}
    options |= {"keep_rgb": keep_rgb, "shift_place": shift_place, "dropout": dropout}
    kind = "tsn" if shift_place is None else "tsm"
    model: dict[str, Any] = {"name": kind, "backbone": backbone, "num_classes": K, "num_segments": segments}
    model |= {"modality": OUR_MODALITY[modality], "snippet_length": length}
    model |= ({"keep_rgb": True} if keep_rgb else {}) | ({"shift_place": shift_place} if shift_place else {})
    name = f"tsnpytorch-{kind}-{backbone}-{OUR_MODALITY[modality]}"
    name += ("-with_rgb" if keep_rgb else "") + ("" if dropout else "-no_dropout")
    side = 64 if backbone == "bn_inception" else 48
    video, norm = (1, frames, channels, side, side), NORMS[backbone.rstrip("0123456789"), modality]
    peer = "tsn:SnippetNetwork"
    return Case(name, peer, options, model, video, "frames first", "torch tsm", "module.", seed=seed, norm=norm)


def flow_of_mmaction() -> Case:
    options = {"backbone": "resnet18", "num_classes": K, "num_segments": 2, "flow_length": 5}
    model = {"name": "tsn", "backbone": "resnet18", "num_classes": K, "num_segments": 2}
    model |= {"modality": "flow", "snippet_length": 5}
    peer, norm = "mmaction:SegmentRecognizer", ((128 / 255,) * 2, (128 / 255,) * 2)
    video = (1, 10, 2, 48, 48)
    return Case(
        "mmaction-tsn-resnet18-flow", peer, options, model, video, "frames first", "torch mmaction", seed=96, norm=norm
    )


def inception_case(name: str, peer: str, options: dict[str, Any], backbone: str, side: int, seed: int) -> Case:
    case = image_network_case(name, peer, options, "torch plain", backbone, seed)
    return replace(case, video=(1, 2, 3, side, side))


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
    snippet_case("resnet18", "RGB", 80),
    snippet_case("resnet18", "Flow", 81),
    snippet_case("resnet18", "RGBDiff", 82),
    snippet_case("resnet18", "RGBDiff", 83, keep_rgb=True),
    snippet_case("resnet18", "Flow", 84, dropout=False),
    snippet_case("resnet50", "RGB", 85),
    snippet_case("resnet50", "Flow", 86),
    snippet_case("resnet50", "RGBDiff", 87),
    snippet_case("resnet50", "RGBDiff", 88, keep_rgb=True),
    snippet_case("bn_inception", "RGB", 89),
    snippet_case("bn_inception", "Flow", 90),
    snippet_case("bn_inception", "RGBDiff", 91),
    snippet_case("bn_inception", "RGBDiff", 92, keep_rgb=True),
    snippet_case("resnet18", "Flow", 93, shift_place="blockres"),
    snippet_case("bn_inception", "RGB", 94, shift_place="block"),
    snippet_case("bn_inception", "Flow", 95, shift_place="block"),
    flow_of_mmaction(),
    inception_case(
        "pretrainedmodels-bn_inception", "image_networks:bn_inception", {"last": "last_linear"}, "bn_inception", 64, 97
    ),
    inception_case("torchvision-inception_v3", "image_networks:InceptionV3", {}, "inception_v3", 80, 98),
]
