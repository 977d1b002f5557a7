"""TSN, TSM and TimeSformer under the names of PaddleVideo, and the image networks of PaddleClas that start them.

Facts: PaddlePaddle/PaddleVideo, paddlevideo/modeling/backbones/{resnet,resnet_tsm,vit}.py and modeling/heads;
PaddlePaddle/PaddleClas, ppcls/modeling/architectures/resnet.py (old names), ppcls/arch/backbone/legendary_models/
resnet.py (new names) and ppcls/arch/backbone/model_zoo/vision_transformer.py. Written for PaddlePaddle.
"""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

STAGES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class ConvNorm(nn.Layer):
    """`names` are those of the convolution and of its normalisation."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, names: tuple[str, str]) -> None:
        super().__init__()
        self.names = names
        conv = nn.Conv2D(inputs, outputs, kernel, stride, kernel // 2, bias_attr=False)
        self.add_sublayer(names[0], conv)
        self.add_sublayer(names[1], nn.BatchNorm2D(outputs))

    def forward(self, x: Tensor) -> Tensor:
        for name in self.names:
            x = getattr(self, name)(x)
        return x


class Block(nn.Layer):
    """conv0, conv1 (and conv2), and `short` in the first block of a stage; a shift before the residual branch."""

    def __init__(
        self, inputs: int, width: int, stride: int, bottleneck: bool, first: bool, segments: int, names: tuple[str, str]
    ) -> None:
        super().__init__()
        self.segments = segments
        outputs = 4 * width if bottleneck else width
        if bottleneck:
            sizes = [(inputs, width, 1, 1), (width, width, 3, stride), (width, outputs, 1, 1)]
        else:
            sizes = [(inputs, width, 3, stride), (width, outputs, 3, 1)]
        for i, size in enumerate(sizes):
            self.add_sublayer(f"conv{i}", ConvNorm(*size, names))
        self.branch = [f"conv{i}" for i in range(len(sizes))]
        self.first = first
        if first:
            self.short = ConvNorm(inputs, outputs, 1, stride, names)

    def forward(self, x: Tensor) -> Tensor:
        # The ratio is 1 / segments whatever the width: an eighth for eight segments only
        y = F.temporal_shift(x, self.segments, 1.0 / self.segments) if self.segments else x
        for name in self.branch[:-1]:
            y = F.relu(getattr(self, name)(y))
        y = getattr(self, self.branch[-1])(y)
        return F.relu(y + (self.short(x) if self.first else x))


def block_name(depth: int, stage: int, index: int) -> str:
    """res2a, res2b ...; the long third stage of ResNet-101 counts on: res4a, res4b1, res4b2 ..."""
    if depth >= 101 and stage == 2:
        return f"res4b{index}" if index else "res4a"
    return f"res{stage + 2}{'abcdefgh'[index]}"


class ResNet(nn.Layer):
    """Images [B, C, H, W] -> features [B, D]. `new_names` are those of PaddleClas since 2.1."""

    def __init__(self, depth: int, segments: int = 0, new_names: bool = False) -> None:
        super().__init__()
        names = ("conv", "bn") if new_names else ("_conv", "_batch_norm")
        stem = ConvNorm(3, 64, 7, 2, names)
        if new_names:
            self.stem = nn.Sequential(stem)
        else:
            self.conv = stem
        blocks, channels = [], 64
        for stage, count in enumerate(STAGES[depth]):
            width = 64 << stage
            for i in range(count):
                stride = 2 if stage and not i else 1
                blocks.append(Block(channels, width, stride, depth >= 50, not i, segments, names))
                channels = 4 * width if depth >= 50 else width
                if not new_names:
                    self.add_sublayer(block_name(depth, stage, i), blocks[-1])
        if new_names:
            self.blocks = nn.Sequential(*blocks)
        self.all_blocks = (blocks,)  # in a tuple, lest the layer names them once more
        self.num_features = channels
        self.new_names = new_names

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.stem(x) if self.new_names else self.conv(x)), 3, 2, 1)
        for block in self.all_blocks[0]:
            x = block(x)
        return x.mean(axis=[2, 3])


class Head(nn.Layer):
    def __init__(self, inputs: int, num_classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(inputs, num_classes)


class SegmentRecognizer(nn.Layer):
    """Frames [B*T, C, H, W] -> logits [B, K]; TSN averages features, TSM logits, which is the same."""

    def __init__(self, depth: int, num_classes: int, num_segments: int, shifts: bool) -> None:
        super().__init__()
        self.num_segments = num_segments
        self.backbone = ResNet(depth, num_segments if shifts else 0)
        self.head = Head(self.backbone.num_features, num_classes)

    def forward(self, frames: Tensor) -> Tensor:
        features = self.backbone(frames)
        return self.head.fc(features.reshape([-1, self.num_segments, features.shape[1]]).mean(axis=1))


class ImageResNet(ResNet):
    """Images -> features; the classifier, `out` in the old files and `fc` in the new, stands in the state alone."""

    def __init__(self, depth: int, num_classes: int, new_names: bool) -> None:
        super().__init__(depth, new_names=new_names)
        self.add_sublayer("fc" if new_names else "out", nn.Linear(self.num_features, num_classes))


class Attention(nn.Layer):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:  # [G, L, D] -> [G, L, D]
        groups, length, dim = x.shape
        qkv = self.qkv(x).reshape([groups, length, 3, self.heads, dim // self.heads])
        q, k, v = qkv.transpose([2, 0, 3, 1, 4]).unbind(0)
        weights = F.softmax(paddle.matmul(q, k, transpose_y=True) * (dim // self.heads) ** -0.5, axis=-1)
        return self.proj(paddle.matmul(weights, v).transpose([0, 2, 1, 3]).reshape([groups, length, dim]))


class Mlp(nn.Layer):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class TransformerBlock(nn.Layer):
    def __init__(self, dim: int, heads: int, divided: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, epsilon=1e-6)
        self.attn = Attention(dim, heads)
        if divided:
            self.temporal_norm1 = nn.LayerNorm(dim, epsilon=1e-6)
            self.temporal_attn = Attention(dim, heads)
            self.temporal_fc = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim, epsilon=1e-6)
        self.mlp = Mlp(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))

    def forward_divided(self, x: Tensor, frames: int) -> Tensor:
        """`x` [B, 1+N*T, D], time inside place."""
        batch, tokens, dim = x.shape
        places = (tokens - 1) // frames
        cls, patches = x[:, :1], x[:, 1:]
        over_time = self.temporal_attn(self.temporal_norm1(patches.reshape([batch * places, frames, dim])))
        patches = patches + self.temporal_fc(over_time.reshape([batch, places * frames, dim]))
        by_frame = patches.reshape([batch, places, frames, dim]).transpose([0, 2, 1, 3])
        by_frame = paddle.concat([cls.unsqueeze(1).tile([1, frames, 1, 1]), by_frame], axis=2)  # [B, T, 1+N, D]
        over_space = self.attn(self.norm1(by_frame.reshape([batch * frames, 1 + places, dim])))
        over_space = over_space.reshape([batch, frames, 1 + places, dim])
        cls = cls + over_space[:, :, 0].mean(axis=1, keepdim=True)
        patches = patches + over_space[:, :, 1:].transpose([0, 2, 1, 3]).reshape([batch, places * frames, dim])
        x = paddle.concat([cls, patches], axis=1)
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Layer):
    def __init__(self, patch_size: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2D(3, dim, patch_size, patch_size)


class Transformer(nn.Layer):
    """Video [B, C, T, H, W] -> normed class token [B, D]."""

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
        self.attention = attention
        self.patch_embed = PatchEmbed(patch_size, embed_dim)
        self.cls_token = self.create_parameter([1, 1, embed_dim])
        self.pos_embed = self.create_parameter([1, 1 + (image_size // patch_size) ** 2, embed_dim])
        if attention != "space_only":
            self.time_embed = self.create_parameter([1, num_frames, embed_dim])
        divided = attention == "divided_space_time"
        self.blocks = nn.LayerList([TransformerBlock(embed_dim, num_heads, divided) for _ in range(depth)])
        self.norm = nn.LayerNorm(embed_dim, epsilon=1e-6)

    def forward(self, video: Tensor) -> Tensor:
        batch, _, frames = video.shape[:3]
        x = self.patch_embed.proj(video.transpose([0, 2, 1, 3, 4]).flatten(0, 1)).flatten(2).transpose([0, 2, 1])
        x = paddle.concat([self.cls_token.expand([x.shape[0], -1, -1]), x], axis=1) + self.pos_embed  # [B*T, 1+N, D]
        tokens, dim = x.shape[1:]
        if self.attention != "space_only":
            x = x.reshape([batch, frames, tokens, dim])
            patches = x[:, :, 1:].transpose([0, 2, 1, 3]) + self.time_embed  # [B, N, T, D]
            x = paddle.concat([x[:, 0, :1], patches.flatten(1, 2)], axis=1)  # [B, 1+N*T, D]
        for block in self.blocks:
            x = block.forward_divided(x, frames) if self.attention == "divided_space_time" else block(x)
        if self.attention == "space_only":
            x = x.reshape([batch, frames, tokens, dim]).mean(axis=1)
        return self.norm(x)[:, 0]


class TimeSformerRecognizer(nn.Layer):
    """Video [B, C, T, H, W] -> logits [B, K]."""

    def __init__(self, num_classes: int, embed_dim: int, **sizes: int | str) -> None:
        super().__init__()
        self.backbone = Transformer(embed_dim=embed_dim, **sizes)
        self.head = Head(embed_dim, num_classes)

    def forward(self, video: Tensor) -> Tensor:
        return self.head.fc(self.backbone(video))


class ImageTransformer(Transformer):
    """Images [B, C, H, W] -> normed class token [B, D]; `head` stands in the state alone."""

    def __init__(self, num_classes: int, embed_dim: int, **sizes: int) -> None:
        super().__init__(attention="space_only", num_frames=1, embed_dim=embed_dim, **sizes)
        self.head = nn.Linear(embed_dim, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.unsqueeze(2))
