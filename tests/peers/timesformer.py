"""TimeSformer under the names of its authors, and the image transformer it starts from, in PyTorch.

Facts: facebookresearch/TimeSformer, timesformer/models/vit.py; names of the image transformer as in timm.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-6


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:  # [G, L, D] -> [G, L, D]
        groups, length, dim = x.shape
        qkv = self.qkv(x).view(groups, length, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each [G, heads, L, D/heads]
        weights = torch.softmax(q @ k.mT / (dim // self.heads) ** 0.5, dim=-1)  # [G, heads, L, L]
        return self.proj((weights @ v).transpose(1, 2).reshape(groups, length, dim))


class Mlp(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, dim: int, heads: int, divided: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=EPSILON)
        self.attn = Attention(dim, heads)
        if divided:
            self.temporal_norm1 = nn.LayerNorm(dim, eps=EPSILON)
            self.temporal_attn = Attention(dim, heads)
            self.temporal_fc = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim, eps=EPSILON)
        self.mlp = Mlp(dim)

    def forward(self, x: Tensor) -> Tensor:
        """One sequence after the other, [G, L, D]: frames alone, or the tokens of a whole video."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))

    def forward_divided(self, cls: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """`cls` [B, 1, D] and `patches` [B, N, T, D]: first over time at each place, then over each frame."""
        batch, places, frames, dim = patches.shape
        over_time = self.temporal_attn(self.temporal_norm1(patches.reshape(batch * places, frames, dim)))
        patches = patches + self.temporal_fc(over_time).view(batch, places, frames, dim)
        copies = cls[:, None].expand(batch, frames, 1, dim)
        sequences = torch.cat([copies, patches.transpose(1, 2)], dim=2)  # [B, T, 1+N, D]
        over_space = self.attn(self.norm1(sequences.reshape(batch * frames, 1 + places, dim)))
        over_space = over_space.view(batch, frames, 1 + places, dim)
        cls = cls + over_space[:, :, :1].mean(dim=1)
        patches = patches + over_space[:, :, 1:].transpose(1, 2)
        return cls + self.mlp(self.norm2(cls)), patches + self.mlp(self.norm2(patches))


class PatchEmbed(nn.Module):
    def __init__(self, patch_size: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch_size, patch_size)


class Transformer(nn.Module):
    """Video [B, C, T, H, W] -> logits [B, K]. `space_only` over one frame is the image transformer of timm."""

    def __init__(
        self,
        attention: str,
        num_classes: int,
        num_frames: int,
        image_size: int,
        patch_size: int,
        embed_dim: int,
        depth: int,
        num_heads: int,
    ) -> None:
        super().__init__()
        self.attention = attention
        places = (image_size // patch_size) ** 2
        self.cls_token = nn.Parameter(torch.empty(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + places, embed_dim))
        if attention != "space_only":
            self.time_embed = nn.Parameter(torch.empty(1, num_frames, embed_dim))
        self.patch_embed = PatchEmbed(patch_size, embed_dim)
        divided = attention == "divided_space_time"
        self.blocks = nn.ModuleList(Block(embed_dim, num_heads, divided) for _ in range(depth))
        self.norm = nn.LayerNorm(embed_dim, eps=EPSILON)
        self.head = nn.Linear(embed_dim, num_classes)

    def position(self, height: int, width: int) -> Tensor:
        """[1, 1+H*W, D]; another grid than the own takes the nearest of the old places."""
        old = self.pos_embed[:, 1:].mT  # [1, D, N]
        if old.shape[-1] == height * width:
            return self.pos_embed
        side = int(old.shape[-1] ** 0.5)
        new = F.interpolate(old.unflatten(2, (side, side)), size=(height, width), mode="nearest")
        return torch.cat([self.pos_embed[:, :1], new.flatten(2).mT], dim=1)

    def time(self, frames: int) -> Tensor:
        """[1, T, D]; another number of frames takes the nearest of the old ones."""
        if frames == self.time_embed.shape[1]:
            return self.time_embed
        return F.interpolate(self.time_embed.mT, size=frames, mode="nearest").mT

    def forward_features(self, video: Tensor) -> Tensor:  # [B, C, T, H, W] -> [B, D]
        batch, _, frames = video.shape[:3]
        grid = self.patch_embed.proj(video.transpose(1, 2).flatten(0, 1))  # [B*T, D, h, w]
        position = self.position(*grid.shape[2:])
        cls = (self.cls_token + position[:, :1]).expand(batch, -1, -1)  # [B, 1, D]
        patches = grid.flatten(2).mT + position[:, 1:]  # [B*T, N, D]
        if self.attention == "space_only":
            x = torch.cat([cls.repeat_interleave(frames, dim=0), patches], dim=1)  # [B*T, 1+N, D]
            for block in self.blocks:
                x = block(x)
            return self.norm(x.unflatten(0, (batch, frames)).mean(dim=1))[:, 0]
        patches = patches.unflatten(0, (batch, frames)).transpose(1, 2) + self.time(frames)  # [B, N, T, D]
        if self.attention == "joint_space_time":
            x = torch.cat([cls, patches.flatten(1, 2)], dim=1)  # [B, 1+N*T, D]
            for block in self.blocks:
                x = block(x)
            return self.norm(x)[:, 0]
        for block in self.blocks:
            cls, patches = block.forward_divided(cls, patches)
        return self.norm(cls)[:, 0]

    def forward(self, video: Tensor) -> Tensor:
        return self.head(self.forward_features(video))


class OfficialTimeSformer(nn.Module):
    """The wrapper that gives the names of the published files their `model.`."""

    def __init__(self, **sizes: int | str) -> None:
        super().__init__()
        self.model = Transformer(**sizes)

    def forward(self, video: Tensor) -> Tensor:
        return self.model(video)


class ImageTransformer(Transformer):
    """Images [B, C, H, W] -> normed class token [B, D]; names as in timm."""

    def __init__(self, **sizes: int) -> None:
        super().__init__(attention="space_only", num_frames=1, **sizes)

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_features(images[:, :, None])
