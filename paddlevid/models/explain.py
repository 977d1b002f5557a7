"""Where a model looks: B clips, T frames, a grid of h x w places in each, K classes."""

import paddle
from paddle import nn

from paddlevid.models.backbones import unpooled
from paddlevid.models.timesformer import TimeSformer
from paddlevid.models.tsm import TSM
from paddlevid.models.tsn import TSN


def forward_maps(model: nn.Layer, video: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
    """video float32 [B, T, C, H, W] -> logits [B, K], as of `model`, and maps [B, S, h, w, K or 1].

    TSN and TSM have a map for each class and snippet, TimeSformer has one for all classes and each frame, S = T: see
    `class_activation` and `attention_rollout`. A TSN with the identity consensus gives the mean of its logits over
    snippets. The model has to be in evaluation, and in float32.
    """
    if isinstance(model, TimeSformer):
        return attention_rollout(model, video)
    if isinstance(model, TSN | TSM):
        return class_activation(model, video)
    raise TypeError(f"no way is known to see where a {type(model).__name__} looks")


def class_activation(model: TSN | TSM, video: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
    """Logits [B, K] and class activation maps [B, S, h, w, K] (Zhou et al., 2016, arXiv:1512.04150).

    A map is what the class's logit would be if every place looked like this one: the mean of the maps over S, h and w
    is the logits.
    """
    snippets = model.snippets.stack(video)
    num_segments, channels, height, width = snippets.shape[1:]
    feats = unpooled(model.backbone, snippets.reshape([-1, channels, height, width]))  # [B*S, D, h, w]
    dim, rows, columns = feats.shape[1:]
    feats = feats.reshape([-1, num_segments, dim, rows, columns]).transpose([0, 1, 3, 4, 2])  # [B, S, h, w, D]
    return model.head(feats.mean(axis=[1, 2, 3])), model.head(feats)


def attention_rollout(model: TimeSformer, video: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
    """Logits [B, K] and attention rollout [B, T, h, w, 1] (Abnar and Zuidema, 2020, arXiv:2005.00928).

    Each attention counts as a mean: of its input and of what its heads, on average, look at, half and half. The map is
    the share that each patch has, by this count, in the class token after the last block; what the patches' shares
    lack to 1 is the share of the class token itself.
    """
    logits, weights = _attention_weights(model, video)
    _, patch_share = rollout(weights, model.attention, model.num_frames)  # [B, T, N]
    side = model.image_size // model.patch_embed.patch_size
    return logits, patch_share.reshape([-1, model.num_frames, side, side, 1])


def _attention_weights(model: TimeSformer, video: paddle.Tensor) -> tuple[paddle.Tensor, list[paddle.Tensor]]:
    """Logits and, of each attention in the order in which they run, the weights, averaged over heads.

    The fused attention of half precision has none to show.
    """
    weights: list[paddle.Tensor] = []

    def keep(_layer: nn.Layer, _inputs: tuple[paddle.Tensor], output: paddle.Tensor) -> None:
        weights.append(output.mean(axis=2))  # at once: those of all heads of a joint attention fill the memory

    softmaxes = [layer for layer in model.sublayers() if isinstance(layer, nn.Softmax)]
    hooks = [layer.register_forward_post_hook(keep) for layer in softmaxes]
    try:
        return model(video), weights
    finally:
        for hook in hooks:
            hook.remove()


def rollout(weights: list[paddle.Tensor], attention: str, num_frames: int) -> tuple[paddle.Tensor, paddle.Tensor]:
    """The shares of the class token [B, 1] and of the patches [B, T, N] in the class token of the end; they sum to 1.

    `weights` are those of the attentions in the order in which they run: over space [B, G, L, L], for G groups of the
    class token and L - 1 patches, or [B, G, 1, L] where only the class token's are known; over time [B, N, T, T]. They
    are gone through from the last to the first with a row of shares, in place of the product of all matrices.
    """
    divided = attention == "divided_space_time"
    num_groups, _, length = weights[-1].shape[1:]
    cls = paddle.full_like(weights[-1][:, :, 0, :1], 1 / num_groups)  # [B, G, 1]
    patches = paddle.full_like(weights[-1][:, :, 0, 1:], 0.0)  # [B, G, L-1]
    over_time = False
    for step in reversed(weights):
        if over_time:
            seen = _row_times(patches.transpose([0, 2, 1]), step).transpose([0, 2, 1])  # [B, T, N]
            patches = (patches + seen) / 2
        else:
            share = paddle.concat([cls, patches], axis=2)  # [B, G, L]
            asking = share if step.shape[2] == length else cls
            share = (share + _row_times(asking, step)) / 2
            cls, patches = share.split([1, length - 1], axis=2)
            if divided:  # one class token, which has part in each frame alike
                cls = cls.mean(axis=1, keepdim=True).expand([-1, num_groups, -1])
        over_time = divided and not over_time
    num_patches = num_groups * (length - 1) // num_frames
    return cls.mean(axis=1) * num_groups, patches.reshape([-1, num_frames, num_patches])


def _row_times(row: paddle.Tensor, matrix: paddle.Tensor) -> paddle.Tensor:
    """[B, G, L], [B, G, L, M] -> [B, G, M]

    Not as a product of matrices: oneDNN's passes join that with the transposition after it, and lose an axis. Nor as a
    sum: Paddle 3.3 has lost it for the older graphs, of .pdmodel files.
    """
    return (row.unsqueeze(3) * matrix).mean(axis=2) * row.shape[2]
