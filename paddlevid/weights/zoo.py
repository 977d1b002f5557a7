"""Public weights that this package can load: where they lie, what they scored, what they expect and allow.

Addresses and scores are those of the projects that published them: the README files of PaddleVideo, TimeSformer, TSM
and MMAction2, the model cards of Hugging Face, the sources of torchvision, paddle.vision, timm,
tsn-pytorch, SSN (yjxiong/action-detection) and pretrainedmodels (Cadene).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args
from urllib.parse import urlsplit

Family = Literal["timesformer", "tsm", "tsn", "image"]
FAMILIES: tuple[Family, ...] = get_args(Family)

# These hosts name a file of PyTorch NAME-HHHHHHHH.pth, where H are the first digits of its sha256
_HASHES_IN_NAMES = {"download.pytorch.org", "download.openmmlab.com"}


def sha256_in_name(url: str) -> str | None:
    """The first hexadecimal digits of a file's sha256, where its host writes them into the file's name."""
    parts = urlsplit(url)
    match = re.search(r"-([0-9a-f]{8,64})\.pth$", parts.path)
    return match[1] if match and parts.hostname in _HASHES_IN_NAMES else None


@dataclass(frozen=True)
class PublicWeights:
    """A file of weights.

    `family` is the model that it fits; networks of the family "image", without a classifier of videos, start a
    training. `clip` says what goes in: for TimeSformer frames x distance between them, for TSM and TSN the backbone and
    the frames, or snippets of flow. `protocol` is temporal
    clips x spatial crops of the test in which the file scored `top1` and `top5`, in percent; "-" and None where its
    project gives none. `note` is what it takes to reach them. `is_bgr` says that the frames of its training had their
    channels in the order of OpenCV; loaded by name, its first layer is turned round and takes RGB.
    """

    name: str
    family: Family
    source: str
    licence: str
    url: str
    data: str
    clip: str
    protocol: str = "-"
    top1: float | None = None
    top5: float | None = None
    note: str = ""
    md5: str | None = None
    is_bgr: bool = False

    @property
    def sha256(self) -> str | None:
        return sha256_in_name(self.url)


def list_weights() -> tuple[PublicWeights, ...]:
    """All public weights, family by family."""
    return _TABLE


_BGR = "trained on frames in BGR order, as its code reads SSv2; by this name its first layer is turned to RGB"
_HALF = "trained with mean 0.5 and std 0.5 on a scale of 0 to 1, not with the 0.45 and 0.225 of other TimeSformers"
_TWICE = "the test as its README counts it; its configuration tests 2x10"
_DENSE = "the test as its README counts it; its configuration tests 10x10"
_HALF_IMAGE = "trained with mean 0.5 and std 0.5 on a scale of 0 to 1"
_CAFFE = "trained on BGR frames of 0 to 255 less their mean, as recipes of BNInception have them; it is turned to RGB"
_FLOW = "on snippets of five flows, with mean 0.5 and std 0.226; meant as a start, says its README"
_FLOW_MMACTION2 = "on snippets of five flows, with mean and std 128 of 255"
_FLOW_START = "trained on snippets of five flows of 0 to 255 less 128; without a classifier"


def _paddlevideo(name: str, file: str, clip: str, protocol: str, top1: float) -> PublicWeights:
    url = f"https://videotag.bj.bcebos.com/PaddleVideo-{file}.pdparams"
    return PublicWeights(name, _family(name), "PaddleVideo", "Apache-2.0", url, _data(name), clip, protocol, top1)


def _official(name: str, file: str, clip: str, top1: float, top5: float) -> PublicWeights:
    url = f"https://www.dropbox.com/s/{file}.pyth?dl=1"
    return _of_facebook(name, "TimeSformer", url, clip, top1, top5)


def _hugging_face(name: str, repository: str, clip: str, top1: float, top5: float) -> PublicWeights:
    url = f"https://huggingface.co/facebook/timesformer-{repository}/resolve/main/model.safetensors"
    return _of_facebook(name, "Hugging Face", url, clip, top1, top5)


def _of_facebook(name: str, source: str, url: str, clip: str, top1: float, top5: float) -> PublicWeights:
    is_bgr = _data(name) == "SSv2"
    note, licence = _BGR if is_bgr else "", "CC-BY-NC 4.0"
    return PublicWeights(
        name, _family(name), source, licence, url, _data(name), clip, "1x3", top1, top5, note, is_bgr=is_bgr
    )


def _tsm(
    name: str, file: str, clip: str, protocol: str, top1: float, note: str = "", top5: float | None = None
) -> PublicWeights:
    start = "kinetics" if _data(name) == "K400" else "somethingv2"
    kind = "Flow" if "flow" in name.split("_") else "RGB"
    url = f"https://hanlab18.mit.edu/projects/tsm/models/TSM_{start}_{kind}_{file}.pth"
    return PublicWeights(name, _family(name), "TSM", "MIT (code)", url, _data(name), clip, protocol, top1, top5, note)


def _mmaction2(
    name: str, recipe: str, edition: str, clip: str, protocol: str, top1: float, top5: float
) -> PublicWeights:
    family, data = _family(name), _data(name)
    start = "" if family == "timesformer" else "imagenet-pretrained-"
    file = f"{family}_{start}{recipe}_{'kinetics400' if data == 'K400' else 'sthv2'}-rgb"
    url = f"https://download.openmmlab.com/mmaction/v1.0/recognition/{family}/{file}/{file}_{edition}.pth"
    note = _HALF if family == "timesformer" else _TWICE if data == "SSv2" else _DENSE if "dense" in recipe else ""
    name, source = f"{name}_mmaction2", "MMAction2"
    return PublicWeights(name, family, source, "Apache-2.0", url, data, clip, protocol, top1, top5, note)


def _flow_of_mmaction2(segments: int, edition: str, top1: float, top5: float) -> PublicWeights:
    """Of its versions before 1.0, whose recipes for flow came with weights."""
    name, file = f"tsn_r50_flow_seg{segments}_k400_mmaction2", f"tsn_r50_320p_1x1x{segments}_110e_kinetics400_flow"
    url = f"https://download.openmmlab.com/mmaction/recognition/tsn/{file}/{file}_{edition}.pth"
    clip, note = f"R50, {segments} of flow", _FLOW_MMACTION2
    return PublicWeights(name, "tsn", "MMAction2", "Apache-2.0", url, "K400", clip, "25x10", top1, top5, note)


def _image(
    name: str,
    source: str,
    licence: str,
    url: str,
    clip: str,
    *,
    data: str = "ImageNet",
    note: str = "",
    md5: str | None = None,
) -> PublicWeights:
    return PublicWeights(name, "image", source, licence, url, data, clip, note=note, md5=md5)


def _torchvision(name: str, file: str, clip: str, note: str = "") -> PublicWeights:
    url = f"https://download.pytorch.org/models/{file}.pth"
    return _image(name, "torchvision", "BSD-3 (code)", url, clip, note=note)


def _bn_inception(name: str, source: str, licence: str, url: str, data: str = "ImageNet") -> PublicWeights:
    note = _FLOW_START if "flow" in name.split("_") else _CAFFE
    return _image(name, source, licence, url, "BNInception", data=data, note=note)


def _paddle_vision(name: str, file: str, clip: str, md5: str) -> PublicWeights:
    url = f"https://paddle-hapi.bj.bcebos.com/models/{file}.pdparams"
    return _image(name, "paddle.vision", "Apache-2.0", url, clip, md5=md5)


def _family(name: str) -> Family:
    return next(family for family in FAMILIES if name.startswith(family))


def _data(name: str) -> str:
    return next(data for data in ("K400", "K600", "SSv2", "UCF101") if data.lower() in name.split("_"))


_TABLE = (
    _official("timesformer_k400", "g5t24we9gl5yk88/TimeSformer_divST_8x32_224_K400", "8x32, 224 px", 77.9, 93.2),
    _official("timesformer_hr_k400", "6f0x172lpqy3oxt/TimeSformer_divST_16x16_448_K400", "16x16, 448 px", 79.6, 94.0),
    _official("timesformer_l_k400", "r1iuxahif3sgimo/TimeSformer_divST_96x4_224_K400", "96x4, 224 px", 80.6, 94.7),
    _official("timesformer_k600", "4h2qt41m2z3aqrb/TimeSformer_divST_8x32_224_K600", "8x32, 224 px", 79.1, 94.4),
    _official("timesformer_hr_k600", "ft1e92g2vhvxecv/TimeSformer_divST_16x16_448_K600", "16x16, 448 px", 81.8, 95.8),
    _official("timesformer_l_k600", "857rx6xeclxfhdg/TimeSformer_divST_96x4_224_K600", "96x4, 224 px", 82.2, 95.6),
    _official("timesformer_ssv2", "tybhuml57y24wpm/TimeSformer_divST_8_224_SSv2", "8 frames, 224 px", 59.1, 85.6),
    _official("timesformer_hr_ssv2", "9t68uzk8w2fpfnv/TimeSformer_divST_16_448_SSv2", "16 frames, 448 px", 61.8, 86.9),
    _official("timesformer_l_ssv2", "3f1rm2al8mhprwa/TimeSformer_divST_64_224_SSv2", "64 frames, 224 px", 62.0, 87.5),
    _hugging_face("timesformer_k400_hf", "base-finetuned-k400", "8x32, 224 px", 77.9, 93.2),
    _hugging_face("timesformer_hr_k400_hf", "hr-finetuned-k400", "16x16, 448 px", 79.6, 94.0),
    _hugging_face("timesformer_k600_hf", "base-finetuned-k600", "8x32, 224 px", 79.1, 94.4),
    _hugging_face("timesformer_hr_k600_hf", "hr-finetuned-k600", "16x16, 448 px", 81.8, 95.8),
    _hugging_face("timesformer_ssv2_hf", "base-finetuned-ssv2", "8 frames, 224 px", 59.1, 85.6),
    _hugging_face("timesformer_hr_ssv2_hf", "hr-finetuned-ssv2", "16 frames, 448 px", 61.8, 86.9),
    _paddlevideo("timesformer_k400_paddlevideo", "release2.2/TimeSformer_k400", "8x32, 224 px", "1x3", 77.29),
    _mmaction2("timesformer_k400", "divST_8xb8-8x32x1-15e", "20220815-a4d0d01f", "8x32, 224 px", "1x3", 77.69, 93.45),
    _mmaction2(
        "timesformer_joint_k400", "jointST_8xb8-8x32x1-15e", "20220815-8022d1c0", "8x32, 224 px", "1x3", 76.95, 93.28
    ),
    _mmaction2(
        "timesformer_space_k400", "spaceOnly_8xb8-8x32x1-15e", "20220815-78f05367", "8x32, 224 px", "1x3", 76.93, 92.88
    ),
    _tsm(
        "tsm_r50_k400", "resnet50_shift8_blockres_avg_segment8_e50", "R50, 8 frames", "1x1", 71.2, "72.8 with 10 crops"
    ),
    _tsm(
        "tsm_r50_16f_k400",
        "resnet50_shift8_blockres_avg_segment16_e50",
        "R50, 16 frames",
        "1x1",
        72.6,
        "73.7 with 10 crops",
    ),
    _tsm("tsm_r50_dense_k400", "resnet50_shift8_blockres_avg_segment8_e100_dense", "R50, 8 frames", "10x3", 74.1),
    _tsm(
        "tsm_mobilenetv2_dense_k400",
        "mobilenetv2_shift8_blockres_avg_segment8_e100_dense",
        "MobileNetV2, 8 frames",
        "10x3",
        69.5,
    ),
    _tsm("tsm_r50_ssv2", "resnet50_shift8_blockres_avg_segment8_e45", "R50, 8 frames", "2x3", 61.2),
    _tsm("tsm_r50_16f_ssv2", "resnet50_shift8_blockres_avg_segment16_e45", "R50, 16 frames", "2x3", 63.1),
    _tsm("tsm_r101_ssv2", "resnet101_shift8_blockres_avg_segment8_e45", "R101, 8 frames", "2x3", 63.3),
    _tsm(
        "tsm_r50_flow_k400",
        "resnet50_shift8_blockres_avg_segment8_e50",
        "R50, 8 of flow",
        "1x1",
        55.7,
        _FLOW,
        top5=79.5,
    ),
    _paddlevideo("tsm_k400_paddlevideo", "release2.1/TSM/TSM_k400", "R50, 8 frames", "1x1", 71.06),
    _paddlevideo("tsm_ucf101_paddlevideo", "release2.1/TSM/TSM_ucf101_nchw", "R50, 8 frames", "1x1", 94.42),
    _mmaction2("tsm_r50_k400", "r50_8xb16-1x1x8-50e", "20220831-64d69186", "R50, 8 frames", "1x10", 73.18, 90.56),
    _mmaction2("tsm_r50_100e_k400", "r50_8xb16-1x1x8-100e", "20220831-a6db1e5d", "R50, 8 frames", "1x10", 73.22, 90.22),
    _mmaction2("tsm_r50_16f_k400", "r50_8xb16-1x1x16-50e", "20220831-042b1748", "R50, 16 frames", "1x10", 75.12, 91.55),
    _mmaction2(
        "tsm_r50_dense_k400", "r50_8xb16-dense-1x1x8-50e", "20220831-f55d3c2b", "R50, 8 frames", "1x10", 73.38, 90.78
    ),
    _mmaction2(
        "tsm_mobilenetv2_k400",
        "mobilenetv2_8xb16-1x1x8-100e",
        "20230414-401127fd",
        "MobileNetV2, 8 frames",
        "1x3",
        68.71,
        88.32,
    ),
    _mmaction2("tsm_r50_ssv2", "r50_8xb16-1x1x8-50e", "20230317-be0fc26e", "R50, 8 frames", "1x3", 62.72, 87.70),
    _mmaction2("tsm_r50_16f_ssv2", "r50_8xb16-1x1x16-50e", "20230317-ec6696ad", "R50, 16 frames", "1x3", 64.16, 88.61),
    _mmaction2("tsm_r101_ssv2", "r101_8xb16-1x1x8-50e", "20230320-efcc0d1b", "R101, 8 frames", "1x3", 63.70, 88.28),
    _tsm(
        "tsn_r50_k400",
        "resnet50_avg_segment5_e50",
        "R50, 8 frames",
        "1x1",
        68.8,
        "trained with 5 frames; 69.9 with 10 crops",
    ),
    _paddlevideo("tsn_k400_paddlevideo", "release2.2/TSN_k400", "R50, 3 frames", "25x10", 69.81),
    _paddlevideo("tsn_k400_seg8_paddlevideo", "release2.2/TSN_k400_8", "R50, 8 frames", "25x10", 71.70),
    _mmaction2(
        "tsn_r50_seg3_k400", "r50_8xb32-1x1x3-100e", "20220906-cd10898e", "R50, 3 frames", "25x10", 72.83, 90.65
    ),
    _mmaction2(
        "tsn_r50_seg5_k400", "r50_8xb32-1x1x5-100e", "20220906-65d68713", "R50, 5 frames", "25x10", 73.80, 91.21
    ),
    _mmaction2(
        "tsn_r50_seg8_k400", "r50_8xb32-1x1x8-100e", "20220906-2692d16c", "R50, 8 frames", "25x10", 74.12, 91.34
    ),
    _mmaction2(
        "tsn_r101_seg8_k400", "r101_8xb32-1x1x8-100e", "20220906-23cff032", "R101, 8 frames", "25x10", 75.89, 92.07
    ),
    _flow_of_mmaction2(3, "20200705-3036bab6", 55.70, 79.85),
    _flow_of_mmaction2(8, "20200705-1f39486b", 57.76, 80.99),
    _image(
        "vit_b16_imagenet_paddleclas",
        "PaddleClas",
        "Apache-2.0",
        "https://paddle-imagenet-models-name.bj.bcebos.com/dygraph/ViT_base_patch16_224_pretrained.pdparams",
        "ViT-B/16, 224 px",
        note=_HALF_IMAGE,
    ),
    _image(
        "vit_b16_imagenet_timm",
        "timm",
        "Apache-2.0",
        "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-vitjx/jx_vit_base_p16_224-80ecf9dd.pth",
        "ViT-B/16, 224 px",
        note=_HALF_IMAGE,
    ),
    _image(
        "resnet50_imagenet_paddlevideo",
        "PaddleVideo",
        "Apache-2.0",
        "https://videotag.bj.bcebos.com/PaddleVideo/PretrainModel/ResNet50_pretrain.pdparams",
        "R50",
    ),
    _torchvision("resnet18_imagenet_torchvision", "resnet18-f37072fd", "R18"),
    _torchvision("resnet34_imagenet_torchvision", "resnet34-b627a593", "R34"),
    _torchvision("resnet50_imagenet_torchvision", "resnet50-0676ba61", "R50"),
    _torchvision("resnet50_v2_imagenet_torchvision", "resnet50-11ad3fa6", "R50"),
    _torchvision("resnet101_imagenet_torchvision", "resnet101-63fe2227", "R101"),
    _torchvision("mobilenetv2_imagenet_torchvision", "mobilenet_v2-b0353104", "MobileNetV2"),
    _torchvision("vgg16_imagenet_torchvision", "vgg16-397923af", "VGG-16"),
    _torchvision("inceptionv3_imagenet_torchvision", "inception_v3_google-0cc3c7bd", "Inception v3", _HALF_IMAGE),
    _bn_inception(
        "bn_inception_imagenet_tsn",
        "tsn-pytorch",
        "BSD-2 (code)",
        "https://yjxiong.blob.core.windows.net/models/bn_inception-9f5701afb96c8044.pth",
    ),
    _bn_inception(
        "bn_inception_imagenet_cadene",
        "Cadene",
        "BSD-3 (code)",
        "https://data.lip6.fr/cadene/pretrainedmodels/bn_inception-52deb4733.pth",
    ),
    _bn_inception(
        "bn_inception_k400_ssn",
        "SSN",
        "BSD-3 (code)",
        "https://yjxiong.blob.core.windows.net/ssn-models/bninception_rgb_kinetics_init-d4ee618d3399.pth",
        "K400",
    ),
    _bn_inception(
        "bn_inception_flow_k400_ssn",
        "SSN",
        "BSD-3 (code)",
        "https://yjxiong.blob.core.windows.net/ssn-models/bninception_flow_kinetics_init-1410c1ccb470.pth",
        "K400",
    ),
    _paddle_vision("vgg16_imagenet_paddle", "vgg16", "VGG-16", "89bbffc0f87d260be9b8cdc169c991c4"),
    _paddle_vision("inceptionv3_imagenet_paddle", "inception_v3", "Inception v3", "649a4547c3243e8b59c656f41fe330b8"),
    _paddle_vision("resnet18_imagenet_paddle", "resnet18", "R18", "cf548f46534aa3560945be4b95cd11c4"),
    _paddle_vision("resnet34_imagenet_paddle", "resnet34", "R34", "8d2275cf8706028345f78ac0e1d31969"),
    _paddle_vision("resnet50_imagenet_paddle", "resnet50", "R50", "ca6f485ee1ab0492d38f323885b0ad80"),
    _paddle_vision("resnet101_imagenet_paddle", "resnet101", "R101", "02f35f034ca3858e1e54d4036443c92d"),
    _paddle_vision(
        "mobilenetv2_imagenet_paddle", "mobilenet_v2_x1.0", "MobileNetV2", "0340af0a901346c8d46f4529882fb63d"
    ),
)
