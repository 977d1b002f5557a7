"""Frames in order from files and live streams: those of plain decoding, at their times, however a stream breaks."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import socket
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from tiny_streams import decode_plainly, picture, write_video

from paddlevid.deploy.streaming import live
from paddlevid.deploy.streaming.live import Camera, LiveClock
from paddlevid.deploy.streaming.streams import Ahead, format_time, open_stream
from paddlevid.deploy.streaming.video_file import VideoFile
from paddlevid.errors import DataError

av = pytest.importorskip("av")

B_FRAMES = {"bf": "3", "x264-params": "keyint=25:min-keyint=25:scenecut=0:b-adapt=0"}
FILES = {
    "plain.mp4": ("libx264", B_FRAMES),
    "plain.mkv": ("libx264", B_FRAMES),
    "plain.ts": ("libx264", B_FRAMES),
    "open.mp4": ("libx264", {"bf": "3", "x264-params": "open-gop=1:keyint=10:min-keyint=10:scenecut=0"}),
    "b.avi": ("libx264", {"bf": "2"}),
    "divx.mp4": ("mpeg4", {"bf": "2", "g": "12"}),
    "mpeg2.ts": ("mpeg2video", {"bf": "2", "g": "12"}),
}


def all_frames(stream, wants=None):
    frames = [(frame.time_sec, frame.picture(), frame.after_gap) for frame in stream.frames(wants)]
    return [time_sec for time_sec, _, _ in frames], [picture for _, picture, _ in frames], [gap for *_, gap in frames]


@pytest.mark.parametrize("name", FILES)
def test_a_file_gives_all_frames_at_their_times(tmp_path, name):
    path = write_video(tmp_path / name, 60, codec=FILES[name][0], options=FILES[name][1])
    stream = VideoFile(str(path))
    times, pictures, gaps = all_frames(stream)
    np.testing.assert_array_equal(pictures, decode_plainly(path))
    np.testing.assert_allclose(times, stream.start_sec + np.arange(60) / 25, atol=1e-3)
    assert stream.start_sec < 0.1  # transport streams begin at 1.4 s; players do not tell
    assert not any(gaps)
    assert stream.damage is None
    assert stream.end_sec == pytest.approx(stream.start_sec + 60 / 25, abs=1e-3)


@pytest.mark.parametrize("name", FILES)
def test_frames_that_are_wanted_are_never_skipped(tmp_path, name):
    path = write_video(tmp_path / name, 120, codec=FILES[name][0], options=FILES[name][1])
    expected = decode_plainly(path)
    start_sec = VideoFile(str(path)).start_sec
    decoded = []
    for seed in range(3):
        wanted = set(np.random.default_rng(seed).choice(120, 9, replace=False).tolist())
        due = [start_sec + (number + 0.3) / 25 for number in wanted]
        stream = VideoFile(str(path))
        found = {}
        for frame in stream.frames(lambda begin, end, due=due: any(begin <= moment < end for moment in due)):
            found[round((frame.time_sec - start_sec) * 25)] = frame.picture()
        decoded.append(len(found))
        for number in wanted:
            np.testing.assert_array_equal(found[number], expected[number])
        assert stream.end_sec == pytest.approx(start_sec + 120 / 25, abs=1e-3), "also where the last are skipped"
    if name in ("plain.mp4", "plain.mkv", "plain.ts"):  # three B frames in a row, two of which no frame needs
        assert max(decoded) < 90
    if name == "b.avi":
        assert decoded == [120] * 3, "AVI does not tell when B frames are shown"


def test_times_of_a_variable_frame_rate(tmp_path):
    times = [Fraction(number, 25) + (Fraction(2) if number >= 10 else 0) for number in range(30)]
    path = write_video(tmp_path / "pause.mkv", 30, times=times)
    stream = VideoFile(str(path))
    found, pictures, _ = all_frames(stream)
    np.testing.assert_allclose(found, [float(moment) for moment in times], atol=1e-3)
    np.testing.assert_array_equal(pictures, decode_plainly(path))


def test_duration_ends_a_file_early(tmp_path):
    path = write_video(tmp_path / "a.mp4", 60)
    stream = open_stream(str(path), duration_sec=1.0)
    times, _, _ = all_frames(stream)
    assert len(times) == 25
    assert (stream.end_sec, stream.duration_sec, stream.damage) == (1.0, 1.0, None)


def test_turned_pictures_stand_upright(tmp_path):
    import struct

    path = write_video(tmp_path / "a.mp4", 5)
    plain = decode_plainly(path)
    content = bytearray(path.read_bytes())
    matrix, one = content.index(b"tkhd") + 4 + 40, 1 << 16
    content[matrix : matrix + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    np.testing.assert_array_equal(all_frames(VideoFile(str(path)))[1], np.rot90(plain, -1, axes=(1, 2)))


def noise(number):
    """Pictures that make large packets, so that damage hits pictures and not what lies between."""
    return np.random.default_rng(number).integers(0, 256, (48, 64, 3), np.uint8)


def test_a_file_that_is_cut_off_tells_when(tmp_path):
    path = write_video(
        tmp_path / "a.mp4", 200, options={"bf": "0"}, make=noise, container_options={"movflags": "faststart"}
    )
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    stream = VideoFile(str(path))
    times, _, _ = all_frames(stream)
    assert 80 <= len(times) <= 120
    assert stream.damage is not None
    assert stream.damage.time_sec == pytest.approx(times[-1], abs=0.1)
    assert stream.end_sec == pytest.approx(times[-1] + 1 / 25, abs=0.1)
    assert stream.duration_sec == pytest.approx(8.0)


def add_silence(path, seconds):
    """The video again with sound of so many seconds beside it."""
    output_path = path.with_name(f"sound {path.name}")
    with av.open(str(path)) as source, av.open(str(output_path), "w") as output:
        pictures, sound = output.add_stream_from_template(source.streams.video[0]), output.add_stream("aac", rate=16000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 16000
        packets = [packet for packet in source.demux(video=0) if packet.dts is not None]
        for second in range(seconds):
            silence.pts = second * 16000
            while packets and packets[0].dts * packets[0].time_base <= second:
                packets[0].stream = pictures
                output.mux(packets.pop(0))
            output.mux(sound.encode(silence))
        output.mux(sound.encode(None))
        for packet in packets:
            packet.stream = pictures
            output.mux(packet)
    return output_path


@pytest.mark.parametrize("has_sound", [False, True])
@pytest.mark.parametrize("name", ["a.mkv", "a.flv", "untagged.mkv"])
def test_a_cut_file_whose_streams_do_not_tell_their_length(tmp_path, name, has_sound):
    path = write_video(tmp_path / name, 300, options={"bf": "0"}, make=noise)
    path = add_silence(path, 14) if has_sound else path
    content = path.read_bytes()
    if name == "untagged.mkv":
        content = content.replace(b"DURATION", b"NOTHINGS")
    whole, cut = tmp_path / f"whole {name}", tmp_path / f"cut {name}"
    whole.write_bytes(content)
    cut.write_bytes(content[: int(len(content) * 0.45)])
    stream = VideoFile(str(whole))
    all_frames(stream)
    assert stream.damage is None, "sound goes on for 2 s and more"
    stream = VideoFile(str(cut))
    times, _, _ = all_frames(stream)
    assert 4 < times[-1] < 7
    assert stream.damage is not None
    assert stream.damage.time_sec == pytest.approx(times[-1] + 1 / 25, abs=0.1)
    told = "14.[01]" if has_sound and name != "a.mkv" else "12.0"  # an audio packet is longer than what it must hold
    if name != "a.flv":  # whose last packet is seen to be broken
        assert re.fullmatch(f"ends at {stream.end_sec:.1f} s of {told} s", stream.damage.reason)
    stream = VideoFile(str(cut), duration_sec=3.0)
    all_frames(stream)
    assert stream.damage is None, "what is missing was not asked for"


@pytest.mark.parametrize("kind", ["noise", "zeros", "in the pictures"])
def test_a_file_that_is_damaged_in_the_middle_goes_on_behind(tmp_path, kind):
    path = write_video(tmp_path / "a.ts", 200, options={"bf": "0", "g": "20"}, make=noise)
    content = np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, 188).copy()  # packets of MPEG-TS
    middle = len(content) // 2
    rng = np.random.default_rng(0)
    if kind == "noise":
        content[middle : middle + 400] = rng.integers(0, 256, (400, 188))
    elif kind == "zeros":
        content[middle : middle + 400] = 0
    else:
        content[middle : middle + 400, 60:140] = rng.integers(0, 256, (400, 80))
    path.write_bytes(content.tobytes())
    stream = VideoFile(str(path))
    times, _, gaps = all_frames(stream)
    assert stream.damage is not None
    assert stream.damage.time_sec == pytest.approx(4.0, abs=0.5)
    assert times[-1] == pytest.approx(199 / 25, abs=0.1)
    behind = max(moment for moment, gap in zip(times, gaps, strict=True) if gap)
    assert behind == pytest.approx(5.6, abs=0.2), "the first key frame behind the damage begins anew"


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "Invalid data"), (b"no video at all" * 99, "Invalid data"), (None, "No such file")]
)
def test_what_is_no_video_is_told_at_once(tmp_path, content, reason):
    path = tmp_path / "bad.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=reason):
        open_stream(str(path))


def test_a_camera_that_is_not_there():
    with pytest.raises(DataError, match="camera 97: there is no such camera"):
        open_stream("97")
    with pytest.raises(DataError, match="no such camera"):
        Camera(97)


# ---- live streams ----------------------------------------------------------------------------------------------------


class Broadcast(threading.Thread):
    """Sends MPEG-TS to who connects, one after the other, `parts` times `num_frames` frames, and then ends."""

    def __init__(self, *, parts=1, num_frames=50, fps=50, scheme="http"):
        super().__init__(daemon=True)
        self.parts, self.num_frames, self.fps, self.scheme = parts, num_frames, fps, scheme
        self.server = socket.create_server(("127.0.0.1", 0))
        self.url = f"{scheme}://127.0.0.1:{self.server.getsockname()[1]}"
        self.start()

    def run(self):
        with self.server:
            for _ in range(self.parts):
                connection, _ = self.server.accept()
                gone = contextlib.suppress(OSError, av.error.FFmpegError)  # the listener has left
                with gone, connection, connection.makefile("wb") as file:
                    if self.scheme == "http":
                        connection.recv(4096)
                        file.write(b"HTTP/1.0 200 OK\r\nContent-Type: video/mp2t\r\n\r\n")
                    self.send(file)

    def send(self, file):
        with av.open(file, "w", format="mpegts") as container:
            options = {"tune": "zerolatency", "g": "10"}
            stream = container.add_stream("libx264", rate=self.fps, options=options)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            begun = time.monotonic()
            for number in range(self.num_frames):
                frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
                container.mux(stream.encode(frame))
                file.flush()
                time.sleep(max(0.0, begun + number / self.fps - time.monotonic()))
            container.mux(stream.encode())


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.mark.parametrize("scheme", ["http", "tcp"])
def test_a_live_stream_gives_its_frames_at_their_pace(scheme):
    stream = open_stream(Broadcast(num_frames=100, scheme=scheme).url, retries=0)
    assert stream.is_live
    begun = time.monotonic()
    times, pictures, gaps = all_frames(stream)
    assert len(times) >= 90
    assert times[0] == 0.0
    np.testing.assert_allclose(np.diff(times), 1 / 50, atol=1e-3)
    assert time.monotonic() - begun < 6
    assert not any(gaps)
    # Which frame came first is up to the network; each is far from all others
    first = min(range(20), key=lambda number: np.abs(pictures[0].astype(int) - picture(number)).mean())
    for place in (0, 40, 80):
        assert np.abs(pictures[place].astype(int) - picture(first + place)).mean() < 8
    assert stream.damage is not None
    assert "given up after 0 tries" in stream.damage.reason


SEND_RTSP = """
import sys, time, av
sys.path.insert(0, sys.argv[2])
from tiny_streams import picture
for attempt in range(50):
    try:
        with av.open(sys.argv[1], "w", format="rtsp", options={"rtsp_transport": "tcp"}) as container:
            stream = container.add_stream("libx264", rate=50, options={"tune": "zerolatency", "g": "10"})
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for number in range(60):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
                time.sleep(0.02)
        break
    except ConnectionRefusedError:
        time.sleep(0.1)
