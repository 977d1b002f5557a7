from __future__ import annotations

import numpy as np

from paddlevid.data.flow.colours import flow_colours


def colour_of(x: float, y: float) -> list[int]:
    """The colour of a flow among others of which the fastest is 127 levels."""
    picture = np.full((20, 20, 2), 128, np.uint8)
    picture[:10] = 255
    picture[:10, :, 1] = 128
    picture[15, 15] = x, y
    return flow_colours(picture)[15, 15].tolist()


def test_no_motion_is_white_also_in_a_mirrored_flow() -> None:
    for x, y in ((128, 128), (127, 128), (127, 127)):
        assert colour_of(x, y) == [255, 255, 255]
    assert (flow_colours(np.full((3, 8, 8, 2), 128, np.uint8)) == 255).all()


def test_the_direction_is_the_hue_and_the_speed_the_saturation() -> None:
    assert colour_of(255, 128) == [255, 0, 0]
    red, green, blue = colour_of(128, 255)
    assert red == 255
    assert (green > 200, blue < 60) == (True, True)  # yellow
    red, green, blue = colour_of(0, 128)
    assert (red < 60, green > 150, blue >= green) == (True, True, True)  # light blue
    red, green, blue = colour_of(128, 0)
    assert (green < 10, red > 80, blue > red) == (True, True, True)  # violet
    red, green, blue = colour_of(128 + 64, 128)
    assert red == 255
    assert 120 <= green == blue <= 135


def test_noise_of_what_stands_still_stays_pale() -> None:
    picture = np.random.default_rng(0).integers(127, 130, (2, 30, 30, 2)).astype(np.uint8)
    colours = flow_colours(picture)
    assert (colours.shape, colours.dtype) == ((2, 30, 30, 3), np.uint8)
    assert colours.min() > 180
    assert flow_colours(picture[:0]).shape == (0, 30, 30, 3)
