"""Which frames are chosen: the formulas of the papers' code, cases worked by hand, and properties over many sizes."""

import numpy as np
import pytest

from paddlevid.data.sampling import (
    ClipSampling,
    DenseSampling,
    LinspaceSampling,
    SegmentSampling,
    SnippetSampling,
    clip_indices,
    dense_indices,
    linspace_indices,
    segment_indices,
)

LENGTHS = [1, 2, 3, 7, 8, 9, 63, 64, 65, 250, 300]
SAMPLINGS = [SegmentSampling(8), DenseSampling(8), ClipSampling(8, 32), LinspaceSampling(8), SegmentSampling(1)]
SAMPLINGS += [DenseSampling(1), ClipSampling(1, 4), LinspaceSampling(1), ClipSampling(16, 2)]


@pytest.mark.parametrize(
    ("sampling", "num_clips"),
    [(s, k) for s in SAMPLINGS for k in (1, 2, 3, 10) if k == 1 or not isinstance(s, LinspaceSampling)],
    ids=str,
)
@pytest.mark.parametrize("num_frames", LENGTHS)
def test_all_samplings_stay_inside_the_video_and_depend_on_the_rng_alone(sampling, num_frames, num_clips):
    for make_rng in (lambda: None, lambda: np.random.default_rng(5)):
        indices = sampling(num_frames, 25.0, rng=make_rng(), num_clips=num_clips)
        assert indices.shape == (num_clips, sampling.num_frames)
        assert indices.dtype == np.int64
        assert indices.min() >= 0
        assert indices.max() < num_frames
        np.testing.assert_array_equal(indices, sampling(num_frames, 25.0, rng=make_rng(), num_clips=num_clips))
        if not isinstance(sampling, DenseSampling):  # which reads short videos around in a circle
            assert (np.diff(indices, axis=1) >= 0).all()


@pytest.mark.parametrize("num_frames", [8, 9, 15, 16, 17, 100, 250, 300])
def test_segments_follow_the_formulas_of_tsn(num_frames):
    tick = num_frames / 8
    centres = [int(tick / 2.0 + tick * i) for i in range(8)]
    starts = [int(tick * i) for i in range(8)]
    np.testing.assert_array_equal(segment_indices(num_frames, 8), [centres])
    np.testing.assert_array_equal(segment_indices(num_frames, 8, num_clips=2), [centres, starts])

    duration = num_frames // 8
    drawn = np.concatenate([segment_indices(num_frames, 8, rng=np.random.default_rng(i)) for i in range(400)])
    offsets = drawn - np.arange(8) * duration
    assert offsets.min() == 0
    assert offsets.max() == duration - 1  # the last frame of a part can be drawn


def test_segments_worked_by_hand():
    assert segment_indices(16, 4).tolist() == [[2, 6, 10, 14]]
    assert segment_indices(10, 4).tolist() == [[1, 3, 6, 8]]  # 1.25, 3.75, 6.25, 8.75
    assert segment_indices(16, 4, num_clips=3).tolist() == [[1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15]]


def test_segments_of_a_short_video_repeat_frames_in_order():
    assert segment_indices(3, 8).tolist() == [[0, 0, 0, 1, 1, 2, 2, 2]]  # floor((i + 1/2) * 3 / 8)
    assert segment_indices(1, 4).tolist() == [[0, 0, 0, 0]]
    drawn = segment_indices(3, 8, rng=np.random.default_rng(0), num_clips=200)
    assert (np.diff(drawn, axis=1) >= 0).all()
    assert set(drawn.ravel()) == {0, 1, 2}


def test_dense_windows():
    drawn = np.concatenate([dense_indices(70, 8, rng=np.random.default_rng(i)) for i in range(200)])
    np.testing.assert_array_equal(drawn - drawn[:, :1], np.tile(np.arange(8) * 8, (200, 1)))
    assert set(drawn[:, 0]) == set(range(7))  # 70 - 64 = 6 is the last start, and is drawn
    ten = dense_indices(300, 8, num_clips=10)
    np.testing.assert_array_equal(ten[:, 0], np.linspace(0, 300 - 64, 10).astype(int))
    assert dense_indices(71, 8).tolist() == [[3, 11, 19, 27, 35, 43, 51, 59]]
    assert dense_indices(20, 8).tolist() == [[0, 8, 16, 4, 12, 0, 8, 16]]  # around in a circle


