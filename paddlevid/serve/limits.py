"""What a request may ask for, and how it is told that it asked for too much."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

RETRY_AFTER_SEC = 1


@dataclass(frozen=True)
class Limits:
    """Of a request. `max_queue` counts requests that are here at a time, from their first byte to their answer."""

    max_upload_bytes: int
    max_video_sec: float
    max_pixels: int  # width x height x frames that are read of one video
    timeout_sec: float  # from the end of the upload to the answer
    upload_timeout_sec: float
    max_queue: int


class Refused(Exception):
    """An answer that is not a prediction: a status of HTTP and one line for the client."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})


def unavailable(message: str) -> Refused:
    return Refused(503, message, {"Retry-After": str(RETRY_AFTER_SEC)})
