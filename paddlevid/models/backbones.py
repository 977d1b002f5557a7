"""2D networks without their classifier: frames [N, C, H, W] -> features [N, D].

Parameters keep the names of paddle.vision.models, and those of BNInception the names of its authors.
"""

from typing import Literal

import numpy as np
import paddle
from paddle import nn
from paddle.vision import models

from paddlevid.errors import ConfigError
from paddlevid.models.bn_inception import BNInception

BackboneName = Literal[
    "resnet18", "resnet34", "resnet50", "resnet101", "mobilenet_v2", "bn_inception", "vgg16", "inception_v3"
]

FEATURE_DIMS: dict[str, int] = {
    "resnet18": 512,
    "resnet34": 512,
    "resnet50": 2048,
    "resnet101": 2048,
    "mobilenet_v2": 1280,
    "bn_inception": 1024,
    "vgg16": 4096,
    "inception_v3": 2048,
}


def build_backbone(name: BackboneName, in_channels: int = 3) -> nn.Layer:
    """A 2D network that ends before its classifier: [N, C, H, W] -> [N, D, 1, 1] or [N, D], C = in_channels."""
    if name == "bn_inception":
        return BNInception(in_channels)
    constructors = {
        "resnet18": models.resnet18,
        "resnet34": models.resnet34,
        "resnet50": models.resnet50,
        "resnet101": models.resnet101,
        "mobilenet_v2": models.MobileNetV2,
        "inception_v3": InceptionV3,
        "vgg16": VGG16,
    }
    network = constructors[name](num_classes=0)
    if in_channels != 3:
        _replace_first_conv(network, in_channels)
    return network


def _replace_first_conv(network: nn.Layer, in_channels: int) -> None:
    """Let the first convolution take other channels, initialised by the same rule."""
    layers = dict(network.named_sublayers(include_self=True))
    name, conv = next((name, layer) for name, layer in layers.items() if isinstance(layer, nn.Conv2D))
    owner, _, child = name.rpartition(".")
    wider = nn.Conv2D(
        in_channels,
        conv._out_channels,
        conv._kernel_size,
        stride=conv._stride,
        padding=conv._padding,
        bias_attr=None if conv.bias is not None else False,
    )
    setattr(layers[owner], child, wider)


class InceptionV3(models.InceptionV3):
    """Inception v3 (Szegedy et al., 2015, arXiv:1512.00567) up to its average, without the auxiliary classifier.

    It is made for 299 pixels. The batch norms' epsilon is that of torchvision's network; paddle.vision has 1e-5.
    """

    def __init__(self, num_classes: int = 0) -> None:
        super().__init__(num_classes=num_classes)
        for layer in self.sublayers():
            if isinstance(layer, nn.BatchNorm2D):
                layer._epsilon = 1e-3

    def forward(self, frames: paddle.Tensor) -> paddle.Tensor:
        return self.avg_pool(self.features(frames))  # [N, 2048, 1, 1]

    def features(self, frames: paddle.Tensor) -> paddle.Tensor:
        """[N, C, H, W] -> [N, 2048, h, w]; 299 pixels give 8. Raises ValueError for pictures that are too small."""
        _check_size(frames, "inception_v3", 75)
        x = self.inception_stem(frames)
        for block in self.inception_block_list:
            x = block(x)
        return x


class VGG16(models.VGG):
    """VGG-16 (Simonyan and Zisserman, 2014, arXiv:1409.1556) up to the ReLU of fc7, its second linear layer.

    It is made for 224 pixels. The dropout after fc7 is left to whoever adds a classifier.
    """

    def __init__(self, num_classes: int = 0) -> None:
        super().__init__(models.vgg16(num_classes=num_classes).features, num_classes=num_classes)
        self.classifier = nn.Sequential(  # under the names of paddle.vision
            nn.Linear(512 * 7 * 7, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU()
        )

    def forward(self, frames: paddle.Tensor) -> paddle.Tensor:
        _check_size(frames, "vgg16", 32)
        x = _adaptive_average(self.features(frames), 7)  # [N, 512, 7, 7]
        return self.classifier(x.reshape([-1, 512 * 7 * 7]))  # [N, 4096]


def _adaptive_average(x: paddle.Tensor, side: int) -> paddle.Tensor:
    """[N, D, h, w] -> [N, D, side, side], as nn.AdaptiveAvgPool2D, which paddle2onnx cannot write down."""
    dim, height, width = x.shape[1:]
    if (height, width) == (side, side):
        return x
    # One product of plain matrices: of several with broadcasting, oneDNN's passes make something else. As `linear`,
    # for Paddle 3.3 has lost `matmul` for the older graphs, of .pdmodel files
    averages = paddle.to_tensor(np.kron(_averages(height, side), _averages(width, side)).T)  # [h*w, side*side]
    return nn.functional.linear(x.reshape([-1, height * width]), averages.astype(x.dtype)).reshape(
        [-1, dim, side, side]
    )


def _averages(length: int, parts: int) -> np.ndarray:
    """float32 [parts, length]: row i is the mean over the i-th part, from floor(i * l / p) to ceil((i + 1) * l / p)."""
    rows = np.zeros((parts, length), dtype=np.float32)
    for i in range(parts):
        part = slice(i * length // parts, -(-(i + 1) * length // parts))
        rows[i, part] = 1 / (part.stop - part.start)
    return rows


def _check_size(frames: paddle.Tensor, name: str, smallest: int) -> None:
    """Paddle's pooling gives something for windows larger than the picture; what, is undefined."""
    height, width = frames.shape[2:]
    if min(height, width) < smallest:
        raise ValueError(f"frames are {width}x{height}; {name} needs {smallest} pixels or more")


def frame_features(backbone: nn.Layer, video: paddle.Tensor, feature_dim: int) -> paddle.Tensor:
    """Apply a 2D network to each frame, or stacked snippet: [B, T, C, H, W] -> [B, T, D]."""
    num_frames, channels, height, width = video.shape[1:]
    frames = video.reshape([-1, channels, height, width])  # [B*T, C, H, W]
    return backbone(frames).reshape([-1, num_frames, feature_dim])  # [B, T, D]


def unpooled(backbone: nn.Layer, frames: paddle.Tensor) -> paddle.Tensor:
    """What a 2D network takes the average of in the end: [N, C, H, W] -> [N, D, h, w].

    Raises ConfigError for one that ends otherwise.
    """
    if isinstance(backbone, VGG16):
        raise ConfigError("vgg16 has no class activation maps: its linear layers see the whole picture at once")
    if isinstance(backbone, models.MobileNetV2 | BNInception | InceptionV3):
        return backbone.features(frames)
    x = backbone.maxpool(backbone.relu(backbone.bn1(backbone.conv1(frames))))
    for stage in (backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4):
        x = stage(x)
    return x
