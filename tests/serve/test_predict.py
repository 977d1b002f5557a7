"""The answers of a real server are those of the offline predictor, and all errors have one form."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import httpx
import pytest
from conftest import ROOT

from .conftest import NUM_CLASSES, RunningServer

KINDS = ["form", "raw", "path"]


def ask(server: RunningServer, motion_set: Path, video: Path, kind: str, **params: object) -> httpx.Response:
    if kind == "form":
        return server.upload(video.read_bytes(), name=video.name, **params)
    if kind == "path":
        named = {"path": str(video.relative_to(motion_set))}
        return server.client.post("/predict", json=named, params=params)
    return server.client.post(
        "/predict", content=video.read_bytes(), headers={"content-type": "video/mp4"}, params=params
    )


def scores(answer: httpx.Response) -> dict[str, float]:
    assert answer.status_code == 200, answer.text
    return {found["name"]: found["score"] for found in answer.json()["predictions"]}


@pytest.mark.parametrize("kind", KINDS)
def test_the_answer_is_that_of_the_offline_predictor(server, motion_set, videos, offline, kind):
    for video in videos[:3]:
        answer = ask(server, motion_set, video, kind, top_k=99)
        assert scores(answer) == pytest.approx(offline(video), abs=1e-4)
        assert list(scores(answer)) == list(offline(video))
    assert server.uploads_left() == []


def test_the_answer_tells_classes_times_and_the_clip(server, videos):
    answer = server.upload(videos[0].read_bytes(), name="käse.mp4", top_k=2).json()
    assert [sorted(found) for found in answer["predictions"]] == [["label", "name", "score"]] * 2
    assert all(found["name"] == f"class {found['label']}" for found in answer["predictions"])
    timing = answer["timing"]
    assert 0 < timing["decode_ms"] + timing["model_ms"] <= timing["total_ms"]
    clip = answer["clip"]
    found = cv2.VideoCapture(str(videos[0]))
    num_frames, fps = (found.get(key) for key in (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FPS))
    assert (clip["name"], clip["num_frames"], clip["width"], clip["height"]) == ("käse.mp4", num_frames, 64, 64)
    assert clip["fps"] == pytest.approx(fps)
    assert clip["duration_sec"] == pytest.approx(num_frames / fps)
    assert clip["num_views"] == 3, "three crops of one clip"
    assert len(server.upload(videos[0].read_bytes()).json()["predictions"]) == 5


def test_requests_at_a_time_do_not_mix(start_server, motion_set, videos, offline):
    server = start_server("--root", motion_set, "--decoders", 2, "--batch_size", 7, "--batch_wait_ms", 20)
    tasks = [(video, kind) for video in videos for kind in KINDS] * 3
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda task: ask(server, motion_set, *task, top_k=99), tasks))
    for (video, _), answer in zip(tasks, answers, strict=True):
        assert scores(answer) == pytest.approx(offline(video), abs=1e-4)
    num_runs = server.metric("paddlevid_batch_views_count")
    assert server.metric("paddlevid_batch_views_sum") == 3 * len(tasks)
    assert num_runs < len(tasks), "some runs held views of several requests"


def test_other_fields_of_a_form_are_passed_over(server, videos, offline):
    content = videos[0].read_bytes()
    form = {"note": (None, "x" * 5000), "file": ("a.mp4", content), "files": ("b.mp4", b"other")}
    answer = server.client.post("/predict", files=form, params={"top_k": NUM_CLASSES})
    assert scores(answer) == pytest.approx(offline(videos[0]), abs=1e-4)


def form_of(*parts: tuple[str, bytes], closing: bytes = b"--\r\n") -> dict[str, object]:
    body = b"".join(
        b'--XX\r\nContent-Disposition: form-data; name="'
        + name.encode()
        + b'"; filename="x"\r\n\r\n'
        + content
        + b"\r\n"
        for name, content in parts
    )
    return {"content": body + b"--XX" + closing, "headers": {"content-type": "multipart/form-data; boundary=XX"}}


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("request_of", "status", "expected"),
    [
        ({"json": {"path": "none.mp4"}}, 404, "no such video"),
        ({"json": {"path": "test"}}, 404, "no such video"),
        ({"json": {"path": ""}}, 404, "no such video"),
        ({"json": {"path": "a\0b"}}, 404, "no such video"),
        ({"content": rb'{"path": "\ud800"}', "headers": JSON}, 404, "no such video"),
        ({"json": {"path": "x" * 5000}}, 404, "no such video"),
        ({"json": {"path": "../test.txt"}}, 403, "not below the root"),
        ({"json": {"path": "test/../test.txt"}}, 403, "not below the root"),
        ({"json": {"path": "/etc/passwd"}}, 403, "not below the root"),
        ({"json": {"path": "test.txt"}}, 422, "not a video file"),
        ({"json": {"file": "x.mp4"}}, 422, "an object with a path"),
        ({"json": {"path": "x.mp4", "root": "/"}}, 422, "an object with a path"),
        ({"json": {"path": 1}}, 422, "an object with a path"),
        ({"json": ["x.mp4"]}, 422, "an object with a path"),
        ({"content": b"{", "headers": JSON}, 400, "not JSON"),
        ({"content": b"\xff\xfe\x00", "headers": JSON}, 400, "not JSON"),
        ({"content": b"[" * 60000, "headers": JSON}, 400, "not JSON"),
        ({"content": b" " * 70000, "headers": JSON}, 413, "larger than 65536 bytes"),
        ({"content": b"x", "headers": {"content-type": "text/plain"}}, 415, "'text/plain'"),
        ({"content": b"x"}, 415, "multipart/form-data"),
        ({"content": b"", "headers": {"content-type": "video/mp4"}}, 422, "empty"),
        ({"content": b"no video", "headers": {"content-type": "video/mp4"}}, 422, "not a video file"),
        ({"files": {"file": ("a.mp4", b"no video")}}, 422, "not a video file"),
        ({"files": {"file": ("a.mp4", b"")}}, 422, "empty"),
        ({"files": {"video": ("a.mp4", b"x")}}, 400, "no field `file`"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "no boundary"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=XX"}}, 400, "cannot be read"),
        (form_of(("file", b"a"), ("file", b"b")), 400, "more than one"),
        (form_of(("file", b"a"), closing=b""), 400, "ends before"),
        ({"json": {"path": "x.mp4"}, "params": {"top_k": 0}}, 422, "top_k"),
        ({"json": {"path": "x.mp4"}, "params": {"top_k": "five"}}, 422, "top_k"),
        ({"content": b"\0" * (2 << 20), "headers": {"content-type": "video/mp4"}}, 413, "larger than 1048576 bytes"),
    ],
)
def test_what_cannot_be_answered_has_a_clear_error(server, motion_set, request_of, status, expected):
    answer = server.client.post("/predict", **request_of)
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    assert expected in answer.json()["error"]
    assert str(server.temp_dir) not in answer.text, "clients need not know where uploads lie"
    assert str(motion_set) not in answer.text
    assert "\n" not in answer.json()["error"]
    assert server.uploads_left() == []


def test_other_routes_and_methods(server):
    answer = server.client.get("/nothing")
    assert (answer.status_code, list(answer.json())) == (404, ["error"])
    answer = server.client.get("/predict")
    assert (answer.status_code, list(answer.json()), answer.headers["allow"]) == (405, ["error"], "POST")


def test_links_that_lead_outside_the_root_are_refused(start_server, videos, tmp_path):
    root = tmp_path / "root"
    (root / "deep").mkdir(parents=True)
    (root / "deep" / "inside.mp4").write_bytes(videos[0].read_bytes())
    (root / "link.mp4").symlink_to(root / "deep" / "inside.mp4")
    (root / "out.mp4").symlink_to(videos[0])
    (root / "up").symlink_to(tmp_path)
    (root / "ring").symlink_to(root / "ring")
    (tmp_path / "root2").mkdir()
    (tmp_path / "root2" / "beside.mp4").write_bytes(videos[0].read_bytes())
    os.mkfifo(root / "pipe.mp4")
    server = start_server("--root", root)
    expected = {
        "deep/inside.mp4": 200,
        "link.mp4": 200,
        str(root / "deep" / "inside.mp4"): 200,
        "out.mp4": 403,
        "up/root2/beside.mp4": 403,
        str(tmp_path / "root2" / "beside.mp4"): 403,
        "ring": 404,
        "pipe.mp4": 404,
    }
    found = {path: server.client.post("/predict", json={"path": path}).status_code for path in expected}
    assert found == expected


def test_without_a_root_no_file_of_the_server_is_read(start_server, videos):
    answer = start_server().client.post("/predict", json={"path": str(videos[0])})
    assert answer.status_code == 403
    assert "--root" in answer.json()["error"]


def test_health_and_metrics(start_server, videos):
    server = start_server()
    assert server.client.get("/health").json() == {
        "status": "ready",
        "model": "tsn",
        "runtime": "onnxruntime",
        "precision": "fp32",
        "version": "0.1.0",
    }
    for _ in range(2):
        assert server.upload(videos[0].read_bytes()).status_code == 200
    assert server.upload(b"no video").status_code == 422
    text = server.client.get("/metrics").text
    assert 'paddlevid_requests_total{route="/predict",status="200"} 2.0' in text
    assert 'paddlevid_requests_total{route="/predict",status="422"} 1.0' in text
    assert server.metric("paddlevid_batch_views_sum") == 6
    assert server.metric("paddlevid_decode_seconds_count") == 2
    assert server.metric("paddlevid_model_seconds_count") == server.metric("paddlevid_batch_views_count")
    assert server.metric("paddlevid_queue_length") == 0
    uploaded = server.metric("paddlevid_upload_bytes_total")
    assert 0 < uploaded - 2 * videos[0].stat().st_size < 2000, "the files, and what forms put around them"


def test_the_service_needs_no_paddle(model_folder):
    script = f"""
