"""Optical flow as colours, to look at."""

from __future__ import annotations

import numpy as np

# Steps from one pure colour to the next: red, yellow, green, cyan, blue, magenta. Eyes tell reds and yellows apart
# better than greens. Source: Baker et al., A Database and Evaluation Methodology for Optical Flow, 2011.
_STEPS = (15, 6, 4, 11, 13, 6)
_PURE = ((255, 0, 0), (255, 255, 0), (0, 255, 0), (0, 255, 255), (0, 0, 255), (255, 0, 255))
_SLOWEST_FULL = 6.0  # grey levels: without, the noise of what stands still would be as bright as any motion


def flow_colours(pictures_thw2: np.ndarray) -> np.ndarray:
    """Pictures of flow in the colours of the usual wheel: uint8 `[..., 2]` -> uint8 RGB `[..., 3]`.

    The direction is the hue (right is red, down yellow, left blue, up violet), the speed is the saturation, and no
    motion is white. The fastest of the pictures, but for a few outliers, is fully saturated.
    """
    motion = pictures_thw2.astype(np.float32) - np.float32(127.5)
    # 127 and 128 both stand for no motion: a mirrored 128 is 127
    motion = np.sign(motion) * (np.abs(motion) - np.float32(0.5))
    speed = np.hypot(motion[..., 0], motion[..., 1])
    full = max(_SLOWEST_FULL, float(np.percentile(speed, 99.5)) if speed.size else 0.0)
    wheel = _colour_wheel()
    angle = np.arctan2(motion[..., 1], motion[..., 0]) / np.float32(2 * np.pi)  # down is positive: clockwise
    place = (angle % 1.0) * len(wheel)
    lower = place.astype(np.int32) % len(wheel)
    share = (place % 1.0)[..., None].astype(np.float32)
    colour = wheel[lower] * (1 - share) + wheel[(lower + 1) % len(wheel)] * share
    saturation = np.minimum(speed / np.float32(full), 1)[..., None]
    return np.rint(255 - saturation * (255 - colour)).astype(np.uint8)


def _colour_wheel() -> np.ndarray:
    """The hues of the wheel, float32 RGB `[55, 3]`."""
    pure = np.array(_PURE, np.float32)
    shares = [np.arange(steps, dtype=np.float32)[:, None] / steps for steps in _STEPS]
    return np.concatenate(
        [
            one * (1 - share) + other * share
            for one, other, share in zip(pure, np.roll(pure, -1, 0), shares, strict=True)
        ]
    )
