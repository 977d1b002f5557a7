"""Transforms of colour and sharpness: RGB clips, uint8 `[T, H, W, 3]`, and an explicit rng -> uint8 `[T, H, W, 3]`.

Each draws once a clip and treats all frames alike; the input is never written to.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from paddlevid.data.transforms import check_prob

LEVELS = np.arange(256.0)
LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True, slots=True)
class ColorJitter:
    """Change brightness, contrast and saturation by factors from 1 - x to 1 + x, and turn the hue by up to `hue`.

    A full turn of the hue is 1. The four are applied in random order, all of them with probability `prob`. Contrast
    is taken around the mean grey of the whole clip.
    """

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    prob: float = 1.0

    def __post_init__(self) -> None:
        if min(self.brightness, self.contrast, self.saturation) < 0 or not 0 <= self.hue <= 0.5:
            raise ValueError(
                f"brightness {self.brightness}, contrast {self.contrast} and saturation {self.saturation} must be at"
                f" least 0, hue {self.hue} from 0 to 0.5"
            )
        check_prob(self.prob)

    def __call__(self, frames_thwc: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if rng.random() >= self.prob:
            return frames_thwc
        strengths = (self.brightness, self.contrast, self.saturation)
        brightness, contrast, saturation = (rng.uniform(max(0.0, 1 - x), 1 + x) for x in strengths)
        turn = rng.uniform(-self.hue, self.hue)
        steps: list[Callable[[np.ndarray], np.ndarray]] = [
            lambda frames: scale_brightness(frames, brightness),
            lambda frames: scale_contrast(frames, contrast),
            lambda frames: scale_saturation(frames, saturation),
            lambda frames: turn_hue(frames, turn),
        ]
        for step in rng.permutation(len(steps)):
            frames_thwc = steps[step](frames_thwc)
        return frames_thwc


@dataclass(frozen=True, slots=True)
class Grayscale:
    """Take the colour away with probability `prob`; the clip keeps 3 channels."""

    prob: float = 0.2

    def __post_init__(self) -> None:
        check_prob(self.prob)

    def __call__(self, frames_thwc: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return scale_saturation(frames_thwc, 0.0) if rng.random() < self.prob else frames_thwc


@dataclass(frozen=True, slots=True)
class GaussianBlur:
    """Blur each frame with probability `prob`, by a Gaussian of `sigma` pixels, drawn evenly from its two bounds."""

    prob: float = 0.5
    sigma: tuple[float, float] = (0.1, 2.0)

    def __post_init__(self) -> None:
        check_prob(self.prob)
        if not 0 < self.sigma[0] <= self.sigma[1]:
            raise ValueError(f"sigma {self.sigma} must be two rising numbers greater than 0")

    def __call__(self, frames_thwc: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if rng.random() >= self.prob:
            return frames_thwc
        import cv2

        sigma = rng.uniform(*self.sigma)
        return np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in frames_thwc])  # [T, H, W, C]


@dataclass(frozen=True, slots=True)
class Solarize:
    """Invert the values from `threshold` on with probability `prob`."""

    prob: float = 0.2
    threshold: int = 128

    def __post_init__(self) -> None:
        check_prob(self.prob)
        if not 0 <= self.threshold <= 256:
            raise ValueError(f"threshold {self.threshold} must be from 0 to 256")

    def __call__(self, frames_thwc: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return solarize(frames_thwc, self.threshold) if rng.random() < self.prob else frames_thwc


# Steps, of a strength that is given. A factor of 1 changes nothing.


def lookup(frames_thwc: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Replace each level by `values[level]`, clipped to 0..255; values are `[256]`, or `[256, C]` for each channel."""
    import cv2

    table = np.clip(np.rint(values), 0, 255).astype(np.uint8).reshape(1, 256, -1)
    return cv2.LUT(_rows(frames_thwc), table[:, :, 0] if table.shape[2] == 1 else table).reshape(frames_thwc.shape)


def histograms(frames_thwc: np.ndarray) -> np.ndarray:
    """Counts `[C, 256]` of the levels in the whole clip."""
    import cv2

    _check_rgb(frames_thwc)
    # By frame: OpenCV counts in float32, which is exact to 2^24 pixels
    counts = [[cv2.calcHist([frame], [c], None, [256], [0, 256]).ravel() for c in range(3)] for frame in frames_thwc]
    return np.array(counts).astype(np.int64).sum(axis=0)  # [C, 256]


def scale_brightness(frames_thwc: np.ndarray, factor: float) -> np.ndarray:
    return lookup(frames_thwc, LEVELS * factor)


def scale_contrast(frames_thwc: np.ndarray, factor: float) -> np.ndarray:
    import cv2

    _check_rgb(frames_thwc)
    sums = np.array(cv2.sumElems(_rows(frames_thwc))[:3])
    mean_grey = float(sums @ LUMA) / (frames_thwc.size / 3)
    return lookup(frames_thwc, mean_grey + (LEVELS - mean_grey) * factor)


def scale_saturation(frames_thwc: np.ndarray, factor: float) -> np.ndarray:
    import cv2

    _check_rgb(frames_thwc)
    mix = factor * np.eye(3) + (1 - factor) * np.tile(LUMA, (3, 1))
    return cv2.transform(_rows(frames_thwc), mix).reshape(frames_thwc.shape)


def turn_hue(frames_thwc: np.ndarray, turn: float) -> np.ndarray:
    import cv2

    steps = round(turn * 256)
    if steps == 0:
        return frames_thwc
    _check_rgb(frames_thwc)
    hsv = cv2.cvtColor(
        _rows(frames_thwc), cv2.COLOR_RGB2HSV_FULL
    )  # hue 0..255 is a full turn, so uint8 wraps around rightly
    hsv[..., 0] += np.uint8(steps % 256)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL).reshape(frames_thwc.shape)


def solarize(frames_thwc: np.ndarray, threshold: int) -> np.ndarray:
    return lookup(frames_thwc, np.where(threshold > LEVELS, LEVELS, 255 - LEVELS))


def _rows(frames_thwc: np.ndarray) -> np.ndarray:
    """The clip as one tall picture, `[T*H, W, C]`: one call of OpenCV for all frames."""
    num_frames, height, width, channels = frames_thwc.shape
    return np.ascontiguousarray(frames_thwc).reshape(num_frames * height, width, channels)


def _check_rgb(frames_thwc: np.ndarray) -> None:
    channels = frames_thwc.shape[-1]
    if channels != 3:
        raise ValueError(f"transforms of colour need the 3 channels of RGB, these frames have {channels}")
