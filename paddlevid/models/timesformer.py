"""TimeSformer: a vision transformer over space and time (Bertasius et al., 2021, arXiv:2102.05095).

B clips, T frames, N patches per frame, D embedding, H heads, K classes. Patch tokens stay [B, T, N, D], the class
token stays apart, [B, 1, D]. Parameters have the names of the authors' code.
"""

from collections.abc import Callable
from typing import Any, Literal, get_args

import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.autograd import PyLayer
from paddle.distributed.fleet.utils import recompute
from paddle.nn.initializer import Constant, Normal

from paddlevid.errors import ConfigError

LINEAR_STD = 0.02

AttentionName = Literal["divided_space_time", "joint_space_time", "space_only"]


class TimeSformer(nn.Layer):
    """video float32 [B, T, C, H, W] with T = num_frames, H = W = image_size -> logits [B, K].

    `drop_path_rate` is that of the last block; the rate grows linearly with depth. `time_embed_std` 0 and
    `temporal_fc_zero` start the divided model as an image transformer, which suits image weights. Training a narrow
    model from scratch wants embeddings that stand out (a std of 1 and more), linear layers in the blocks whose
    `linear_std` is about 1 / sqrt(embed_dim), and a `temporal_fc` that is not zero. `recompute` takes less memory and
    more time to train: blocks are computed again for their gradients (Chen et al., 2016, arXiv:1604.06174). Raises
    ConfigError for options that cannot be used.
    """

    def __init__(
        self,
        num_classes: int,
        num_frames: int = 8,
        image_size: int = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        attention: AttentionName = "divided_space_time",
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        pos_embed_std: float = 0.02,
        time_embed_std: float = 0.0,
        linear_std: float = LINEAR_STD,
        temporal_fc_zero: bool = True,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        sizes = {
            "num_classes": num_classes,
            "num_frames": num_frames,
            "image_size": image_size,
            "patch_size": patch_size,
            "in_channels": in_channels,
            "embed_dim": embed_dim,
            "depth": depth,
            "num_heads": num_heads,
            "mlp_ratio": mlp_ratio,
            "linear_std": linear_std,
        }
        rates = {"drop_rate": drop_rate, "attn_drop_rate": attn_drop_rate, "drop_path_rate": drop_path_rate}
        _check_options(sizes, rates, attention)
        self.num_frames = num_frames
        self.image_size = image_size
        self.in_channels = in_channels
        self.attention = attention
        self.recompute = recompute

        num_patches = (image_size // patch_size) ** 2
        self.patch_embed = PatchEmbed(image_size, patch_size, in_channels, embed_dim)
        self.cls_token = self.create_parameter([1, 1, embed_dim], attr=_normal(0.02))
        self.pos_embed = self.create_parameter([1, 1 + num_patches, embed_dim], attr=_normal(pos_embed_std))
        if attention != "space_only":
            self.time_embed = self.create_parameter([1, num_frames, embed_dim], attr=_normal(time_embed_std))
        self.embed_drop = nn.Dropout(drop_rate)
        block = DividedBlock if attention == "divided_space_time" else Block
        self.blocks = nn.LayerList(
            block(
                embed_dim,
                num_heads,
                hidden_dim=int(embed_dim * mlp_ratio),
                drop_rate=drop_rate,
                attn_drop_rate=attn_drop_rate,
                drop_path_rate=drop_path_rate * i / max(depth - 1, 1),
            )
            for i in range(depth)
        )
        if linear_std != LINEAR_STD:
            for layer in self.blocks.sublayers():
                if isinstance(layer, Linear):
                    Normal(std=linear_std)(layer.weight)
        if temporal_fc_zero and attention == "divided_space_time":
            for divided in self.blocks:
                Constant(0.0)(divided.temporal_fc.weight)
        self.norm = _layer_norm(embed_dim)
        self.head = Linear(embed_dim, num_classes)

    def forward(self, video: paddle.Tensor) -> paddle.Tensor:
        return self.forward_head(self.forward_features(video))

    def forward_features(self, video: paddle.Tensor) -> paddle.Tensor:
        """[B, T, C, H, W] -> [B, D], the class token after the last norm."""
        expected = [self.num_frames, self.in_channels, self.image_size, self.image_size]
        if list(video.shape[1:]) != expected:
            raise ValueError(f"video is {list(video.shape)}; this TimeSformer takes [B, T, C, H, W] = [B, {expected}]")
        cls, patches = self._embed(video)
        if self.attention == "divided_space_time":
            cls = self._divided(cls, patches)
        elif self.attention == "joint_space_time":
            cls = self._joint(cls, patches)
        else:
            cls = self._space_only(cls, patches)
        return self.norm(cls).squeeze(1)  # [B, D]

    def forward_head(self, feats: paddle.Tensor) -> paddle.Tensor:
        """[B, D] -> [B, K]"""
        return self.head(feats)

    def _embed(self, video: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        """[B, T, C, H, W] -> class token [B, 1, D] and patch tokens [B, T, N, D], positions and times added."""
        patches = self.patch_embed(video)
        _, num_frames, num_patches, dim = patches.shape
        pos_cls, pos_patches = self.pos_embed.split([1, num_patches], axis=1)
        places = pos_patches.unsqueeze(1).expand([1, num_frames, num_patches, dim])
        if self.attention != "space_only":
            places = places + self.time_embed.unsqueeze(2)  # [1, T, N, D]
        patches = add_row(patches.reshape([-1, num_frames * num_patches * dim]), places.flatten())
        patches = patches.reshape([-1, num_frames, num_patches, dim])
        # One class token per clip; made from the tokens, so that its batch follows theirs
        cls = paddle.full_like(patches[:, 0, :1], 0.0) + (self.cls_token + pos_cls)  # [B, 1, D]
        return self.embed_drop(cls), self.embed_drop(patches)

    def _divided(self, cls: paddle.Tensor, patches: paddle.Tensor) -> paddle.Tensor:
        for block in list(self.blocks)[:-1]:
            cls, patches = self._run(block, cls, patches)
        return self._run(self.blocks[-1].forward_cls, cls, patches)  # [B, 1, D]

    def _joint(self, cls: paddle.Tensor, patches: paddle.Tensor) -> paddle.Tensor:
        _, num_frames, num_patches, dim = patches.shape
        tokens = patches.reshape([-1, num_frames * num_patches, dim])  # [B, T*N, D]
        tokens = paddle.concat([cls, tokens], axis=1).unsqueeze(1)  # [B, 1, 1+T*N, D]
        for block in self.blocks:
            tokens = self._run(block, tokens)
        cls, _ = tokens.squeeze(1).split([1, num_frames * num_patches], axis=1)
        return cls  # [B, 1, D]

    def _space_only(self, cls: paddle.Tensor, patches: paddle.Tensor) -> paddle.Tensor:
        _, num_frames, num_patches, _ = patches.shape
        tokens = paddle.concat([_to_frames(cls, num_frames), patches], axis=2)  # [B, T, 1+N, D]
        for block in self.blocks:
            tokens = self._run(block, tokens)
        cls, _ = tokens.split([1, num_patches], axis=2)  # [B, T, 1, D]
        return cls.mean(axis=1)  # [B, 1, D]

    def _run(self, block: Callable[..., Any], *tokens: paddle.Tensor) -> Any:
        """Call a block; with `recompute`, what it computes in training is dropped, and computed again for gradients."""
        # Paddle's `recompute` gives the block's weights no gradient where none of the inputs needs one
        learns = any(not tensor.stop_gradient for tensor in tokens)
        if self.recompute and self.training and learns and paddle.in_dynamic_mode() and paddle.is_grad_enabled():
            return recompute(block, *tokens, use_reentrant=False)
        return block(*tokens)


class PatchEmbed(nn.Layer):
    """Cut each frame into squares and project them: [B, T, C, H, W] -> [B, T, N, D].

    The projection is a convolution whose stride is its size, computed as a product of matrices: in training on CPU that
    takes half the time of conv2d, and it leaves the tokens in order.
    """

    def __init__(self, image_size: int, patch_size: int, in_channels: int, embed_dim: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2D(in_channels, embed_dim, kernel_size=patch_size, stride=patch_size)
        # A frame is a list of pixel rows as long as a patch; this is where those of patch 0, 1, ... are in it
        side = image_size // patch_size
        places = paddle.arange(in_channels * image_size * side, dtype="int32")
        places = places.reshape([in_channels, side, patch_size, side]).transpose([1, 3, 0, 2])  # [h, w, C, p]
        self.register_buffer("places", places.flatten(), persistable=False)

    def forward(self, video: paddle.Tensor) -> paddle.Tensor:
        num_frames, channels, height, width = video.shape[1:]
        num_rows = channels * height * width // self.patch_size
        num_patches = height * width // self.patch_size**2
        rows = video.reshape([-1, num_rows, self.patch_size])  # [B*T, C*H*W/p, p]
        squares = rows.gather(self.places, axis=1)
        squares = squares.reshape([-1, num_frames, num_patches, channels * self.patch_size**2])  # [B, T, N, C*p*p]
        weight = self.proj.weight.flatten(1).t()  # [C*p*p, D]
        return linear(squares, weight, self.proj.bias)  # [B, T, N, D]


class DividedBlock(nn.Layer):
    """Attention over time, then over space, then an MLP."""

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        hidden_dim: int,
        drop_rate: float,
        attn_drop_rate: float,
        drop_path_rate: float,
    ) -> None:
        super().__init__()
        self.drop_path_rate = drop_path_rate
        self.temporal_norm1 = _layer_norm(embed_dim)
        self.temporal_attn = Attention(embed_dim, num_heads, drop_rate, attn_drop_rate)
        self.temporal_fc = Linear(embed_dim, embed_dim)
        self.norm1 = _layer_norm(embed_dim)
        self.attn = Attention(embed_dim, num_heads, drop_rate, attn_drop_rate)
        self.norm2 = _layer_norm(embed_dim)
        self.mlp = Mlp(embed_dim, hidden_dim, drop_rate)

    def forward(self, cls: paddle.Tensor, patches: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Class token [B, 1, D] and patch tokens [B, T, N, D] -> the same."""
        patches = self._over_time(patches)
        _, num_frames, num_patches, dim = patches.shape

        frames = paddle.concat([_to_frames(cls, num_frames), patches], axis=2)  # [B, T, 1+N, D]
        update = self._drop_path(self.attn(self.norm1(frames)), axes=[0, 1])  # one frame at a time
        cls_update, patch_update = update.split([1, num_patches], axis=2)
        cls = cls + cls_update.mean(axis=1)
        patches = patches + patch_update

        tokens = paddle.concat([cls, patches.reshape([-1, num_frames * num_patches, dim])], axis=1)  # [B, 1+T*N, D]
        tokens = tokens + self._drop_path(self.mlp(self.norm2(tokens)), axes=[0])  # one clip at a time
        cls, patches = tokens.split([1, num_frames * num_patches], axis=1)
        return cls, patches.reshape([-1, num_frames, num_patches, dim])

    def forward_cls(self, cls: paddle.Tensor, patches: paddle.Tensor) -> paddle.Tensor:
        """The class token of `forward` alone, [B, 1, D].

        Nobody reads the patch tokens of the last block, and leaving them out saves half of its work.
        """
        patches = self._over_time(patches)
        frames = paddle.concat([_to_frames(cls, patches.shape[1]), patches], axis=2)  # [B, T, 1+N, D]
        update = self.attn(self.norm1(frames), first_only=True)  # [B, T, 1, D]
        cls = cls + self._drop_path(update, axes=[0, 1]).mean(axis=1)
        return cls + self._drop_path(self.mlp(self.norm2(cls)), axes=[0])

    def _over_time(self, patches: paddle.Tensor) -> paddle.Tensor:
        update = self.temporal_attn(self.temporal_norm1(patches), over_time=True)
        update = self._drop_path(update, axes=[0, 2])  # one location of a clip at a time
        return patches + self.temporal_fc(update)

    def _drop_path(self, x: paddle.Tensor, axes: list[int]) -> paddle.Tensor:
        return drop_path(x, self.drop_path_rate if self.training else 0.0, axes)


class Block(nn.Layer):
    """An ordinary transformer block on groups of tokens that do not see each other."""

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        hidden_dim: int,
        drop_rate: float,
        attn_drop_rate: float,
        drop_path_rate: float,
    ) -> None:
        super().__init__()
        self.drop_path_rate = drop_path_rate
        self.norm1 = _layer_norm(embed_dim)
        self.attn = Attention(embed_dim, num_heads, drop_rate, attn_drop_rate)
        self.norm2 = _layer_norm(embed_dim)
        self.mlp = Mlp(embed_dim, hidden_dim, drop_rate)

    def forward(self, tokens: paddle.Tensor) -> paddle.Tensor:
        """[B, G, L, D] -> [B, G, L, D]: G groups of L tokens."""
        rate = self.drop_path_rate if self.training else 0.0
        tokens = tokens + drop_path(self.attn(self.norm1(tokens)), rate, axes=[0, 1])
        return tokens + drop_path(self.mlp(self.norm2(tokens)), rate, axes=[0, 1])


class Attention(nn.Layer):
    """Multi-head self-attention over one of the two middle axes of [B, T, N, D]."""

    def __init__(self, embed_dim: int, num_heads: int, drop_rate: float, attn_drop_rate: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = Linear(embed_dim, 3 * embed_dim)
        self.proj = Linear(embed_dim, embed_dim)
        self.softmax = nn.Softmax()  # a layer, so that a hook can see the weights: `models/explain.py`
        self.attn_drop_rate = attn_drop_rate
        self.proj_drop = nn.Dropout(drop_rate)

    def forward(self, x: paddle.Tensor, over_time: bool = False, first_only: bool = False) -> paddle.Tensor:
        """[B, T, N, D] -> [B, T, N, D], or [B, T, 1, D] for the first token of each frame only.

        A token sees those of its location (over_time) or those of its frame.
        """
        _, num_frames, num_tokens, dim = x.shape
        qkv = self.qkv(x).reshape([-1, num_frames, num_tokens, 3, self.num_heads, dim // self.num_heads])
        attend = self._attend_fused if qkv.dtype in (paddle.float16, paddle.bfloat16) else self._attend
        heads = attend(qkv, over_time, first_only)  # [B, T, N, H, D/H]
        heads = heads.reshape([-1, num_frames, 1 if first_only else num_tokens, dim])  # [B, T, N, D]
        return self.proj_drop(self.proj(heads))

    def _attend(self, qkv: paddle.Tensor, over_time: bool, first_only: bool) -> paddle.Tensor:
        """[B, T, N, 3, H, D/H] -> [B, T, N, H, D/H]"""
        order = [3, 0, 2, 4, 1, 5] if over_time else [3, 0, 1, 4, 2, 5]
        q, k, v = qkv.transpose(order).unbind(0)  # each [B, N, H, T, D/H] over time, [B, T, H, N, D/H] over space
        if first_only:
            q, _ = q.split([1, q.shape[3] - 1], axis=3)
        weights = self.softmax(times_transposed(q * q.shape[-1] ** -0.5, k))  # [B, N or T, H, T or N, T or N]
        weights = F.dropout(weights, self.attn_drop_rate, training=self.training)
        return (weights @ v).transpose([0, 3, 1, 2, 4] if over_time else [0, 1, 3, 2, 4])

    def _attend_fused(self, qkv: paddle.Tensor, over_time: bool, first_only: bool) -> paddle.Tensor:
        """`_attend` by one kernel, which takes sequences [S, L, H, D/H] of half precision."""
        _, num_frames, num_tokens, _, num_heads, head_dim = qkv.shape
        outer, length = (num_tokens, num_frames) if over_time else (num_frames, num_tokens)
        order = [3, 0, 2, 1, 4, 5] if over_time else [3, 0, 1, 2, 4, 5]
        q, k, v = qkv.transpose(order).reshape([3, -1, length, num_heads, head_dim]).unbind(0)
        if first_only:
            q, _ = q.split([1, length - 1], axis=1)
        heads = F.scaled_dot_product_attention(q, k, v, dropout_p=self.attn_drop_rate, training=self.training)
        heads = heads.reshape([-1, outer, q.shape[1], num_heads, head_dim])
        return heads.transpose([0, 2, 1, 3, 4]) if over_time else heads


class Mlp(nn.Layer):
    """Two layers with an exact GELU between them."""

    def __init__(self, embed_dim: int, hidden_dim: int, drop_rate: float) -> None:
        super().__init__()
        self.fc1 = Linear(embed_dim, hidden_dim)
        self.fc2 = Linear(hidden_dim, embed_dim)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.drop(self.fc2(self.drop(gelu(self.fc1(x)))))


class Linear(nn.Linear):
    """x @ weight + bias, the weight drawn from a normal distribution, the bias 0."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__(in_dim, out_dim, weight_attr=_normal(LINEAR_STD), bias_attr=_normal(0.0))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return linear(x, self.weight, self.bias)


def linear(x: paddle.Tensor, weight: paddle.Tensor, bias: paddle.Tensor) -> paddle.Tensor:
    """[..., D] -> [..., E]"""
    return _EagerLinear.apply(x, weight, bias) if _is_eager_on_cpu(x) else F.linear(x, weight, bias)


class _EagerLinear(PyLayer):
    """`linear` for training on CPU.

    Paddle's gradient of a broadcast addition is slow there, and that of the same sum as a product keeps the summand: in
    a TimeSformer, a third of all that a step has to remember. Neither is needed.
    """

    @staticmethod
    def forward(ctx: Any, x: paddle.Tensor, weight: paddle.Tensor, bias: paddle.Tensor) -> paddle.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.learns = [not tensor.stop_gradient for tensor in (x, weight, bias)]
        return add_row(x.matmul(weight), bias)

    @staticmethod
    def backward(ctx: Any, grad: paddle.Tensor) -> tuple[paddle.Tensor | None, ...]:
        x, weight = ctx.saved_tensor()
        rows = grad.reshape([-1, weight.shape[1]])  # [..., E] -> [R, E]
        x_learns, weight_learns, bias_learns = ctx.learns
        return (
            grad.matmul(weight, transpose_y=True) if x_learns else None,
            x.reshape([-1, weight.shape[0]]).matmul(rows, transpose_x=True) if weight_learns else None,
            paddle.ones([1, rows.shape[0]], dtype=rows.dtype).matmul(rows).squeeze(0) if bias_learns else None,
        )


def times_transposed(x: paddle.Tensor, y: paddle.Tensor) -> paddle.Tensor:
    """[..., L, D], [..., M, D] -> [..., L, M]"""
    if paddle.framework.in_dynamic_or_pir_mode():
        return x.matmul(y, transpose_y=True)
    # Paddle 3.3 has lost `matmul` and `gelu` for the older graphs, of .pdmodel files; their parts it still writes
    return x @ y.transpose([*range(y.ndim - 2), y.ndim - 1, y.ndim - 2])


def gelu(x: paddle.Tensor) -> paddle.Tensor:
    """The exact one: x times the normal distribution up to x."""
    if paddle.framework.in_dynamic_or_pir_mode():
        return F.gelu(x)
    return x * 0.5 * (1.0 + paddle.erf(x * 2**-0.5))


def add_row(x: paddle.Tensor, row: paddle.Tensor) -> paddle.Tensor:
    """[..., D] + [D]

    Paddle's CPU kernels take ten times as long for a broadcast addition and its gradient as for the same sum written
    as a product; in a training step of a small TimeSformer that made a quarter.
    """
    if not _is_eager_on_cpu(x):
        return x + row
    flat = x.reshape([-1, row.shape[0]])
    ones = paddle.ones([flat.shape[0], 1], dtype=x.dtype)
    return paddle.addmm(flat, ones, row.unsqueeze(0)).reshape(x.shape)


def _is_eager_on_cpu(x: paddle.Tensor) -> bool:
    return paddle.in_dynamic_mode() and x.place.is_cpu_place()


def drop_path(x: paddle.Tensor, rate: float, axes: list[int]) -> paddle.Tensor:
    """Zero whole rows of `x` at random and scale up the others; each index over `axes` is a row."""
    if rate == 0.0:
        return x
    rows = [size if axis in axes else 1 for axis, size in enumerate(x.shape)]
    keep = paddle.floor(paddle.rand(rows) + (1 - rate)) / (1 - rate)
    # Broadcast over the last axis only: over several, the CPU kernel takes many times as long
    return x * keep.astype(x.dtype).expand([*x.shape[:-1], 1])


def _to_frames(cls: paddle.Tensor, num_frames: int) -> paddle.Tensor:
    """[B, 1, D] -> [B, T, 1, D]"""
    return cls.unsqueeze(1).expand([-1, num_frames, -1, -1])


def _normal(std: float) -> paddle.ParamAttr:
    """As the authors' truncated normal, which cuts at -2 and 2: a hundred deviations at their std of 0.02."""
    return paddle.ParamAttr(initializer=Normal(std=std) if std > 0 else Constant(0.0))


def _layer_norm(dim: int) -> nn.LayerNorm:
    return nn.LayerNorm(dim, epsilon=1e-6)


def _check_options(sizes: dict[str, float], rates: dict[str, float], attention: str) -> None:
    for name, size in sizes.items():
        if size <= 0:
            raise ConfigError(f"{name} must be above 0, not {size}")
    for name, rate in rates.items():
        if not 0 <= rate < 1:
            raise ConfigError(f"{name} must be 0 or more and below 1, not {rate}")
    if attention not in get_args(AttentionName):
        raise ConfigError(f"attention must be one of {', '.join(get_args(AttentionName))}, not {attention!r}")
    for name, part in (("image_size", "patch_size"), ("embed_dim", "num_heads")):
        if sizes[name] % sizes[part]:
            raise ConfigError(f"{name} must be a multiple of {part}, not {sizes[name]} with {sizes[part]}")
