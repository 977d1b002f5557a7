"""Statistics of batch norms: held, made exact, or taken over all processes. C channels."""

from collections.abc import Iterable, Sequence
from typing import Any

import paddle
from paddle import nn
from paddle.autograd import PyLayer

BATCH_NORMS = (nn.BatchNorm, nn.BatchNorm1D, nn.BatchNorm2D, nn.BatchNorm3D, nn.SyncBatchNorm)


def batch_norms(model: nn.Layer) -> list[nn.Layer]:
    """The batch norms of a model, in its order."""
    return [layer for layer in model.sublayers(include_self=True) if isinstance(layer, BATCH_NORMS)]


def running_statistics(model: nn.Layer) -> list[paddle.Tensor]:
    """Running mean and variance of each batch norm; to Paddle these are parameters that do not learn, not buffers."""
    return [statistic for layer in batch_norms(model) for statistic in (layer._mean, layer._variance)]


def partial_bn(model: nn.Layer) -> int:
    """Freeze weight and bias of all batch norms but the first, and return how many batch norms those are.

    Source: partial BN of Wang et al., 2016, arXiv:1608.00859: the first one alone has to follow another input.
    """
    others = batch_norms(model)[1:]
    for layer in others:
        layer.weight.stop_gradient = True
        layer.bias.stop_gradient = True
    return len(others)


def held_batch_norms(model: nn.Layer) -> list[nn.Layer]:
    """The batch norms whose weight and bias are both frozen: their statistics are to stay as well."""
    return [
        layer
        for layer in batch_norms(model)
        if all(parameter is not None and parameter.stop_gradient for parameter in (layer.weight, layer.bias))
    ]


def train_mode(model: nn.Layer, held: Sequence[nn.Layer]) -> None:
    """`model.train()`, but for the held layers, which stay in evaluation."""
    model.train()
    for layer in held:
        layer.eval()


# ---- statistics with the present weights ----------------------------------------------------------------------------


@paddle.no_grad()
def precise_statistics(
    model: nn.Layer, videos: Iterable[paddle.Tensor], held: Sequence[nn.Layer] = (), world: int = 1
) -> None:
    """Set the running statistics to those over all elements of `videos` [B, T, C, H, W], with the weights as they are.

    The running ones lag behind the weights. Each batch is normalised by its own statistics, as in training; mean and
    variance are then pooled over the batches and over `world` processes, whose numbers of batches may differ (but not
    with synchronised batch norms). Held layers keep what they have. The model is left in training.

    Source: precise BN of Wu and Johnson, 2021, arXiv:2105.07576.

    Raises:
        ValueError: there are no videos.
    """
    train_mode(model, held)
    layers = [layer for layer in batch_norms(model) if layer.training]
    sums = [paddle.zeros([1 + 2 * layer._num_features], dtype="float64") for layer in layers]

    def observe(i: int) -> Any:
        def add(_layer: nn.Layer, inputs: tuple[paddle.Tensor]) -> None:
            sums[i] += _count_and_sums(inputs[0])

        return add

    hooks = [layer.register_forward_pre_hook(observe(i)) for i, layer in enumerate(layers)]
    try:
        for video in videos:
            model(video)
    finally:
        for hook in hooks:
            hook.remove()
    if not layers:
        return
    pooled = paddle.concat(sums)
    if world > 1:
        paddle.distributed.all_reduce(pooled)
    for layer, one in zip(layers, pooled.split([len(part) for part in sums]), strict=True):
        if one[0] == 0:
            raise ValueError("precise_statistics: there are no videos to take the statistics from")
        _, mean, variance = _moments(one)
        layer._mean.set_value(mean.astype(layer._mean.dtype))
        layer._variance.set_value(variance.astype(layer._variance.dtype))


