"""From raw frames to what a network takes."""

from collections.abc import Sequence

import paddle
from paddle import nn

from paddlevid.errors import ConfigError


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
    """A model with its normalisation in front, for export: uint8 [B, T, H, W, C] -> logits [B, K].

    A model that scores each frame, [B, T, K], is averaged over them.
    """

    def __init__(self, normalize: Normalize, model: nn.Layer) -> None:
        super().__init__()
        self.normalize = normalize
        self.model = model

    def forward(self, frames_thwc: paddle.Tensor) -> paddle.Tensor:
        logits = self.model(self.normalize(frames_thwc))
        return logits.mean(axis=1) if logits.ndim == 3 else logits
