"""Timelines as CSV, JSON and PNG, segments, and annotated videos: worked out by hand, and read back."""

from __future__ import annotations

import csv
import json
import signal
import struct
import subprocess
import sys
import time
from fractions import Fraction

import numpy as np
import pytest
from conftest import ROOT
from tiny_streams import decode_plainly, picture, write_folder, write_video

from paddlevid.deploy.predictor import Prediction
from paddlevid.deploy.streaming.annotate import annotate_video
from paddlevid.deploy.streaming.timeline import (
    CsvSegments,
    CsvTimeline,
    JsonTimeline,
    Row,
    ScoreHistory,
    Segment,
    SegmentFinder,
    best_of,
    core,
    describe_segment,
)
from paddlevid.deploy.streaming.timeline_plot import plot_timeline
from paddlevid.deploy.streaming.windows import Scored
from paddlevid.errors import ConfigError, DataError

av = pytest.importorskip("av")


def windows(*scores, span=10.0, stride=5.0):
    """Overlapping windows of 10 s, each with the scores of its classes."""
    return [
        Scored(k * stride, k * stride + span, np.array(row if isinstance(row, tuple) else (row,), np.float32))
        for k, row in enumerate(scores)
    ]


def segments_of(found, **options):
    finder = SegmentFinder(**options)
    ended = [segment for window in found for segment in finder.push(window)]
    return ended + finder.finish()


def test_segments_by_hand():
    # Cores of windows 0-10, 5-15, 10-20, ...: 0-7.5, 7.5-12.5, 12.5-17.5, ..., the last to its end
    found = segments_of(windows(0.1, 0.6, 0.8, 0.1, 0.1, 0.9), threshold=0.5, keep=0.5)
    assert found == [
        Segment(7.5, 17.5, 0, pytest.approx(0.7), pytest.approx(0.8)),
        Segment(27.5, 35.0, 0, pytest.approx(0.9), pytest.approx(0.9)),
    ]


def test_hysteresis_keeps_what_flickers_and_leaves_out_what_never_reaches():
    scores = windows(0.4, 0.4, 0.1, 0.35, 0.6, 0.35, 0.6, 0.2)
    assert segments_of(scores, threshold=0.5) == [  # keep is 0.3
        Segment(17.5, 37.5, 0, pytest.approx((0.35 + 0.6 + 0.35 + 0.6) / 4), pytest.approx(0.6))
    ]
    assert len(segments_of(scores, threshold=0.5, keep=0.5)) == 2
    assert len(segments_of(scores, threshold=0.4, keep=0.4)) == 3


def test_classes_have_segments_of_their_own_that_meet():
    found = segments_of(windows((0.9, 0.1), (0.8, 0.2), (0.1, 0.9), (0.0, 1.0)), threshold=0.5)
    assert [segment[:3] for segment in found] == [(0.0, 12.5, 0), (12.5, 25.0, 1)]


def test_both_classes_of_a_window_can_last():
    found = segments_of(windows((0.5, 0.5), (0.5, 0.5), span=4.0, stride=4.0), threshold=0.5)
    assert [segment[:3] for segment in found] == [(0.0, 8.0, 0), (0.0, 8.0, 1)]


def test_smoothing_is_the_mean_of_the_windows_around():
    # Means of three: 0.45, 0.3, 0.6, 0.6, 0.9, 0.9 (two at the ends)
    scores = windows(0.9, 0.0, 0.0, 0.9, 0.9, 0.9)
    found = segments_of(scores, threshold=0.5, keep=0.5, smooth=3)
    assert found == [Segment(17.5, 35.0, 0, pytest.approx((0.6 + 0.9 + 0.9) / 3), pytest.approx(0.9))]
    by_hand = [0.45, 0.3, 0.3, 0.6, 0.9, 0.9]
    plain = segments_of(windows(*by_hand), threshold=0.5, keep=0.5)
    assert [segment[:3] for segment in plain] == [segment[:3] for segment in found]


def test_smoothing_over_more_windows_than_there_are():
    found = segments_of(windows(0.9, 0.3), threshold=0.5, smooth=7)
    assert found == [Segment(0.0, 15.0, 0, pytest.approx(0.6), pytest.approx(0.6))]


def test_short_segments_can_be_left_out():
    scores = windows(0.9, 0.1, 0.9, 0.9, 0.1, span=4.0, stride=4.0)
    assert [s[:2] for s in segments_of(scores, threshold=0.5, min_sec=5)] == [(8.0, 16.0)]
    assert [s[:2] for s in segments_of(scores, threshold=0.5, min_sec=4)] == [(0.0, 4.0), (8.0, 16.0)]


