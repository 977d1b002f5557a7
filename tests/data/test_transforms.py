"""Transforms: closed formulas on gradients, cases worked by hand, and one draw per clip for all of them."""

import numpy as np
import pytest

from paddlevid.data import transforms as tr
from paddlevid.data.transforms import VIEW_CROPS, center_crop, ten_crops, three_crops

TRANSFORMS = [
    tr.ResizeShortSide(40),
    tr.ShortSideJitter(40, 60),
    tr.ShortSideJitter(40, 60, inverse=True),
    tr.RandomCrop(32),
    tr.MultiScaleCrop(32),
    tr.MultiScaleCrop(32, fix_crop=False),
    tr.RandomResizedCrop(32),
    tr.CenterCrop(32),
    tr.HorizontalFlip(0.5),
    tr.ColorJitter(),
    tr.Grayscale(0.5),
    tr.GaussianBlur(0.5),
    tr.Solarize(0.5),
    tr.RandAugment(),
    tr.RandAugment(num_ops=4, op_prob=1.0),
]


def noise(num_frames=4, height=48, width=64, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (num_frames, height, width, channels), np.uint8)


def places(height, width):
    """A frame whose two channels are the row and the column of each pixel."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns], axis=-1).astype(np.uint8)[None]  # [1, H, W, 2]


@pytest.mark.parametrize("transform", TRANSFORMS, ids=str)
def test_one_draw_per_clip_from_the_rng_alone_and_the_input_stays(transform):
    frames = np.repeat(noise(1), 3, axis=0)
    frames.flags.writeable = False
    results = set()
    for seed in range(12):
        out = transform(frames, np.random.default_rng(seed))
        assert out.dtype == np.uint8
        assert out.shape[0] == 3
        assert out.shape[3] == 3
        assert (out == out[:1]).all()  # identical frames stay identical
        np.testing.assert_array_equal(out, transform(frames, np.random.default_rng(seed)))
        results.add(out.tobytes())
    deterministic = isinstance(transform, tr.ResizeShortSide | tr.CenterCrop)
    assert (len(results) == 1) == deterministic


@pytest.mark.parametrize(("height", "width", "new"), [(48, 64, 40), (64, 48, 40), (48, 64, 100), (50, 50, 31)])
def test_bilinear_resize_samples_at_half_pixel_centres(height, width, new):
    frames = noise(2, height, width)
    resized = tr.ResizeShortSide(new)(frames, np.random.default_rng(0))
    expected_shape = (new, width * new // height) if height <= width else (height * new // width, new)
    assert resized.shape[1:3] == expected_shape

    expected = frames.astype(float)
    for axis, size in ((1, expected_shape[0]), (2, expected_shape[1])):
        old = expected.shape[axis]
        centres = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, old - 1)
        low = np.minimum(np.floor(centres).astype(int), old - 2)
        share = (centres - low).reshape([-1 if a == axis else 1 for a in range(4)])
        expected = expected.take(low, axis) * (1 - share) + expected.take(low + 1, axis) * share
    assert np.abs(resized - expected).max() <= 1.0  # rounding, in fixed point


def test_resize_keeps_what_is_right_already():
    frames = noise()
    assert tr.ResizeShortSide(48)(frames, np.random.default_rng(0)) is frames


def test_short_side_jitter_draws_the_whole_range():
    for inverse in (False, True):
        transform = tr.ShortSideJitter(20, 30, inverse=inverse)
        sides = [transform(noise(1), np.random.default_rng(seed)).shape[1] for seed in range(300)]
        assert set(sides) == set(range(20, 31))


def test_random_crop_reaches_the_last_offset_and_enlarges_small_clips():
    frames = places(6, 7)
    crops = [tr.RandomCrop(5)(frames, np.random.default_rng(seed)) for seed in range(100)]
    assert {tuple(crop[0, 0, 0]) for crop in crops} == {(y, x) for y in (0, 1) for x in (0, 1, 2)}
    assert tr.RandomCrop(10)(frames, np.random.default_rng(0)).shape == (1, 10, 10, 2)
    assert tr.RandomCrop(6)(frames, np.random.default_rng(0)).shape == (1, 6, 6, 2)


def test_multi_scale_crop_sizes_worked_by_hand():
    # short side 256: 256, 224, 192, 168 (int(256 * .66)); 4 pairs on the diagonal and 6 beside it
    sizes = tr.MultiScaleCrop(224).crop_sizes(256, 340)
    sides = [256, 224, 192, 168]
    assert len(sizes) == 10
    assert set(sizes) == {(a, b) for i, a in enumerate(sides) for j, b in enumerate(sides) if abs(i - j) <= 1}
    # 226 is closer than 3 pixels to 224 and becomes 224; 222 cannot.
    assert (224, 224) in tr.MultiScaleCrop(224, scales=(1.0,)).crop_sizes(226, 400)
    assert tr.MultiScaleCrop(224, scales=(1.0,)).crop_sizes(222, 400) == [(222, 222)]


def test_multi_scale_crop_offsets():
    # 48x64 less a crop of 40x48: steps of 2 rows and 4 columns
    five = [(0, 0), (0, 16), (8, 0), (8, 16), (4, 8)]
    assert tr.crop_offsets(48, 64, 40, 48, more=False) == five
    thirteen = tr.crop_offsets(48, 64, 40, 48, more=True)
    assert thirteen[:5] == five
    assert thirteen[5:] == [(4, 0), (4, 16), (8, 8), (0, 8), (2, 4), (2, 12), (6, 4), (6, 12)]


def test_multi_scale_crop_cuts_at_these_places():
    transform = tr.MultiScaleCrop(40, scales=(40 / 48,), more_fix_crop=False)
    crops = [transform(places(48, 64), np.random.default_rng(seed)) for seed in range(100)]
    corners = {tuple(crop[0, 0, 0]) for crop in crops}
    assert corners == {(0, 0), (0, 24), (8, 0), (8, 24), (4, 12)}


def test_random_resized_crop_draws_areas_and_ratios_within_bounds(monkeypatch):
    transform = tr.RandomResizedCrop(8, scale=(0.2, 0.5))
    rng = np.random.default_rng(0)
    boxes = np.array([transform._draw(100, 150, rng) for _ in range(500)])
    areas, ratios = boxes[:, 2] * boxes[:, 3] / 15000, boxes[:, 3] / boxes[:, 2]
    assert 0.19 < areas.min() < 0.25
    assert 0.45 < areas.max() < 0.51
    assert 0.74 < ratios.min() < 0.8
    assert 1.25 < ratios.max() < 1.36
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 0] + boxes[:, 2] <= 100).all()
    assert (boxes[:, 1] + boxes[:, 3] <= 150).all()


def test_random_resized_crop_falls_back_to_the_centre_square():
    transform = tr.RandomResizedCrop(8, scale=(1.0, 1.0))
    assert transform._draw(10, 100, np.random.default_rng(0)) == (0, 45, 10, 10)


def test_flip_mirrors_and_turns_the_sign_of_horizontal_flow():
    frames = noise()
    np.testing.assert_array_equal(tr.HorizontalFlip(1.0)(frames, np.random.default_rng(0)), frames[:, :, ::-1])
    assert tr.HorizontalFlip(0.0)(frames, np.random.default_rng(0)) is frames
    flow = noise(channels=2)
    flipped = tr.HorizontalFlip(1.0)(flow, np.random.default_rng(0))
    np.testing.assert_array_equal(flipped[..., 0], 255 - flow[:, :, ::-1, 0])
    np.testing.assert_array_equal(flipped[..., 1], flow[:, :, ::-1, 1])


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
    out = tr.RAND_AUGMENT_OPS[op](frames, strength, sign)
    assert out[0, 0, :, 0].tolist() == expected


def test_equalize_spreads_the_levels():
    levels = np.repeat(np.arange(100, 116), 16).astype(np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    out = np.unique(tr.RAND_AUGMENT_OPS["equalize"](levels, 0.9, 1)[..., 0])
    # 16 pixels a level: PIL's step is (256 - 16) // 255 = 0, which leaves the picture alone
    np.testing.assert_array_equal(out, np.arange(100, 116))
    out = np.unique(tr.RAND_AUGMENT_OPS["equalize"](levels.repeat(17, axis=1), 0.9, 1)[..., 0])
    # 272 a level: step (4352 - 272) // 255 = 16, level k becomes (272 k + 8) // 16 = 17 k
    np.testing.assert_array_equal(out, 17 * np.arange(16))


@pytest.mark.parametrize("op", sorted(tr.RAND_AUGMENT_OPS))
def test_operations_of_no_strength_change_nothing(op):
    if op in ("auto_contrast", "equalize", "invert"):
        pytest.skip("has no strength")
    frames = noise()
    out = tr.RAND_AUGMENT_OPS[op](frames, 0.0, 1.0)
    assert np.abs(out.astype(int) - frames).max() <= (1 if op == "color" else 0)


def test_geometric_operations():
    frames = noise(1, 40, 40)
    shifted = tr.RAND_AUGMENT_OPS["translate_x"](frames, 0.5 / 0.45 * 0.2, 1.0)  # 10 % of 40 pixels, to the right
    np.testing.assert_array_equal(shifted[:, :, 4:], frames[:, :, :-4])
    assert (shifted[:, :, :4] == 128).all()
    sheared = tr._affine(frames, shear_y=0.0, shift_y=-0.1)
    np.testing.assert_array_equal(sheared[:, :-4], frames[:, 4:])
    turned = tr._affine(frames, degrees=90)
    assert np.abs(turned.astype(int) - np.rot90(frames, -1, axes=(1, 2)))[:, 1:-1, 1:-1].max() <= 1


def test_colour_against_closed_formulas():
    frames = noise(3)
    grey = frames @ np.array([0.299, 0.587, 0.114])
    for factor in (0.0, 0.6, 1.4):
        expected = np.clip(frames * factor + grey[..., None] * (1 - factor), 0, 255)
        assert np.abs(tr._saturation(frames, factor) - expected).max() <= 1
        expected = np.clip(frames * factor + grey.mean() * (1 - factor), 0, 255)
        assert np.abs(tr._contrast(frames, factor) - expected).max() <= 0.51
        expected = np.clip(frames * factor, 0, 255)
        assert np.abs(tr._brightness(frames, factor) - expected).max() <= 0.51
    out = tr.Grayscale(1.0)(frames, np.random.default_rng(0))
    assert (out == out[..., :1]).all()


def test_hue_turns_pure_colours():
    red = np.zeros((1, 2, 2, 3), np.uint8)
    red[..., 0] = 240
    green, blue = red[..., [1, 0, 2]], red[..., [1, 2, 0]]
    assert np.abs(tr._hue(red, 1 / 3).astype(int) - green).max() <= 6  # 85 of 256 steps
    assert np.abs(tr._hue(red, -1 / 3).astype(int) - blue).max() <= 6
    assert tr._hue(red, 0.0) is red


def test_strength_zero_color_jitter_changes_almost_nothing():
    frames = noise()
    out = tr.ColorJitter(0.0, 0.0, 0.0, 0.0)(frames, np.random.default_rng(0))
    assert np.abs(out.astype(int) - frames).max() <= 1


def test_gaussian_blur_of_an_impulse():
    frames = np.zeros((2, 31, 31, 3), np.uint8)
    frames[:, 15, 15] = 255
    out = tr.GaussianBlur(1.0, sigma=(2.0, 2.0))(frames, np.random.default_rng(0))
    distance = np.arange(-6, 7)
    weights = np.exp(-(distance**2) / 8)
    weights /= weights.sum()
    expected = 255 * weights[:, None] * weights
    assert np.abs(out[1, 9:22, 9:22, 0] - expected).max() <= 1


def test_colour_transforms_refuse_flow():
    with pytest.raises(ValueError, match="3 channels"):
        tr.Grayscale(1.0)(noise(channels=2), np.random.default_rng(0))


def test_crops_of_a_landscape_and_a_portrait():
    # 11x20 and size 4: offsets up are ceil(3.5) = 4 and 8, down 3 and 8
    corners = [tuple(crop[0, 0, 0]) for crop in three_crops(places(11, 20), 4)]
    assert corners == [(4, 0), (4, 8), (4, 16)]
    corners = [tuple(crop[0, 0, 0]) for crop in three_crops(places(20, 11), 4)]
    assert corners == [(0, 4), (8, 4), (16, 4)]
    assert tuple(center_crop(places(11, 20), 4)[0, 0, 0, 0]) == (3, 8)


def test_ten_crops_are_corners_and_centre_each_with_its_mirror():
    frames = np.concatenate([places(12, 20), np.zeros((1, 12, 20, 1), np.uint8)], axis=-1)  # 3 channels: no flow
    crops = ten_crops(frames, 4)
    assert [tuple(crop[0, 0, 0, :2]) for crop in crops[::2]] == [(0, 0), (0, 16), (8, 0), (8, 16), (4, 8)]
    np.testing.assert_array_equal(crops[1::2], crops[::2, :, :, ::-1])


@pytest.mark.parametrize("name", VIEW_CROPS)
def test_view_crops(name):
    view = VIEW_CROPS[name]
    assert view(noise(), 32).shape == (view.num_crops, 4, 32, 32, 3)
    assert view(noise(1, 32, 32), 32).shape == (view.num_crops, 1, 32, 32, 3)
    with pytest.raises(ValueError, match=r"cannot cut 50x50 pixels from frames of 64x48"):
        view(noise(), 50)


@pytest.mark.parametrize(
    "make",
    [
        lambda: tr.ResizeShortSide(0),
        lambda: tr.ResizeShortSide(8, "lanczos"),
        lambda: tr.ShortSideJitter(10, 9),
        lambda: tr.RandomCrop(-1),
        lambda: tr.MultiScaleCrop(8, scales=()),
        lambda: tr.MultiScaleCrop(8, scales=(1.5,)),
        lambda: tr.MultiScaleCrop(8, max_distort=-1),
        lambda: tr.RandomResizedCrop(8, scale=(0.5, 0.1)),
        lambda: tr.RandomResizedCrop(8, ratio=(0.0, 1.0)),
        lambda: tr.HorizontalFlip(1.5),
        lambda: tr.ColorJitter(hue=0.6),
        lambda: tr.ColorJitter(brightness=-1),
        lambda: tr.GaussianBlur(sigma=(0.0, 1.0)),
        lambda: tr.Solarize(threshold=300),
        lambda: tr.RandAugment(magnitude=11),
    ],
)
def test_impossible_values(make):
    with pytest.raises(ValueError, match=r"must|less"):
        make()
