"""Starting, ending and being killed: what a server says, and what it leaves behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from conftest import ROOT

from .conftest import RunningServer, wait_for
from .test_limits import answer_of, connect, head


def run_command(*arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "paddlevid.serve", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), "no inference.yml here"),
        (("--root", "/nowhere"), "--root /nowhere: no such folder"),
        (("--host", "999.1.1.1"), "cannot listen on 999.1.1.1"),
        (("--port", "70000"), "65535"),
        (("--batch_size", "0"), "at least 1"),
        (("--timeout_sec", "nan"), "at least 0.001"),
        (("--queue", "many"), "invalid int value"),
    ],
)
def test_wrong_arguments_end_in_one_line(tmp_path, options, expected):
    done = run_command(tmp_path, "--port", 0, *options)
    assert done.returncode == 2
    assert expected in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_port_in_use_ends_in_one_line(model_folder):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        done = run_command(model_folder, "--port", port)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [f"error: port {port} of 127.0.0.1 is in use; choose another one with --port"]


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_under_way_is_answered_before_the_end(start_server, videos, signal_number):
    server = start_server("--batch_wait_ms", 1000)
    answers: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: answers.append(server.upload(videos[0].read_bytes())))
    thread.start()
    wait_for(server.uploads_left)
    server.process.send_signal(signal_number)
    wait_for(lambda: refuses_connections(server))
    thread.join(10)
    assert [answer.status_code for answer in answers] == [200]
    assert server.process.wait(5) == 0
    assert list(server.temp_dir.glob("paddlevid-serve-*/*")) == []
    assert server.stderr() == ""


def refuses_connections(server: RunningServer) -> bool:
    try:
        connect(server).close()
    except ConnectionRefusedError:
        return True
    return False


def test_what_does_not_end_in_time_is_cut_off(start_server):
    server = start_server("--shutdown_sec", 1)
    with connect(server) as connection:
        connection.sendall(head("Content-Length: 1000") + b"x")
        wait_for(server.uploads_left)
        started = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        status, _, body = answer_of(connection)
        assert (status, list(body)) == (503, ["error"])
    assert server.process.wait(5) == 0
    assert 1 <= time.monotonic() - started < 7
    assert list(server.temp_dir.glob("paddlevid-serve-*/*")) == []


def test_a_signal_while_the_model_is_loaded(model_folder, tmp_path):
    for pause in (0.3, 0.8, 1.2):
        process = subprocess.Popen(
            [sys.executable, "-m", "paddlevid.serve", str(model_folder), "--port", "0"],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(tmp_path)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        time.sleep(pause)
        process.terminate()
        _, stderr = process.communicate(timeout=20)
        assert process.returncode in (0, -signal.SIGTERM), stderr  # the latter before Python has started
        assert list(tmp_path.glob("paddlevid-serve-*/*")) == []


def test_the_next_server_removes_what_a_killed_one_has_left(start_server):
    def hold_upload(server: RunningServer) -> socket.socket:
        connection = connect(server)
        connection.sendall(head("Content-Length: 1000") + b"x")
        return connection

    killed, living = start_server(), start_server()
    assert len(list(killed.temp_dir.glob("paddlevid-serve-*/*"))) == 2
    connections = [hold_upload(killed), hold_upload(living)]
    wait_for(lambda: len(killed.uploads_left()) == 2)
    killed.process.kill()
    killed.process.wait(5)
    assert len(killed.uploads_left()) == 2, "nobody could remove it"
    start_server()
    left = killed.uploads_left()
    assert [path.parent.name.split("-")[0] for path in left] == [str(living.process.pid)]
    for connection in connections:
        connection.close()


def test_a_folder_of_somebody_else_is_not_used(model_folder, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / f"paddlevid-serve-{os.getuid()}").symlink_to(elsewhere)
    done = run_command(model_folder, "--port", 0, TMPDIR=str(tmp_path))
    assert done.returncode == 2
    assert "not a folder of this user" in done.stderr
    assert list(elsewhere.iterdir()) == []


def test_many_requests_leave_no_files_and_threads_open(start_server, videos):
    server = start_server()

    def held() -> tuple[int, int]:
        process = Path(f"/proc/{server.process.pid}")
        return len(list((process / "fd").iterdir())), len(list((process / "task").iterdir()))

    def some_requests() -> None:
        for _ in range(15):
            assert server.upload(videos[0].read_bytes()).status_code == 200
            assert server.upload(b"no video").status_code == 422
            assert server.client.post("/predict", json={"path": "../x"}).status_code == 403
            with connect(server) as connection:
                connection.sendall(head("Content-Length: 1000") + b"x")

    some_requests()
    wait_for(lambda: server.metric("paddlevid_queue_length") == 0)
    before = held()
    some_requests()
    wait_for(lambda: server.metric("paddlevid_queue_length") == 0)
    wait_for(lambda: held() <= before)
