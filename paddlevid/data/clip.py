"""From the indices that were asked for to the frames that are decoded, and back."""

import numpy as np

from paddlevid.errors import DataError


def distinct(indices: np.ndarray, num_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """The distinct indices, rising, and for each index its rank among them."""
    indices = np.asarray(indices)
    if indices.ndim != 1 or not indices.size or not np.issubdtype(indices.dtype, np.integer):
        raise ValueError(f"indices must be a row of whole numbers, not {indices.dtype} of shape {indices.shape}")
    if indices.min() < 0 or indices.max() >= num_frames:
        raise IndexError(f"indices {indices.min()} to {indices.max()} of a video with {num_frames} frames")
    return np.unique(indices, return_inverse=True)


class Clip:
    """Collects distinct frames into uint8 `[T, H, W, C]`, each at all its places, as they come."""

    def __init__(self, path: str, positions: np.ndarray) -> None:
        self._path = path
        self._positions = positions
        self._frames: np.ndarray | None = None

    def put(self, rank: int, frame_hwc: np.ndarray) -> None:
        if self._frames is None:
            self._frames = np.empty((len(self._positions), *frame_hwc.shape), np.uint8)
        if frame_hwc.shape != self._frames.shape[1:]:
            (height, width), (first_height, first_width) = frame_hwc.shape[:2], self._frames.shape[1:3]
            raise DataError(
                f"{self._path}: frames differ in size, {first_width}x{first_height} and {width}x{height} pixels"
            )
        self._frames[self._positions == rank] = frame_hwc

    def frames(self) -> np.ndarray:
        assert self._frames is not None
        return self._frames
