"""RandAugment for RGB clips, and its operations by name."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from paddlevid.data.color import (
    LEVELS,
    histograms,
    lookup,
    scale_brightness,
    scale_contrast,
    scale_saturation,
    solarize,
)
from paddlevid.data.transforms import check_prob


@dataclass(frozen=True, slots=True)
class RandAugment:
    """Apply `num_ops` operations, drawn with replacement, of strength `magnitude` (0 to 10), to the whole clip.

    Each is left out with probability 1 - op_prob, and its strength varies by a Gaussian of `magnitude_std`: the
    defaults are the "rand-m9-mstd0.5-inc1" of timm and SlowFast. Pixels from outside the picture are grey.
    Source: Cubuk et al., RandAugment, 2020.
    """

    num_ops: int = 2
    magnitude: float = 9.0
    magnitude_std: float = 0.5
    op_prob: float = 0.5

    def __post_init__(self) -> None:
        if self.num_ops < 0 or not 0 <= self.magnitude <= 10 or self.magnitude_std < 0:
            raise ValueError(
                f"num_ops {self.num_ops} and magnitude_std {self.magnitude_std} must be at least 0,"
                f" magnitude {self.magnitude} from 0 to 10"
            )
        check_prob(self.op_prob)

    def __call__(self, frames_thwc: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        names = list(RAND_AUGMENT_OPS)
        for choice in rng.integers(len(names), size=self.num_ops):
            applied = rng.random() < self.op_prob
            strength = float(np.clip(rng.normal(self.magnitude, self.magnitude_std), 0, 10)) / 10
            sign = -1.0 if rng.random() < 0.5 else 1.0
            if applied:
                frames_thwc = RAND_AUGMENT_OPS[names[choice]](frames_thwc, strength, sign)
        return frames_thwc


# name -> (frames, strength 0..1, sign -1 or 1) -> frames. Brightness to sharpness go 90 % of the way to nothing, or as
# far beyond the picture; the other ranges are those of the paper.
RAND_AUGMENT_OPS: dict[str, Callable[[np.ndarray, float, float], np.ndarray]] = {
    "auto_contrast": lambda frames, strength, sign: _auto_contrast(frames),
    "equalize": lambda frames, strength, sign: _equalize(frames),
    "invert": lambda frames, strength, sign: solarize(frames, 0),
    "rotate": lambda frames, strength, sign: _affine(frames, degrees=sign * strength * 30),
    "posterize": lambda frames, strength, sign: _posterize(frames, bits=8 - round(strength * 4)),
    "solarize": lambda frames, strength, sign: solarize(frames, 256 - int(strength * 256)),
    "solarize_add": lambda frames, strength, sign: _solarize_add(frames, int(strength * 110)),
    "color": lambda frames, strength, sign: scale_saturation(frames, 1 + sign * strength * 0.9),
    "contrast": lambda frames, strength, sign: scale_contrast(frames, 1 + sign * strength * 0.9),
    "brightness": lambda frames, strength, sign: scale_brightness(frames, 1 + sign * strength * 0.9),
    "sharpness": lambda frames, strength, sign: _sharpness(frames, 1 + sign * strength * 0.9),
    "shear_x": lambda frames, strength, sign: _affine(frames, shear_x=sign * strength * 0.3),
    "shear_y": lambda frames, strength, sign: _affine(frames, shear_y=sign * strength * 0.3),
    "translate_x": lambda frames, strength, sign: _affine(frames, shift_x=sign * strength * 0.45),
    "translate_y": lambda frames, strength, sign: _affine(frames, shift_y=sign * strength * 0.45),
}


def _solarize_add(frames_thwc: np.ndarray, amount: int) -> np.ndarray:
    return lookup(frames_thwc, np.where(LEVELS < 128, LEVELS + amount, LEVELS))


def _posterize(frames_thwc: np.ndarray, bits: int) -> np.ndarray:
    return lookup(frames_thwc, LEVELS - LEVELS % 2 ** (8 - bits))


def _auto_contrast(frames_thwc: np.ndarray) -> np.ndarray:
    tables = []
    for counts in histograms(frames_thwc):
        levels = np.flatnonzero(counts)
        low, high = levels[0], levels[-1]
        tables.append((LEVELS - low) * 255 / (high - low) if high > low else LEVELS)
    return lookup(frames_thwc, np.stack(tables, axis=-1))


def _equalize(frames_thwc: np.ndarray) -> np.ndarray:
    """Spread the levels so that each is as frequent as the others; as PIL's `ImageOps.equalize`."""
    tables = []
    for counts in histograms(frames_thwc):
        step = (counts.sum() - counts[np.flatnonzero(counts)[-1]]) // 255
        below = np.concatenate([[0], np.cumsum(counts)[:-1]])
        tables.append((below + step // 2) // step if step > 0 else LEVELS)
    return lookup(frames_thwc, np.stack(tables, axis=-1))


def _sharpness(frames_thwc: np.ndarray, factor: float) -> np.ndarray:
    import cv2

    smooth = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
    kernel = (1 - factor) * smooth
    kernel[1, 1] += factor
    return np.stack([cv2.filter2D(frame, -1, kernel) for frame in frames_thwc])  # [T, H, W, C]


def _affine(
    frames_thwc: np.ndarray,
    *,
    degrees: float = 0.0,
    shear_x: float = 0.0,
    shear_y: float = 0.0,
    shift_x: float = 0.0,
    shift_y: float = 0.0,
) -> np.ndarray:
    """Turn and shear around the centre, and shift by a share of the width and the height."""
    import cv2

    _, height, width, channels = frames_thwc.shape
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    linear = np.array([[cos, -sin + shear_x], [sin + shear_y, cos]])
    center = np.array([(width - 1) / 2, (height - 1) / 2])
    offset = center - linear @ center + np.array([shift_x * width, shift_y * height])
    matrix = np.column_stack([linear, offset])  # [2, 3]
    fill = (128,) * channels
    return np.stack([cv2.warpAffine(frame, matrix, (width, height), borderValue=fill) for frame in frames_thwc])