def test_a_segment_is_told_once_it_has_ended():
    finder = SegmentFinder(0.5)
    told = [finder.push(window) for window in windows(0.9, 0.9, 0.0, 0.0)]
    assert [len(segments) for segments in told] == [0, 0, 1, 0]
    assert finder.finish() == []
    assert SegmentFinder(0.5).finish() == []


@pytest.mark.parametrize(
    "options", [{"threshold": 0}, {"threshold": 1.5}, {"keep": 0.9}, {"keep": 0}, {"smooth": 2}, {"min_sec": -1}]
)
def test_options_of_segments(options):
    with pytest.raises(ConfigError):
        SegmentFinder(**options)


def test_cores_of_windows():
    spans = [(0, 10), (5, 15), (10, 18)]
    assert [core(spans, place) for place in range(3)] == [(0, 7.5), (7.5, 12.5), (12.5, 18)]
    apart = [(0, 2), (5, 7)]
    assert [core(apart, place) for place in range(2)] == [(0, 2), (5, 7)]


NAMES = ("a", "b, c", "größer")


def test_files_can_be_read_back(tmp_path):
    row = Row(1.0, 2.5, [Prediction(2, "größer", 0.75), Prediction(1, "b, c", 0.2)])
    with CsvTimeline(tmp_path / "rows.csv", 2) as table, JsonTimeline(tmp_path / "rows.json") as lines:
        table.write(row)
        lines.write(row)
        # Whole lines lie on the disk at once, so that a process that is killed loses none
        assert len((tmp_path / "rows.csv").read_text(encoding="utf-8").splitlines()) == 2
        assert json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))["start_sec"] == 1.0
    read = list(csv.DictReader((tmp_path / "rows.csv").open(encoding="utf-8")))
    assert read == [
        {
            "start_sec": "1.000",
            "end_sec": "2.500",
            "label_1": "2",
            "name_1": "größer",
            "score_1": "0.750000",
            "label_2": "1",
            "name_2": "b, c",
            "score_2": "0.200000",
        }
    ]
    with CsvSegments(tmp_path / "segments.csv", NAMES) as file:
        file.write(Segment(1.0, 2.0, 1, 0.5, 0.75))
    assert (tmp_path / "segments.csv").read_text().splitlines() == [
        "start_sec,end_sec,label,name,mean_score,peak_score",
        '1.000,2.000,1,"b, c",0.500000,0.750000',
    ]


def test_the_best_classes_and_their_words():
    row = best_of(Scored(0.0, 1.0, np.array([0.2, 0.5, 0.3])), NAMES, 2)
    assert row == Row(0.0, 1.0, [Prediction(1, "b, c", 0.5), Prediction(2, "größer", pytest.approx(0.3))])
    text = describe_segment(Segment(61.0, 3725.9, 2, 0.5, 0.75), NAMES)
    assert text.split("  ")[-1] == "größer (2), mean 0.500, peak 0.750"
    assert "01:01.0 - 1:02:05.9" in text


def test_a_history_merges_pairs_by_their_maximum():
    history = ScoreHistory(max_windows=4)
    for window in windows(0.1, 0.5, 0.25, 0.0, 0.75, 0.0, 0.0, span=5.0):
        history.push(window)
    rows = [(start, end, scores.tolist()) for start, end, scores in history.rows()]
    assert rows == [(0, 10, [0.5]), (10, 20, [0.25]), (20, 30, [0.75]), (30, 35, [0.0])]
    for window in windows(*[0.0] * 500, span=5.0):
        history.push(window)
    assert len(history.rows()) <= 5


def test_the_plot_paints_scores_where_they_belong(tmp_path):
    """Colours of the heat rows at known places: class 0 in the first half, class 1 in the second."""
    import cv2

    history = ScoreHistory()
    for window in windows(*[(1.0, 0.0)] * 5, *[(0.0, 1.0)] * 5, span=5.0):
        history.push(window)
    plot_timeline(tmp_path / "out" / "a.png", history, [Segment(0.0, 25.0, 0, 1.0, 1.0)], ("one", "two"), title="a")
    image = cv2.imread(str(tmp_path / "out" / "a.png")).astype(int)  # BGR
    dark = (np.abs(image - [107, 48, 8]).max(axis=2) < 12)[:, : int(image.shape[1] * 0.88)]  # 1.0 of "Blues"
    rows, columns = np.nonzero(dark)
    middle_row, middle_column = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
    quadrants = [
        dark[rows.min() + 8 : int(middle_row) - 4, columns.min() + 4 : int(middle_column) - 4].mean(),
        dark[int(middle_row) + 4 : rows.max() - 8, int(middle_column) + 4 : columns.max() - 4].mean(),
        dark[rows.min() + 8 : int(middle_row) - 4, int(middle_column) + 4 : columns.max()].mean(),
        dark[int(middle_row) + 4 : rows.max() - 8, columns.min() : int(middle_column) - 4].mean(),
    ]
    assert quadrants == pytest.approx([1, 1, 0, 0], abs=0.1)  # with lines between rows


