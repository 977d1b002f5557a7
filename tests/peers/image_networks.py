"""BN-Inception under the names of tsn-pytorch, Inception v3 and VGG-16 under those of torchvision, in PyTorch.

Facts: yjxiong/tensorflow-model-zoo.torch, bninception/bn_inception.yaml, as mit-han-lab/temporal-shift-module,
archs/bn_inception.py, has it in Python; torchvision, models/inception.py and models/vgg.py.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Unit: input, 1x1, 3x3 (reduction, output), double 3x3 (reduction, output), projection; the pooling of the last branch.
# Units without 1x1 have stride 2 and pass their input on behind a pooling
BN_UNITS = {
    "3a": (192, 64, (64, 64), (64, 96), 32, "avg"),
    "3b": (256, 64, (64, 96), (64, 96), 64, "avg"),
    "3c": (320, 0, (128, 160), (64, 96), 0, "max"),
    "4a": (576, 224, (64, 96), (96, 128), 128, "avg"),
    "4b": (576, 192, (96, 128), (96, 128), 128, "avg"),
    "4c": (576, 160, (128, 160), (128, 160), 128, "avg"),
    "4d": (608, 96, (128, 192), (160, 192), 128, "avg"),
    "4e": (608, 0, (128, 192), (192, 256), 0, "max"),
    "5a": (1056, 352, (192, 320), (160, 224), 128, "avg"),
    "5b": (1024, 352, (192, 320), (192, 224), 128, "max"),
}


class BNInception(nn.Module):
    """Images [B, C, H, W] -> features [B, 1024]; the classifier, called `last`, stands in the state alone.

    It was trained on BGR; `from_rgb` turns what it is given. `shift` acts on what enters each part but the first
    convolution.
    """

    num_features = 1024

    def __init__(self, num_classes: int, channels: int = 3, last: str = "fc", from_rgb: bool = False) -> None:
        super().__init__()
        self.from_rgb = from_rgb
        self.shift: Callable[[Tensor], Tensor] = lambda x: x
        self.layer("conv1_7x7_s2", channels, 64, 7, 2)
        self.layer("conv2_3x3_reduce", 64, 64, 1)
        self.layer("conv2_3x3", 64, 192, 3)
        for unit, (inputs, one, three, double, projection, _) in BN_UNITS.items():
            name, stride = f"inception_{unit}", 1 if one else 2
            if one:
                self.layer(f"{name}_1x1", inputs, one, 1)
            self.layer(f"{name}_3x3_reduce", inputs, three[0], 1)
            self.layer(f"{name}_3x3", three[0], three[1], 3, stride)
            self.layer(f"{name}_double_3x3_reduce", inputs, double[0], 1)
            self.layer(f"{name}_double_3x3_1", double[0], double[1], 3)
            self.layer(f"{name}_double_3x3_2", double[1], double[1], 3, stride)
            if projection:
                self.layer(f"{name}_pool_proj", inputs, projection, 1)
        if num_classes:
            setattr(self, last, nn.Linear(1024, num_classes))

    def layer(self, name: str, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        self.add_module(name, nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2))
        self.add_module(f"{name}_bn", nn.BatchNorm2d(outputs, momentum=0.9))

    def run(self, name: str, x: Tensor) -> Tensor:
        return F.relu(getattr(self, f"{name}_bn")(getattr(self, name)(x)))

    def unit(self, unit: str, x: Tensor) -> Tensor:
        _, one, _, _, projection, pooling = BN_UNITS[unit]
        name = f"inception_{unit}"
        three = self.run(f"{name}_3x3", self.run(f"{name}_3x3_reduce", x))
        double = self.run(f"{name}_double_3x3_1", self.run(f"{name}_double_3x3_reduce", x))
        double = self.run(f"{name}_double_3x3_2", double)
        if not one:
            return torch.cat([three, double, F.max_pool2d(x, 3, 2, ceil_mode=True)], dim=1)
        pooled = F.avg_pool2d(x, 3, 1, 1) if pooling == "avg" else F.max_pool2d(x, 3, 1, 1)
        assert projection
        return torch.cat([self.run(f"{name}_1x1", x), three, double, self.run(f"{name}_pool_proj", pooled)], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flip(1) if self.from_rgb else x
        x = self.shift(F.max_pool2d(self.run("conv1_7x7_s2", x), 3, 2, ceil_mode=True))
        x = self.run("conv2_3x3", self.run("conv2_3x3_reduce", x))
        x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        for unit in BN_UNITS:
            x = self.unit(unit, self.shift(x))
        return x.mean(dim=(2, 3))


def bn_inception(num_classes: int, last: str) -> BNInception:
    return BNInception(num_classes, last=last, from_rgb=True)


Kernel = int | tuple[int, int]


class Conv(nn.Module):
    """A convolution without bias and a batch norm of epsilon 0.001."""

    def __init__(
        self, inputs: int, outputs: int, kernel: Kernel, stride: int = 1, padding: Kernel | None = None
    ) -> None:
        super().__init__()
        if padding is None:
            padding = kernel // 2 if isinstance(kernel, int) else (kernel[0] // 2, kernel[1] // 2)
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """A unit of Inception v3: `branches` are names of layers one behind the other, in pairs where a branch splits."""

    def __init__(self, layers: dict[str, Conv], branches: list[list[str | tuple[str, str]]], pool: str) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.branches, self.pool = branches, pool

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for branch in self.branches:
            y = x
            for step in branch:
                if isinstance(step, tuple):
                    y = torch.cat([getattr(self, name)(y) for name in step], dim=1)
                else:
                    y = getattr(self, step)(y)
            outputs.append(y)
        if self.pool == "avg":
            outputs.append(self.branch_pool(F.avg_pool2d(x, 3, 1, 1)))
        else:
            outputs.append(F.max_pool2d(x, 3, 2))
        return torch.cat(outputs, dim=1)


def unit_a(inputs: int, pooled: int) -> Mixed:
    layers = {
        "branch1x1": Conv(inputs, 64, 1),
        "branch5x5_1": Conv(inputs, 48, 1),
        "branch5x5_2": Conv(48, 64, 5),
        "branch3x3dbl_1": Conv(inputs, 64, 1),
        "branch3x3dbl_2": Conv(64, 96, 3),
        "branch3x3dbl_3": Conv(96, 96, 3),
        "branch_pool": Conv(inputs, pooled, 1),
    }
    double = ["branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"]
    return Mixed(layers, [["branch1x1"], ["branch5x5_1", "branch5x5_2"], [*double]], "avg")


def unit_b() -> Mixed:
    layers = {
        "branch3x3": Conv(288, 384, 3, 2, 0),
        "branch3x3dbl_1": Conv(288, 64, 1),
        "branch3x3dbl_2": Conv(64, 96, 3),
        "branch3x3dbl_3": Conv(96, 96, 3, 2, 0),
    }
    return Mixed(layers, [["branch3x3"], ["branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"]], "max")


def unit_c(width: int) -> Mixed:
    layers = {
        "branch1x1": Conv(768, 192, 1),
        "branch7x7_1": Conv(768, width, 1),
        "branch7x7_2": Conv(width, width, (1, 7)),
        "branch7x7_3": Conv(width, 192, (7, 1)),
        "branch7x7dbl_1": Conv(768, width, 1),
        "branch7x7dbl_2": Conv(width, width, (7, 1)),
        "branch7x7dbl_3": Conv(width, width, (1, 7)),
        "branch7x7dbl_4": Conv(width, width, (7, 1)),
        "branch7x7dbl_5": Conv(width, 192, (1, 7)),
        "branch_pool": Conv(768, 192, 1),
    }
    seven = [f"branch7x7_{i}" for i in (1, 2, 3)]
    return Mixed(layers, [["branch1x1"], [*seven], [f"branch7x7dbl_{i}" for i in (1, 2, 3, 4, 5)]], "avg")


def unit_d() -> Mixed:
    layers = {
        "branch3x3_1": Conv(768, 192, 1),
        "branch3x3_2": Conv(192, 320, 3, 2, 0),
        "branch7x7x3_1": Conv(768, 192, 1),
        "branch7x7x3_2": Conv(192, 192, (1, 7)),
        "branch7x7x3_3": Conv(192, 192, (7, 1)),
        "branch7x7x3_4": Conv(192, 192, 3, 2, 0),
    }
    return Mixed(layers, [["branch3x3_1", "branch3x3_2"], [f"branch7x7x3_{i}" for i in (1, 2, 3, 4)]], "max")


def unit_e(inputs: int) -> Mixed:
    layers = {
        "branch1x1": Conv(inputs, 320, 1),
        "branch3x3_1": Conv(inputs, 384, 1),
        "branch3x3_2a": Conv(384, 384, (1, 3)),
        "branch3x3_2b": Conv(384, 384, (3, 1)),
        "branch3x3dbl_1": Conv(inputs, 448, 1),
        "branch3x3dbl_2": Conv(448, 384, 3),
        "branch3x3dbl_3a": Conv(384, 384, (1, 3)),
        "branch3x3dbl_3b": Conv(384, 384, (3, 1)),
        "branch_pool": Conv(inputs, 192, 1),
    }
    three = ["branch3x3_1", ("branch3x3_2a", "branch3x3_2b")]
    double = ["branch3x3dbl_1", "branch3x3dbl_2", ("branch3x3dbl_3a", "branch3x3dbl_3b")]
    return Mixed(layers, [["branch1x1"], [*three], [*double]], "avg")


class InceptionV3(nn.Module):
    """Images [B, 3, H, W] -> features [B, 2048]; classifiers, the auxiliary too, stand in the state alone."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, 3, 2, 0)
        self.Conv2d_2a_3x3 = Conv(32, 32, 3, 1, 0)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3)
        self.Conv2d_3b_1x1 = Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = Conv(80, 192, 3, 1, 0)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = unit_a(192, 32), unit_a(256, 64), unit_a(288, 64)
        self.Mixed_6a = unit_b()
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = map(unit_c, (128, 160, 160, 192))
        self.AuxLogits = nn.ModuleDict(
            {"conv0": Conv(768, 128, 1), "conv1": Conv(128, 768, 5), "fc": nn.Linear(768, num_classes)}
        )
        self.Mixed_7a = unit_d()
        self.Mixed_7b, self.Mixed_7c = unit_e(1280), unit_e(2048)
        self.fc = nn.Linear(2048, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = F.max_pool2d(x, 3, 2)
        for name, unit in self.named_children():
            if name.startswith("Mixed_"):
                x = unit(x)
        return x.mean(dim=(2, 3))


class VGG16(nn.Module):
    """Images [B, 3, H, W] -> features [B, 4096], those behind its second linear layer."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
            for _ in range(count):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(4096, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.features(x), 7).flatten(1)
        return self.classifier[:5](x)
