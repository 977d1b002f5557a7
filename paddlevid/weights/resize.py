"""Position and time embeddings for another picture size and another number of frames."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import paddle
import paddle.nn.functional as F


def resize_pos_embed(pos_embed: np.ndarray, size: int, mode: str) -> np.ndarray:
    """[1, 1+N, D] -> [1, 1+size, D]: the class position as it is, the others as a square picture.

    `mode` is "bicubic", "bilinear" (corners on corners, as scipy.ndimage.zoom has it) or "nearest".
    """
    old_side, new_side = math.isqrt(pos_embed.shape[1] - 1), math.isqrt(size)
    dim = pos_embed.shape[-1]
    grid = pos_embed[:, 1:].astype(np.float32).reshape(1, old_side, old_side, dim)  # [1, h, w, D]
    if mode == "nearest":
        places = nearest(old_side, new_side)
        resized = grid[:, places][:, :, places]
    else:
        options = {"mode": mode, "align_corners": mode == "bilinear"}
        picture = paddle.to_tensor(grid.transpose(0, 3, 1, 2))  # [1, D, h, w]
        resized = F.interpolate(picture, size=[new_side, new_side], **options).numpy().transpose(0, 2, 3, 1)
    return np.concatenate([pos_embed[:, :1].astype(np.float32), resized.reshape(1, size, dim)], axis=1)


def resize_time_embed(time_embed: np.ndarray, size: int, mode: str) -> np.ndarray:
    """[1, T, D] -> [1, size, D]; `mode` is "linear" or "nearest"."""
    if mode == "nearest":
        return time_embed[:, nearest(time_embed.shape[1], size)]
    series = paddle.to_tensor(time_embed.astype(np.float32).transpose(0, 2, 1))  # [1, D, T]
    return F.interpolate(series, size=[size], mode="linear", data_format="NCW").numpy().transpose(0, 2, 1)


def nearest(old: int, new: int) -> np.ndarray:
    """For each of `new` points the one of `old` that PyTorch's nearest interpolation takes; int [new]."""
    step = np.float32(old) / np.float32(new)  # its arithmetic, rounding included
    places = np.floor(np.arange(new, dtype=np.float32) * step).astype(np.int64)
    return np.minimum(places, old - 1)


def can_resize(shape: Sequence[int], wanted: Sequence[int], *, squares: bool) -> bool:
    """Whether only the middle axis differs; with `squares`, whether it counts a square and one more in both."""
    if len(shape) != 3 or len(wanted) != 3 or shape[-1] != wanted[-1] or shape[1] < 2:
        return False
    return not squares or all(math.isqrt(size - 1) ** 2 + 1 == size for size in (shape[1], wanted[1]))