@pytest.mark.parametrize("num_windows", [0, 1])
def test_plots_of_hardly_anything(tmp_path, num_windows):
    history = ScoreHistory()
    for window in windows(*[(0.5, 0.5)] * num_windows):
        history.push(window)
    plot_timeline(tmp_path / "a.png", history, [], ("one", "two"))
    assert (tmp_path / "a.png").stat().st_size > 1000


# ---- annotated videos ------------------------------------------------------------------------------------------------

ROWS = [Row(0.0, 2.0, [Prediction(0, "one", 1.0)]), Row(2.0, 4.0, [Prediction(1, "two", 0.25)])]


def grey(number):
    return np.full((120, 160, 3), 200, np.uint8)


def test_an_annotated_video_has_the_bars_of_its_scores(tmp_path):
    source = write_video(tmp_path / "a.mp4", 100, make=grey)
    written = annotate_video(str(source), ROWS, tmp_path / "b.mp4")
    assert written == (100, "none", "")
    frames = decode_plainly(tmp_path / "b.mp4").astype(int)
    assert frames.shape == (100, 120, 160, 3)
    np.testing.assert_allclose(frames[:, :60], 200, atol=6)  # above the panel
    blue = (frames[..., 2] - frames[..., 0] > 80).sum(axis=2).max(axis=1)  # pixels of the bar in its longest row
    full = blue[10]
    assert full > 15
    assert blue[60] == pytest.approx(full / 4, abs=3)
    with av.open(str(tmp_path / "b.mp4")) as container:
        video = container.streams.video[0]
        assert (video.codec_context.name, video.average_rate) == ("h264", 25)


def test_annotated_videos_keep_times_and_cut_odd_sizes(tmp_path):
    times = [Fraction(number, 25) + (Fraction(1) if number >= 10 else 0) for number in range(30)]
    source = write_video(tmp_path / "a.mkv", 30, times=times, make=lambda n: picture(n, 48, 64), codec="libx264")
    annotate_video(str(source), ROWS, tmp_path / "b.mp4")
    with av.open(str(tmp_path / "b.mp4")) as container:
        found = [frame.time for frame in container.decode(video=0)]
    np.testing.assert_allclose(found, [float(moment) for moment in times], atol=2e-3)
    odd = tmp_path / "odd.avi"
    with av.open(str(odd), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 65, 49, "yuvj420p"
        for number in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number, 49, 65), format="rgb24")))
        container.mux(stream.encode())
    annotate_video(str(odd), ROWS, tmp_path / "even.mp4")
    assert decode_plainly(tmp_path / "even.mp4").shape == (5, 48, 64, 3)


def test_turned_videos_are_annotated_upright(tmp_path):
    source = write_video(tmp_path / "a.mp4", 10)
    content = bytearray(source.read_bytes())
    matrix, one = content.index(b"tkhd") + 4 + 40, 1 << 16
    content[matrix : matrix + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    source.write_bytes(content)
    annotate_video(str(source), [], tmp_path / "b.mp4")
    upright = np.rot90(decode_plainly(source), -1, axes=(1, 2))
    written = decode_plainly(tmp_path / "b.mp4")
    assert written.shape == (10, 64, 48, 3)
    assert np.abs(written.astype(int) - upright).mean() < 8


def add_sound(path, codec):
    """The video with a second of a tone a second."""
    sounding = path.with_name(f"{codec}_{path.stem}.mkv")
    with av.open(str(path)) as source, av.open(str(sounding), "w") as output:
        video = output.add_stream_from_template(source.streams.video[0])
        audio = output.add_stream(codec, rate=48000)
        audio.layout = "mono"
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = video
                output.mux(packet)
        tone = (np.sin(np.arange(48000 * 4) / 20) * 9000).astype(np.int16)
        kind = audio.codec_context.format.name
        for start in range(0, len(tone), 1024):
            piece = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], format="s16", layout="mono")
            piece.rate, piece.pts = 48000, start
            for resampled in av.AudioResampler(kind, "mono", 48000).resample(piece):
                resampled.pts = start
                output.mux(audio.encode(resampled))
        output.mux(audio.encode(None))
    return sounding


