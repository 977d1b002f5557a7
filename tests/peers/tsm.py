"""TSN and TSM under the names of their authors, on torchvision's networks, in PyTorch.

Facts: mit-han-lab/temporal-shift-module, ops/models.py, ops/temporal_shift.py and archs/mobilenet_v2.py;
yjxiong/tsn-pytorch, models.py; torchvision, models/resnet.py and models/mobilenetv2.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
# Expansion, output channels, blocks, stride of the first block
MOBILE_STAGES = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
]


def shift(x: Tensor, segments: int, div: int) -> Tensor:
    """[B*T, C, H, W]: the first C // div channels come from the next frame, as many from the one before."""
    clips = x.unflatten(0, (-1, segments))
    fold = x.shape[1] // div
    nothing = torch.zeros_like(clips[:, :1])
    after, before = torch.cat([clips[:, 1:], nothing], 1), torch.cat([nothing, clips[:, :-1]], 1)
    parts = [after[:, :, :fold], before[:, :, fold : 2 * fold], clips[:, :, 2 * fold :]]
    return torch.cat(parts, dim=2).flatten(0, 1)


class Shifted(nn.Module):
    """A layer behind a shift; the layer is called `net`."""

    def __init__(self, net: nn.Module, segments: int, div: int) -> None:
        super().__init__()
        self.net, self.segments, self.div = net, segments, div

    def forward(self, x: Tensor) -> Tensor:
        return self.net(shift(x, self.segments, self.div))


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = downsample(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = downsample(inputs, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


def downsample(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """The shortcut of a block: nothing where shapes agree, and then without a name in the state."""
    if inputs == outputs and stride == 1:
        return nn.Sequential()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class ResNet(nn.Module):
    """Images [B, C, H, W] -> features [B, D]; `fc` stands in the state alone."""

    def __init__(self, depth: int, num_classes: int) -> None:
        super().__init__()
        block = Bottleneck if depth >= 50 else BasicBlock
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        channels = 64
        for stage, count in enumerate(DEPTHS[depth]):
            width, blocks = 64 << stage, []
            for i in range(count):
                blocks.append(block(channels, width, 2 if stage and not i else 1))
                channels = width * block.expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(channels, num_classes) if num_classes else nn.Identity()
        self.num_features = channels

    def add_shifts(self, segments: int, div: int, place: str) -> None:
        step = 2 if len(self.layer3) >= 23 and place == "blockres" else 1
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            for i in range(0, len(stage), step):
                if place == "block":
                    stage[i] = Shifted(stage[i], segments, div)
                else:
                    stage[i].conv1 = Shifted(stage[i].conv1, segments, div)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean(dim=(2, 3))


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class InvertedResidual(nn.Module):
    """`nested`: torchvision puts each convolution with its ReLU6 into a list of its own, the authors of TSM do not."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int, nested: bool) -> None:
        super().__init__()
        hidden = inputs * expansion
        activated = [] if expansion == 1 else [[*conv_bn(inputs, hidden, 1), nn.ReLU6()]]
        activated.append([*conv_bn(hidden, hidden, 3, stride, hidden), nn.ReLU6()])
        front = (
            [nn.Sequential(*part) for part in activated] if nested else [layer for part in activated for layer in part]
        )
        self.conv = nn.Sequential(*front, *conv_bn(hidden, outputs, 1))
        self.is_residual = stride == 1 and inputs == outputs
        self.is_shiftable = self.is_residual and expansion != 1

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.is_residual else self.conv(x)


class MobileNetV2(nn.Module):
    """Images [B, C, H, W] -> features [B, 1280]; the classifier stands in the state alone."""

    num_features = 1280

    def __init__(self, num_classes: int, nested: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Sequential(*conv_bn(3, 32, 3, 2), nn.ReLU6())]
        channels = 32
        for expansion, width, count, stride in MOBILE_STAGES:
            for i in range(count):
                layers.append(InvertedResidual(channels, width, 1 if i else stride, expansion, nested))
                channels = width
        layers.append(nn.Sequential(*conv_bn(channels, 1280, 1), nn.ReLU6()))
        self.features = nn.Sequential(*layers)
        if num_classes:
            last = nn.Linear(1280, num_classes)
            self.classifier = nn.Sequential(nn.Dropout(), last) if nested else last

    def add_shifts(self, segments: int, div: int, place: str) -> None:
        """Before the expansion of each residual block that has one, whatever the place."""
        for layer in self.features:
            if isinstance(layer, InvertedResidual) and layer.is_shiftable:
                layer.conv[0] = Shifted(layer.conv[0], segments, div)

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x).mean(dim=(2, 3))


def image_network(backbone: str, num_classes: int, nested: bool = True) -> ResNet | MobileNetV2:
    """`nested=False` is the MobileNetV2 of the authors of TSM; their ResNets are torchvision's."""
    if backbone == "mobilenet_v2":
        return MobileNetV2(num_classes, nested)
    return ResNet(int(backbone.removeprefix("resnet")), num_classes)


class SegmentNetwork(nn.Module):
    """Frames [B*T, C, H, W] -> logits [B, K], the mean over the T segments; TSN without shifts, TSM with them."""

    def __init__(
        self,
        backbone: str,
        num_classes: int,
        num_segments: int,
        shift_div: int = 8,
        shift_place: str | None = None,
    ) -> None:
        super().__init__()
        self.num_segments = num_segments
        self.base_model = image_network(backbone, 0, nested=False)
        if shift_place is not None:
            self.base_model.add_shifts(num_segments, shift_div, shift_place)
        self.new_fc = nn.Linear(self.base_model.num_features, num_classes)

    def forward(self, frames: Tensor) -> Tensor:
        return self.new_fc(self.base_model(frames)).unflatten(0, (-1, self.num_segments)).mean(dim=1)