def _count_and_sums(x: paddle.Tensor) -> paddle.Tensor:
    """[B, C, ...] -> float64 [1 + 2C]: elements a channel, their sums and the sums of their squares.

    From mean and variance, which lose nothing in float32; the sum of squares itself would.
    """
    axes = [axis for axis in range(x.ndim) if axis != 1]
    x = x.astype("float32")
    count = float(x.size // x.shape[1])
    mean = x.mean(axis=axes).astype("float64")
    variance = x.var(axis=axes, unbiased=False).astype("float64")
    return paddle.concat([paddle.full([1], count, "float64"), count * mean, count * (variance + mean * mean)])


def _moments(sums: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
    """float64 [1 + 2C] -> count [1], mean [C], variance [C]."""
    channels = len(sums) // 2
    count, total, squares = sums.split([1, channels, channels])
    mean = total / count
    return count, mean, (squares / count - mean * mean).clip(min=0.0)


# ---- statistics over all processes ----------------------------------------------------------------------------------


def synchronize_batch_norms(model: nn.Layer) -> nn.Layer:
    """Let the batch norms of a model take their statistics over all processes in training, and return the model.

    Names of parameters stay. Paddle's own synchronised batch norm has no kernel for CPUs; there, `CPUSyncBatchNorm`
    stands in for it. Each process has to run the same number of forward passes.
    """
    if not paddle.get_device().startswith("cpu"):
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for layer in batch_norms(model):
        layer.__class__ = CPUSyncBatchNorm  # the same but for `forward`: parameters, hooks and place stay
    return model


class CPUSyncBatchNorm(nn.BatchNorm2D):
    """A batch norm over the batches of all processes, [B, C, H, W] -> the same; the B of each may differ."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if not self.training or paddle.distributed.get_world_size() == 1:
            return super().forward(x)
        with paddle.no_grad():
            sums = _count_and_sums(x)
            paddle.distributed.all_reduce(sums)
            count, mean, variance = _moments(sums)
            mean, variance = mean.astype(x.dtype), variance.astype(x.dtype)
            self._mean.set_value(self._momentum * self._mean + (1 - self._momentum) * mean)
            self._variance.set_value(self._momentum * self._variance + (1 - self._momentum) * variance)
        inverse_std = (variance + self._epsilon).rsqrt()
        return _Normalized.apply(x, self.weight, self.bias, mean, inverse_std, count.item())


class _Normalized(PyLayer):
    """`(x - mean) * inverse_std * weight + bias`, whose gradient knows that both come from the x of all processes."""

    @staticmethod
    def forward(
        ctx: Any,
        x: paddle.Tensor,
        weight: paddle.Tensor,
        bias: paddle.Tensor,
        mean: paddle.Tensor,
        inverse_std: paddle.Tensor,
        count: float,
    ) -> paddle.Tensor:
        ctx.save_for_backward(x, weight, mean, inverse_std)
        ctx.count = count
        ctx.learns = [not tensor.stop_gradient for tensor in (x, weight, bias)]
        scale = weight * inverse_std
        return x * _per_channel(scale) + _per_channel(bias - mean * scale)

    @staticmethod
    def backward(ctx: Any, grad: paddle.Tensor) -> tuple[paddle.Tensor | None, ...]:
        x, weight, mean, inverse_std = ctx.saved_tensor()
        normalized = (x - _per_channel(mean)) * _per_channel(inverse_std)
        bias_grad = grad.sum(axis=[0, 2, 3])
        weight_grad = (grad * normalized).sum(axis=[0, 2, 3])
        x_learns, weight_learns, bias_learns = ctx.learns
        x_grad = None
        if x_learns:
            sums = paddle.concat([bias_grad, weight_grad])
            paddle.distributed.all_reduce(sums)
            over_all, with_normalized = (sums / ctx.count).split(2)
            rest = grad - _per_channel(over_all) - normalized * _per_channel(with_normalized)
            x_grad = rest * _per_channel(weight * inverse_std)
        return (
            x_grad,
            weight_grad if weight_learns else None,
            bias_grad if bias_learns else None,
            None,
            None,
        )


def _per_channel(values: paddle.Tensor) -> paddle.Tensor:
    """[C] -> [1, C, 1, 1]"""
    return values.reshape([1, -1, 1, 1])
