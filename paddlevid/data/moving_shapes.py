"""Clips of textured shapes that move over textured backgrounds, and of which no single frame tells the motion.

Every clip draws a path through place, angle and size. Its motion says which of them is run through, and in which
direction; the others stand still at one random instant of their own path. So a single frame of any clip has the same
distribution whatever the motion, and a clip played backwards is a clip of the opposite motion.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from paddlevid.errors import DataError

if TYPE_CHECKING:
    import numpy as np

# class -> the coordinate it runs through, and whether backwards (y grows downwards, so a growing angle is clockwise)
MOTIONS = {
    "left": ("x", True),
    "right": ("x", False),
    "up": ("y", True),
    "down": ("y", False),
    "clockwise": ("angle", False),
    "counter-clockwise": ("angle", True),
    "growing": ("log_radius", False),
    "shrinking": ("log_radius", True),
}

# All point along x before they are turned, and none looks like itself turned.
OUTLINES = {
    "arrow": ((-3, -1), (0, -1), (0, -3), (4, 0), (0, 3), (0, 1), (-3, 1)),
    "wedge": ((-3, -3), (4, 0), (-3, 3), (-1.5, 0)),
    "drop": ((4.5, 0), (1, 1.6), (-1, 2), (-2.5, 1.2), (-3, 0), (-2.5, -1.2), (-1, -2), (1, -1.6)),
    "hammer": ((-4, -1), (1, -1), (1, -3.5), (3, -3.5), (3, 2.5), (1, 2.5), (1, 1), (-4, 1)),
    "flag": ((-4, -0.5), (0, -0.5), (0, -2), (4, -2), (4, 3), (0, 3), (0, 0.5), (-4, 0.5)),
}

# Place and radius are fractions of the frame's side; a shape never leaves the frame: PLACE[0] > RADIUS[1].
PLACE = (0.25, 0.75)
PLACE_TRAVEL = (0.36, 0.47)
RADIUS = (0.12, 0.24)
RADIUS_RATIO = (1.6, 1.9)
# Shapes point more or less upwards; any direction at all would make a turn far harder to learn than the other motions.
ANGLE_DEGREES = (-170.0, -10.0)
TURN_DEGREES = (110.0, 150.0)
# speed over the clip runs from 1 - EASE to 1 + EASE times its mean, or the other way
EASE = 0.35
# a change of what a clip looks like changes this, so that a folder never holds clips of two kinds
RECIPE = 2


def render_clip(motion: str, rng: np.random.Generator, num_frames: int = 32, size: int = 96) -> np.ndarray:
    """One clip of a textured shape that moves over a textured background that does not.

    With generators in the same state, the clips of two opposite motions are each other's frames in reverse order.

    Returns uint8 `[T, H, W, 3]`, RGB, with `T = num_frames` and `H = W = size`.
    Raises DataError for a motion that is not in `MOTIONS`.
    """
    import cv2
    import numpy as np

    if motion not in MOTIONS:
        raise DataError(f"motion {motion!r} is unknown: choose from {', '.join(MOTIONS)}")
    path = _path(motion, rng, num_frames)
    back_colour, shape_colour = _colours(rng)
    background = back_colour + 0.05 * _noise(rng, size, 4) + 0.04 * _noise(rng, size, 12)  # [H, W, 3]
    sprite = _sprite(rng, shape_colour, side=2 * round(size * RADIUS[1]) + 2)  # [S, S, 4]
    half = sprite.shape[0] / 2

    frames_thwc = np.empty((num_frames, size, size, 3), np.uint8)
    for t, (x, y, angle, log_radius) in enumerate(path):
        scale = np.exp(log_radius) * size / half
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        # pixel centres lie at whole numbers for OpenCV: the sprite's middle is half - 0.5, the place is x * size - 0.5
        shift = np.array([x, y]) * size - 0.5 - turn @ [half - 0.5, half - 0.5]
        placed = cv2.warpAffine(sprite, np.column_stack([turn, shift]), (size, size))  # [H, W, 4]
        frame = background * (1 - placed[..., 3:]) + placed[..., :3]
        frames_thwc[t] = np.clip(frame * 255 + 0.5, 0, 255)
    return frames_thwc


def _path(motion: str, rng: np.random.Generator, num_frames: int) -> np.ndarray:
    """Float64 `[T, 4]`: x, y (fractions of the side), angle (radians), log of the radius. Draws do not see `motion`."""
    import numpy as np

    elapsed = np.linspace(0, 1, num_frames)
    progress = elapsed + rng.uniform(-EASE, EASE) * elapsed * (1 - elapsed)  # [T], 0 to 1
    moving, backwards = MOTIONS[motion]
    log_low, log_high = np.log(RADIUS)
    # coordinate -> lowest place, highest place, travel
    ranges = {
        "x": (*PLACE, rng.uniform(*PLACE_TRAVEL)),
        "y": (*PLACE, rng.uniform(*PLACE_TRAVEL)),
        "angle": (*np.deg2rad(ANGLE_DEGREES), np.deg2rad(rng.uniform(*TURN_DEGREES))),
        "log_radius": (log_low, log_high, np.log(rng.uniform(*RADIUS_RATIO))),
    }
    columns = []
    for coordinate, (low, high, travel) in ranges.items():
        places = rng.uniform(low, high - travel) + travel * progress
        still = np.full(num_frames, places[rng.integers(num_frames)])
        columns.append(places if coordinate == moving else still)
    path = np.column_stack(columns)  # [T, 4]
    return path[::-1] if backwards else path


def _colours(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Colours of the background and of the shape, float64 `[3]` in 0 to 1; the shape is the brighter one."""
    import numpy as np

    back = rng.uniform(0.1, 0.3)
    shape = back + rng.uniform(0.45, 0.6)
    tints = rng.uniform(-1, 1, (2, 3)) * np.array([[0.1], [0.2]])
    tints -= tints @ np.array([[0.299], [0.587], [0.114]])
    return back + tints[0], shape + tints[1]


def _noise(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """Smooth noise with about `cells` bumps to a side: float32 `[size, size, 3]`, mostly within -1 to 1."""
    import cv2
    import numpy as np

    coarse = rng.uniform(-1, 1, (cells, cells, 3)).astype(np.float32)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def _sprite(rng: np.random.Generator, colour: np.ndarray, side: int) -> np.ndarray:
    """A textured shape of radius side / 2 around its centroid: float32 `[S, S, 4]`, RGB times alpha, and alpha."""
    import cv2
    import numpy as np

    names = list(OUTLINES)
    points = np.array(OUTLINES[names[rng.integers(len(names))]], np.float64)  # [P, 2]
    points[:, 1] *= rng.choice([-1, 1])
    moments = cv2.moments(points.astype(np.float32).reshape(-1, 1, 2))  # [P, 1, 2]
    points -= np.array([moments["m10"], moments["m01"]]) / moments["m00"]
    points /= np.linalg.norm(points, axis=1).max()

    texture = np.clip(colour + 0.15 * _noise(rng, side, 3) + 0.08 * _noise(rng, side, 8), 0, 1)
    alpha = np.zeros((side, side), np.float32)
    # one pixel of border keeps the edge soft; OpenCV takes corners in fixed point, here with 4 binary places
    corners = np.round((points * (side / 2 - 1) + side / 2 - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(alpha, [corners], (1.0,), shift=4)
    alpha = cv2.GaussianBlur(alpha, (3, 3), 0)[..., None]  # [S, S, 1]
    return np.concatenate([texture * alpha, alpha], axis=2).astype(np.float32)
