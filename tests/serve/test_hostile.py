"""Files made to do harm: the server says what is wrong and goes on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

from .conftest import RunningServer, wait_for


def check_alive(server: RunningServer, video: Path) -> None:
    assert server.process.poll() is None
    assert server.client.get("/health").status_code == 200
    assert server.upload(video.read_bytes()).status_code == 200
    assert server.uploads_left() == []


@pytest.mark.parametrize("kind", ["hls", "concat", "hls-in-a-form-named-mp4", "hls-and-mpegts"])
def test_lists_of_other_files_are_not_followed(server, videos, tmp_path, kind):
    """FFmpeg would open the files that they name, also those of the server."""
    if kind == "concat":
        body = f"ffconcat version 1.0\nfile {videos[0]}\n"
    else:
        body = f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{videos[0]}\n#EXT-X-ENDLIST\n"
    name = "clip.mp4" if "mp4" in kind else "clip.m3u8"
    content = body.encode()
    if kind == "hls-and-mpegts":  # a playlist for one release of FFmpeg, a transport stream for another
        content = content.ljust(188 * 2, b"\n") + write_transport_stream(tmp_path / "clip.ts").read_bytes()
    answer = server.upload(content, name=name)
    assert answer.status_code == 422, answer.text
    check_alive(server, videos[0])


def write_transport_stream(path: Path) -> Path:
    """Twelve black frames."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(12):
            container.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(stream.encode())
    return path


def test_damaged_files_do_no_harm(server, videos):
    rng = random.Random(0)
    content = videos[0].read_bytes()
    statuses = set()
    for trial in range(40):
        damaged = bytearray(content)
        if trial % 2:
            del damaged[rng.randrange(len(damaged)) :]
        for _ in range(rng.choice([1, 10, 300])):
            if damaged:
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        answer = server.upload(bytes(damaged))
        statuses.add(answer.status_code)
        assert answer.status_code in (200, 413, 422), answer.text
        assert answer.status_code == 200 or list(answer.json()) == ["error"]
    assert 422 in statuses, "or nothing was damaged"
    check_alive(server, videos[0])


def test_other_files_than_videos(server, videos, tmp_path):
    import cv2
    import numpy as np

    cv2.imwrite(str(tmp_path / "picture.png"), np.zeros((8, 8, 3), np.uint8))
    for content in (
        (tmp_path / "picture.png").read_bytes(),
        b"\0" * 5000,
        os.urandom(5000),
        Path(__file__).read_bytes(),
    ):
        answer = server.upload(content)
        assert answer.status_code == 422, answer.text
    check_alive(server, videos[0])


def test_a_decoder_that_crashes_is_replaced(start_server, videos, tmp_path):
    """No file is known that crashes it: a signal stands in for one. While it is stopped, a request waits for it."""
    server = start_server()
    (decoder,) = server.decoders()
    os.kill(decoder, signal.SIGSTOP)
    script = f"""
import httpx
answer = httpx.post("{server.url}/predict", files={{"file": ("a.mp4", open({str(videos[0])!r}, "rb"))}},
                    timeout=20, trust_env=False)
print(answer.status_code, answer.text)
"""
    client = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    wait_for(server.uploads_left)
    time.sleep(0.1)
    os.kill(decoder, signal.SIGSEGV)
    os.kill(decoder, signal.SIGCONT)
    out, _ = client.communicate(timeout=20)
    assert out.startswith("422 ")
    assert "crashed" in out
    assert "signal 11" in out
    wait_for(lambda: server.client.get("/health").status_code == 200)
    check_alive(server, videos[0])
    assert server.decoders() != [decoder]
    assert server.metric("paddlevid_decoder_restarts_total") == 1


def test_a_killed_server_leaves_no_decoder_behind(start_server):
    server = start_server("--decoders", 2)
    decoders = server.decoders()
    assert len(decoders) == 2
    server.process.kill()
    server.process.wait(5)

    def is_running(process_id: int) -> bool:
        try:
            return Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
        except OSError:
            return False

    wait_for(lambda: not any(map(is_running, decoders)))


def test_the_memory_of_a_decoder_is_limited():
    script = """
import numpy as np
from paddlevid.serve.decoding import _limit_memory
_limit_memory(100 << 20)
np.ones(50 << 20, np.uint8)
try:
    np.ones(150 << 20, np.uint8)
except MemoryError:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "refused\n", done.stderr


def test_messages_tell_no_paths():
    from paddlevid.serve.decoding import without_path

    path = "/srv/secret/upload-1.mp4"
    assert without_path(f"{path}: damaged", path) == "damaged"
    assert without_path(f"{path}: cannot open {path} here", path) == "cannot open the video here"
