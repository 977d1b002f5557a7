"""HTTP/1.1 whose connections cannot be held for ever: what uvicorn leaves to a proxy in front of it."""

from __future__ import annotations

import asyncio
import json

import h11
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

HEADERS_TIMEOUT_SEC = 10.0
LINGER_SEC = 5.0


class BoundedProtocol(H11Protocol):
    """Cuts off whoever sends headers too slowly, or goes on sending a body that was answered already.

    A body that was refused is read and thrown away for `LINGER_SEC`: closing at once would reset the connection, and
    the client would lose the answer. Errors below the application are JSON like all others. Connections above
    `limit_concurrency` are refused here.
    """

    _deadline: asyncio.TimerHandle | None = None
    _waiting_for: str = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        limit = self.config.limit_concurrency
        if limit is not None and len(self.connections) >= limit:
            self._refuse(503, "too many connections")
            return
        self._watch()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, msg)

    def _watch(self) -> None:
        """Set the clock for what this connection is waiting for now, unless it runs already."""
        waiting_for = ""
        if self.conn.their_state is h11.IDLE:
            waiting_for = "headers"
        elif self.conn.their_state is h11.SEND_BODY and self.conn.our_state is h11.DONE:
            waiting_for = "rest of a body"
        if waiting_for == self._waiting_for:
            return
        self._stop_waiting()
        if waiting_for:
            seconds = HEADERS_TIMEOUT_SEC if waiting_for == "headers" else LINGER_SEC
            self._deadline = self.loop.call_later(seconds, self._cut_off)
            self._waiting_for = waiting_for

    def _stop_waiting(self) -> None:
        self._waiting_for = ""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _cut_off(self) -> None:
        if self.transport.is_closing():
            return
        if self._waiting_for == "headers" and self.conn.trailing_data[0]:
            self._refuse(408, "the headers of this request took too long")
        else:
            self.transport.close()

    def _refuse(self, status: int, message: str) -> None:
        """Answer a connection that has no request that the application could answer, and close it."""
        self._unset_keepalive_if_required()
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            body = json.dumps({"error": message}).encode()
            headers = [
                ("content-type", "application/json"),
                ("content-length", str(len(body))),
                ("connection", "close"),
            ]
            response = h11.Response(status_code=status, headers=headers, reason=STATUS_PHRASES[status])
            for event in (response, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
