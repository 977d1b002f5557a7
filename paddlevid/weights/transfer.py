"""One address -> one file, over connections that may break: each try goes on where the last one ended.

A partial file is only continued when the server says that its file is still the same (RFC 9110, sections 13.1.5 and
14), by the ETag or the date that the first answer carried.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import socket
import ssl
import sys
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit, urlunsplit
from urllib.request import Request, urlopen

from paddlevid.errors import WeightsError
from paddlevid.runtime import atomic_write, logger

RETRY_PAUSES_SEC = (1.0, 2.0, 4.0)  # before each of the tries that may fail without having got any further
TIMEOUT_SEC = 30.0  # without a byte
CHUNK_BYTES = 1 << 16  # what a killed process may lose

BY_HAND = "or download it by hand and name the file"
_BUSY = {408, 425, 429}  # with all from 500 on: a server that may answer otherwise in a moment
_SECRETS = re.compile(r"([?&][^=&]*(?:token|sig|key|secret|password|credential|auth)[^=&]*=)[^&]*", re.IGNORECASE)


def shown(address: str) -> str:
    """An address as it may be printed: without a user's name, passwords and keys."""
    return _SECRETS.sub(r"\1...", re.sub(r"(?<=://)[^/?#]*@", "", address))


def say(message: str) -> None:
    """A line of the log; on stderr for commands that keep none."""
    if logger.handlers:
        logger.info(message)
    else:
        from tqdm import tqdm

        tqdm.write(message, file=sys.stderr)  # above a bar, not through it


@dataclass(frozen=True)
class Record:
    """Which edition of a file a partial one belongs to: its ETag or date, and its length in bytes where known."""

    validator: str
    total: int | None


class Partial:
    """The bytes that have come so far, and beside them the record of what they are the start of."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(f"{path.name}.part")
        self._record_path = path.with_name(f"{path.name}.part.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def record(self) -> Record | None:
        """None when there is nothing to go on from."""
        try:
            record = Record(**json.loads(self._record_path.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        return record if record.validator and 0 < self.size <= (record.total or self.size) else None

    def restart(self, record: Record) -> None:
        self.path.write_bytes(b"")  # first, so that a new record never stands beside old bytes
        text = json.dumps(asdict(record))
        atomic_write(self._record_path, lambda temporary: Path(temporary).write_text(text, encoding="utf-8"))

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._record_path.unlink(missing_ok=True)

    def finish(self, path: Path) -> None:
        """Give the whole file its name, once it lies on the disk."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        self.path.replace(path)
        self._record_path.unlink(missing_ok=True)


class _Cut(Exception):
    """A try failed where another one may not. `offline`: the server was not even reached."""

    def __init__(self, reason: str, *, offline: bool = False) -> None:
        super().__init__(reason)
        self.offline = offline


def receive(address: str, partial: Partial, bar: Any) -> None:
    """Fill a partial file, moving a bar of tqdm along.

    Raises WeightsError when a server refuses, or when as many tries as there are pauses, one after the other, brought
    nothing new.
    """
    start = furthest = partial.size
    failures = 0
    while True:
        try:
            _receive_once(address, partial, bar)
            return
        except _Cut as cut:
            failures = 1 if partial.size > furthest else failures + 1
            furthest = max(furthest, partial.size)
            if failures > len(RETRY_PAUSES_SEC) or (cut.offline and furthest == start):
                kept = f"; {partial.size} bytes are kept and need not come again" if partial.record() else ""
                raise WeightsError(f"{shown(address)}: {cut}{kept}; try again later, {BY_HAND}") from cut
            pause_sec = RETRY_PAUSES_SEC[failures - 1]
            say(f"{shown(address)}: {cut}; trying again in {pause_sec:g} s, {partial.size} bytes are here")
            time.sleep(pause_sec)


def _receive_once(address: str, partial: Partial, bar: Any) -> None:
    """One request for what is missing. Raises _Cut when not all of it comes."""
    record = partial.record()
    if record is not None and record.total == partial.size:
        return  # the process was killed between the last byte and the checks
    with closing(_open(address, partial, record)) as response:
        missing = response.length
        if missing is not None:
            response.length = missing + 1  # http.client stops at Content-Length, and so would hide a longer body
        chunk = _read(response, missing)
        if response.status == HTTPStatus.PARTIAL_CONTENT:
            total = _resumed_total(response, partial, record, missing)
        else:
            total = missing
            _refuse_page(response, chunk, address)
            partial.restart(Record(_validator(response), total))
        bar.total, bar.initial, bar.n = total, partial.size, partial.size
        with partial.path.open("ab") as file:
            while chunk:
                file.write(chunk)
                bar.update(len(chunk))
                missing = None if missing is None else missing - len(chunk)
                chunk = _read(response, missing)
        too_long = (total is not None and partial.size > total) or (missing == 0 and _has_more(response))
    if too_long:
        partial.discard()
        raise WeightsError(f"{shown(address)}: the server sends more than the {total} bytes that it announces")
    if total is not None and partial.size < total:
        raise _Cut(f"the connection ended after {partial.size} of {total} bytes")
    if not partial.size:
        partial.discard()
        raise WeightsError(f"{shown(address)}: the file there is empty")


