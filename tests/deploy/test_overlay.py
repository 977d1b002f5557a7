"""Colours over frames: where they lie, how hot they are, and the files that they go to."""

import numpy as np
import pytest

from paddlevid.data.transforms import VIEW_CROPS, ResizeShortSide
from paddlevid.deploy.overlay import (
    Box,
    beside,
    contact_sheet,
    crop_box,
    frame_shares,
    interpolate_maps,
    label_frames,
    maps_of_class,
    overlay,
    scale_maps,
    write_video,
)

T, H, W = 3, 48, 64
GREY = np.full((T, H, W, 3), 100, np.uint8)


def test_a_class_counts_against_the_mean_of_all():
    maps = np.zeros((1, 1, 2, 3))
    maps[0, 0] = [[1, 2, 6], [0, 3, 3]]
    assert maps_of_class(maps, 2).tolist() == [[[3, 1]]]
    assert maps_of_class(maps[..., :1], 2).tolist() == [[[1, 0]]]


def test_shares_of_frames_count_what_speaks_for_the_class():
    maps = np.array([[[1.0, -5.0]], [[2.0, 1.0]], [[-1.0, -1.0]]])
    assert frame_shares(maps).tolist() == [0.25, 0.75, 0]
    assert frame_shares(-np.ones((4, 1, 1))).tolist() == [0.25] * 4


def test_an_outlier_does_not_set_the_scale():
    maps = np.linspace(0, 1, 400).reshape(4, 10, 10)
    expected = np.clip((maps - 0.02) / 0.97, 0, 1)
    np.testing.assert_allclose(scale_maps(maps), expected, atol=1e-6)
    hot = maps.copy()
    hot[3, 9, 9] = 1e6
    np.testing.assert_allclose(scale_maps(hot), expected, atol=0.01)


def test_maps_without_differences_are_cold_and_a_single_hot_place_is_seen():
    assert (scale_maps(np.full((2, 3, 3), 7.0)) == 0).all()
    maps = np.zeros((2, 20, 20))
    maps[1, 2, 3] = 1
    scaled = scale_maps(maps)
    assert scaled[1, 2, 3] == 1
    assert scaled.sum() == 1


def test_maps_change_linearly_between_the_sampled_frames():
    maps = np.array([10.0, 20.0, 0.0]).reshape(3, 1, 1)
    wanted = np.arange(9)
    expected = [10, 10, 10, 12.5, 15, 17.5, 20, 10, 0]
    for order in ([0, 1, 2], [2, 0, 1]):  # dense sampling goes around in a circle
        between = interpolate_maps(maps[order], np.array([2, 6, 8])[order], wanted)
        assert between.ravel().tolist() == expected
    assert interpolate_maps(maps, np.array([2, 6, 8]), np.array([20])).ravel().tolist() == [0]


def test_a_frame_that_was_sampled_twice_has_the_mean_of_its_maps():
    maps = np.array([1.0, 3.0, 8.0]).reshape(3, 1, 1)
    assert interpolate_maps(maps, np.array([0, 0, 2]), np.arange(3)).ravel().tolist() == [2, 5, 8]
    assert interpolate_maps(maps, np.array([4, 4, 4]), np.array([4])).ravel().tolist() == [4]


@pytest.mark.parametrize(("height", "width"), [(240, 320), (320, 240), (256, 256), (100, 131)])
@pytest.mark.parametrize("crop", list(VIEW_CROPS))
def test_the_box_is_what_a_crop_shows(height, width, crop):
    """A gradient over the frame says of each pixel of a crop where it is from."""
    y, x = np.mgrid[:height, :width]
    frame = np.stack([y * 255 / height, x * 255 / width, np.zeros_like(y)], axis=-1).round().astype(np.uint8)[None]
    resized = ResizeShortSide(128)(frame, np.random.default_rng(0))
    for view, shown in enumerate(VIEW_CROPS[crop](resized, 112)[:, 0].astype(float)):
        box, mirrored = crop_box(height, width, 128, crop, 112, view)
        top, bottom = shown[0, :, 0].mean() * height / 255, shown[-1, :, 0].mean() * height / 255
        left, right = (shown[:, i, 1].mean() * width / 255 for i in ((-1, 0) if mirrored else (0, -1)))
        pixel = 1 + max(height, width) * (1 / 128 + 1 / 255)  # rounding, of the resized frame, a step of the colours
        assert (box.top, box.left) == (pytest.approx(top, abs=pixel), pytest.approx(left, abs=pixel))
        assert box.top + box.height == pytest.approx(bottom, abs=pixel)
        assert box.left + box.width == pytest.approx(right, abs=pixel)
        assert mirrored == (crop == "ten" and view % 2 == 1)


