"""Where pixels go: transforms of the size and place of clips, and the crops of a test.

A transform maps uint8 `[T, H, W, C]` and an explicit rng to uint8 `[T, H, W, C]`. It draws once a clip and treats all
frames alike. Clips have 3 channels (RGB) or 2 (optical flow, x and y, 128 = no motion). Results may be views of their
input, which is never written to. cv2's "bilinear" takes the four nearest pixels around centres at half pixels
(align_corners=False), without anti-aliasing, as the peers' pipelines do.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

Interpolation = Literal["nearest", "bilinear", "bicubic", "area"]


@dataclass(frozen=True, slots=True)
class ResizeShortSide:
    """Scale the short side to `short_side` pixels and keep the aspect (the long side is rounded down)."""

    short_side: int
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        _check_size("short_side", self.short_side)
        _cv2_interpolation(self.interpolation)

    def __call__(self, frames_thwc: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return _resize_short_side(frames_thwc, self.short_side, self.interpolation)


@dataclass(frozen=True, slots=True)
class ShortSideJitter:
    """Scale the short side to a size drawn evenly from min_size to max_size; `inverse` draws 1 / size evenly.

    Source: SlowFast and TimeSformer, `random_short_side_scale_jitter`.
    """

    min_size: int = 256
    max_size: int = 320
    inverse: bool = False

    def __post_init__(self) -> None:
        _check_size("min_size", self.min_size)
        if self.max_size < self.min_size:
            raise ValueError(f"max_size {self.max_size} is less than min_size {self.min_size}")

    def __call__(self, frames_thwc: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if self.inverse:
            short_side = round(1 / rng.uniform(1 / self.max_size, 1 / self.min_size))
        else:
            short_side = round(rng.uniform(self.min_size, self.max_size))
        return _resize_short_side(frames_thwc, short_side, "bilinear")


@dataclass(frozen=True, slots=True)
class RandomCrop:
    """Cut a square of `size` at any place; a clip smaller than that is first scaled up until it fits."""

    size: int

    def __post_init__(self) -> None:
        _check_size("size", self.size)

    def __call__(self, frames_thwc: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if min(frames_thwc.shape[1:3]) < self.size:
            frames_thwc = _resize_short_side(frames_thwc, self.size, "bilinear")
        _, height, width, _ = frames_thwc.shape
        top = int(rng.integers(0, height - self.size + 1))
        left = int(rng.integers(0, width - self.size + 1))
        return frames_thwc[:, top : top + self.size, left : left + self.size]


@dataclass(frozen=True, slots=True)
class MultiScaleCrop:
    """Cut a rectangle with sides drawn from `scales` of the short side, then scale it to a square of `size`.

    Indices of the two sides in `scales` differ by at most `max_distort`. `fix_crop` cuts at the corners or the centre,
    `more_fix_crop` at 8 places between them as well; otherwise the place is drawn evenly.
    Source: Wang et al., Temporal Segment Networks, 2016; `GroupMultiScaleCrop`.
    """

    size: int
    scales: tuple[float, ...] = (1.0, 0.875, 0.75, 0.66)
    max_distort: int = 1
    fix_crop: bool = True
    more_fix_crop: bool = True

    def __post_init__(self) -> None:
        _check_size("size", self.size)
        if not self.scales or not all(0 < scale <= 1 for scale in self.scales):
            raise ValueError(f"scales {self.scales}: each must be greater than 0 and at most 1")
        if self.max_distort < 0:
            raise ValueError(f"max_distort {self.max_distort} must be at least 0")

    def __call__(self, frames_thwc: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        _, height, width, _ = frames_thwc.shape
        pairs = self.crop_sizes(height, width)
        crop_height, crop_width = pairs[rng.integers(len(pairs))]
        if self.fix_crop:
            offsets = crop_offsets(height, width, crop_height, crop_width, more=self.more_fix_crop)
            top, left = offsets[rng.integers(len(offsets))]
        else:
            top = int(rng.integers(0, height - crop_height + 1))
            left = int(rng.integers(0, width - crop_width + 1))
        crop = frames_thwc[:, top : top + crop_height, left : left + crop_width]
        return _resize(crop, self.size, self.size, "bilinear")

    def crop_sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """All (height, width) that a crop from a picture of this size may have."""
        short_side = min(height, width)
        sides = [max(1, int(short_side * scale)) for scale in self.scales]
        # A crop almost as large as the result is taken as large, so that it need not be scaled.
        sides = [min(self.size, short_side) if abs(side - self.size) < 3 else side for side in sides]
        return [
            (crop_height, crop_width)
            for i, crop_height in enumerate(sides)
            for j, crop_width in enumerate(sides)
            if abs(i - j) <= self.max_distort
        ]


@dataclass(frozen=True, slots=True)
class RandomResizedCrop:
    """Cut a rectangle of random area (a share of the picture) and width / height, then scale it to `size` squared.

    The ratio is drawn evenly on a logarithmic scale. If no rectangle fits in 10 tries, the centre square is taken.
    Source: Szegedy et al., Going Deeper with Convolutions, 2015; torchvision.
    """

    size: int
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        _check_size("size", self.size)
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale {self.scale} must be two rising numbers, greater than 0 and at most 1")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"ratio {self.ratio} must be two rising numbers greater than 0")

    def __call__(self, frames_thwc: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        _, height, width, _ = frames_thwc.shape
        top, left, crop_height, crop_width = self._draw(height, width, rng)
        crop = frames_thwc[:, top : top + crop_height, left : left + crop_width]
        return _resize(crop, self.size, self.size, "bilinear")

    def _draw(self, height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
        for _ in range(10):
            area = height * width * rng.uniform(*self.scale)
            ratio = math.exp(rng.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
            crop_width, crop_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < crop_width <= width and 0 < crop_height <= height:
                top = int(rng.integers(0, height - crop_height + 1))
                left = int(rng.integers(0, width - crop_width + 1))
                return top, left, crop_height, crop_width
        side = min(height, width)
        return (height - side) // 2, (width - side) // 2, side, side


@dataclass(frozen=True, slots=True)
class CenterCrop:
    """Cut the centre square of `size`; offsets are rounded down. Raises ValueError if the clip is smaller."""

    size: int

    def __post_init__(self) -> None:
        _check_size("size", self.size)

    def __call__(self, frames_thwc: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return center_crop(frames_thwc, self.size)[0]


@dataclass(frozen=True, slots=True)
class HorizontalFlip:
    """Mirror the clip with probability `prob`; the x of optical flow (2 channels) also changes its sign.

    Classes that name a direction ("pushing from left to right") are no longer right then: leave it out for
    Something-Something and Jester.
    """

    prob: float = 0.5

    def __post_init__(self) -> None:
        check_prob(self.prob)

    def __call__(self, frames_thwc: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return _mirror(frames_thwc) if rng.random() < self.prob else frames_thwc


# The crops of a test: uint8 [T, H, W, C] -> uint8 [S, T, size, size, C], written into `out` where that is given. Clips
# smaller than `size` raise ValueError. Maps of coordinates, of larger integers, may be cropped as well.


def center_crop(frames_thwc: np.ndarray, size: int, out: np.ndarray | None = None) -> np.ndarray:
    """The centre, offsets rounded down."""
    _, height, width, _ = frames_thwc.shape
    return _crops(frames_thwc, size, [((height - size) // 2, (width - size) // 2)], out)


def three_crops(frames_thwc: np.ndarray, size: int, out: np.ndarray | None = None) -> np.ndarray:
    """Left, centre, right of a landscape clip; top, centre, bottom of a portrait one; offsets rounded up.

    Source: SlowFast and TimeSformer, `uniform_crop`.
    """
    _, height, width, _ = frames_thwc.shape
    top, left = math.ceil((height - size) / 2), math.ceil((width - size) / 2)
    if height > width:
        offsets = [(0, left), (top, left), (height - size, left)]
    else:
        offsets = [(top, 0), (top, left), (top, width - size)]
    return _crops(frames_thwc, size, offsets, out)


def ten_crops(frames_thwc: np.ndarray, size: int, out: np.ndarray | None = None) -> np.ndarray:
    """Top left, top right, bottom left, bottom right, centre: each followed by its mirror image.

    The mirror images of optical flow have their x inverted. Source: TSN and TSM, `GroupOverSample`.
    """
    num_frames, height, width, channels = frames_thwc.shape
    if out is None:
        out = np.empty((10, num_frames, size, size, channels), frames_thwc.dtype)
    _crops(frames_thwc, size, crop_offsets(height, width, size, size, more=False), out[0::2])
    for crop, mirrored in zip(out[0::2], out[1::2], strict=True):
        _mirror(crop, mirrored)
    return out


@dataclass(frozen=True, slots=True)
class ViewCrop:
    """A way to crop for a test, and the number S of crops it makes."""

    crop: Callable[[np.ndarray, int, np.ndarray | None], np.ndarray]
    num_crops: int

    def __call__(self, frames_thwc: np.ndarray, size: int, out: np.ndarray | None = None) -> np.ndarray:
        return self.crop(frames_thwc, size, out)


VIEW_CROPS = {"center": ViewCrop(center_crop, 1), "three": ViewCrop(three_crops, 3), "ten": ViewCrop(ten_crops, 10)}


def crop_offsets(height: int, width: int, crop_height: int, crop_width: int, *, more: bool) -> list[tuple[int, int]]:
    """(top, left) of the four corners and the centre, with `more` of 8 places between them, in the order of TSN."""
    step_y, step_x = (height - crop_height) // 4, (width - crop_width) // 4
    places = [(0, 0), (4, 0), (0, 4), (4, 4), (2, 2)]
    if more:
        places += [(0, 2), (4, 2), (2, 4), (2, 0), (1, 1), (3, 1), (1, 3), (3, 3)]
    return [(y * step_y, x * step_x) for x, y in places]


# Helpers


def _crops(frames_thwc: np.ndarray, size: int, offsets: list[tuple[int, int]], out: np.ndarray | None) -> np.ndarray:
    num_frames, height, width, channels = frames_thwc.shape
    if size > min(height, width):
        raise ValueError(f"cannot cut {size}x{size} pixels from frames of {width}x{height}: resize them first")
    if out is None:
        out = np.empty((len(offsets), num_frames, size, size, channels), frames_thwc.dtype)
    for (top, left), crop in zip(offsets, out, strict=True):
        crop[:] = frames_thwc[:, top : top + size, left : left + size]
    return out  # [S, T, H, W, C]


def _mirror(frames_thwc: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    import cv2

    mirrored = np.empty(frames_thwc.shape, frames_thwc.dtype) if out is None else out
    if frames_thwc.dtype != np.uint8:
        mirrored[:] = frames_thwc[:, :, ::-1]
        return mirrored
    # NumPy takes 30 times as long to copy from right to left, whoever has to do it later where this is a view
    for frame, result in zip(frames_thwc, mirrored, strict=True):
        cv2.flip(frame, 1, dst=result)
    if frames_thwc.shape[-1] == 2:
        mirrored[..., 0] = 255 - mirrored[..., 0]
    return mirrored


def _resize_short_side(frames_thwc: np.ndarray, short_side: int, interpolation: Interpolation) -> np.ndarray:
    _, height, width, _ = frames_thwc.shape
    if height < width:
        return _resize(frames_thwc, short_side, width * short_side // height, interpolation)
    return _resize(frames_thwc, height * short_side // width, short_side, interpolation)


def _resize(frames_thwc: np.ndarray, height: int, width: int, interpolation: Interpolation) -> np.ndarray:
    num_frames, old_height, old_width, channels = frames_thwc.shape
    if (height, width) == (old_height, old_width):
        return frames_thwc
    import cv2

    flag = _cv2_interpolation(interpolation)
    resized = np.empty((num_frames, height, width, channels), np.uint8)
    for frame, result in zip(frames_thwc, resized, strict=True):
        cv2.resize(frame, (width, height), dst=result, interpolation=flag)
    return resized


def _cv2_interpolation(interpolation: Interpolation) -> int:
    # cv2.INTER_NEAREST, INTER_LINEAR, INTER_CUBIC and INTER_AREA, without importing cv2 to make a transform.
    flags = {"nearest": 0, "bilinear": 1, "bicubic": 2, "area": 3}
    if interpolation not in flags:
        raise ValueError(f"interpolation {interpolation!r} must be one of {', '.join(flags)}")
    return flags[interpolation]


def _check_size(name: str, size: int) -> None:
    if size < 1:
        raise ValueError(f"{name} {size} must be at least 1")


def check_prob(prob: float) -> None:
    if not 0 <= prob <= 1:
        raise ValueError(f"prob {prob} must be from 0 to 1")