def _open(address: str, partial: Partial, record: Record | None) -> http.client.HTTPResponse:
    request = _request(address)
    if record is not None:
        request.add_header("Range", f"bytes={partial.size}-")
        request.add_header("If-Range", record.validator)
    try:
        response: http.client.HTTPResponse = urlopen(request, timeout=TIMEOUT_SEC)
    except HTTPError as error:
        error.close()
        reason = f"the server answers {error.code} {error.reason}"
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            partial.discard()
            raise _Cut(reason) from error
        if error.code in _BUSY or error.code >= 500:
            raise _Cut(reason) from error
        raise WeightsError(f"{shown(address)}: {reason}; check the address, {BY_HAND}") from error
    except (URLError, http.client.HTTPException, OSError, UnicodeError) as error:
        raise _meaning(error.reason if isinstance(error, URLError) else error, address) from error
    return response


def _request(address: str) -> Request:
    """The names in an address may hold spaces and letters of any script; a user's name goes into a header."""
    parts = urlsplit(address)
    user, _, host = parts.netloc.rpartition("@")
    path, query = (quote(text, safe="%/:=&?+!$,;'@()*~[]") for text in (parts.path, parts.query))
    headers = {"Accept-Encoding": "identity", "User-Agent": "paddlevid"}  # some hosts refuse urllib's own name
    request = Request(urlunsplit((parts.scheme, host, path, query, "")), headers=headers)
    if user:
        token = base64.b64encode(unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")  # a redirect may lead to another host
    return request


def _meaning(error: object, address: str) -> Exception:
    """What a failed connection asks for: another try, or the user."""
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "verify_message", None) or error.reason or error
        return WeightsError(f"{shown(address)}: no safe connection (TLS): {reason}; check the address, {BY_HAND}")
    if isinstance(error, str | http.client.InvalidURL | UnicodeError):
        return WeightsError(f"{shown(address)} cannot be fetched: {error}")
    if isinstance(error, socket.gaierror | ConnectionRefusedError):
        return _Cut(f"no connection to {urlsplit(address).hostname}: {error.strerror}", offline=True)
    return _Cut(_reason(error))


def _reason(error: object) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer for {TIMEOUT_SEC:g} s"
    return f"the connection broke: {getattr(error, 'strerror', None) or str(error) or type(error).__name__}"


def _read(response: http.client.HTTPResponse, missing: int | None) -> bytes:
    if missing == 0:
        return b""
    try:
        return response.read(CHUNK_BYTES if missing is None else min(CHUNK_BYTES, missing))
    except (http.client.HTTPException, OSError) as error:
        raise _Cut(_reason(error)) from error


def _has_more(response: http.client.HTTPResponse) -> bool:
    try:
        return bool(response.read(1))
    except (http.client.HTTPException, OSError):
        return False  # a server that neither sends more nor ends the connection


def _validator(response: http.client.HTTPResponse) -> str:
    """What If-Range may ask for; empty when the server gives nothing by which a file can be told from its successor."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def _resumed_total(
    response: http.client.HTTPResponse, partial: Partial, record: Record | None, missing: int | None
) -> int | None:
    """The length of the whole file when the answer goes on where the partial file ends; else starts anew."""
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if record is not None and span is not None and int(span[1]) == partial.size:
        total = record.total if span[2] == "*" else int(span[2])
        is_same = _validator(response) in {"", record.validator} and record.total in {None, total}
        if is_same and (total is None or partial.size + (missing or 0) <= total):
            return total
    partial.discard()
    raise _Cut("the server goes on with another file or in another place; starting anew")


def _refuse_page(response: http.client.HTTPResponse, start: bytes, address: str) -> None:
    """Pages that ask for a login or a click come with the code of success."""
    is_page = response.headers.get_content_type() in {"text/html", "application/xhtml+xml"}
    if is_page or start[:512].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise WeightsError(
            f"{shown(address)}: the server answers with a web page, not with weights (does it ask for a login or a "
            f"click?); open the address in a browser, {BY_HAND}"
        )
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise WeightsError(
            f"{shown(address)}: the server sends the file compressed ({encoding}), unasked; {BY_HAND[3:]}"
        )