"""


def test_rtsp():
    """The stream waits for a sender: FFmpeg has no RTSP server that waits for who watches."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        url = f"rtsp://127.0.0.1:{probe.getsockname()[1]}/live"
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[3])]
    environment = {**os.environ, "PYTHONPATH": paths[1]}
    sender = subprocess.Popen([sys.executable, "-c", SEND_RTSP, url, paths[0]], env=environment)
    try:
        stream = open_stream(url, retries=0, options={"rtsp_flags": "listen", "listen_timeout": "20"})
        times, pictures, _ = all_frames(stream)
    finally:
        sender.kill()
        sender.wait()
    assert len(times) > 40
    np.testing.assert_allclose(np.diff(times)[1:], 1 / 50, atol=2e-3)  # the first frame comes without a time
    assert np.abs(pictures[20].astype(int) - picture(20)).mean() < 8


def test_a_broken_live_stream_is_opened_again(capsys):
    stream = open_stream(Broadcast(parts=2, num_frames=50).url, retries=3)
    times, gaps = [], []
    for frame in stream.frames():
        times.append(frame.time_sec)
        gaps.append(frame.after_gap)
        if sum(gaps) and len(times) > gaps.index(True) + 20:
            stream.stop()
    again = gaps.index(True)
    assert again > 30, "the first part was read"
    assert sum(gaps) == 1
    assert times[again] - times[again - 1] > 0.5, "the pause of the back-off is in the times"
    assert np.all(np.diff(times) > 0)
    assert "trying again in 1 s" in capsys.readouterr().err


