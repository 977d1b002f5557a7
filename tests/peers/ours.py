"""What our model is given where the peer is given a video: the same, or raw frames through our normalisation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import paddle

from paddlevid.models import Normalize


def our_video(video: np.ndarray, norm: Sequence[Sequence[float]] | None) -> paddle.Tensor:
    """[B, T, C, H, W], with a `norm` whole numbers of 0 to 255 -> what a model takes."""
    if norm is None:
        return paddle.to_tensor(video)
    frames_thwc = np.ascontiguousarray(video.transpose(0, 1, 3, 4, 2)).astype(np.uint8)
    return Normalize(*norm)(paddle.to_tensor(frames_thwc))