@pytest.mark.parametrize(("codec", "expected"), [("aac", "copied"), ("pcm_s16le", "left out: mp4 cannot hold pcm")])
def test_sound_is_copied_where_it_can_be(tmp_path, codec, expected):
    source = add_sound(write_video(tmp_path / "a.mp4", 100), codec)
    written = annotate_video(str(source), ROWS, tmp_path / "b.mp4")
    assert written.audio.startswith(expected)
    with av.open(str(source)) as before, av.open(str(tmp_path / "b.mp4")) as after:
        assert len(after.streams.audio) == (expected == "copied")
        if expected == "copied":
            packets = [[bytes(p) for p in container.demux(audio=0) if p.size] for container in (before, after)]
            assert packets[0] == packets[1]
            assert after.streams.audio[0].duration * after.streams.audio[0].time_base == pytest.approx(4.0, abs=0.1)


def test_what_cannot_be_annotated(tmp_path):
    source = write_video(tmp_path / "a.mp4", 5)
    with pytest.raises(DataError, match="over the video itself"):
        annotate_video(str(source), ROWS, source)
    with pytest.raises(DataError, match="No such file"):
        annotate_video(str(tmp_path / "none.mp4"), ROWS, tmp_path / "b.mp4")


# ---- the command -----------------------------------------------------------------------------------------------------


def command(*arguments):
    return [sys.executable, str(ROOT / "tools" / "predict_long.py"), *map(str, arguments)]


def test_the_command_writes_all_that_is_asked_for(tmp_path):
    write_folder(tmp_path / "folder", {"kind": "segment"})
    source = write_video(tmp_path / "a.mp4", 250)
    names = ["rows.csv", "rows.json", "plot.png", "out.mp4", "segments.csv"]
    (tmp_path / "out").mkdir()
    outputs = [tmp_path / "out" / name for name in names]
    flags = ["--csv", "--json", "--png", "--video", "--segments"]
    pairs = [part for pair in zip(flags, outputs, strict=True) for part in pair]
    options = ["--window_sec", 2, "--top_k", 2, "--threshold", 0.3]
    done = subprocess.run(
        command("-m", tmp_path / "folder", "-i", source, *options, *pairs),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert all(path.is_file() for path in outputs)
    rows = list(csv.DictReader(outputs[0].open()))
    assert [float(row["start_sec"]) for row in rows] == [float(k) for k in range(10)]
    lines = [json.loads(line) for line in outputs[1].read_text().splitlines()]
    assert [line["predictions"][0]["label"] for line in lines] == [int(row["label_1"]) for row in rows]
    num_segments = len(outputs[4].read_text().splitlines()) - 1
    assert num_segments >= 1
    assert f"segments: {num_segments}" in done.stdout
    assert decode_plainly(outputs[3]).shape == (250, 48, 64, 3)


@pytest.fixture(scope="module")
def long_video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("long") / "a.mp4", 1500, make=lambda n: picture(n, 96, 128))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_command_that_is_stopped_keeps_what_it_wrote(long_video, tmp_path, number):
    write_folder(tmp_path / "folder", {"kind": "segment"})
    table, segments = tmp_path / "rows.csv", tmp_path / "segments.csv"
    arguments = ["--window_sec", 0.4, "--stride_sec", 0.04, "--batch_size", 1, "--csv", table, "--segments", segments]
    with subprocess.Popen(
        command("-m", tmp_path / "folder", "-i", long_video, *arguments), stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 60
        while not (table.exists() and len(table.read_text().splitlines()) > 20) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL), errors
    assert "Traceback" not in errors
    rows = list(csv.DictReader(table.open()))
    assert 20 <= len(rows) < 1490
    assert all(row["score_5"] for row in rows[:-1])
    assert [float(row["start_sec"]) for row in rows[:20]] == pytest.approx([0.04 * k for k in range(20)])


def test_the_command_tells_of_a_cut_file(tmp_path):
    write_folder(tmp_path / "folder", {"kind": "segment"})
    path = write_video(tmp_path / "a.mkv", 300)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    done = subprocess.run(
        command("-m", tmp_path / "folder", "-i", path), capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "s of 12.0 s; the rest is kept" in done.stderr


@pytest.mark.parametrize(
    ("source", "more", "expected"),
    [
        ("a.mp4", ("--stride_sec", "1e-12"), "a stride of 1e-12 s: it must be a frame at least, 0.04 s"),
        ("²", (), "No such file"),
        ("99999999999999999999", (), "camera 99999999999999999999: there is no camera of such a number"),
        ("9" * 5000, (), "camera 99999999999999999999...: there is no camera"),
    ],
)
def test_what_cannot_be_asked_for_is_one_line(run_tool, tmp_path, monkeypatch, source, more, expected):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "folder", {"kind": "segment"})
    write_video(tmp_path / "a.mp4", 50)
    code, _, err = run_tool("predict_long", "-m", "folder", "-i", source, *more)
    assert code == 2
    assert expected in err
    assert err.count("\n") == 1