def test_duration_ends_a_live_stream():
    stream = open_stream(Broadcast(num_frames=1000).url, duration_sec=1.0)
    begun = time.monotonic()
    times, _, _ = all_frames(stream)
    assert time.monotonic() - begun < 2
    assert times[-1] < 1.0
    assert stream.damage is None


def test_a_stream_that_is_not_there():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # but nobody listens
        with pytest.raises(DataError, match="Connection refused"):
            open_stream(f"http://127.0.0.1:{taken.getsockname()[1]}")


def test_a_recording_behind_a_url_is_read_like_a_file(tmp_path):
    from file_server import Server

    path = write_video(tmp_path / "a.mp4", 100, container_options={"movflags": "faststart"})
    server = Server()
    try:
        address, _ = server.serve("/a.mp4", body=path.read_bytes())
        stream = open_stream(address)
        assert not stream.is_live
        np.testing.assert_array_equal(all_frames(stream)[1], decode_plainly(path))
    finally:
        server.close()


def test_the_clock_of_a_live_stream_by_hand():
    clock = LiveClock(threading.Event())
    assert clock.tick(100.0) == (0.0, False)
    assert clock.tick(100.5) == (0.5, False)
    moment, jumped = clock.tick(7000.0)  # set anew: the clock on the wall counts, and time does not run backwards
    assert jumped
    assert moment == pytest.approx(0.5, abs=0.1)
    assert clock.tick(7000.25) == (pytest.approx(moment + 0.25), False)