import sys
sys.modules["paddle"] = None
from paddlevid.serve import app, decoding, protocol
from paddlevid.serve.service import Service
from paddlevid.deploy.predictor import Predictor
Predictor({str(model_folder)!r}, runtime="onnxruntime").warm_up()
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help_imports_nothing_heavy():
    script = """
import sys
sys.argv = ["paddlevid-serve", "--help"]
from paddlevid.serve.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(sorted({"paddle", "cv2", "pydantic", "fastapi", "uvicorn", "numpy"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert "--max_upload_mb" in done.stdout


def test_the_schema_of_the_routes(server):
    schema = server.client.get("/openapi.json").json()
    assert {"/predict", "/health", "/metrics"} <= set(schema["paths"])
    assert "multipart/form-data" in json.dumps(schema["paths"]["/predict"])


@pytest.mark.parametrize("runtime", ["paddle", "onnxruntime", "openvino"])
def test_exported_models_in_each_runtime(every_format, start_server, videos, runtime):
    from paddlevid.deploy.predictor import Predictor

    folder = every_format("timesformer").folder
    server = start_server("--runtime", runtime, "--precision", "fp32", folder=folder)
    assert server.client.get("/health").json()["runtime"] == runtime
    predictor = Predictor(folder, runtime=runtime, precision="fp32")
    for video in videos[:3]:
        expected = {found.name: found.score for found in predictor(video, top_k=99)}
        assert scores(server.upload(video.read_bytes(), top_k=99)) == pytest.approx(expected, abs=1e-4)
    assert server.stop() == 0
    assert "Traceback" not in server.stderr()
