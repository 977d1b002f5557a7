"""Connections that hold on to the server, below any application."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

pytest.importorskip("uvicorn")
import uvicorn

from paddlevid.serve import protocol

from .conftest import wait_for

LIMIT_SEC = 1.0


async def app(scope, receive, send) -> None:
    """Answers at once, whatever the body is."""
    await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"no"})


@pytest.fixture
def connect(monkeypatch) -> Iterator[Callable[[], socket.socket]]:
    monkeypatch.setattr(protocol, "HEADERS_TIMEOUT_SEC", LIMIT_SEC)
    monkeypatch.setattr(protocol, "LINGER_SEC", LIMIT_SEC)
    config = uvicorn.Config(app, http=protocol.BoundedProtocol, lifespan="off", log_level="error", limit_concurrency=4)
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    opened: list[socket.socket] = []

    def open_connection() -> socket.socket:
        opened.append(socket.create_connection(listener.getsockname()))
        opened[-1].settimeout(5)
        return opened[-1]

    yield open_connection
    for connection in opened:
        connection.close()
    server.should_exit = True
    thread.join(10)


def all_of(connection: socket.socket) -> bytes:
    """What the server sends until it hangs up."""
    data = b""
    try:
        while piece := connection.recv(65536):
            data += piece
    except ConnectionResetError:
        pass
    return data


def read_answer(connection: socket.socket) -> bytes:
    """An answer of the application, of which nothing else follows."""
    data = b""
    while not data.endswith(b"\r\n\r\nno"):
        piece = connection.recv(65536)
        assert piece, data
        data += piece
    return data


def error_of(data: bytes) -> tuple[bytes, list[str]]:
    lines, _, body = data.partition(b"\r\n\r\n")
    return lines.split(b"\r\n")[0], list(json.loads(body))


def test_headers_that_come_too_slowly(connect):
    connection = connect()
    started = time.monotonic()
    connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
    time.sleep(0.9 * LIMIT_SEC)
    connection.sendall(b"X-More: 1\r\n")
    assert error_of(all_of(connection)) == (b"HTTP/1.1 408 Request Timeout", ["error"])
    assert LIMIT_SEC <= time.monotonic() - started < 1.7 * LIMIT_SEC, "another header gives no more time"


def test_a_connection_that_says_nothing_is_closed_in_silence(connect):
    assert all_of(connect()) == b""


def test_a_second_request_has_the_same_limit(connect):
    connection = connect()
    connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert read_answer(connection).startswith(b"HTTP/1.1 413")
    connection.sendall(b"GET / HTTP/1.1\r\n")
    assert error_of(all_of(connection)) == (b"HTTP/1.1 408 Request Timeout", ["error"])


def test_a_body_that_was_answered_is_read_for_a_while_only(connect):
    connection = connect()
    connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
    assert connection.recv(65536).startswith(b"HTTP/1.1 413")
    started = time.monotonic()
    with pytest.raises(OSError, match=r"reset|pipe"):  # noqa: PT012
        while time.monotonic() - started < 5:
            connection.sendall(b"\0" * 1000)
            time.sleep(0.01)
    assert LIMIT_SEC * 0.9 <= time.monotonic() - started < 4


def test_a_body_that_ends_in_time_keeps_the_connection(connect):
    connection = connect()
    for _ in range(2):
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n01234")
        assert read_answer(connection).startswith(b"HTTP/1.1 413")
        connection.sendall(b"56789")


def test_what_is_no_http(connect):
    connection = connect()
    connection.sendall(b"\x16\x03\x01\x02\x00 no http \r\n\r\n")
    assert error_of(all_of(connection)) == (b"HTTP/1.1 400 Bad Request", ["error"])


def test_connections_above_the_limit_are_refused(connect):
    held = [connect() for _ in range(3)]
    for connection in held:
        connection.sendall(b"GET / HTTP/1.1\r\n")
    time.sleep(0.05)
    assert error_of(all_of(connect())) == (b"HTTP/1.1 503 Service Unavailable", ["error"])
    for connection in held:
        connection.close()

    def is_answered() -> bool:
        connection = connect()
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return all_of(connection).startswith(b"HTTP/1.1 413")

    wait_for(is_answered)
