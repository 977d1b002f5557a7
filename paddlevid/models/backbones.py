"""2D networks from paddle.vision.models, without their classifier: frames [B*T, C, H, W] -> features [B*T, D].

Parameters keep the names of paddle.vision.models.
"""

from typing import Literal

import paddle
from paddle import nn
from paddle.vision.models import MobileNetV2, resnet18, resnet34, resnet50, resnet101

BackboneName = Literal["resnet18", "resnet34", "resnet50", "resnet101", "mobilenet_v2"]

FEATURE_DIMS: dict[str, int] = {
    "resnet18": 512,
    "resnet34": 512,
    "resnet50": 2048,
    "resnet101": 2048,
    "mobilenet_v2": 1280,
}


def build_backbone(name: BackboneName) -> nn.Layer:
    """A 2D network that ends with its average pooling: [B*T, C, H, W] -> [B*T, D, 1, 1]."""
    constructors = {
        "resnet18": resnet18,
        "resnet34": resnet34,
        "resnet50": resnet50,
        "resnet101": resnet101,
        "mobilenet_v2": MobileNetV2,
    }
    return constructors[name](num_classes=0)


def frame_features(backbone: nn.Layer, video: paddle.Tensor, feature_dim: int) -> paddle.Tensor:
    """Apply a 2D network to each frame: [B, T, C, H, W] -> [B, T, D]."""
    num_frames, channels, height, width = video.shape[1:]
    frames = video.reshape([-1, channels, height, width])  # [B*T, C, H, W]
    return backbone(frames).reshape([-1, num_frames, feature_dim])  # [B, T, D]


def unpooled(backbone: nn.Layer, frames: paddle.Tensor) -> paddle.Tensor:
    """What a 2D network takes the average of in the end: [B*T, C, H, W] -> [B*T, D, h, w]."""
    if isinstance(backbone, MobileNetV2):
        return backbone.features(frames)
    x = backbone.maxpool(backbone.relu(backbone.bn1(backbone.conv1(frames))))
    for stage in (backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4):
        x = stage(x)
    return x
