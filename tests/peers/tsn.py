"""TSN of tsn-pytorch on raw frames: RGB, RGB difference and flow, each prepared by its rules, in PyTorch.

Facts: yjxiong/tsn-pytorch, models.py, main.py and transforms.py; mit-han-lab/temporal-shift-module, ops/models.py, for
TSM on flow and on a BN-Inception.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from peers.image_networks import BNInception
from peers.tsm import image_network, shift

RGB_MEAN, RGB_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CAFFE_MEAN = (104.0, 117.0, 128.0)  # of blue, green and red


class SnippetNetwork(nn.Module):
    """Raw frames [B, T, C, H, W] of 0 to 255 -> logits [B, K].

    `modality` is RGB, RGBDiff or Flow; of flow, C is 2. Without `dropout` the classifier takes the place of the image
    network's.
    """

    def __init__(
        self,
        backbone: str,
        num_classes: int,
        num_segments: int,
        modality: str,
        length: int = 5,
        keep_rgb: bool = False,
        shift_place: str | None = None,
        dropout: bool = True,
    ) -> None:
        super().__init__()
        self.num_segments, self.modality, self.keep_rgb = num_segments, modality, keep_rgb
        self.length = 1 if modality == "RGB" else length
        channels = {"RGB": 3, "RGBDiff": 3 * (length + keep_rgb), "Flow": 2 * length}[modality]
        if backbone == "bn_inception":
            base: nn.Module = BNInception(0 if dropout else num_classes, channels)
            if shift_place is not None:
                base.shift = lambda x: shift(x, num_segments, 8)
        else:
            base = image_network(backbone, 0 if dropout else num_classes, nested=False)
            widen(base, channels)
            if shift_place is not None:
                base.add_shifts(num_segments, 8, shift_place)
        self.base_model = base
        if dropout:
            self.new_fc = nn.Linear(base.num_features, num_classes)

    def forward(self, frames: Tensor) -> Tensor:
        x = self.snippets(self.prepared(frames))  # [B*S, channels, H, W]
        features = self.base_model(x)
        classifier = self.new_fc if hasattr(self, "new_fc") else self.base_model.fc
        return classifier(features).unflatten(0, (-1, self.num_segments)).mean(dim=1)

    def prepared(self, frames: Tensor) -> Tensor:
        """What its transforms make of frames: BN-Inception gets BGR of 0 to 255; RGBDiff is not normalised."""

        def channelwise(numbers: tuple[float, ...]) -> Tensor:
            return torch.tensor(numbers, dtype=frames.dtype)[:, None, None]

        if isinstance(self.base_model, BNInception):
            if self.modality == "Flow":
                return frames - 128
            bgr = frames.flip(2)
            return bgr - channelwise(CAFFE_MEAN) if self.modality == "RGB" else bgr
        frames = frames / 255
        if self.modality == "Flow":
            return (frames - 0.5) / (sum(RGB_STD) / 3)
        return (frames - channelwise(RGB_MEAN)) / channelwise(RGB_STD) if self.modality == "RGB" else frames

    def snippets(self, frames: Tensor) -> Tensor:
        """[B, T, C, H, W] -> [B*S, channels, H, W], the pictures of a snippet one behind the other."""
        per_snippet = self.length + (self.modality == "RGBDiff")
        snippets = frames.unflatten(1, (self.num_segments, per_snippet)).flatten(0, 1)  # [B*S, L, C, H, W]
        if self.modality == "RGBDiff":
            differences = [snippets[:, i + 1] - snippets[:, i] for i in range(self.length)]
            kept = [snippets[:, 0]] if self.keep_rgb else []
            return torch.cat(kept + differences, dim=1)
        return snippets.flatten(1, 2)


def widen(network: nn.Module, channels: int) -> None:
    """Another number of channels for the first convolution, in its old place."""
    name, conv = next((name, m) for name, m in network.named_modules() if isinstance(m, nn.Conv2d))
    parent, _, child = name.rpartition(".")
    new = nn.Conv2d(channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, bias=False)
    setattr(network.get_submodule(parent), child, new)