def test_a_stream_that_comes_too_fast_is_read_at_its_pace(monkeypatch):
    monkeypatch.setattr(live, "MAX_LEAD_SEC", 1.0)
    clock = LiveClock(threading.Event())
    begun = time.monotonic()
    for number in range(31):
        clock.tick(number / 20)  # 1.5 s at once, of which the first second may be early
    assert time.monotonic() - begun == pytest.approx(0.5, abs=0.15)


# ---- a thread ahead --------------------------------------------------------------------------------------------------


def test_ahead_keeps_order_and_its_bound():
    made = []

    def items():
        for number in range(30):
            made.append(number)
            yield number

    taken = []
    with Ahead(items(), 3) as ahead:
        for number in ahead:
            time.sleep(0.002)
            taken.append(number)
            assert len(made) - len(taken) <= 4, "three that wait, and one in the thread's hand"
    assert taken == list(range(30))
    assert ahead.num_dropped == 0


def test_ahead_drops_what_is_old_and_counts_it():
    def items():
        for number in range(40):
            yield number
            time.sleep(0.005)

    taken = []
    with Ahead(items(), 1, newest=True) as ahead:
        for number in ahead:
            time.sleep(0.05)
            taken.append(number)
    assert taken == sorted(set(taken))
    assert len(taken) < 20
    assert taken[-1] == 39, "the newest is kept"
    assert len(taken) + ahead.num_dropped == 40


def test_ahead_raises_what_its_thread_raised_after_what_came_before():
    def items():
        yield 1
        raise DataError("broken")

    with Ahead(items(), 5) as ahead:
        iterator = iter(ahead)
        assert next(iterator) == 1
        with pytest.raises(DataError, match="broken"):
            next(iterator)


def test_ahead_ends_its_thread():
    closed = threading.Event()

    def items():
        try:
            yield from itertools.count()
        finally:
            closed.set()

    with Ahead(items(), 2) as ahead:
        assert next(iter(ahead)) == 0
    assert closed.wait(2)


def test_format_time():
    assert [format_time(seconds) for seconds in (0, 59.9, 60, 3599, 3600, 36061)] == [
        "00:00",
        "00:59",
        "01:00",
        "59:59",
        "1:00:00",
        "10:01:01",
    ]
    assert format_time(61.3, tenths=True) == "01:01.3"
