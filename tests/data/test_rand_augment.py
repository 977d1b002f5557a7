"""RandAugment's operations on levels and places worked by hand."""

import numpy as np
import pytest

from paddlevid.data import rand_augment
from paddlevid.data.rand_augment import RAND_AUGMENT_OPS, RandAugment


def noise(num_frames=4, height=48, width=64, channels=3):
    return np.random.default_rng(0).integers(0, 256, (num_frames, height, width, channels), np.uint8)


@pytest.mark.parametrize(
    ("op", "strength", "sign", "levels", "expected"),
    [
        ("invert", 0.9, 1, [0, 100, 255], [255, 155, 0]),
        ("posterize", 1.0, 1, [15, 16, 255], [0, 16, 240]),  # 4 bits are left
        ("solarize", 0.5, 1, [127, 128, 255], [127, 127, 0]),  # inverts from 128 on
        ("solarize_add", 1.0, 1, [10, 127, 128], [120, 237, 128]),
        ("brightness", 1.0, -1, [0, 100, 250], [0, 10, 25]),
        ("auto_contrast", 0.9, 1, [50, 75, 100], [0, 128, 255]),
    ],
)
def test_rand_augment_operations_on_levels(op, strength, sign, levels, expected):
    frames = np.repeat(np.array(levels, np.uint8)[None, None, :, None], 3, axis=3)  # [1, 1, W, 3]
    out = RAND_AUGMENT_OPS[op](frames, strength, sign)
    assert out[0, 0, :, 0].tolist() == expected


def test_equalize_spreads_the_levels():
    levels = np.repeat(np.arange(100, 116), 16).astype(np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    out = np.unique(RAND_AUGMENT_OPS["equalize"](levels, 0.9, 1)[..., 0])
    # 16 pixels a level: PIL's step is (256 - 16) // 255 = 0, which leaves the picture alone
    np.testing.assert_array_equal(out, np.arange(100, 116))
    out = np.unique(RAND_AUGMENT_OPS["equalize"](levels.repeat(17, axis=1), 0.9, 1)[..., 0])
    # 272 a level: step (4352 - 272) // 255 = 16, level k becomes (272 k + 8) // 16 = 17 k
    np.testing.assert_array_equal(out, 17 * np.arange(16))


@pytest.mark.parametrize("op", sorted(RAND_AUGMENT_OPS.keys() - {"auto_contrast", "equalize", "invert"}))
def test_operations_of_no_strength_change_nothing(op):
    frames = noise()
    out = RAND_AUGMENT_OPS[op](frames, 0.0, 1.0)
    assert np.abs(out.astype(int) - frames).max() <= (1 if op == "color" else 0)


def test_geometric_operations():
    frames = noise(1, 40, 40)
    shifted = RAND_AUGMENT_OPS["translate_x"](frames, 0.5 / 0.45 * 0.2, 1.0)  # 10 % of 40 pixels, to the right
    np.testing.assert_array_equal(shifted[:, :, 4:], frames[:, :, :-4])
    assert (shifted[:, :, :4] == 128).all()
    sheared = rand_augment._affine(frames, shear_y=0.0, shift_y=-0.1)
    np.testing.assert_array_equal(sheared[:, :-4], frames[:, 4:])
    turned = rand_augment._affine(frames, degrees=90)
    assert np.abs(turned.astype(int) - np.rot90(frames, -1, axes=(1, 2)))[:, 1:-1, 1:-1].max() <= 1


def test_impossible_magnitude():
    with pytest.raises(ValueError, match="magnitude 11 from 0 to 10"):
        RandAugment(magnitude=11)
