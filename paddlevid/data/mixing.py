"""Mixup and CutMix: a clip and its target, mixed with those of a partner.

What is drawn for a clip depends on (seed, epoch, index) alone, so that it does not matter who mixes it or when.
Sources: Zhang et al., mixup: Beyond Empirical Risk Minimization, 2018; Yun et al., CutMix, 2019.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

# Numbers of a seed that no epoch reaches: the draws of mixing are others than those of sampling and augmentation
MIXING_STREAM = 0x6D697875


class Box(NamedTuple):
    """Rows `top` to `bottom - 1` and columns `left` to `right - 1` of each frame."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def area(self) -> int:
        return (self.bottom - self.top) * (self.right - self.left)


class Mix(NamedTuple):
    """What is done to a clip: of its target `share` stays, and the rest is the partner's."""

    share: float  # 0..1, lambda in the papers
    box: Box | None = None  # what comes from the partner in CutMix; in mixup, a share of each pixel


@dataclass(frozen=True, slots=True)
class Mixing:
    """Draws how clips are mixed: with probability `prob` by mixup or CutMix, whose share is Beta(alpha, alpha).

    An alpha of 0 leaves that kind out; where neither is 0, it is CutMix with probability `cutmix_prob`.
    """

    mixup_alpha: float
    cutmix_alpha: float
    cutmix_prob: float
    prob: float
    seed: int

    def draw(self, key: tuple[int, int], height: int, width: int) -> Mix | None:
        """How the clip of `(epoch, index)` is mixed with its partner, if it is."""
        rng = np.random.default_rng([self.seed, MIXING_STREAM, *key])
        applied, is_cutmix = rng.random(2) < (self.prob, self.cutmix_prob)
        if not applied:
            return None
        if self.cutmix_alpha and (is_cutmix or not self.mixup_alpha):
            box = _draw_box(rng.beta(self.cutmix_alpha, self.cutmix_alpha), height, width, rng)
            return Mix(1 - box.area / (height * width), box)
        return Mix(rng.beta(self.mixup_alpha, self.mixup_alpha))


def _draw_box(share: float, height: int, width: int, rng: np.random.Generator) -> Box:
    """A box of 1 - `share` of the picture and of its shape, around any pixel of it; what is outside is cut off."""
    side = math.sqrt(1 - share)
    half_height, half_width = int(height * side) // 2, int(width * side) // 2
    row, column = int(rng.integers(height)), int(rng.integers(width))
    return Box(
        max(row - half_height, 0),
        min(row + half_height, height),
        max(column - half_width, 0),
        min(column + half_width, width),
    )


def mix_frames(frames: np.ndarray, partner: np.ndarray, mix: Mix) -> np.ndarray:
    """Two clips uint8 `[V, T, H, W, C]` -> one; the box is the same in all frames, mixed pixels are rounded."""
    import cv2

    if mix.box is None:
        flat = (frames.reshape(-1, frames.shape[-1]), partner.reshape(-1, frames.shape[-1]))  # [V*T*H*W, C]
        return cv2.addWeighted(flat[0], mix.share, flat[1], 1 - mix.share, 0).reshape(frames.shape)
    rows, columns = slice(mix.box.top, mix.box.bottom), slice(mix.box.left, mix.box.right)
    mixed = frames.copy()
    mixed[:, :, rows, columns] = partner[:, :, rows, columns]
    return mixed


def mix_targets(target: np.ndarray, partner: np.ndarray, mix: Mix) -> np.ndarray:
    """Two targets float32 `[K]` -> one."""
    share = np.float32(mix.share)
    return share * target + (1 - share) * partner
