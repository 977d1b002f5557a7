"""TSN, TSM and TimeSformer under the names of MMAction2, in PyTorch.

Facts: open-mmlab/mmaction2, mmaction/models/backbones/{resnet,resnet_tsm,mobilenet_v2,mobilenet_v2_tsm,timesformer}.py,
mmaction/models/common/transformer.py; the plain layers of TimeSformer are those of mmcv/cnn/bricks/transformer.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from peers.timesformer import EPSILON
from peers.tsm import DEPTHS, MOBILE_STAGES, Shifted


class ConvModule(nn.Module):
    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, act: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.act = act or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, or 1x1, 3x3, 1x1 with the stride on the 3x3 ("pytorch" style)."""

    def __init__(self, inputs: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        outputs = 4 * width if bottleneck else width
        self.bottleneck = bottleneck
        if bottleneck:
            self.conv1 = ConvModule(inputs, width, 1, act=nn.ReLU())
            self.conv2 = ConvModule(width, width, 3, stride, act=nn.ReLU())
            self.conv3 = ConvModule(width, outputs, 1)
        else:
            self.conv1 = ConvModule(inputs, width, 3, stride, act=nn.ReLU())
            self.conv2 = ConvModule(width, width, 3)
        has_shortcut = stride != 1 or inputs != outputs
        self.downsample = ConvModule(inputs, outputs, 1, stride) if has_shortcut else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.conv1(x))
        return F.relu((self.conv3(y) if self.bottleneck else y) + self.downsample(x))


class ResNet(nn.Module):
    def __init__(self, depth: int, channels: int = 3) -> None:
        super().__init__()
        self.conv1 = ConvModule(channels, 64, 7, 2, act=nn.ReLU())
        channels = 64
        for stage, count in enumerate(DEPTHS[depth]):
            width, blocks = 64 << stage, []
            for i in range(count):
                blocks.append(ResidualBlock(channels, width, 2 if stage and not i else 1, depth >= 50))
                channels = 4 * width if depth >= 50 else width
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.num_features = channels

    def add_shifts(self, segments: int, div: int, place: str) -> None:
        step = 2 if place == "blockres" and len(self.layer3) >= 23 else 1
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            for i in range(0, len(stage), step):
                if place == "block":
                    stage[i] = Shifted(stage[i], segments, div)
                else:
                    stage[i].conv1.conv = Shifted(stage[i].conv1.conv, segments, div)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.conv1(x), 3, 2, 1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean(dim=(2, 3))


class InvertedResidual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers = [] if expansion == 1 else [ConvModule(inputs, hidden, 1, act=nn.ReLU6())]
        layers.append(ConvModule(hidden, hidden, 3, stride, hidden, nn.ReLU6()))
        layers.append(ConvModule(hidden, outputs, 1))
        self.conv = nn.Sequential(*layers)
        self.is_residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.is_residual else self.conv(x)


class MobileNetV2(nn.Module):
    num_features = 1280

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = ConvModule(3, 32, 3, 2, act=nn.ReLU6())
        channels, self.stages = 32, []
        for expansion, width, count, stride in MOBILE_STAGES:
            blocks = []
            for i in range(count):
                blocks.append(InvertedResidual(channels, width, 1 if i else stride, expansion))
                channels = width
            self.stages.append(f"layer{len(self.stages) + 1}")
            setattr(self, self.stages[-1], nn.Sequential(*blocks))
        self.conv2 = ConvModule(channels, 1280, 1, act=nn.ReLU6())

    def add_shifts(self, segments: int, div: int, place: str) -> None:
        for stage in self.stages:
            for block in getattr(self, stage):
                if block.is_residual and len(block.conv) == 3:
                    block.conv[0] = Shifted(block.conv[0], segments, div)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for stage in self.stages:
            x = getattr(self, stage)(x)
        return self.conv2(x).mean(dim=(2, 3))


class Head(nn.Module):
    def __init__(self, inputs: int, num_classes: int) -> None:
        super().__init__()
        self.fc_cls = nn.Linear(inputs, num_classes)


class SegmentRecognizer(nn.Module):
    """Frames [B*T, C, H, W] -> logits [B, K]; with a `flow_length` raw flow [B, T, 2, H, W] of 0 to 255."""

    def __init__(
        self,
        backbone: str,
        num_classes: int,
        num_segments: int,
        shift_div: int = 8,
        shift_place: str | None = None,
        flow_length: int = 0,
    ) -> None:
        super().__init__()
        self.num_segments, self.flow_length = num_segments, flow_length
        mobile, channels = backbone == "mobilenet_v2", 2 * flow_length or 3
        self.backbone = MobileNetV2() if mobile else ResNet(int(backbone.removeprefix("resnet")), channels)
        if shift_place is not None:
            self.backbone.add_shifts(num_segments, shift_div, shift_place)
        self.cls_head = Head(self.backbone.num_features, num_classes)

    def forward(self, frames: Tensor) -> Tensor:
        if self.flow_length:
            # x and y of one time, then those of the next, are the channels of a snippet
            frames = ((frames - 128) / 128).unflatten(1, (-1, self.flow_length)).flatten(0, 1).flatten(1, 2)
        features = self.backbone(frames).unflatten(0, (-1, self.num_segments)).mean(dim=1)
        return self.cls_head.fc_cls(features)


