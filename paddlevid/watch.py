"""Each process of a launch learns at once when another one fails, and of what.

Left alone, the others meet a connection that broke, or wait for ever (NCCL), and the launcher shows what the first of
them says of that: the error that ended the run is in none of it. Here every process keeps a connection to the first
one. One that fails sends its error before it ends; one that is killed closes its connection; one that is stopped, or
whose host is cut off, falls silent. The first process passes that on, all print the same, and end with the same code.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import secrets
import select
import signal
import socket
import sys
import threading
import time
from typing import Any, NamedTuple

from paddlevid.errors import ConfigError

TICK_SEC = 1.0
JOIN_SEC = 15.0
# What a process that learns of a failure has to come to an end by itself, and all of that end, before it is killed
GRACE_SEC = 2.0
END_SEC = 15
# How long a process that fails waits for the failure of another to turn out as the cause of its own
CAUSE_SEC = 2.0
# Longer than a compiler or a big copy keeps Python's threads from running
SILENCE_SEC = 600.0
SILENCE_VARIABLE = "PADDLEVID_PEER_TIMEOUT_SEC"
MAX_CHARS = 20_000

_watch: Watch | None = None


class Failure(NamedTuple):
    """Why a run ends: which process failed, on which host, the code to exit with, and its error."""

    rank: int
    host: str
    code: int
    text: str


def start(rank: int, world: int) -> None:
    """Connect the processes of a launch, which all call this once they have joined; alone it does nothing.

    Raises:
        ConfigError: the variable PADDLEVID_PEER_TIMEOUT_SEC is no number of seconds.
    """
    global _watch  # noqa: PLW0603  a process belongs to one launch
    if world == 1 or _watch is not None:
        return
    text = os.environ.get(SILENCE_VARIABLE, str(SILENCE_SEC))
    try:
        silence_sec = float(text)
    except ValueError:
        raise ConfigError(f"{SILENCE_VARIABLE}={text}: a number of seconds is expected") from None
    _watch = Watch(rank, world, _connect(rank, world), silence_sec)


def leave() -> None:
    """This process ends well, and what becomes of the others is not its business any more."""
    if _watch is not None:
        _watch.leave()


def fail(code: int, text: str, *, perhaps_a_consequence: bool = False) -> Failure | None:
    """Tell the other processes that this one ends, and why.

    Returns None where that is why the run ends, and the caller is to print `text`; otherwise the failure of another
    process, printed already, whose code is the one to exit with. An error that may be a mere consequence of another
    process's end, such as a broken connection, waits a moment for that to become known.
    """
    return None if _watch is None else _watch.fail(code, text[-MAX_CHARS:], perhaps_a_consequence)


class Watch:
    """The connections of one process, and a thread that listens to them."""

    def __init__(self, rank: int, world: int, lines: dict[int, Line], silence_sec: float) -> None:
        self._rank = rank
        self._world = world
        self._lines = lines  # of the first process to each other one; of each other one to the first
        self._silence_sec = silence_sec
        self._failure: Failure | None = None
        self._known = threading.Event()
        self._lock = threading.Lock()
        self._ends_by_itself = False
        # A worker process would keep the connections open when this one has died
        os.register_at_fork(after_in_child=self._close)
        threading.Thread(target=self._run, daemon=True, name="paddlevid-watch").start()

    def leave(self) -> None:
        self._ends_by_itself = True
        for line in self._lines.values():
            line.send(leaves=True)

    def fail(self, code: int, text: str, perhaps_a_consequence: bool) -> Failure | None:
        self._ends_by_itself = True
        signal.alarm(END_SEC)  # ends it where its destructors wait for processes that are no more
        if threading.current_thread() is threading.main_thread():
            # The launcher sends it as soon as one process has ended; the exit code would be that of the signal
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if perhaps_a_consequence:
            self._known.wait(CAUSE_SEC)
        mine = Failure(self._rank, socket.gethostname(), code, text)
        if self._rank == 0:
            self._decide(mine)
        elif 0 in self._lines and not self._known.is_set():
            self._lines[0].send(failure=mine)
        if self._lines:
            self._known.wait(2 * TICK_SEC)  # the thread may be about to print the failure of another
        return None if self._failure is None or self._failure.rank == self._rank else self._failure

    def _run(self) -> None:
        lines = dict(self._lines)
        while True:
            by_connection = {line.connection: rank for rank, line in lines.items()}
            for connection in select.select(list(by_connection), [], [], TICK_SEC)[0]:
                rank = by_connection[connection]
                if not self._hear(rank, lines[rank]):
                    del lines[rank]
            now = time.monotonic()
            for rank, line in lines.items():
                line.send()
                if now - line.last_heard > self._silence_sec:
                    why = f"nothing heard of it for {self._silence_sec:g} s: stopped, or cut off"
                    self._decide(Failure(rank, line.host, 1, why))

    def _hear(self, rank: int, line: Line) -> bool:
        """Take what another process says; False where it will say no more."""
        messages = line.receive()
        if messages is None:
            self._decide(Failure(rank, line.host, 1, "ended without a word: killed, perhaps for want of memory"))
            return False
        for message in messages:
            if "leaves" in message:
                return False
            if "failure" in message:
                self._decide(Failure(*message["failure"]))
        return True

    def _decide(self, failure: Failure) -> None:
        """The first failure to come here is why the run ends."""
        with self._lock:
            if self._failure is not None:
                return
            self._failure = failure
        if self._rank == 0:
            for line in self._lines.values():
                line.send(failure=failure)
        if failure.rank != self._rank:
            where = f"process {failure.rank} of {self._world} on {failure.host}"
            text = f"\n{failure.text.rstrip()}" if "\n" in failure.text else f" {failure.text}"
            print(f"error: {where}:{text}", file=sys.stderr, flush=True)
        self._known.set()
        threading.Thread(target=self._end, args=(failure.code,), daemon=True).start()

    def _end(self, code: int) -> None:
        time.sleep(GRACE_SEC)
        if not self._ends_by_itself:
            os._exit(code)

    def _close(self) -> None:
        for line in self._lines.values():
            line.connection.close()


class Line:
    """A connection to another process: a message a line, as JSON, and empty lines as signs of life."""

    def __init__(self, connection: socket.socket, host: str) -> None:
        self.connection = connection
        self.host = host
        self.last_heard = time.monotonic()
        self._unread = b""

    def send(self, **message: object) -> None:
        text = json.dumps(message) if message else ""
        with contextlib.suppress(OSError):  # that it is gone, reading will tell
            self.connection.sendall(text.encode() + b"\n")

    def receive(self) -> list[dict[str, Any]] | None:
        """The messages that have come; None where the other end is closed."""
        try:
            data = self.connection.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            return None
        self.last_heard = time.monotonic()
        *lines, self._unread = (self._unread + data).split(b"\n")
        return [json.loads(line) for line in lines if line]


def _connect(rank: int, world: int) -> dict[int, Line]:
    """A star around the first process. One that cannot be reached is said so, and not watched."""
    import paddle

    if rank == 0:
        with socket.create_server(("", 0), backlog=world) as server:
            meeting = [(_address(), server.getsockname()[1], secrets.token_hex(16), socket.gethostname())]
            paddle.distributed.broadcast_object_list(meeting, src=0)
            lines = _accept(server, world, meeting[0][2])
        missing = sorted(set(range(1, world)) - set(lines))
        if missing:
            print(f"warning: the end of processes {missing} will not be noticed", file=sys.stderr, flush=True)
        return lines
    meeting = [("", 0, "", "")]
    paddle.distributed.broadcast_object_list(meeting, src=0)
    address, port, token, host = meeting[0]
    try:
        connection = socket.create_connection((address, port), timeout=JOIN_SEC)
    except OSError as error:
        print(f"warning: no connection to {address}:{port}: {error}", file=sys.stderr, flush=True)
        return {}
    line = Line(connection, host)
    line.send(token=token, rank=rank, host=socket.gethostname())
    return {0: line}


def _accept(server: socket.socket, world: int, token: str) -> dict[int, Line]:
    lines: dict[int, Line] = {}
    deadline = time.monotonic() + JOIN_SEC
    while len(lines) < world - 1 and (left := deadline - time.monotonic()) > 0:
        server.settimeout(left)
        try:
            connection, _ = server.accept()
            connection.settimeout(JOIN_SEC)
            # Without a buffer it takes nothing beyond the line
            hello = json.loads(connection.makefile("rb", buffering=0).readline(1000))
            if hmac.compare_digest(hello["token"], token):
                lines[hello["rank"]] = Line(connection, hello["host"])
        except (OSError, ValueError, TypeError, KeyError):  # nobody, or somebody else
            continue
    return lines


def _address() -> str:
    """Where the other processes have reached this first one already."""
    if os.environ.get("MASTER_ADDR") and os.environ.get("MASTER_PORT"):
        return os.environ["MASTER_ADDR"]
    master = os.environ.get("PADDLE_MASTER") or os.environ["PADDLE_TRAINER_ENDPOINTS"].split(",")[0]
    return master.rpartition(":")[0]
