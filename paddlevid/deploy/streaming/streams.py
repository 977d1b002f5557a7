"""Frames one after the other, with their times: of a video file, a camera, or a live stream by its URL."""

from __future__ import annotations

import re
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from paddlevid.errors import DataError

DEFAULT_FPS = 30.0  # of streams that do not tell

Wants = Callable[[float, float], bool]
T = TypeVar("T")


class StreamFrame(NamedTuple):
    """A frame shown from `time_sec` on. `picture()` makes it, uint8 RGB `[H, W, 3]`, upright.

    `after_gap`: frames are missing before it, so it does not belong with the earlier ones.
    """

    time_sec: float
    picture: Callable[[], np.ndarray]
    after_gap: bool = False


class Damage(NamedTuple):
    """Where a stream broke first, why, and in how many places it did."""

    time_sec: float
    reason: str
    num_places: int = 1


class FrameStream(Protocol):
    """What gives frames in the order of time. `damage` and `end_sec` are right once the frames have ended."""

    name: str
    fps: float
    duration_sec: float | None
    start_sec: float
    is_live: bool
    damage: Damage | None
    end_sec: float

    def frames(self, wants: Wants | None = None) -> Iterator[StreamFrame]:
        """Frames until the stream ends; `wants(time, next_time)` tells whether the frame between them is needed."""
        ...

    def stop(self) -> None:
        """End `frames`, which may run in another thread, soon."""
        ...


def open_stream(
    source: str, *, duration_sec: float | None = None, retries: int = 10, options: dict[str, str] | None = None
) -> FrameStream:
    """A file by its path, a camera by its number ("0"), or a stream by its URL (rtsp, http, tcp, udp, ...).

    A URL of a recording, one that tells its duration, is read like a file: nothing is left out. `duration_sec` ends
    the stream after so many seconds of the file, or of the clock on the wall if it is live. `retries` is how often in
    a row a broken live stream is opened again before it is given up; `options` are FFmpeg's for its URL.

    Raises:
        DataError: it cannot be opened, or holds no pictures.
    """
    from paddlevid.deploy.streaming.live import Camera, LiveStream
    from paddlevid.deploy.streaming.video_file import VideoFile

    if source.isascii() and source.isdecimal():
        if len(source) > 9:  # than which OpenCV takes no larger number
            raise DataError(f"camera {source[:20]}{'...' * (len(source) > 20)}: there is no camera of such a number")
        return Camera(int(source), duration_sec)
    if not re.match(r"[a-z][a-z0-9+.-]+://", source):
        return VideoFile(source, duration_sec)
    live = LiveStream(source, duration_sec, retries=retries, options=options)
    if source.startswith(("http", "file:")) and live.is_recording:
        live.stop()
        return VideoFile(source, duration_sec)
    return live


class Ahead(Generic[T]):
    """Items made in a thread of their own, at most `size` ahead of who takes them.

    With `newest`, an item that nobody has taken in time is dropped for the next one; `num_dropped` counts them. What
    the thread raises is raised to who takes the items. Use it in a `with` block, which ends the thread.
    """

    def __init__(self, items: Iterator[T], size: int, *, newest: bool = False) -> None:
        self.num_dropped = 0
        self._items = items
        self._size = size
        self._newest = newest
        self._ready: deque[T] = deque()
        self._changed = threading.Condition()
        self._is_over = self._is_closed = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._fill, daemon=True, name="frames")

    def __enter__(self) -> Ahead[T]:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join(timeout=2)  # not for ever: it may be waiting for a stream that has gone silent

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                # With a time limit, so that Ctrl-C is heard while waiting
                while not self._ready and not self._is_over:
                    self._changed.wait(0.2)
                if not self._ready:
                    if self._error is not None:
                        raise self._error
                    return
                item = self._ready.popleft()
                self._changed.notify_all()
            yield item

    def _fill(self) -> None:
        try:
            for item in self._items:
                if not self._put(item):
                    break
        except BaseException as error:
            self._error = error
        finally:
            close = getattr(self._items, "close", None)
            if close is not None:
                close()  # generators close their files in the thread that reads them
            with self._changed:
                self._is_over = True
                self._changed.notify_all()

    def _put(self, item: T) -> bool:
        with self._changed:
            while len(self._ready) >= self._size and not self._is_closed:
                if self._newest:
                    self._ready.popleft()
                    self.num_dropped += 1
                else:
                    self._changed.wait()
            if self._is_closed:
                return False
            self._ready.append(item)
            self._changed.notify_all()
            return True


def tell(message: str) -> None:
    """Say something on stderr, above a progress bar."""
    from tqdm import tqdm

    tqdm.write(message, file=sys.stderr)


def format_time(seconds: float, *, tenths: bool = False) -> str:
    """`mm:ss`, or `h:mm:ss` from an hour on; with `tenths` of seconds `mm:ss.t`. Rounded down."""
    whole = int(seconds)
    hours, minutes = divmod(whole // 60, 60)
    text = f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes:02}:{whole % 60:02}"
    return f"{text}.{int(seconds * 10 + 1e-6) % 10}" if tenths else text