def test_clips_of_the_official_timesformer():
    assert clip_indices(300, 8, rate=32, fps=30.0).tolist() == [[0, 36, 72, 109, 145, 182, 218, 255]]
    # 25 fps: a clip spans 213.33 frames, steps of 30 1/3, of which every third is whole.
    assert clip_indices(250, 8, rate=32, fps=25.0).tolist() == [[0, 30, 60, 91, 121, 151, 182, 212]]
    # Three clips begin at 0, 1/3 and 2/3 of the room of 300 - 240 = 60.
    three = clip_indices(300, 8, rate=30, fps=30.0, num_clips=3)
    assert three[:, 0].tolist() == [0, 20, 40]
    assert three[:, -1].tolist() == [239, 259, 279]
    assert clip_indices(100, 8, rate=32, fps=30.0).tolist() == [[0, 36, 72, 99, 99, 99, 99, 99]]
    # Twice the rate of frames: twice the step.
    assert clip_indices(600, 4, rate=4, fps=60.0).tolist() == [[0, 10, 20, 31]]


def test_random_clips_begin_anywhere_in_the_room():
    starts = clip_indices(310, 8, rate=32, fps=30.0, rng=np.random.default_rng(0), num_clips=3000)[:, 0]
    assert set(starts) == set(range(54))  # a real number from 0 to 310 - 256 = 54


def test_linspace_reaches_both_ends():
    assert linspace_indices(300, 8).tolist() == [[0, 42, 85, 128, 170, 213, 256, 299]]
    assert linspace_indices(3, 5).tolist() == [[0, 0, 1, 1, 2]]
    assert linspace_indices(9, 1).tolist() == [[4]]
    for num_frames in range(2, 400):
        indices = linspace_indices(num_frames, 8)[0]
        assert (indices[0], indices[-1]) == (0, num_frames - 1)


@pytest.mark.parametrize(("num_frames", "length"), [(100, 5), (100, 6), (27, 5), (7, 5)])
def test_snippets_of_the_reference(num_frames, length):
    """tsn-pytorch, `_get_test_indices` and `_sample_indices`: among the frames that can begin a snippet."""
    starts = num_frames - length + 1
    expected = [[int(starts / 3 / 2 + i * starts / 3) + j for j in range(length)] for i in range(3)]
    snippets = SnippetSampling(SegmentSampling(3), length)
    assert snippets(num_frames, 30.0, rng=None).reshape(3, length).tolist() == expected
    drawn = {
        tuple(snippets(num_frames, 30.0, rng=np.random.default_rng(seed)).reshape(3, length)[:, 0])
        for seed in range(400)
    }
    ranges = [set(column) for column in zip(*drawn, strict=True)]
    assert ranges == [set(range(i * (starts // 3), (i + 1) * (starts // 3))) for i in range(3)]


def test_snippets_of_several_clips_and_of_a_short_video():
    snippets = SnippetSampling(SegmentSampling(2), 3)
    # 10 frames can begin a snippet: of two clips the centres of both halves, then their beginnings
    assert snippets(12, 30.0, rng=None, num_clips=2).tolist() == [[2, 3, 4, 7, 8, 9], [0, 1, 2, 5, 6, 7]]
    assert snippets(2, 30.0, rng=None).tolist() == [[0, 1, 1, 0, 1, 1]]
    assert snippets(1, 30.0, rng=np.random.default_rng(0)).tolist() == [[0, 0, 0, 0, 0, 0]]


@pytest.mark.parametrize(
    "make",
    [
        lambda: SegmentSampling(0),
        lambda: DenseSampling(8, window=7),
        lambda: ClipSampling(8, 0),
        lambda: ClipSampling(8, 4, target_fps=0),
        lambda: LinspaceSampling(-1),
        lambda: SnippetSampling(SegmentSampling(3), 0),
        lambda: segment_indices(0, 8),
        lambda: segment_indices(8, 8, num_clips=0),
        lambda: clip_indices(8, 8, rate=1, fps=0.0),
        lambda: linspace_indices(8, 8, num_clips=2),
    ],
)
def test_impossible_values(make):
    with pytest.raises(ValueError, match=r"must|only"):
        make()
