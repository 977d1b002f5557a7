"""The driver of online models: its answers worked out by hand, and live streams through the command."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT
from test_streams import Broadcast
from tiny_streams import NUM_CLASSES, SIZE, decode_plainly, weights, write_folder, write_video

from paddlevid.data.transforms import ResizeShortSide, center_crop
from paddlevid.deploy.manifest import write_manifest
from paddlevid.deploy.streaming.online import OnlineClassifier, measure, plan_frames, score_frames
from paddlevid.deploy.streaming.streams import open_stream
from paddlevid.deploy.streaming.windows import Window, frame_crops, slide
from paddlevid.errors import ConfigError


def softmax(logits):
    return np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()


def leaky_sums(colours):
    """What the state of the tiny graph is after each colour `[N, 3]`: half of the one before, and the colour."""
    return np.array([sum(colours[j] * 0.5 ** (i - j) for j in range(i + 1)) for i in range(len(colours))])


@pytest.fixture(params=["logits", "probabilities"])
def classifier(request, tmp_path):
    write_folder(tmp_path / "folder", {"kind": "segment"}, online=True, average=request.param)
    return OnlineClassifier(tmp_path / "folder", "onnxruntime")


def expected_answers(colours, classifier):
    logits = leaky_sums(colours) @ weights(1)  # [N, K]
    answers = []
    for last in range(len(colours)):
        recent = logits[max(0, last - 3) : last + 1]  # the last 4 frames, those of a clip
        by_logits = classifier.manifest.views.average == "logits"
        answers.append(softmax(recent.mean(axis=0)) if by_logits else np.mean([softmax(row) for row in recent], axis=0))
    return answers


def test_the_state_is_kept_and_the_answers_are_averaged(classifier):
    colours = np.random.default_rng(0).integers(0, 256, (9, 3)).astype(np.uint8)
    for expected, colour in zip(expected_answers(colours.astype(float), classifier), colours, strict=True):
        found = classifier.step(np.broadcast_to(colour, (SIZE, SIZE, 3)))
        assert found.shape == (NUM_CLASSES,)
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert len(classifier.latencies_ms) == 9
    classifier.reset()
    first = classifier.step(np.broadcast_to(colours[0], (SIZE, SIZE, 3)))
    np.testing.assert_allclose(first, expected_answers(colours[:1].astype(float), classifier)[0], rtol=1e-4)


def test_a_gap_begins_a_stream_anew(classifier):
    frames = np.random.default_rng(0).integers(0, 256, (4, SIZE, SIZE, 3)).astype(np.uint8)
    windows = [Window(k, k + 1, frame[None, None], after_gap=k == 2) for k, frame in enumerate(frames)]
    found = [scored.probabilities for scored in score_frames(classifier, windows)]
    colours = frames.mean(axis=(1, 2))
    expected = expected_answers(colours[:2], classifier) + expected_answers(colours[2:], classifier)
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_warming_up_leaves_no_trace(classifier):
    frame = np.full((SIZE, SIZE, 3), 90, np.uint8)
    cold = classifier.step(frame)
    classifier.warm_up()
    assert len(classifier.latencies_ms) == 0
    np.testing.assert_array_equal(classifier.step(frame), cold)


def test_a_file_frame_by_frame(classifier, tmp_path):
    path = write_video(tmp_path / "a.mp4", 100)
    stream = open_stream(str(path))
    plan = plan_frames(classifier.manifest, stream, 5.0)
    found = list(score_frames(classifier, slide(stream, plan, frame_crops(classifier.manifest, "center"))))
    assert [scored.start_sec for scored in found] == pytest.approx([k / 5 for k in range(20)])
    taken = ResizeShortSide(40)(decode_plainly(path)[::5], np.random.default_rng(0))  # [20, h, w, 3]
    colours = center_crop(taken, SIZE)[0].mean(axis=(1, 2))  # [20, 3]
    np.testing.assert_allclose(
        [scored.probabilities for scored in found], expected_answers(colours, classifier), rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        ({"kind": "segment"}, 4 / 10),
        ({"kind": "dense", "window": 64}, 30 / 16),  # 4 frames, every 16th at 30 frames a second
        ({"kind": "clip", "rate": 6, "target_fps": 30.0}, 30 / 6),
        ({"kind": "clip", "rate": 1, "target_fps": 60.0}, 25),  # more than the video has
    ],
)
def test_frames_come_as_often_as_in_training(tmp_path, sampling, expected):
    manifest = write_folder(tmp_path / "folder", sampling)
    stream = open_stream(str(write_video(tmp_path / "a.mp4", 30)))
    assert 1 / plan_frames(manifest, stream).stride_sec == pytest.approx(expected)
    with pytest.raises(ConfigError, match="50 frames a second are asked for"):
        plan_frames(manifest, stream, 50.0)


def test_latencies():
    assert measure([]) is None
    assert measure(range(1, 101)) == (50.5, pytest.approx(95.05), 100)


def test_folders_that_cannot_be_run_online(tmp_path):
    write_folder(tmp_path / "plain", {"kind": "segment"})
    with pytest.raises(ConfigError, match="no online graph"):
        OnlineClassifier(tmp_path / "plain")
    manifest = write_folder(tmp_path / "sizeless", {"kind": "segment"}, online=True)
    write_manifest(manifest.model_copy(update={"state_size": 0}), tmp_path / "sizeless")
    with pytest.raises(ConfigError, match="state_size"):
        OnlineClassifier(tmp_path / "sizeless")


# ---- live, through the command ---------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    write_folder(tmp_path / "folder", {"kind": "segment"}, online=True)
    return tmp_path / "folder"


def command(folder, url, *arguments):
    start = [sys.executable, "-u", str(ROOT / "tools" / "predict_long.py"), "-m", str(folder), "-i", url]
    return [*start, "--runtime", "onnxruntime", *map(str, arguments)]


def test_a_live_stream_is_labelled_as_it_comes(folder, tmp_path):
    server = Broadcast(num_frames=10_000)
    table = tmp_path / "rows.csv"
    arguments = ["--window_sec", 1, "--stride_sec", 0.5, "--duration", 3.3, "--top_k", 1, "--csv", table]
    done = subprocess.run(
        command(folder, server.url, *arguments), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("00:0") and " - " in line]
    assert 4 <= len(lines) <= 6  # from 0, 0.5, ... 2.0; and from 2.5, of which 0.8 s are left
    assert "dropped because the model was busy: " in done.stdout
    starts = [float(line.split(",")[0]) for line in table.read_text().splitlines()[1:]]
    assert len(starts) == len(lines)
    assert np.all(np.diff(starts) > 0)


def test_ctrl_c_ends_a_live_stream_cleanly(folder, tmp_path):
    server = Broadcast(num_frames=10_000)
    table = tmp_path / "rows.csv"
    with subprocess.Popen(
        command(folder, server.url, "--online", "--online_fps", 10, "--csv", table),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 60
        while not (table.exists() and len(table.read_text().splitlines()) > 10) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert "latency of a frame: median" in output
    assert "95 % under" in output
    assert len(table.read_text().splitlines()) > 10


def test_a_live_stream_that_is_gone_is_an_error_that_keeps_the_rows(folder, tmp_path):
    server = Broadcast(num_frames=120)
    table = tmp_path / "rows.csv"
    arguments = ["--window_sec", 0.5, "--retries", 1, "--csv", table]
    done = subprocess.run(
        command(folder, server.url, *arguments), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "trying again in 1 s" in done.stderr
    assert "given up after 1 tries" in done.stderr
    assert len(table.read_text().splitlines()) > 3


def test_a_live_stream_has_no_second_reading(folder):
    server = Broadcast(num_frames=100)
    done = subprocess.run(
        command(folder, server.url, "--video", "out.mp4"), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert "--video needs a file" in done.stderr
