from __future__ import annotations

import numpy as np
import pytest

from paddlevid.data.mixing import Box, Mix, Mixing, mix_frames, mix_targets

BOTH = Mixing(mixup_alpha=0.8, cutmix_alpha=1.0, cutmix_prob=0.5, prob=1.0, seed=0)


def draws(mixing, count=4000, height=30, width=50):
    return [mixing.draw((index % 7, index), height, width) for index in range(count)]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5, 0.123456, 0.9, 1.0])
def test_mixup_is_the_weighted_mean_of_each_pixel_rounded(share):
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 256, (2, 1, 3, 17, 23, 3), np.uint8)  # [V, T, H, W, C]
    before = one.copy(), other.copy()
    mixed = mix_frames(one, other, Mix(share))
    assert (mixed.dtype, mixed.shape) == (np.uint8, one.shape)
    exact = share * one.astype(np.float64) + (1 - share) * other
    assert np.abs(mixed - exact).max() <= 0.5 + 1e-4, "to the nearest"
    np.testing.assert_array_equal(one, before[0])
    np.testing.assert_array_equal(other, before[1])


@pytest.mark.parametrize("channels", [2, 3])
def test_cutmix_pastes_the_same_rows_and_columns_in_all_frames(channels):
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 256, (2, 1, 4, 20, 30, channels), np.uint8)
    mixed = mix_frames(one, other, Mix(0.9, Box(top=2, bottom=7, left=11, right=25)))
    for frame in range(4):
        for row in range(20):
            for column in range(30):
                source = other if 2 <= row < 7 and 11 <= column < 25 else one
                np.testing.assert_array_equal(mixed[0, frame, row, column], source[0, frame, row, column])


def test_the_share_of_a_target_is_that_of_the_pixels():
    zeros, ones = np.zeros((1, 2, 30, 50, 3), np.uint8), np.ones((1, 2, 30, 50, 3), np.uint8)
    for mix in draws(BOTH, 300):
        if mix.box is not None:
            assert mix_frames(ones, zeros, mix).mean() == pytest.approx(mix.share, abs=1e-12)
            target = mix_targets(np.float32([0, 1]), np.float32([1, 0]), mix)
            np.testing.assert_allclose(target, [1 - mix.share, mix.share], atol=1e-7)


def test_targets_are_mixed_in_float32_and_stay_probabilities():
    one, other = np.float32([0, 1, 0]), np.float32([1, 1, 0])  # several labels
    np.testing.assert_allclose(mix_targets(one, other, Mix(0.75)), [0.25, 1, 0])
    assert mix_targets(one, other, Mix(1 / 3)).dtype == np.float32
    for mix in draws(BOTH, 100):
        assert mix_targets(np.float32([0, 1]), np.float32([1, 0]), mix).sum() == pytest.approx(1, abs=1e-6)


def test_shares_of_mixup_are_those_of_the_beta_distribution():
    for alpha in (0.2, 0.8, 1.0, 5.0):
        mixes = draws(Mixing(alpha, 0.0, 0.5, 1.0, seed=1))
        assert all(mix.box is None for mix in mixes), "no alpha, no CutMix"
        shares = np.array([mix.share for mix in mixes])
        assert shares.mean() == pytest.approx(0.5, abs=0.03)
        assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


def paper_box(height, width, rng):
    """`rand_bbox` of the authors' code, for alpha 1."""
    cut_ratio = np.sqrt(1 - rng.beta(1, 1))
    cut_w, cut_h = int(width * cut_ratio), int(height * cut_ratio)
    cx, cy = rng.integers(width), rng.integers(height)
    left, right = np.clip([cx - cut_w // 2, cx + cut_w // 2], 0, width)
    top, bottom = np.clip([cy - cut_h // 2, cy + cut_h // 2], 0, height)
    return top, bottom, left, right


def test_boxes_of_cutmix_are_distributed_as_in_the_paper():
    mixes = draws(Mixing(0.0, 1.0, 0.0, 1.0, seed=2), 6000)
    assert all(mix.box is not None for mix in mixes), "no alpha, no mixup, whatever cutmix_prob"
    rng = np.random.default_rng(12345)
    expected = np.array([paper_box(30, 50, rng) for _ in range(6000)], float)
    boxes = np.array([mix.box for mix in mixes], float)
    assert (boxes[:, :2] <= 30).all()
    assert (boxes[:, 2:] <= 50).all()
    assert (boxes >= 0).all()
    deviations = boxes.std(axis=0) / np.sqrt(6000)
    np.testing.assert_array_less(np.abs(boxes.mean(axis=0) - expected.mean(axis=0)), 5 * deviations)
    np.testing.assert_allclose(boxes.std(axis=0), expected.std(axis=0), rtol=0.05)
    areas, paper_areas = ((b[:, 1] - b[:, 0]) * (b[:, 3] - b[:, 2]) / 1500 for b in (boxes, expected))
    assert areas.mean() == pytest.approx(paper_areas.mean(), abs=0.02)
    assert areas.std() == pytest.approx(paper_areas.std(), rel=0.05)


def test_how_often_and_which_kind():
    mixes = draws(Mixing(0.8, 1.0, cutmix_prob=0.3, prob=0.6, seed=3))
    done = [mix for mix in mixes if mix is not None]
    assert len(done) / len(mixes) == pytest.approx(0.6, abs=0.03)
    assert sum(mix.box is not None for mix in done) / len(done) == pytest.approx(0.3, abs=0.03)
    assert not any(draws(Mixing(0.8, 1.0, 0.5, prob=0.0, seed=3), 50))


def test_a_draw_depends_on_seed_epoch_and_index():
    assert BOTH.draw((2, 5), 30, 50) == BOTH.draw((2, 5), 30, 50)
    other_seed = Mixing(0.8, 1.0, 0.5, 1.0, seed=1)
    drawn = {BOTH.draw((2, 5), 30, 50), BOTH.draw((2, 6), 30, 50), BOTH.draw((3, 5), 30, 50)}
    assert len(drawn | {other_seed.draw((2, 5), 30, 50)}) == 4
