"""Bodies too large or too slow, too many requests, and clients that leave, on real sockets."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time

import pytest

from .conftest import RunningServer, wait_for, write_noise

MB = 1 << 20


def connect(server: RunningServer) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port))
    connection.settimeout(15)
    return connection


def head(*headers: str) -> bytes:
    lines = ["POST /predict HTTP/1.1", "Host: x", "Content-Type: video/mp4", *headers, "", ""]
    return "\r\n".join(lines).encode()


def answer_of(connection: socket.socket) -> tuple[int, dict[str, str], dict[str, str]]:
    """Status, headers and body of the next answer."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        assert piece, f"the server hung up: {data!r}"
        data += piece
    lines, _, body = data.partition(b"\r\n\r\n")
    first, *others = lines.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in others)}
    while len(body) < int(headers["content-length"]):
        body += connection.recv(65536)
    return int(first.split()[1]), headers, json.loads(body)


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def test_a_large_body_is_refused_before_it_is_sent(server):
    with connect(server) as connection:
        connection.sendall(head(f"Content-Length: {200 * MB}"))
        status, _, body = answer_of(connection)
    assert (status, list(body)) == (413, ["error"])


def test_a_large_body_without_a_length_is_cut_off_while_it_is_read(server):
    before = server.metric("paddlevid_upload_bytes_total")
    with connect(server) as connection:
        connection.sendall(head("Transfer-Encoding: chunked"))
        for _ in range(20):
            connection.sendall(chunk(b"\0" * (MB // 8)))
            time.sleep(0.005)
        status, _, body = answer_of(connection)
    assert (status, list(body)) == (413, ["error"])
    assert server.metric("paddlevid_upload_bytes_total") - before < 2 * MB
    assert server.uploads_left() == []


def test_a_body_longer_than_it_says_ends_where_it_said(server, videos):
    """HTTP takes the rest for the next request, which is none."""
    content = videos[0].read_bytes()
    with connect(server) as connection:
        connection.sendall(head(f"Content-Length: {len(content)}") + content + b"\0" * 1000)
        data = b""
        while piece := connection.recv(65536):
            data += piece
    first, second = data.split(b"HTTP/1.1 ")[1:]
    assert first.startswith(b"200 ")
    assert second.startswith(b"400 ")
    assert list(json.loads(second.split(b"\r\n\r\n")[1])) == ["error"]


def test_a_refused_body_does_not_cost_the_answer(server):
    """Clients that send all before they read get the answer, not a connection that was reset."""
    answer = server.client.post("/predict", content=b"\0" * (50 * MB), headers={"content-type": "video/mp4"})
    assert answer.status_code == 413


@pytest.mark.parametrize("content_type", ["video/mp4", "application/json", "multipart/form-data; boundary=XX"])
def test_slow_senders_are_cut_off(server, content_type):
    with connect(server) as connection:
        connection.sendall(head("Content-Length: 1000").replace(b"video/mp4", content_type.encode()))
        connection.sendall(
            b'--XX\r\nContent-Disposition: form-data; name="file"\r\n\r\n' if "XX" in content_type else b"{"
        )
        if content_type != "application/json":
            wait_for(server.uploads_left)
        started = time.monotonic()
        stop = threading.Event()

        def drip() -> None:
            while not stop.wait(0.1):
                connection.sendall(b"x")

        thread = threading.Thread(target=drip)
        thread.start()
        status, _, body = answer_of(connection)
        stop.set()
        thread.join()
    assert (status, list(body)) == (408, ["error"])
    assert time.monotonic() - started < 10, "--upload_timeout_sec is 1.5"
    assert server.uploads_left() == []


def test_a_client_that_leaves_in_the_middle_leaves_nothing_behind(server):
    before = server.client.get("/metrics").text.count('status="499"')
    with connect(server) as connection:
        connection.sendall(head("Content-Length: 500000") + b"\0" * 1000)
        wait_for(server.uploads_left)
    wait_for(lambda: not server.uploads_left())
    assert before == 0
    assert 'paddlevid_requests_total{route="/predict",status="499"} 1.0' in server.client.get("/metrics").text


def test_a_client_that_leaves_before_the_answer(start_server, videos):
    server = start_server("--batch_wait_ms", 20000)
    content = videos[0].read_bytes()
    with connect(server) as connection:
        connection.sendall(head(f"Content-Length: {len(content)}") + content)
        wait_for(server.uploads_left)
    wait_for(lambda: not server.uploads_left())
    wait_for(lambda: server.metric("paddlevid_queue_length") == 0)
    assert 'status="499"} 1.0' in server.client.get("/metrics").text


def test_a_full_queue_refuses_at_once(start_server, videos):
    server = start_server("--queue", 2)
    held = [connect(server) for _ in range(2)]
    for connection in held:
        connection.sendall(head("Content-Length: 1000") + b"x")
    wait_for(lambda: server.metric("paddlevid_queue_length") == 2)
    answer = server.upload(videos[0].read_bytes())
    assert (answer.status_code, list(answer.json())) == (503, ["error"])
    assert int(answer.headers["retry-after"]) >= 1
    assert server.client.get("/health").status_code == 200, "a full queue is no illness"
    held[0].close()
    wait_for(lambda: server.metric("paddlevid_queue_length") == 1)
    assert server.upload(videos[0].read_bytes()).status_code == 200
    held[1].close()


def test_what_takes_too_long_is_stopped(start_server, videos):
    server = start_server("--timeout_sec", 1)
    (decoder,) = server.decoders()
    os.kill(decoder, signal.SIGSTOP)
    answer = server.upload(videos[0].read_bytes())
    assert (answer.status_code, list(answer.json())) == (504, ["error"]), answer.text
    assert server.uploads_left() == []
    wait_for(lambda: server.metric("paddlevid_decoder_restarts_total") == 1)
    wait_for(lambda: server.upload(videos[0].read_bytes()).status_code == 200)
    assert server.decoders() != [decoder]


def test_a_video_may_be_too_large(start_server, videos, tmp_path):
    large = write_noise(tmp_path / "large.mp4", width=256, height=256, num_frames=12).read_bytes()
    thin = write_noise(tmp_path / "thin.mp4", width=480, height=32, num_frames=12).read_bytes()
    server = start_server("--max_pixels", 80_000)
    answer = server.upload(large)  # 4 x 256 x 256 = 262144
    assert answer.status_code == 413
    assert "4 frames of 256x256 pixels" in answer.json()["error"]
    answer = server.upload(thin)  # 4 x 480 x 32 = 61440, but 4 x 600 x 40 = 96000 once the short side is 40
    assert answer.status_code == 413
    assert server.upload(videos[0].read_bytes()).status_code == 200  # 4 x 64 x 64 = 16384
    server = start_server("--max_pixels", 100_000)
    assert server.upload(thin).status_code == 200


def test_a_video_may_be_too_long(start_server, videos, tmp_path):
    content = write_noise(tmp_path / "noise.mp4", width=64, height=64, num_frames=30).read_bytes()  # 30 a second
    answer = start_server("--max_video_sec", 0.9).upload(content)
    assert answer.status_code == 413
    assert answer.json()["error"] == "this video lasts 1.0 s; the limit is 0.9 s"
    assert start_server("--max_video_sec", 1.1).upload(content).status_code == 200
