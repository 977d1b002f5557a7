"""Windows over a stream: those of cut-outs of the same frames, at the right times, in bounded memory."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from conftest import ROOT
from tiny_streams import SIZE, decode_plainly, picture, weights, write_folder, write_video

from paddlevid import build
from paddlevid.data.records import Record
from paddlevid.data.sampling import DenseSampling, LinspaceSampling, SegmentSampling
from paddlevid.data.transforms import ResizeShortSide, center_crop, three_crops
from paddlevid.deploy.predictor import Predictor
from paddlevid.deploy.streaming.streams import StreamFrame, open_stream
from paddlevid.deploy.streaming.windows import (
    FrameCrops,
    SlidingWindows,
    WindowPlan,
    default_window_sec,
    frame_crops,
    plan_windows,
    score_windows,
    slide,
)
from paddlevid.errors import ConfigError

SAMPLINGS = {
    "segment": {"kind": "segment"},
    "linspace": {"kind": "linspace"},
    "dense": {"kind": "dense", "window": 32},
    "clip": {"kind": "clip", "rate": 8},
}


def numbered(number):
    """A picture from which its number can be read, whatever is resized or cut."""
    return np.full((48, 64, 3), (number % 256, number // 256, 7), np.uint8)


def frames_at(times, gaps=()):
    return [StreamFrame(t, lambda i=i: numbered(i), i in gaps) for i, t in enumerate(times)]


def run(plan, frames, end_sec, crops=None):
    """[(start, end, numbers of its frames)] of each window, and the most frames that were kept at once."""
    windows = SlidingWindows(plan, crops or FrameCrops(48, "center", 40))
    found, most = [], 0
    for frame in frames:
        found += windows.add(frame)
        most = max(most, windows.num_kept)
    found += windows.finish(end_sec)
    numbers = [(w.frames[0, :, 0, 0, :2].astype(int) @ [1, 256]).tolist() for w in found]
    return [(w.start_sec, w.end_sec, n) for w, n in zip(found, numbers, strict=True)], most, found


def test_windows_of_a_stream_by_hand():
    # 10 frames a second, windows of 2 s (20 frames) every second; 2 segments: the frames at the centres, 5 and 15
    plan = WindowPlan(2.0, 1.0, 10.0, SegmentSampling(2))
    found, _, _ = run(plan, frames_at(np.arange(45) / 10), 4.5)
    assert found == [
        (0.0, 2.0, [5, 15]),
        (1.0, 3.0, [15, 25]),
        (2.0, 4.0, [25, 35]),
        # from 3.0 there are 1.5 s left, 15 frames, whose centres are 3.75 and 11.25; of the frames that were kept
        # (35) and the last one (44), those nearest to 33 and 41. From 4.0 less than half is left.
        (3.0, 4.5, [35, 44]),
    ]


def test_the_last_window_is_a_shorter_video_where_the_end_is_known():
    plan = WindowPlan(2.0, 1.0, 10.0, SegmentSampling(2), end_sec=4.5)
    found, _, _ = run(plan, frames_at(np.arange(45) / 10), 4.5)
    assert [window for *window, _ in found][-1] == [3.0, 4.5]
    assert found[-1][2] == [33, 41]
    assert len(found) == 4


@pytest.mark.parametrize(("num_frames", "starts"), [(3, [0]), (20, [0, 1]), (29, [0, 1]), (30, [0, 1, 2])])
def test_a_window_with_less_than_half_left_is_dropped_unless_it_is_alone(num_frames, starts):
    plan = WindowPlan(2.0, 1.0, 10.0, LinspaceSampling(2), end_sec=num_frames / 10)
    found, _, _ = run(plan, frames_at(np.arange(num_frames) / 10), num_frames / 10)
    assert [start for start, _, _ in found] == starts
    assert found[-1][1] == num_frames / 10
    assert found[-1][2] == [starts[-1] * 10, num_frames - 1]


def test_windows_where_the_header_promised_another_end():
    for promised, third in ((3.0, (2.0, 3.0, [20, 29])), (6.0, (2.0, 4.0, [20, 39]))):
        plan = WindowPlan(2.0, 1.0, 10.0, LinspaceSampling(2), end_sec=promised)
        found, _, _ = run(plan, frames_at(np.arange(45) / 10), 4.5)
        assert found == [(0.0, 2.0, [0, 19]), (1.0, 3.0, [10, 29]), third, (3.0, 4.5, [30, 44])]


def test_times_decide_and_not_counts():
    # A picture that stands still for 2 s between frames 9 and 10
    times = np.concatenate([np.arange(10) / 10, 2.9 + np.arange(20) / 10])
    plan = WindowPlan(2.0, 1.0, 10.0, LinspaceSampling(3))  # frames 0, 9 and 19 of a window: at 0, 0.9 and 1.9 s
    found, _, _ = run(plan, frames_at(times), 4.9)
    assert found[:3] == [
        (0.0, 2.0, [0, 9, 9]),
        (1.0, 3.0, [9, 9, 10]),
        (2.0, 4.0, [9, 10, 20]),
    ]


def test_windows_between_frames_take_consistent_ones():
    # Milliseconds, as Matroska has them, and windows that begin at halves of a frame
    times = np.round(np.arange(300) / 30, 3)
    plan = WindowPlan(1.0, 0.25, 30.0, LinspaceSampling(30))
    found, _, _ = run(plan, frames_at(times), 10.0)
    assert len(found) >= 37
    for k, (_, _, numbers) in enumerate(found[:37]):
        assert numbers == list(range(int(k * 7.5), int(k * 7.5) + 30))


def test_a_gap_ends_windows_and_others_begin_behind_it():
    times = np.concatenate([np.arange(25) / 10, 7.2 + np.arange(30) / 10])
    plan = WindowPlan(2.0, 1.0, 10.0, LinspaceSampling(2))
    found, _, windows = run(plan, frames_at(times, gaps={25}), 10.2)
    assert found == [
        (0.0, 2.0, [0, 19]),
        (1.0, 2.5, [10, 24]),  # from 2.0 less than half is left
        (8.0, 10.0, [33, 52]),
        (9.0, pytest.approx(10.2), [43, 54]),
    ]
    assert [window.after_gap for window in windows] == [False, False, True, False]


@pytest.mark.parametrize("stride_sec", [0.7, 1.0, 4.0])
@pytest.mark.parametrize("sampling", [SegmentSampling(4), DenseSampling(8, 32), LinspaceSampling(25)])
def test_frames_kept_never_exceed_the_bound(sampling, stride_sec):
    plan = WindowPlan(2.0, stride_sec, 25.0, sampling)
    found, most, _ = run(plan, frames_at(np.arange(2000) / 25), 80.0)
    assert len(found) >= 78 / stride_sec - 1
    assert 0 < most <= plan.max_kept
    by_hand = sampling.num_frames * (int(np.ceil(2.04 / stride_sec)) + 1)
    assert plan.max_kept == by_hand


def test_a_long_stillness_takes_no_memory():
    plan = WindowPlan(2.0, 1.0, 10.0, SegmentSampling(4))
    found, most, _ = run(plan, frames_at([0.0, 0.1, 5000.0, 5000.1]), 5000.2)
    assert len(found) == 5000, "of the window from 5000 on there is less than half"
    assert most <= plan.max_kept


def test_only_wanted_frames_become_pictures():
    made = []

    def frame(number):
        return StreamFrame(number / 10, lambda: made.append(number) or numbered(number))

    plan = WindowPlan(2.0, 1.0, 10.0, SegmentSampling(2))
    run(plan, [frame(number) for number in range(40)], 4.0)
    assert made == [5, 15, 25, 35, 39], "39 may be needed by the last window, which is short"
    wanted = [number for number in range(40) if plan.wants(number / 10, (number + 1) / 10)]
    assert wanted == [0, 5, 15, 25, 35]  # whatever the first frame is, something is shown from the beginning


@pytest.mark.parametrize(
    ("window_sec", "stride_sec"), [(0.01, 1.0), (1.0, 0.0), (1.0, 0.039), (float("inf"), 1.0), (-1.0, 1.0)]
)
def test_windows_that_cannot_be(window_sec, stride_sec):
    with pytest.raises(ConfigError, match=r"a (window|stride) of"):
        WindowPlan(window_sec, stride_sec, 25.0, SegmentSampling(4))


def test_default_windows_span_what_the_model_was_trained_on(tmp_path):
    expected = {"segment": 10.0, "linspace": 10.0, "dense": 32 / 30, "clip": 8 * 4 / 30}
    for kind, sampling in SAMPLINGS.items():
        manifest = write_folder(tmp_path / kind, sampling)
        assert default_window_sec(manifest.data, manifest.num_frames) == pytest.approx(expected[kind])


# ---- real files, a real runtime --------------------------------------------------------------------------------------


@pytest.fixture(params=SAMPLINGS)
def predictor(request, tmp_path):
    write_folder(tmp_path / "folder", SAMPLINGS[request.param])
    return Predictor(tmp_path / "folder", runtime="onnxruntime", batch_size=3)


FILES = {
    "b.mp4": ("libx264", {"bf": "3", "x264-params": "keyint=25:b-adapt=0"}),
    "b.mkv": ("libx264", {"bf": "3", "x264-params": "keyint=25:b-adapt=0"}),
    "b.ts": ("libx264", {"bf": "3", "x264-params": "keyint=25:b-adapt=0"}),
    "b.avi": ("libx264", {"bf": "2"}),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("crop", ["center", "three"])
def test_a_window_says_what_its_cut_out_says(predictor, tmp_path, name, crop):
    """Against plain decoding, the sampling of a video as long as the window, and the weights of the graph by hand."""
    path = write_video(tmp_path / name, 130, codec=FILES[name][0], options=FILES[name][1])
    decoded = decode_plainly(path)
    manifest = predictor.manifest
    stream = open_stream(str(path))
    plan = plan_windows(manifest, stream, window_sec=2.0, stride_sec=0.7)
    found = list(score_windows(predictor, slide(stream, plan, frame_crops(manifest, crop))))
    # 5.2 s: windows begin at 0, 0.7, ... 4.2; those from 3.5 on are shorter, that from 4.9 on would have 0.3 s
    offset_sec = stream.start_sec
    assert [scored.start_sec - offset_sec for scored in found] == pytest.approx([0.7 * k for k in range(7)])
    assert [s.end_sec - offset_sec for s in found] == pytest.approx([2.0, 2.7, 3.4, 4.1, 4.8, 5.2, 5.2], abs=0.02)
    sampling = build.build_sampling(manifest.data, manifest.num_frames)
    for scored in found:
        first = round((scored.start_sec - offset_sec) * 25 - 0.05)  # at halves of a frame, the earlier one
        num_frames = round((scored.end_sec - scored.start_sec) * 25)
        taken = decoded[first + sampling(num_frames, 25.0, rng=None)[0]]
        resized = ResizeShortSide(40)(taken, np.random.default_rng(0))
        crops = (center_crop if crop == "center" else three_crops)(resized, SIZE)  # [S, T, H, W, 3]
        logits = (crops.mean(axis=(2, 3)).reshape(len(crops), -1) @ weights(4)).mean(axis=0)
        expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        np.testing.assert_allclose(scored.probabilities, expected, atol=2e-5)


def test_a_window_says_what_the_predictor_says_of_its_frames(tmp_path):
    """The same through what tools/predict.py does with a folder of the frames."""
    import cv2

    write_folder(tmp_path / "folder", SAMPLINGS["segment"], average="probabilities")
    predictor = Predictor(tmp_path / "folder", runtime="onnxruntime")
    path = write_video(tmp_path / "a.mp4", 100)
    stream = open_stream(str(path))
    plan = plan_windows(predictor.manifest, stream, window_sec=2.0)
    assert plan.stride_sec == 1.0
    found = list(score_windows(predictor, slide(stream, plan, frame_crops(predictor.manifest))))
    assert [(scored.start_sec, scored.end_sec) for scored in found] == [(0, 2), (1, 3), (2, 4), (3, 4)]
    decoded = decode_plainly(path)
    for scored in found:
        first, last = round(scored.start_sec * 25), round(scored.end_sec * 25)
        folder = tmp_path / f"cut_{first}"
        folder.mkdir()
        for number, frame in enumerate(decoded[first:last], 1):
            cv2.imwrite(str(folder / f"img_{number:05}.jpg"), frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])
        record = Record(path=str(folder), num_frames=last - first, name="cut")
        expected = predictor.scores(record)
        np.testing.assert_allclose(scored.probabilities, expected, atol=0.01)  # JPEG


def test_a_variable_frame_rate_through_a_file(tmp_path):
    manifest = write_folder(tmp_path / "folder", SAMPLINGS["linspace"])
    times = [Fraction(number, 25) + (Fraction(3) if number >= 50 else 0) for number in range(100)]
    path = write_video(tmp_path / "pause.mkv", 100, times=times)
    decoded = decode_plainly(path)
    stream = open_stream(str(path))
    plan = plan_windows(manifest, stream, window_sec=1.0, stride_sec=0.5)
    windows = {round(window.start_sec, 3): window for window in slide(stream, plan, frame_crops(manifest))}
    n = round(stream.fps)  # less than 25: the pause counts
    offsets = np.array([0, (n - 1) // 3, 2 * (n - 1) // 3, n - 1]) / stream.fps
    for start_sec in (0.0, 2.0, 3.0, 4.5, 5.5):
        due = start_sec + offsets + 0.45 / stream.fps
        expected = [max(i for i in range(100) if times[i] <= moment) for moment in due]
        resized = ResizeShortSide(40)(decoded[expected], np.random.default_rng(0))
        np.testing.assert_array_equal(windows[start_sec].frames, center_crop(resized, SIZE))


# ---- the command -----------------------------------------------------------------------------------------------------


def predict_long(*arguments):
    command = [sys.executable, ROOT / "tools" / "predict_long.py", *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=120)


def test_a_file_that_breaks_keeps_what_was_read(tmp_path):
    write_folder(tmp_path / "folder", SAMPLINGS["segment"])
    path = write_video(tmp_path / "a.mp4", 500, options={"bf": "0"}, container_options={"movflags": "faststart"})
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    table = tmp_path / "rows.csv"
    done = predict_long("-m", tmp_path / "folder", "-i", path, "--window_sec", "2", "--csv", table)
    assert done.returncode == 1
    assert "broke at 00:1" in done.stderr
    assert "Traceback" not in done.stderr
    rows = table.read_text().splitlines()
    assert 8 <= len(rows) - 1 <= 14


def test_bad_arguments_are_one_line(tmp_path):
    write_folder(tmp_path / "folder", SAMPLINGS["segment"])
    video = write_video(tmp_path / "a.mp4", 30)
    for arguments, expected in [
        (["-m", tmp_path / "none", "-i", video], "no inference.yml here"),
        (["-m", tmp_path / "folder", "-i", tmp_path / "none.mp4"], "No such file"),
        (["-m", tmp_path / "folder", "-i", video, "--online"], "has no online graph"),
        (["-m", tmp_path / "folder", "-i", video, "--window_sec", "0.001"], "holds no frame"),
        (["-m", tmp_path / "folder", "-i", video, "--threshold", "2"], "threshold 2"),
        (["-m", tmp_path / "folder", "-i", video, "--video", tmp_path / "none" / "b.mp4"], "make it first"),
    ]:
        done = predict_long(*arguments)
        assert done.returncode == 2, done.stderr
        assert expected in done.stderr
        assert "Traceback" not in done.stderr
    np.testing.assert_array_equal(decode_plainly(video).shape, (30, *picture(0).shape))