class SelfAttention(nn.Module):
    """PyTorch's own attention under the name `attn`, with what DividedTemporalAttentionWithNorm has beside it."""

    def __init__(self, dim: int, heads: int, with_norm: bool = False, with_fc: bool = False) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.norm = nn.LayerNorm(dim, eps=EPSILON) if with_norm else nn.Identity()
        self.temporal_fc = nn.Linear(dim, dim) if with_fc else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:  # [G, L, D] -> [G, L, D]
        x = self.norm(x)
        return self.temporal_fc(self.attn(x, x, x, need_weights=False)[0])


class FeedForward(nn.Module):
    def __init__(self, dim: int, with_norm: bool = False) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU()), nn.Linear(4 * dim, dim))
        self.norm = nn.LayerNorm(dim, eps=EPSILON) if with_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(self.norm(x))


class Layer(nn.Module):
    """A divided layer has its norms inside its parts, a plain one beside them."""

    def __init__(self, dim: int, heads: int, divided: bool) -> None:
        super().__init__()
        if divided:
            parts = [SelfAttention(dim, heads, with_norm=True, with_fc=True), SelfAttention(dim, heads, with_norm=True)]
        else:
            parts = [SelfAttention(dim, heads)]
            self.norms = nn.ModuleList(nn.LayerNorm(dim, eps=EPSILON) for _ in range(2))
        self.attentions = nn.ModuleList(parts)
        self.ffns = nn.ModuleList([FeedForward(dim, with_norm=divided)])

    def forward_plain(self, x: Tensor) -> Tensor:
        x = x + self.attentions[0](self.norms[0](x))
        return x + self.ffns[0](self.norms[1](x))

    def forward_divided(self, x: Tensor, frames: int) -> Tensor:
        """`x` [B, 1+N*T, D], time inside place."""
        batch, _, dim = x.shape
        cls, patches = x[:, :1], x[:, 1:]
        over_time = self.attentions[0](patches.reshape(-1, frames, dim))
        patches = patches + over_time.reshape(batch, -1, dim)
        by_frame = patches.reshape(batch, -1, frames, dim).transpose(1, 2).flatten(0, 1)  # [B*T, N, D]
        by_frame = torch.cat([cls.repeat_interleave(frames, dim=0), by_frame], dim=1)  # [B*T, 1+N, D]
        over_space = self.attentions[1](by_frame).unflatten(0, (batch, frames))  # [B, T, 1+N, D]
        cls = cls + over_space[:, :, 0].mean(dim=1, keepdim=True)
        patches = patches + over_space[:, :, 1:].transpose(1, 2).flatten(1, 2)
        x = torch.cat([cls, patches], dim=1)
        return x + self.ffns[0](x)


class Layers(nn.Module):
    def __init__(self, dim: int, heads: int, depth: int, divided: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(dim, heads, divided) for _ in range(depth))


class PatchEmbed(nn.Module):
    def __init__(self, patch_size: int, dim: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, dim, patch_size, patch_size)


class TimeSformerBackbone(nn.Module):
    """Video [B, C, T, H, W] -> class token [B, D]; frame count and size are those it was made for."""

    def __init__(
        self,
        attention: str,
        num_frames: int,
        image_size: int,
        patch_size: int,
        embed_dim: int,
        depth: int,
        num_heads: int,
    ) -> None:
        super().__init__()
        self.attention, self.num_frames = attention, num_frames
        self.patch_embed = PatchEmbed(patch_size, embed_dim)
        self.cls_token = nn.Parameter(torch.empty(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + (image_size // patch_size) ** 2, embed_dim))
        if attention != "space_only":
            self.time_embed = nn.Parameter(torch.empty(1, num_frames, embed_dim))
        self.transformer_layers = Layers(embed_dim, num_heads, depth, attention == "divided_space_time")
        self.norm = nn.LayerNorm(embed_dim, eps=EPSILON)

    def forward(self, video: Tensor) -> Tensor:
        batch, frames = len(video), self.num_frames
        x = self.patch_embed.projection(video.transpose(1, 2).flatten(0, 1)).flatten(2).mT  # [B*T, N, D]
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        if self.attention != "space_only":
            cls = x[:batch, :1]
            patches = x[:, 1:].unflatten(0, (batch, frames)).transpose(1, 2) + self.time_embed  # [B, N, T, D]
            x = torch.cat([cls, patches.flatten(1, 2)], dim=1)  # [B, 1+N*T, D]
        for layer in self.transformer_layers.layers:
            divided = self.attention == "divided_space_time"
            x = layer.forward_divided(x, frames) if divided else layer.forward_plain(x)
        if self.attention == "space_only":
            x = x.unflatten(0, (batch, frames)).mean(dim=1)
        return self.norm(x)[:, 0]


class TimeSformerRecognizer(nn.Module):
    """Video [B, C, T, H, W] -> logits [B, K]."""

    def __init__(self, num_classes: int, embed_dim: int, **sizes: int | str) -> None:
        super().__init__()
        self.backbone = TimeSformerBackbone(embed_dim=embed_dim, **sizes)
        self.cls_head = Head(embed_dim, num_classes)

    def forward(self, video: Tensor) -> Tensor:
        return self.cls_head.fc_cls(self.backbone(video))
