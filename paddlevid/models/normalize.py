"""From raw frames to what a network takes."""

from collections.abc import Sequence

import paddle
from paddle import nn

from paddlevid.errors import ConfigError
from paddlevid.models.explain import forward_maps


class Normalize(nn.Layer):
    """uint8 [..., T, H, W, C] -> float32 [N, T, C, H, W], (x / 255 - mean) / std; N is the product of `...`.

    `mean` and `std` have one number per channel, on a scale where 255 is 1.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or not mean:
            raise ConfigError(f"mean and std must have one number per channel, not {len(mean)} and {len(std)}")
        if min(std) <= 0:
            raise ConfigError(f"std must be above 0, not {list(std)}")
        # x * scale + shift: one multiplication and one addition per number
        shape = [len(mean), 1, 1]
        scale = paddle.to_tensor([1 / (255 * s) for s in std], dtype="float32").reshape(shape)  # [C, 1, 1]
        shift = paddle.to_tensor([-m / s for m, s in zip(mean, std, strict=True)], dtype="float32").reshape(shape)
        self.register_buffer("scale", scale, persistable=False)
        self.register_buffer("shift", shift, persistable=False)

    def forward(self, frames_thwc: paddle.Tensor) -> paddle.Tensor:
        num_frames, height, width, channels = frames_thwc.shape[-4:]
        clips = frames_thwc.reshape([-1, num_frames, height, width, channels])  # [N, T, H, W, C]
        # Bytes are moved before they become floats: on CPU half the time of the other order
        video = clips.transpose([0, 1, 4, 2, 3]).astype("float32")  # [N, T, C, H, W]
        return video * self.scale + self.shift


class RawFrameClassifier(nn.Layer):
    """A model with its normalisation in front, for export: uint8 [B, T, H, W, C] -> logits [B, K], features [B, D].

    The features are what the linear classifier sees, so those of each frame, [B, T, D], may be averaged before it.
    """

    def __init__(self, normalize: Normalize, model: nn.Layer) -> None:
        super().__init__()
        self.normalize = normalize
        self.model = model

    def forward(self, frames_thwc: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        feats = self.model.forward_features(self.normalize(frames_thwc))
        if feats.ndim == 3:
            feats = feats.mean(axis=1)  # [B, D]
        return self.model.forward_head(feats), feats


class RawFrameStep(nn.Layer):
    """A model of streams (`OnlineTSM`) with its normalisation in front, for export.

    uint8 [B, 1, H, W, C], one frame, and state float32 [B, S] -> logits [B, K], features [B, D], state [B, S].
    """

    def __init__(self, normalize: Normalize, model: nn.Layer) -> None:
        super().__init__()
        self.normalize = normalize
        self.model = model

    def forward(
        self, frame_thwc: paddle.Tensor, state: paddle.Tensor
    ) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
        return self.model(self.normalize(frame_thwc).squeeze(1), state)


class RawFrameExplainer(nn.Layer):
    """`forward_maps` of a model with its normalisation in front, for export.

    uint8 [B, T, H, W, C] -> logits [B, K], maps float32 [B, T, h, w, K or 1].
    """

    def __init__(self, normalize: Normalize, model: nn.Layer) -> None:
        super().__init__()
        self.normalize = normalize
        self.model = model

    def forward(self, frames_thwc: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
        return forward_maps(self.model, self.normalize(frames_thwc))
