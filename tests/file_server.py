"""A server on this machine, which cuts, changes, refuses and lies as real ones do."""

from __future__ import annotations

import os
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BODY = os.urandom(300_000)


@dataclass
class Served:
    """What the server has under a path, and how it behaves; `cuts` are the bytes after which answers break off."""

    body: bytes = BODY
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": '"one"'})
    ranges: bool = True
    length: int | None = None
    statuses: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    stop_after: int | None = None  # bytes, after which the answer waits for `go_on`
    go_on: threading.Event = field(default_factory=threading.Event)


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    sent: int = 0


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, Served] = {}
        self.requests: list[Request] = []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def serve(self, path: str = "/w.pth", **options) -> tuple[str, Served]:
        self.files[path] = Served(**options)
        return f"http://127.0.0.1:{self.server_port}{path}", self.files[path]

    def close(self) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address) -> None:
        pass  # clients that are killed


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        request = Request(self.path, dict(self.headers))
        self.server.requests.append(request)
        served = self.server.files.get(self.path)
        status = 404 if served is None else served.statuses.pop(0) if served.statuses else 200
        if served is None or status >= 300:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            for name, value in (served.headers if served else {}).items():
                self.send_header(name, value)
            self.end_headers()
            return
        start = self.first_byte(served)
        body = served.body[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(served.body) - 1}/{len(served.body)}")
        if "Transfer-Encoding" not in served.headers and served.length != -1:
            self.send_header("Content-Length", str(len(body) if served.length is None else served.length))
        for name, value in served.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if served.cuts:
            body = body[: served.cuts.pop(0)]
        for part in range(0, len(body), 10_000):
            if served.stop_after is not None and part >= served.stop_after:
                served.go_on.wait(20)
            piece = body[part : part + 10_000]
            self.wfile.write(piece)
            request.sent += len(piece)

    def first_byte(self, served: Served) -> int:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        current = {served.headers.get("ETag"), served.headers.get("Last-Modified")}
        return int(asked[1]) if asked and served.ranges and self.headers.get("If-Range") in current else 0

    def log_message(self, *arguments) -> None:
        pass
