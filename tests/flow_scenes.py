"""Pictures whose motion is known, drawn by formula: no resampling stands between them and the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


class Texture:
    """A sum of waves, evaluated anywhere."""

    def __init__(self, seed: int, shortest: float = 5.0, num_waves: int = 80) -> None:
        rng = np.random.default_rng(seed)
        lengths = np.exp(rng.uniform(np.log(shortest), np.log(100), num_waves))
        angles = rng.uniform(0, 2 * np.pi, num_waves)
        self.waves = np.stack([np.cos(angles), np.sin(angles)]) * (2 * np.pi / lengths)
        self.phases = rng.uniform(0, 2 * np.pi, num_waves)
        self.heights = np.sqrt(lengths) * 45 / np.sqrt(lengths.sum() / 2)

    def __call__(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        grey = np.full(x.shape, 128.0)
        for wave_x, wave_y, phase, height in zip(*self.waves, self.phases, self.heights, strict=True):
            grey += height * np.sin(wave_x * x + wave_y * y + phase)
        return grey


def places(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:height, :width].astype(np.float64)
    return x, y


def motion(
    height: int, width: int, shift: tuple[float, float] = (0, 0), zoom: float = 1.0, degrees: float = 0.0
) -> np.ndarray:
    """Where points go: `[3, 3]`, turned and zoomed about the centre, then shifted."""
    cosine, sine = zoom * np.cos(np.radians(degrees)), zoom * np.sin(np.radians(degrees))
    x, y = (width - 1) / 2, (height - 1) / 2
    return np.array(
        [
            [cosine, -sine, shift[0] + x - cosine * x + sine * y],
            [sine, cosine, shift[1] + y - sine * x - cosine * y],
            [0, 0, 1],
        ]
    )


def moved(matrix: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2], matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]


def as_frame(grey: np.ndarray) -> np.ndarray:
    return np.repeat(np.clip(np.rint(grey), 0, 255).astype(np.uint8)[..., None], 3, axis=-1)


def moving_picture(height: int, width: int, seed: int, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two frames and the flow between them, NaN where it leaves the picture."""
    texture, (x, y) = Texture(seed), places(height, width)
    goal_x, goal_y = moved(matrix, x, y)
    flow = np.stack([goal_x - x, goal_y - y], axis=-1)
    flow[(goal_x < 0) | (goal_x > width - 1) | (goal_y < 0) | (goal_y > height - 1)] = np.nan
    second = texture(*moved(np.linalg.inv(matrix), x, y))
    return as_frame(texture(x, y)), as_frame(second), flow


@dataclass(frozen=True)
class CameraScene:
    """Two frames of a moving camera, and which pixels of the first are surely of the object and of the background."""

    first: np.ndarray
    second: np.ndarray
    is_object: np.ndarray
    is_background: np.ndarray


def camera_scene(
    camera: np.ndarray, velocity: tuple[float, float], radii: tuple[float, float], height: int = 192, width: int = 256
) -> CameraScene:
    """A camera moves by `camera` while an elliptic object in the middle moves by `velocity` over the background.

    Some noise is added to each frame.
    """
    background, texture, rng = Texture(1), Texture(2, shortest=4.0), np.random.default_rng(0)
    x, y = places(height, width)
    centre, frames = (width / 2, height / 2), []
    for matrix, (shift_x, shift_y) in ((np.eye(3), (0.0, 0.0)), (np.linalg.inv(camera), velocity)):
        world_x, world_y = moved(matrix, x, y)
        own_x, own_y = world_x - shift_x, world_y - shift_y
        outside = np.hypot((own_x - centre[0]) / radii[0], (own_y - centre[1]) / radii[1]) - 1
        share = np.clip(0.5 - outside * min(radii), 0, 1)  # the edge is a pixel wide
        grey = share * texture(own_x, own_y) + (1 - share) * background(world_x, world_y)
        frames.append(as_frame(grey + rng.normal(0, 2, grey.shape)))
    distance = (np.hypot((x - centre[0]) / radii[0], (y - centre[1]) / radii[1]) - 1) * min(radii)
    return CameraScene(frames[0], frames[1], distance < -4, distance > 8)
