"""The frames of what goes on whether it is read or not: streams by their URL, and cameras."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from paddlevid.data.pyav_container import demux, open_container
from paddlevid.data.rgb import to_rgb
from paddlevid.deploy.streaming.streams import DEFAULT_FPS, Damage, StreamFrame, Wants, tell
from paddlevid.errors import DataError

MAX_JUMP_SEC = 5.0  # a stream whose clock moves further in one frame has been set anew
# A stream may run ahead of the wall clock by what had gathered before it was read; further, and its reader waits.
MAX_LEAD_SEC = 10.0
MAX_BACK_OFF_SEC = 30.0


class LiveStream:
    """A stream that goes on whether it is read or not. Times are seconds since its first frame.

    When it breaks it is opened again after 1, 2, 4, ... seconds, at most 30; after `retries` failures in a row it has
    ended, which `damage` tells. A stream that comes faster than it is to be shown is read at its own pace. `options`
    are FFmpeg's, such as `rtsp_transport`.
    """

    is_live = True
    duration_sec: float | None

    def __init__(
        self,
        url: str,
        duration_sec: float | None = None,
        *,
        retries: int = 10,
        timeout_sec: float = 10.0,
        options: dict[str, str] | None = None,
    ) -> None:
        self.name = url
        self.duration_sec = duration_sec
        self.damage: Damage | None = None
        self.start_sec = self.end_sec = 0.0
        self._retries = retries
        self._timeout_sec = timeout_sec
        # Over UDP, which RTSP prefers, packets are lost, and firewalls stop them
        self._options = {**({"rtsp_transport": "tcp"} if url.startswith("rtsp") else {}), **(options or {})}
        self._stop = threading.Event()
        self._container = self._open()
        stream = self._container.streams.video[0]
        rate = float(stream.average_rate or stream.guessed_rate or DEFAULT_FPS)
        self.fps = rate if 1 <= rate <= 240 else DEFAULT_FPS  # some streams tell the rate of their clock
        self.is_recording = bool(self._container.duration)

    def _open(self) -> Any:
        return open_container(self.name, "pyav", options=self._options, timeout=self._timeout_sec)

    def frames(self, wants: Wants | None = None) -> Iterator[StreamFrame]:
        import av

        clock = LiveClock(self._stop)
        after_gap = False
        container: Any = self._container
        while container is not None:
            reason = "the stream ended"
            try:
                for shown_sec, frame in _decode_live(container):
                    self.end_sec, jumped = clock.tick(shown_sec)
                    if self._is_over(clock):
                        return
                    yield StreamFrame(self.end_sec, partial(to_rgb, frame), after_gap or jumped)
                    after_gap = False
            except av.error.FFmpegError as error:
                reason = error.strerror
            finally:
                container.close()
            container = self._reconnect(reason, clock)
            clock.restart()
            after_gap = True

    def _is_over(self, clock: LiveClock) -> bool:
        reached_sec = max(self.end_sec, clock.elapsed_sec())
        return (self.duration_sec is not None and reached_sec >= self.duration_sec) or self._stop.is_set()

    def _reconnect(self, reason: str, clock: LiveClock) -> Any:
        """The stream opened again, or None if it has ended."""
        for attempt in range(self._retries):
            pause_sec = min(MAX_BACK_OFF_SEC, 2.0**attempt)
            if self.duration_sec is not None:
                pause_sec = min(pause_sec, max(0.0, self.duration_sec - clock.elapsed_sec()))
            tell(f"{self.name}: {reason}; trying again in {pause_sec:.0f} s")
            self._stop.wait(pause_sec)
            if self._is_over(clock):
                return None
            try:
                return self._open()
            except DataError as error:
                reason = str(error).removeprefix(f"{self.name}: ")
        self.damage = Damage(self.end_sec, f"{reason}; given up after {self._retries} tries")
        return None

    def stop(self) -> None:
        self._stop.set()


class LiveClock:
    """Times of the frames of a stream, from its own clock while that runs evenly."""

    def __init__(self, stop: threading.Event) -> None:
        self._begun = time.monotonic()
        self._stop = stop
        self._last: float | None = None  # by the stream's clock
        self._offset = 0.0
        self._now = 0.0
        self._has_ticked = False

    def elapsed_sec(self) -> float:
        return time.monotonic() - self._begun

    def restart(self) -> None:
        self._last = None

    def tick(self, shown_sec: float | None) -> tuple[float, bool]:
        """The time of a frame that the stream's clock shows at `shown_sec`, and whether that clock was set anew."""
        is_even = shown_sec is not None and self._last is not None and 0 < shown_sec - self._last < MAX_JUMP_SEC
        jumped = not is_even and self._last is not None and shown_sec is not None
        if not is_even:
            if self._has_ticked:
                self._now = max(self.elapsed_sec(), self._now + 1e-3)
            else:
                self._begun = time.monotonic()
                self._has_ticked = True
            self._offset = self._now - (shown_sec or 0.0)
        else:
            assert shown_sec is not None
            self._now = shown_sec + self._offset
        self._last = shown_sec
        lead_sec = self._now - self.elapsed_sec()
        if lead_sec > MAX_LEAD_SEC:
            self._stop.wait(lead_sec - MAX_LEAD_SEC)
        return self._now, jumped


def _decode_live(container: Any) -> Iterator[tuple[float | None, Any]]:
    """Frames with the times of the stream's clock; what was lost on the way is left out."""
    import av

    stream = container.streams.video[0]
    stream.codec_context.thread_type = "SLICE"  # threads over frames would hold them back
    for packet in demux(container, stream):
        try:
            decoded = packet.decode()
        except av.error.InvalidDataError:
            continue
        for frame in decoded:
            if not frame.is_corrupt:
                yield None if frame.pts is None else float(frame.pts * stream.time_base), frame


class Camera:
    """A camera of this machine, by its number, through OpenCV. Times are of the clock on the wall."""

    is_live = True

    def __init__(self, number: int, duration_sec: float | None = None) -> None:
        import cv2

        self.name = f"camera {number}"
        self.duration_sec = duration_sec
        self.damage: Damage | None = None
        self.start_sec = self.end_sec = 0.0
        self._stop = threading.Event()
        log = cv2.utils.logging
        level = log.getLogLevel()
        log.setLogLevel(log.LOG_LEVEL_SILENT)  # or it warns of each kind of camera that this one is not
        self._capture = cv2.VideoCapture(number)
        log.setLogLevel(level)
        if not self._capture.isOpened():
            raise DataError(f"{self.name}: there is no such camera here, or another program uses it")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = rate if 1 <= rate <= 240 else DEFAULT_FPS

    def frames(self, wants: Wants | None = None) -> Iterator[StreamFrame]:
        begun = time.monotonic()
        try:
            while not self._stop.is_set():
                read, picture_bgr = self._capture.read()
                self.end_sec = time.monotonic() - begun
                if self.duration_sec is not None and self.end_sec >= self.duration_sec:
                    return
                if not read:
                    self.damage = Damage(self.end_sec, "the camera gives no more pictures")
                    return
                yield StreamFrame(self.end_sec, partial(_bgr_to_rgb, picture_bgr))
        finally:
            self._capture.release()

    def stop(self) -> None:
        self._stop.set()


def _bgr_to_rgb(picture_bgr: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(picture_bgr[..., ::-1])
