"""Resizes, crops and flips against cases worked by hand; and one draw a clip for the transforms of all files."""

import numpy as np
import pytest

from paddlevid.data import transforms as tr
from paddlevid.data.color import ColorJitter, GaussianBlur, Grayscale, Solarize
from paddlevid.data.rand_augment import RandAugment
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
    ColorJitter(),
    Grayscale(0.5),
    GaussianBlur(0.5),
    Solarize(0.5),
    RandAugment(),
    RandAugment(num_ops=4, op_prob=1.0),
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


def test_crops_of_a_landscape_and_a_portrait():
    # 11x20 and size 4: offsets up are ceil(3.5) = 4 and 8, down 3 and 8
    corners = [tuple(crop[0, 0, 0]) for crop in three_crops(places(11, 20), 4)]
    assert corners == [(4, 0), (4, 8), (4, 16)]
    corners = [tuple(crop[0, 0, 0]) for crop in three_crops(places(20, 11), 4)]
    assert corners == [(0, 4), (8, 4), (16, 4)]
    assert tuple(center_crop(places(11, 20), 4)[0, 0, 0, 0]) == (3, 8)


@pytest.mark.parametrize("name", VIEW_CROPS)
def test_crops_of_a_map_of_coordinates(name):
    rows, columns = np.mgrid[:400, :600]
    crops = VIEW_CROPS[name](np.stack([rows, columns, rows], axis=-1)[None], 300)
    assert {"center": (50, 150), "three": (50, 300), "ten": (50, 449)}[name] == tuple(crops[-1, 0, 0, 0, :2])
    assert tuple(crops[-1, 0, -1, -1, :2]) == (349, {"center": 449, "three": 599, "ten": 150}[name])


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
    out = np.zeros((view.num_crops, 4, 32, 32, 3), np.uint8)
    assert view(noise(), 32, out) is out
    np.testing.assert_array_equal(out, view(noise(), 32))
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
    ],
)
def test_impossible_values(make):
    with pytest.raises(ValueError, match=r"must|less"):
        make()
