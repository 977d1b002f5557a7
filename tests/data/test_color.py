"""Transforms of colour against closed formulas and pure colours."""

import numpy as np
import pytest

from paddlevid.data import color
from paddlevid.data.color import ColorJitter, GaussianBlur, Grayscale, Solarize


def noise(num_frames=4, height=48, width=64, channels=3):
    return np.random.default_rng(0).integers(0, 256, (num_frames, height, width, channels), np.uint8)


def test_colour_against_closed_formulas():
    frames = noise(3)
    grey = frames @ np.array([0.299, 0.587, 0.114])
    for factor in (0.0, 0.6, 1.4):
        expected = np.clip(frames * factor + grey[..., None] * (1 - factor), 0, 255)
        assert np.abs(color.scale_saturation(frames, factor) - expected).max() <= 1
        expected = np.clip(frames * factor + grey.mean() * (1 - factor), 0, 255)
        assert np.abs(color.scale_contrast(frames, factor) - expected).max() <= 0.51
        expected = np.clip(frames * factor, 0, 255)
        assert np.abs(color.scale_brightness(frames, factor) - expected).max() <= 0.51
    out = Grayscale(1.0)(frames, np.random.default_rng(0))
    assert (out == out[..., :1]).all()


def test_histograms_count_each_channel_of_the_whole_clip():
    frames = np.minimum(noise(3) * np.array([1, 0, 2], np.uint8), 250)[:, 3:40, ::2]  # no row lies beside the next
    counts = color.histograms(frames)
    for channel in range(3):
        np.testing.assert_array_equal(counts[channel], np.bincount(frames[..., channel].ravel(), minlength=256))


def test_hue_turns_pure_colours():
    red = np.zeros((1, 2, 2, 3), np.uint8)
    red[..., 0] = 240
    green, blue = red[..., [1, 0, 2]], red[..., [1, 2, 0]]
    assert np.abs(color.turn_hue(red, 1 / 3).astype(int) - green).max() <= 6  # 85 of 256 steps
    assert np.abs(color.turn_hue(red, -1 / 3).astype(int) - blue).max() <= 6
    assert color.turn_hue(red, 0.0) is red


def test_strength_zero_color_jitter_changes_almost_nothing():
    frames = noise()
    out = ColorJitter(0.0, 0.0, 0.0, 0.0)(frames, np.random.default_rng(0))
    assert np.abs(out.astype(int) - frames).max() <= 1


def test_gaussian_blur_of_an_impulse():
    frames = np.zeros((2, 31, 31, 3), np.uint8)
    frames[:, 15, 15] = 255
    out = GaussianBlur(1.0, sigma=(2.0, 2.0))(frames, np.random.default_rng(0))
    distance = np.arange(-6, 7)
    weights = np.exp(-(distance**2) / 8)
    weights /= weights.sum()
    expected = 255 * weights[:, None] * weights
    assert np.abs(out[1, 9:22, 9:22, 0] - expected).max() <= 1


def test_colour_transforms_refuse_flow():
    with pytest.raises(ValueError, match="3 channels"):
        Grayscale(1.0)(noise(channels=2), np.random.default_rng(0))


@pytest.mark.parametrize(
    "make",
    [
        lambda: ColorJitter(hue=0.6),
        lambda: ColorJitter(brightness=-1),
        lambda: GaussianBlur(sigma=(0.0, 1.0)),
        lambda: Solarize(threshold=300),
    ],
)
def test_impossible_values(make):
    with pytest.raises(ValueError, match="must"):
        make()
