"""How the optical flow between two frames is computed, and written in 8 bits."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from paddlevid.data.flow.camera import camera_motion, undo_camera_motion
from paddlevid.data.transforms import ResizeShortSide
from paddlevid.errors import ConfigError, DataError

ALGORITHMS = ("tvl1", "dis", "farneback")

_TVL1_HINT = (
    "TV-L1 optical flow is in OpenCV's contrib modules alone: pip uninstall -y opencv-python opencv-python-headless"
    " && pip install opencv-contrib-python-headless"
)
# Those of denseflow and of OpenCV itself
_TVL1: dict[str, Any] = {
    "tau": 0.25,
    "lambda": 0.15,
    "theta": 0.3,
    "nscales": 5,
    "warps": 5,
    "epsilon": 0.01,
    "innnerIterations": 30,
    "outerIterations": 10,
    "scaleStep": 0.8,
    "gamma": 0.0,
    "medianFiltering": 5,
}
# Those of OpenCV's preset "medium", but: down to single pixels, which halves the error at the edges of what moves, in
# small pictures also within; without propagation from patch to patch, which follows the noise of compressed videos and
# goes another way in mirrored pictures; smoother, against that noise, too; and with fewer patches, which is faster.
# Pictures with sides below `smallest_side` get a border: in them it would begin at half their size, too fine for what
# is fast.
_DIS: dict[str, Any] = {
    "preset": "medium",
    "smallest_side": 96,
    "FinestScale": 0,
    "PatchStride": 4,
    "UseSpatialPropagation": False,
    "VariationalRefinementAlpha": 30.0,
}
# Those of denseflow
_FARNEBACK: dict[str, Any] = {
    "pyr_scale": 0.5,
    "levels": 5,
    "winsize": 13,
    "iterations": 10,
    "poly_n": 5,
    "poly_sigma": 1.1,
    "flags": 0,
}
SMALLEST_SIDE = 16  # of a frame, in pixels: of less, OpenCV makes noise or an error
_PARAMETERS = {"tvl1": _TVL1, "dis": _DIS, "farneback": _FARNEBACK}
_VERSION = 1  # of what this package does; one more, and no stored flow of before is taken for one of now
_NO_RANDOMNESS = np.random.default_rng(0)


def choose_algorithm(name: str) -> str:
    """The algorithm of this name; of "auto", TV-L1 where this OpenCV has it, else DIS.

    Raises:
        ConfigError: there is no such algorithm, or it is not installed.
    """
    if name == "auto":
        return "dis" if tvl1_hint() else "tvl1"
    if name not in ALGORITHMS:
        raise ConfigError(f"optical flow algorithm {name!r} must be one of auto, {', '.join(ALGORITHMS)}")
    if name == "tvl1" and tvl1_hint():
        raise ConfigError(f"{tvl1_hint()}; or take dis, which every OpenCV has")
    return name


def tvl1_hint() -> str:
    """What to install for TV-L1, in a line; nothing where it is there."""
    import cv2

    return "" if hasattr(getattr(cv2, "optflow", None), "DualTVL1OpticalFlow_create") else _TVL1_HINT


@dataclass(frozen=True)
class FlowMethod:
    """All that the flow between two frames depends on, but the frames.

    Args:
        algorithm: one of ALGORITHMS; `choose_algorithm` finds the best one that is installed.
        bound: the fastest motion that a picture tells, in pixels a frame; what is faster is stored as this.
        short_side: what the short side of frames is scaled to before, in pixels; None leaves them as they are.
        warp: whether the motion of the camera is taken out, as in the warped flow of TSN.

    Calls may come from several threads at once, and give the same bits with any number of them.
    """

    algorithm: str = "dis"
    bound: float = 20.0
    short_side: int | None = None
    warp: bool = False

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            raise ValueError(f"algorithm {self.algorithm!r} must be one of {', '.join(ALGORITHMS)}")
        if not (math.isfinite(self.bound) and self.bound > 0):
            raise ValueError(f"bound {self.bound} must be a number of pixels greater than 0")
        if self.short_side is not None and self.short_side < SMALLEST_SIDE:
            raise ValueError(f"short_side {self.short_side} must be at least {SMALLEST_SIDE} pixels")

    def scale(self, frame_hwc: np.ndarray) -> np.ndarray:
        """A frame at the size at which its flow is computed: uint8 RGB `[H, W, 3]` -> `[h, w, 3]`."""
        if self.short_side is None:
            return frame_hwc
        # Sampled without smoothing, what is fine would shimmer from frame to frame: motion that is none
        is_smaller = self.short_side < min(frame_hwc.shape[:2])
        resize = ResizeShortSide(self.short_side, "area" if is_smaller else "bilinear")
        return resize(frame_hwc[None], _NO_RANDOMNESS)[0]

    def flow(self, first_hwc: np.ndarray, second_hwc: np.ndarray) -> np.ndarray:
        """Where each pixel of the first frame goes: float32 `[H, W, 2]`, x and y in pixels, right and down.

        Args:
            first_hwc, second_hwc: scaled frames, uint8 RGB `[H, W, 3]`.

        Raises:
            DataError: the frames differ in size, or are too small, or the result is not a number somewhere.
        """
        if first_hwc.shape != second_hwc.shape:
            sizes = " and ".join(f"{frame.shape[1]}x{frame.shape[0]}" for frame in (first_hwc, second_hwc))
            raise DataError(f"no optical flow between frames of {sizes} pixels: they differ in size")
        height, width = first_hwc.shape[:2]
        if min(height, width) < SMALLEST_SIDE:
            raise DataError(
                f"frames of {width}x{height} pixels are too small for optical flow: short_side of at least"
                f" {SMALLEST_SIDE} scales them up"
            )
        first, second = _grey(first_hwc), _grey(second_hwc)
        if self.warp:
            matrix = camera_motion(first, second)
            if matrix is not None:
                second = undo_camera_motion(first, second, matrix)
        return _dense_flow(self.algorithm, first, second)

    def picture(self, first_hwc: np.ndarray, second_hwc: np.ndarray) -> np.ndarray:
        """The flow in 8 bits: uint8 `[H, W, 2]`, x and y, 128 = no motion. Arguments and errors are those of `flow`."""
        return encode(self.flow(first_hwc, second_hwc), self.bound)

    def settings(self) -> dict[str, Any]:
        """All that the pictures depend on, for JSON; what computes flow differs between versions of OpenCV."""
        import cv2

        parameters = dict(_PARAMETERS[self.algorithm])
        return {**asdict(self), "parameters": parameters, "opencv": cv2.__version__, "version": _VERSION}


def encode(flow_hw2: np.ndarray, bound: float) -> np.ndarray:
    """Flow in pixels, float `[..., 2]`, as 8 bits: -bound -> 0, no motion -> 128, bound -> 255; beyond, it is clipped.

    Source: TSN's and denseflow's pictures, (f + bound) * 255 / (2 * bound), to the nearest even of two as near.

    Raises:
        DataError: the flow holds what is no finite number.
    """
    if not np.isfinite(flow_hw2).all():
        count = int((~np.isfinite(flow_hw2)).any(axis=-1).sum())
        raise DataError(f"optical flow: {count} pixels are not finite numbers")
    # The same formula, written so that no rounding of the bound moves the zero off 127.5
    return np.rint(np.clip(flow_hw2 * (127.5 / bound), -127.5, 127.5) + 127.5).astype(np.uint8)


def decode(pictures: np.ndarray, bound: float) -> np.ndarray:
    """The flow in pixels, float32 `[..., 2]`, of 8-bit pictures; what was still comes back as half a step of motion."""
    return (pictures.astype(np.float32) - np.float32(127.5)) * np.float32(bound / 127.5)


def _grey(frame_hwc: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.cvtColor(frame_hwc, cv2.COLOR_RGB2GRAY)  # [H, W]


def _dense_flow(algorithm: str, first_hw: np.ndarray, second_hw: np.ndarray) -> np.ndarray:
    """Where each pixel of the first picture goes, in pixels: float32 `[H, W, 2]`, of uint8 `[H, W]`."""
    import cv2

    # Objects are made for each pair: they keep what they chose for the size of another picture, and one of them cannot
    # serve two threads. It costs microseconds.
    if algorithm == "farneback":
        return cv2.calcOpticalFlowFarneback(first_hw, second_hw, None, **_FARNEBACK)
    if algorithm == "dis":
        return _dis_flow(first_hw, second_hw)
    tvl1 = cv2.optflow.DualTVL1OpticalFlow_create(*_TVL1.values())  # type: ignore[attr-defined]
    return tvl1.calc(first_hw, second_hw, None)


def _dis_flow(first_hw: np.ndarray, second_hw: np.ndarray) -> np.ndarray:
    import cv2

    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)  # type: ignore[attr-defined]
    for name, value in _DIS.items():
        if name[0].isupper():
            getattr(dis, f"set{name}")(value)
    height, width = first_hw.shape
    # As much on both sides, so that mirrored pictures have the mirrored flow
    top, left = (max(0, _DIS["smallest_side"] - side + 1) // 2 for side in (height, width))
    first, second = (
        cv2.copyMakeBorder(picture, top, top, left, left, cv2.BORDER_REPLICATE) for picture in (first_hw, second_hw)
    )
    return np.ascontiguousarray(dis.calc(first, second, None)[top : top + height, left : left + width])
