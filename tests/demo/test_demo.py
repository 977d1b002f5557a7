"""The page of paddlevid-demo, in a real browser, and what it is made of."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import paddle
import pytest
from chromium import open_chromium, requested_urls
from conftest import ROOT

from paddlevid import Predictor, build
from paddlevid.build import build_views
from paddlevid.data.records import Record
from paddlevid.demo import cli
from paddlevid.demo import page as page_html
from paddlevid.demo.analysis import Analyst
from paddlevid.demo.preview import make_playable
from paddlevid.demo.timeline import make_timeline
from paddlevid.deploy.manifest import read_manifest, write_manifest
from paddlevid.deploy.overlay import maps_of_class, overlay, scale_maps
from paddlevid.deploy.predictor import Prediction
from paddlevid.models.explain import forward_maps

pytest.importorskip("gradio", reason="needs gradio, which the page is made with")
# The command, and on stderr whom it asks for on the network
COMMAND = """
import sys

def tell(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo") and "127.0.0.1" not in str(arguments):
        print(event, arguments, file=sys.stderr, flush=True)

sys.addaudithook(tell)
from paddlevid.demo.cli import main
main()
"""


@pytest.fixture(scope="session")
def exported_folder(every_format) -> Path:
    return every_format("timesformer").folder


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Any]:
    with open_chromium(tmp_path / "profile") as driver:
        yield driver


@pytest.fixture
def serve(tmp_path: Path, exported_folder: Path) -> Iterator[Callable[..., str]]:
    """`serve("--examples", path)` starts a server and returns its URL; its temporary files go to `tmp_path / "tmp"`."""
    processes = []

    def start(*arguments: object) -> str:
        (tmp_path / "tmp").mkdir(exist_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, str(exported_folder), "--port", "0", *map(str, arguments)],
            cwd=ROOT,
            env=os.environ | {"TMPDIR": str(tmp_path / "tmp")},
            stdout=subprocess.PIPE,
            stderr=(tmp_path / "stderr.txt").open("w"),
            text=True,
        )
        processes.append(process)
        line = process.stdout.readline()
        assert line, (tmp_path / "stderr.txt").read_text()
        return re.search(r"http://\S+", line)[0]

    yield start
    for process in processes:  # while a browser still shows the page
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert not list((tmp_path / "tmp").rglob("*"))  # neither uploads nor telemetry
    assert (tmp_path / "stderr.txt").read_text() == ""


def write_video(path: Path, num_frames: int, fps: int, size: int = 64, codec: str = "mpeg4") -> Path:
    """Grey frames, each a little brighter than the one before."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = size, size, "yuv420p"
        for number in range(num_frames):
            grey = np.full((size, size, 3), 40 + number * 160 // num_frames, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def long_video(tmp_path: Path) -> Path:
    """43 seconds."""
    return write_video(tmp_path / "long.avi", num_frames=172, fps=4)


def wait_for(page, css: str, is_right: Callable[[list], bool] = bool, timeout_sec: float = 20) -> list:
    """The elements that match, once they are right."""
    end = time.monotonic() + timeout_sec
    while time.monotonic() < end:
        found = page.find_elements("css selector", css)
        if is_right(found):
            return found
        time.sleep(0.1)
    raise AssertionError(
        f"no right {css} after {timeout_sec} s; the page says: {page.find_element('id', 'message').text}"
    )


def upload(page, path: Path) -> None:
    wait_for(page, "input[type=file]")[0].send_keys(str(path))


def shown_scores(page) -> list[tuple[int, float]]:
    bars = page.find_elements("css selector", "#bars .pv-bar")
    return [(int(bar.get_attribute("data-label")), float(bar.get_attribute("data-score"))) for bar in bars]


def test_the_page_in_a_browser(page, serve, exported_folder, motion_set, long_video, tmp_path):
    good, other = sorted((motion_set / "test").glob("*.mp4"))[:2]
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(good.read_bytes()[:700])
    predict = Predictor(exported_folder)
    url = serve("--examples", other)
    page.get(url)
    upload(page, good)
    wait_for(page, "#bars .pv-bar", lambda bars: len(bars) == 5)
    check_labels(page, predict(good), good)
    check_strip(page, good)
    assert page.find_element("css selector", "video").get_attribute("src").endswith(good.name)
    page.save_screenshot(str(tmp_path / "demo.png"))
    assert (tmp_path / "demo.png").stat().st_size > 20_000

    upload(page, broken)
    alert = wait_for(page, "[role=alert]")[0].text
    assert "broken.mp4" in alert
    assert "Traceback" not in page.page_source
    assert str(tmp_path) not in alert
    assert "\n" not in alert

    wait_for(page, "#examples button.thumbnail-item")[0].click()  # the server goes on
    wait_for(page, "#facts", lambda facts: facts and other.name in facts[0].text)
    check_labels(page, predict(other), other)
    assert not page.find_elements("css selector", "[role=alert]")

    upload(page, long_video)
    picture = wait_for(page, "#timeline img")[0]
    assert page.execute_script("return arguments[0].decode().then(() => arguments[0].naturalWidth)", picture) > 800
    assert {asked.split("/")[2] for asked in requested_urls(page)} == {url.split("/")[2]}


def check_labels(page, expected: list[Prediction], video: Path) -> None:
    """Labels, names and probabilities are those of the Predictor on the same file."""
    assert shown_scores(page) == [(p.label, pytest.approx(p.score, abs=2e-6)) for p in expected]
    names = [name.text for name in page.find_elements("css selector", "#bars .name")]
    assert names == [p.name for p in expected]
    assert video.name in page.find_element("id", "facts").text


def check_strip(page, video: Path) -> None:
    """One frame from the middle of each quarter, with its time, and one picture of the maps below each."""
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        num_frames, fps = sum(1 for _ in container.decode(stream)), float(stream.average_rate)
    times = [int((part + 0.5) * num_frames / 4) / fps for part in range(4)]
    captions = [caption.text for caption in page.find_elements("css selector", "#strip figcaption")]
    assert captions == [f"{time_sec:.2f} s" for time_sec in times]
    sides = page.execute_script("return [...document.querySelectorAll('#strip img')].map(i => i.naturalWidth)")
    assert sides == [52] * 8  # 4 to 36 of 40 pixels are 6.4 to 57.6 of the video's 64, so 6 to 58


@pytest.mark.parametrize(
    ("model", "num_clips", "crop", "num_crops", "center"),
    [("timesformer", 1, "three", 3, 1), ("timesformer", 3, "ten", 10, 8), ("tsm", 2, "center", 1, 0)],
)
def test_the_clip_that_speaks_most_for_the_best_class_is_shown(
    every_format, motion_set, tmp_path, model, num_clips, crop, num_crops, center
):
    exported = every_format(model)
    folder = tmp_path / "Net"
    shutil.copytree(exported.folder, folder)
    manifest = read_manifest(folder)
    views = manifest.views.model_copy(update={"num_clips": num_clips, "crop": crop})
    write_manifest(manifest.model_copy(update={"views": views}), folder)
    video = sorted((motion_set / "test").glob("*.mp4"))[2]
    record = Record(path=str(video), name=video.name)

    analysis = Analyst(folder, runtime="onnxruntime")(record)

    frames = build_views(manifest.data, views)(record)  # [clips*crops, T, H, W, C]
    logits, _ = exported.answers(frames)
    best = logits.mean(axis=0).argmax()
    clip = logits[:, best].reshape(num_clips, num_crops).mean(axis=1).argmax()
    assert analysis.predictions[0].label == best
    assert (analysis.clip, analysis.num_clips) == (clip, num_clips)
    seen_by_model = frames[num_crops * clip + center]
    with paddle.no_grad():
        normalised = build.build_normalize(exported.cfg)(paddle.to_tensor(seen_by_model[None]))
        _, maps = forward_maps(exported.model, normalised)
    heat = scale_maps(maps_of_class(maps.numpy()[0], best))
    assert analysis.overlays_of_class == (model == "tsm")
    expected = overlay(analysis.frames_thwc, heat).astype(int)
    assert np.abs(analysis.overlays_thwc.astype(int) - expected).max() <= 3
    assert np.abs(analysis.frames_thwc.astype(int) - expected).max() > 30
    # What is shown is what the model saw, but for its size
    for shown, seen in zip(analysis.frames_thwc, seen_by_model, strict=True):
        small = cv2.resize(shown, (32, 32), interpolation=cv2.INTER_AREA).astype(int)
        assert np.abs(small - seen).mean() < 6


def test_a_timeline_of_a_long_video(exported_folder, long_video):
    found = list(make_timeline(Predictor(exported_folder), Record(path=str(long_video), name="long")))
    # Windows of 10 s begin every 5 s; the one at 35 s is cut short, and of that at 40 s less than half is left
    assert [step.done_sec for step in found[:-1]] == pytest.approx([0, 10, 15, 20, 25, 30, 35, 40, 43])
    assert {step.whole_sec for step in found[:-1]} == {43.0}
    timeline = found[-1]
    assert timeline.png.startswith(b"\x89PNG")
    assert (timeline.window_sec, timeline.end_sec, timeline.is_whole, timeline.damage) == (10.0, 43.0, True, None)


def test_no_timeline_of_a_short_video(exported_folder, tmp_path):
    video = write_video(tmp_path / "short.avi", num_frames=80, fps=4)  # two windows long
    assert not list(make_timeline(Predictor(exported_folder), Record(path=str(video), name="short")))


def test_browsers_get_a_copy_of_what_they_cannot_play(tmp_path):
    odd = write_video(tmp_path / "odd.avi", num_frames=30, fps=10, size=500)
    copy = make_playable(Record(path=str(odd)), tmp_path)
    with av.open(str(copy)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height, float(stream.average_rate)) == (360, 360, 10)
        brightness = [frame.to_ndarray(format="gray").mean() for frame in container.decode(stream)]
    expected = [40 + number * 160 // 30 for number in range(30)]
    assert brightness == pytest.approx(expected, abs=3)

    plain = write_video(tmp_path / "plain.mp4", num_frames=5, fps=10, codec="libx264")
    assert make_playable(Record(path=str(plain)), tmp_path) == plain
    assert make_playable(Record(path=str(Path(__file__))), tmp_path) is None


def test_names_of_classes_are_text_on_the_page():
    html = page_html.bars([Prediction(0, "<script>alert(1)</script>", 0.75)])
    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "75.0 %" in html
    assert "<b>x" not in page_html.error("<b>x</b>")


def test_bad_arguments_are_told_in_one_line(exported_folder, tmp_path, monkeypatch, capsys):
    empty = tmp_path / "empty.mp4"
    empty.touch()
    monkeypatch.setattr(cli, "forbid_telemetry", lambda: None)  # which would last longer than this test
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        cases = [
            ([tmp_path, "--port", 0], "no inference.yml here"),
            ([exported_folder, "--port", port], f"port {port}: Address already in use; choose another --port"),
            ([exported_folder, "--port", 0, "--host", "no.such.host.invalid"], "cannot listen on no.such.host.invalid"),
            ([exported_folder, "--port", 0, "--runtime", "abacus"], "runtime 'abacus' is not one of"),
            ([exported_folder, "--port", 0, "--examples", tmp_path / "none.mp4"], "no such file or folder"),
            ([exported_folder, "--port", 0, "--examples", empty], "none of these videos can be read"),
        ]
        for arguments, message in cases:
            monkeypatch.setattr(sys, "argv", ["paddlevid-demo", *map(str, arguments)])
            with pytest.raises(SystemExit) as stop:
                cli.main()
            printed = capsys.readouterr()
            assert stop.value.code == 2
            assert printed.out == ""
            last = printed.err.splitlines()[-1]
            assert last.startswith("error: ")
            assert message in last
            others = printed.err.splitlines()[:-1]
            assert all(line.startswith("left out of the examples: ") for line in others)


def test_help_imports_nothing_heavy():
    script = """
import runpy, sys
sys.argv = ["paddlevid-demo", "--help"]
try:
    runpy.run_module("paddlevid.demo.cli", run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
print("HEAVY:", *sorted({"paddle", "cv2", "pydantic", "gradio", "av", "numpy"} & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "usage: paddlevid-demo" in run.stdout
    assert run.stdout.splitlines()[-1] == "HEAVY:"


def test_serving_the_page_needs_no_paddle(every_format, tmp_path):
    """A folder with ONNX files is shown where PaddlePaddle is not installed."""
    script = f"""
import sys
sys.modules["paddle"] = None  # as if it were not there
from paddlevid.demo.analysis import Analyst
from paddlevid.demo.app import build_page
analyst = Analyst({str(every_format("timesformer").folder)!r}, runtime="onnxruntime")
build_page(analyst, [])
print(analyst.predictor.runtime.name, analyst.explain.name)
"""
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.stdout.split() == ["onnxruntime", "onnxruntime"], run.stderr
