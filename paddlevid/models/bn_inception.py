"""BNInception (Ioffe and Szegedy, 2015, arXiv:1502.03167), as TSN uses it: frames [N, C, H, W] -> [N, 1024, 1, 1].

Layers have the names of the networks that TSN's authors published: `inception_3a_1x1`, `inception_3a_1x1_bn`.
"""

from typing import NamedTuple

import paddle
import paddle.nn.functional as F
from paddle import nn


class Unit(NamedTuple):
    """Channels of the four branches of a unit, each pair and triple in the order of its convolutions.

    A unit without 1x1 and projection halves the grid; it keeps all its input in the last branch.
    """

    name: str
    one: int
    three: tuple[int, int]
    double: tuple[int, int, int]
    pool: str
    projection: int

    @property
    def stride(self) -> int:
        return 1 if self.one else 2


UNITS = (
    Unit("inception_3a", 64, (64, 64), (64, 96, 96), "avg", 32),
    Unit("inception_3b", 64, (64, 96), (64, 96, 96), "avg", 64),
    Unit("inception_3c", 0, (128, 160), (64, 96, 96), "max", 0),
    Unit("inception_4a", 224, (64, 96), (96, 128, 128), "avg", 128),
    Unit("inception_4b", 192, (96, 128), (96, 128, 128), "avg", 128),
    Unit("inception_4c", 160, (128, 160), (128, 160, 160), "avg", 128),
    Unit("inception_4d", 96, (128, 192), (160, 192, 192), "avg", 128),
    Unit("inception_4e", 0, (128, 192), (192, 256, 256), "max", 0),
    Unit("inception_5a", 352, (192, 320), (160, 224, 224), "avg", 128),
    Unit("inception_5b", 352, (192, 320), (192, 224, 224), "max", 128),
)


class BNInception(nn.Layer):
    """Two convolutions, ten units of four branches each, and the average over the grid; no classifier.

    `inputs_of_units` are layers that only pass on what a unit is given, for whoever wants to change it.
    """

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.halve = nn.MaxPool2D(3, stride=2, ceil_mode=True)
        self.pool = nn.AdaptiveAvgPool2D(1)
        self.pools = nn.LayerDict(
            # The average counts the zeros around the picture
            {"avg": nn.AvgPool2D(3, stride=1, padding=1, exclusive=False), "max": nn.MaxPool2D(3, stride=1, padding=1)}
        )
        self._add_conv("conv1_7x7_s2", in_channels, 64, kernel_size=7, stride=2)
        self._add_conv("conv2_3x3_reduce", 64, 64, kernel_size=1)
        self._add_conv("conv2_3x3", 64, 192, kernel_size=3)
        self.inputs_of_units = nn.LayerDict({unit.name: nn.Identity() for unit in UNITS})
        channels = 192
        for unit in UNITS:
            channels = self._add_unit(unit, channels)

    def forward(self, frames: paddle.Tensor) -> paddle.Tensor:
        return self.pool(self.features(frames))  # [N, 1024, 1, 1]

    def features(self, frames: paddle.Tensor) -> paddle.Tensor:
        """[N, C, H, W] -> [N, 1024, h, w], the grid that the average is taken of; 224 pixels give 7."""
        x = self.halve(self._conv("conv1_7x7_s2", frames))
        x = self.halve(self._conv("conv2_3x3", self._conv("conv2_3x3_reduce", x)))
        for unit in UNITS:
            x = self._unit(unit, self.inputs_of_units[unit.name](x))
        return x

    def layers_of(self, part: str) -> list[nn.Layer]:
        """The convolutions and batch norms of one unit, by its name."""
        return [layer for name, layer in self.named_children() if name.startswith(f"{part}_")]

    def _unit(self, unit: Unit, x: paddle.Tensor) -> paddle.Tensor:
        name = unit.name
        three = self._conv(f"{name}_3x3", self._conv(f"{name}_3x3_reduce", x))
        double = self._conv(f"{name}_double_3x3_1", self._conv(f"{name}_double_3x3_reduce", x))
        double = self._conv(f"{name}_double_3x3_2", double)
        if unit.stride == 2:
            height, width = x.shape[2:]
            # Without padding, as the authors have it, an odd side would come out one shorter than the convolutions'
            kept = F.max_pool2d(x, 3, stride=2, padding=[height % 2, width % 2], ceil_mode=True)
            return paddle.concat([three, double, kept], axis=1)
        one = self._conv(f"{name}_1x1", x)
        projected = self._conv(f"{name}_pool_proj", self.pools[unit.pool](x))
        return paddle.concat([one, three, double, projected], axis=1)

    def _conv(self, name: str, x: paddle.Tensor) -> paddle.Tensor:
        return self.relu(getattr(self, f"{name}_bn")(getattr(self, name)(x)))

    def _add_unit(self, unit: Unit, channels: int) -> int:
        """The layers of a unit that is given `channels`; returns how many it gives."""
        name, three, double = unit.name, unit.three, unit.double
        if unit.one:
            self._add_conv(f"{name}_1x1", channels, unit.one, kernel_size=1)
        self._add_conv(f"{name}_3x3_reduce", channels, three[0], kernel_size=1)
        self._add_conv(f"{name}_3x3", *three, kernel_size=3, stride=unit.stride)
        self._add_conv(f"{name}_double_3x3_reduce", channels, double[0], kernel_size=1)
        self._add_conv(f"{name}_double_3x3_1", *double[:2], kernel_size=3)
        self._add_conv(f"{name}_double_3x3_2", *double[1:], kernel_size=3, stride=unit.stride)
        if unit.projection:
            self._add_conv(f"{name}_pool_proj", channels, unit.projection, kernel_size=1)
        return unit.one + three[1] + double[2] + (unit.projection or channels)

    def _add_conv(self, name: str, inputs: int, outputs: int, *, kernel_size: int, stride: int = 1) -> None:
        setattr(self, name, nn.Conv2D(inputs, outputs, kernel_size, stride=stride, padding=kernel_size // 2))
        # The authors' momentum is PyTorch's 0.9: the statistics follow the last batches
        setattr(self, f"{name}_bn", nn.BatchNorm2D(outputs, momentum=0.1, epsilon=1e-5))
