"""What a client who is no browser gets from the page of paddlevid-demo: of the server's files the examples only."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_demo import write_video

from paddlevid.data.records import Record
from paddlevid.demo.analysis import Analyst, read_thumbnail
from paddlevid.demo.app import Example, build_page, check_upload
from paddlevid.demo.cli import make_app
from paddlevid.errors import DataError

pytest.importorskip("gradio", reason="needs gradio, which the page is made with")
pytest.importorskip("httpx", reason="needs httpx, which asks for the page")

API = "/gradio_api"
SHOW_UPLOAD, SHOW_EXAMPLE = 0, 1  # the page's events, in the order in which it connects them
MESSAGE, VIDEO = 0, 2  # places among what they answer


@pytest.fixture(scope="module")
def videos(motion_set, tmp_path_factory) -> list[Path]:
    """Outside the folders that Gradio trusts: the working one, and that of temporary files."""
    folder = tmp_path_factory.mktemp("videos")
    return [Path(shutil.copy(path, folder)) for path in sorted((motion_set / "test").glob("*.mp4"))[:3]]


@pytest.fixture
def client(every_format, videos, tmp_path, monkeypatch) -> Iterator[Any]:
    """Talks to the page; the last of `videos` is its example, and the upload folder is `tmp_path / "uploads"`."""
    from fastapi.testclient import TestClient

    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    analyst = Analyst(every_format("timesformer").folder, runtime="onnxruntime")
    record = Record(path=str(videos[-1]), name=videos[-1].name)
    examples = [Example(record, read_thumbnail(analyst, record))]
    with TestClient(make_app(build_page(analyst, examples), examples, max_upload_mb=10)) as client:
        yield client


def upload(client: Any, name: str, content: bytes) -> str:
    answer = client.post(f"{API}/upload", files={"files": (name, content)})
    assert answer.status_code == 200
    return answer.json()[0]


def ask(client: Any, event: int, path: str | None = None, **more: Any) -> list[Any] | None:
    """What an event of the page answers: values of its parts, or None where it fails."""
    data = [] if path is None else [{"path": path, "meta": {"_type": "gradio.FileData"}, **more}]
    request = {"data": data, "fn_index": event, "session_hash": "visitor", "event_data": {"index": 0, "value": None}}
    assert client.post(f"{API}/queue/join", json=request).status_code == 200
    lines = client.get(f"{API}/queue/data", params={"session_hash": "visitor"}).text.splitlines()
    messages = [json.loads(line[5:]) for line in lines if line.startswith("data:")]
    if not next(message["success"] for message in messages if message["msg"] == "process_completed"):
        assert not any(message["msg"] == "process_generating" for message in messages)
        return None
    return next(message["output"]["data"] for message in messages if message["msg"] == "process_generating")


def check_shown(client: Any, answer: list[Any] | None, video: Path) -> None:
    """The page shows a video, and gives it back to be played."""
    assert answer is not None
    assert video.name in str(answer)
    assert client.get(f"{API}/file={answer[VIDEO]['path']}").content == video.read_bytes()


def test_files_of_the_server_are_refused(client, videos, tmp_path):
    secret, own, example = videos
    roundabout = tmp_path / "uploads" / ".." / ".." / secret.relative_to(tmp_path.parent)
    (tmp_path / "uploads").mkdir(exist_ok=True)
    assert roundabout.samefile(secret)
    for path in (secret, roundabout, __file__, "/etc/passwd", "/dev/zero"):
        assert ask(client, SHOW_UPLOAD, str(path)) is None
        assert ask(client, SHOW_UPLOAD, str(path), is_stream=True) is None
        assert client.get(f"{API}/file={path}").status_code == 403
    kept = [path.read_bytes() for path in (tmp_path / "uploads").rglob("*") if path.is_file()]
    assert secret.read_bytes() not in kept

    check_shown(client, ask(client, SHOW_UPLOAD, upload(client, own.name, own.read_bytes())), own)
    check_shown(client, ask(client, SHOW_EXAMPLE), example)


@pytest.mark.parametrize(("kind", "name"), [("hls", "a.m3u8"), ("hls", "a.mp4"), ("concat", "a.mp4"), ("both", "a.ts")])
def test_lists_of_other_files_are_not_followed(client, videos, tmp_path, kind, name):
    """FFmpeg would open the files that they name, also those of the server."""
    body = f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://{videos[0]}\n#EXT-X-ENDLIST\n".encode()
    if kind == "concat":
        body = f"ffconcat version 1.0\nfile {videos[0]}\n".encode()
    if kind == "both":  # a playlist for one release of FFmpeg, a transport stream for another
        stream = write_video(tmp_path / "stream.ts", num_frames=12, fps=4, codec="mpeg2video")
        body = body.ljust(188 * 2, b"\n") + stream.read_bytes()
    answer = ask(client, SHOW_UPLOAD, upload(client, name, body))
    assert answer is not None
    message = answer[MESSAGE]["value"]
    assert 'role="alert"' in message
    assert f"{name}: not a video file of a known kind, such as MP4 or AVI" in message
    assert str(tmp_path) not in str(answer)
    assert answer[VIDEO] is None
    opened = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert videos[0].read_bytes() not in opened


def test_what_lies_elsewhere_is_no_upload(videos, tmp_path):
    """Also where Gradio lets it pass."""
    (tmp_path / "link.mp4").symlink_to(videos[0])
    for path in (str(videos[0]), str(tmp_path / "link.mp4"), "/dev/zero"):
        with pytest.raises(DataError, match="it was not uploaded"):
            check_upload(path, str(tmp_path))
    check_upload(str(videos[0]), str(videos[0].parent))
