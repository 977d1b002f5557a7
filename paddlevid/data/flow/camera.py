"""The motion of the camera between two frames, and how it is taken out.

Source: Wang and Schmid, Action Recognition with Improved Trajectories, 2013.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_CELLS = 24  # along the short side; of each, its best corner is tracked: what has more texture has no more votes
_MIN_TEXTURE = 1e-4  # the smaller eigenvalue of a corner, of grey levels 0 to 1: above the noise of a plain wall
_MAX_RETURN = 0.5  # pixels between a corner and itself, tracked to the second picture and back
_INLIER = 1.0  # pixels
_REACHES = tuple(5.0 * 0.8**step for step in range(9))  # pixels at which points no longer count, in each refinement
_MIN_INLIERS = 20
_MIN_SHARE = 1 / 3  # of the corners that were tracked
_MIN_SPREAD = 0.15  # standard deviation over the side of the picture: 0.29 where they are all over it
_MAX_SHIFT = 0.25  # of a corner of the picture, over its longer side
_STILL = 0.1  # pixels: less is not told from noise, and is less than a grey level of pictures up to 20 pixels


def camera_motion(first_hw: np.ndarray, second_hw: np.ndarray) -> np.ndarray | None:
    """The homography from places of the second picture to those of the first: float64 `[3, 3]`.

    None if the camera stands still, or if what moves like a plane is too little, or too badly spread, to be sure of.

    Args:
        first_hw, second_hw: grey pictures, uint8 `[H, W]`.
    """
    import cv2

    first, second = _track(first_hw, second_hw)
    if len(first) < _MIN_INLIERS:
        return None
    # OpenCV draws from a generator of its own with a fixed seed: the same pictures give the same matrix
    matrix, _ = cv2.findHomography(second, first, cv2.RANSAC, _INLIER)
    if matrix is None:
        return None
    for reach in _REACHES:
        distances = _distances(matrix, second, first)
        if not _are_sure(first[distances < _INLIER], len(first), first_hw.shape):
            return None
        # Tukey's weights: those of whole inliers would hang on which ones RANSAC happened to find
        weights = np.square(1 - np.square(np.minimum(distances / reach, 1)))
        try:
            matrix = _fit(second, first, weights)
        except np.linalg.LinAlgError:
            return None
    return matrix if _is_plausible(matrix, first_hw.shape) else None


def undo_camera_motion(first_hw: np.ndarray, second_hw: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The second picture as a still camera would have seen it; where it does not reach, the first stands."""
    import cv2

    height, width = first_hw.shape
    # Bicubic leaves twice the residual flow of bilinear here, and spoils the edge of what is reached
    border = cv2.BORDER_TRANSPARENT
    return cv2.warpPerspective(second_hw, matrix, (width, height), dst=first_hw.copy(), borderMode=border)


def _track(first_hw: np.ndarray, second_hw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of the same points in both pictures, float32 `[N, 2]` each, evenly over the first one."""
    import cv2

    corners = _corners(first_hw)
    if not len(corners):
        return corners, corners
    # Windows that grow with the picture: those of a small one would reach from what moves to what does not
    side = max(7, min(15, min(first_hw.shape) // 16 | 1))
    options: dict[str, Any] = {"winSize": (side, side), "maxLevel": 4, "criteria": (3, 30, 0.001)}
    there, found, _ = cv2.calcOpticalFlowPyrLK(first_hw, second_hw, corners, None, **options)
    back, found_back, _ = cv2.calcOpticalFlowPyrLK(second_hw, first_hw, there, None, **options)
    returned = np.linalg.norm(back - corners, axis=-1) < _MAX_RETURN
    kept = (found[:, 0] > 0) & (found_back[:, 0] > 0) & returned
    return corners[kept], there[kept]


def _corners(picture_hw: np.ndarray) -> np.ndarray:
    """The best corner of each cell of a grid, where it is one: x and y, float32 `[N, 2]`."""
    import cv2

    strength = cv2.cornerMinEigenVal(picture_hw, 3)
    height, width = strength.shape
    side = max(2, min(height, width) // _CELLS)
    rows, columns = height // side, width // side
    cells = strength[: rows * side, : columns * side].reshape(rows, side, columns, side)
    cells = cells.transpose(0, 2, 1, 3).reshape(rows * columns, side * side)
    best = cells.argmax(axis=1)
    row, column = np.divmod(np.arange(rows * columns), columns)
    places = np.stack([column * side + best % side, row * side + best // side], axis=-1)
    return places[cells.max(axis=1) > _MIN_TEXTURE].astype(np.float32)


def _distances(matrix: np.ndarray, second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """How far the points of the second picture come from those of the first, in pixels `[N]`."""
    import cv2

    return np.linalg.norm(cv2.perspectiveTransform(second[:, None], matrix)[:, 0] - first, axis=-1)


def _fit(second: np.ndarray, first: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The homography from points of the second picture to those of the first, by weighted least squares.

    Raises:
        LinAlgError: the points do not tell it.
    """
    centre = first.mean(axis=0)
    size = float(np.abs(first - centre).max())  # the equations are ill-conditioned in pixels
    x, y = ((second - centre) / size).T.astype(np.float64)
    u, v = ((first - centre) / size).T.astype(np.float64)
    zero, one = np.zeros_like(x), np.ones_like(x)
    rows = [[x, y, one, zero, zero, zero, -u * x, -u * y], [zero, zero, zero, x, y, one, -v * x, -v * y]]
    equations = np.array(rows)  # [2, 8, N]
    # By einsum, not by a BLAS: the sums of that hang on its threads, and its threads take the cores of other workers
    square = np.einsum("kin,kjn,n->ij", equations, equations, weights)
    solution = np.linalg.solve(square, np.einsum("kin,kn,n->i", equations, np.array([u, v]), weights))
    scale = np.array([[1 / size, 0, -centre[0] / size], [0, 1 / size, -centre[1] / size], [0, 0, 1]])
    matrix = np.linalg.inv(scale) @ np.append(solution, 1).reshape(3, 3) @ scale
    return matrix / matrix[2, 2]


def _are_sure(inliers: np.ndarray, num_points: int, shape: tuple[int, ...]) -> bool:
    """Whether so many of the points move like one plane, and all over the picture."""
    if len(inliers) < max(_MIN_INLIERS, _MIN_SHARE * num_points):
        return False
    x, y = (inliers.astype(np.float64) / np.array(shape[::-1])).T
    mean, difference = (x.var() + y.var()) / 2, (x.var() - y.var()) / 2
    covariance = ((x - x.mean()) * (y - y.mean())).mean()
    return bool(mean - np.hypot(difference, covariance) > _MIN_SPREAD**2)  # the smaller of the principal variances


def _is_plausible(matrix: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether a camera moves like that from frame to frame, and does move."""
    height, width = shape
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]], np.float64)
    moved = corners @ matrix.T
    if not np.isfinite(moved).all() or (moved[:, 2] <= 0).any():
        return False
    shift = float(np.linalg.norm(moved[:, :2] / moved[:, 2:] - corners[:, :2], axis=-1).max())
    return _STILL < shift < _MAX_SHIFT * max(shape)