def test_the_box_of_a_hand_worked_crop():
    # 340x256, its short side at 256 already: a centre of 224 leaves 16 rows above and 58 columns on the left
    assert crop_box(256, 340, 256, "center", 224) == (Box(16, 58, 224, 224), False)
    # twice as large: the same in twice as many pixels
    assert crop_box(512, 680, 256, "center", 224) == (Box(32, 116, 448, 448), False)


def test_cold_places_stay_as_they_are_and_hot_ones_take_the_colour():
    heat = np.zeros((T, 3, 4), np.float32)
    heat[1, 0, 3] = 1  # upper right of frame 1
    before = GREY.copy()
    warm = overlay(GREY, heat, alpha=1.0)
    np.testing.assert_array_equal(GREY, before)
    np.testing.assert_array_equal(warm[[0, 2]], GREY[[0, 2]])
    np.testing.assert_array_equal(warm[1, 32:, :16], GREY[1, 32:, :16])
    red, green, blue = warm[1, 0, -1].astype(int)
    assert red > 180
    assert max(green, blue) < 60
    half = overlay(GREY, heat, alpha=0.5)
    np.testing.assert_allclose(half[1, 0, -1], (np.array([red, green, blue]) + 100) / 2, atol=1)


def test_nothing_outside_the_crop_is_covered():
    box = Box(8, 16, 24, 32)
    warm = overlay(GREY, np.ones((T, 2, 2), np.float32), box, alpha=1.0)
    outside = np.ones((H, W), bool)
    outside[8:32, 16:48] = False
    assert (warm[:, outside] == 100).all()
    assert (warm[:, [8, 31], 16:48] == 255).all(), "the box is drawn"
    assert (warm[:, 8:32, [16, 47]] == 255).all()
    assert (warm[:, 9:31, 17:47, 0] != 100).all()


def test_labels_are_written_on_a_dark_band():
    grey = np.full((2, 240, 320, 3), 90, np.uint8)
    labelled = label_frames(grey, ["1.25 s", "playing the ukulele with both hands under a waterfall é"])
    assert grey.max() == 90
    assert (labelled[:, 60:] == 90).all(), "a line at the top"
    assert labelled[0].max() == 255
    assert labelled[0, :10, 160:].max() == 30, "the band is dark"
    assert labelled[1, :, -4:].max() <= 90, "a long line is made to fit"


def test_a_contact_sheet_goes_by_rows():
    frames = np.stack([np.full((2, 3, 3), t, np.uint8) for t in range(1, 6)])
    sheet = contact_sheet(frames, columns=2)
    assert sheet[::2, ::3, 0].tolist() == [[1, 2], [3, 4], [5, 0]]
    assert sheet.shape == (6, 6, 3)


def test_a_video_of_pieces_comes_back(tmp_path):
    import av

    left = np.zeros((5, 63, 80, 3), np.uint8)
    right = np.full((5, 63, 80, 3), 255, np.uint8)
    right[2] = (255, 0, 0)
    path = tmp_path / "out.mp4"
    assert write_video(path, [beside(left, right)[:3], beside(left, right)[3:]], 12.5) == 5
    assert [file.name for file in tmp_path.iterdir()] == ["out.mp4"]
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert float(stream.average_rate) == 12.5
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
    assert frames.shape == (5, 62, 160, 3)
    assert frames[:, :, :70].max() < 20
    assert frames[[0, 1, 3, 4], :, 90:].min() > 235
    red = frames[2, :, 90:].astype(int)
    assert red[..., 0].min() > 200
    assert red[..., 1:].max() < 60


def test_a_video_that_breaks_off_leaves_no_file(tmp_path):
    def pieces():
        yield GREY
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        write_video(tmp_path / "out.mp4", pieces(), 25)
    assert list(tmp_path.iterdir()) == []
