"""The process that decodes. A hostile file may crash it, hang it or let it run out of memory; the server goes on."""

from __future__ import annotations

import json
import math
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from paddlevid.build import build_views
from paddlevid.data.containers import open_container
from paddlevid.data.dataset import FrameSource, Views
from paddlevid.data.pyav_container import video_stream
from paddlevid.data.records import Record
from paddlevid.data.video import FrameReader
from paddlevid.errors import DataError
from paddlevid.processes import end_with_starter
from paddlevid.schema import ViewsConfig
from paddlevid.schema.data import DataConfig

READY = b"ready"
BYTES_A_PIXEL = 3
COPIES = 4  # of the frames that are read: as decoded, at their places, resized, cropped
SPARE_BYTES = 1 << 30  # for the decoder itself


@dataclass(frozen=True)
class DecoderSettings:
    """What a decoding process must know: the clip, the views, and what a video may ask for."""

    data: DataConfig
    views: ViewsConfig
    max_video_sec: float
    max_pixels: int


@dataclass(frozen=True)
class ClipInfo:
    """A video. `fps` and `duration_sec` are None where the file does not tell them."""

    num_frames: int
    fps: float | None
    duration_sec: float | None
    width: int
    height: int


class TooLargeError(Exception):
    """A video asks for more than the limits allow."""


@dataclass(frozen=True)
class WatchedSource(FrameSource):
    """Shows each reader to `on_open` before frames are read."""

    on_open: Callable[[FrameReader], None] = lambda reader: None

    def open(self, record: Record) -> FrameReader:
        reader = super().open(record)
        self.on_open(reader)
        return reader


def decode(path: str, views: Views, settings: DecoderSettings) -> tuple[np.ndarray, ClipInfo]:
    """Read a video as uint8 `[V, T, H, W, C]`, and say what it is.

    Raises:
        DataError: it cannot be read, or is no video of one file.
        TooLargeError: it is longer than `max_video_sec`, or its frames have more than `max_pixels` together.
    """
    width, height = check_container(path, views, settings)
    clips: list[ClipInfo] = []

    def note(reader: FrameReader) -> None:
        fps = reader.fps if 0 < reader.fps < math.inf else None
        duration_sec = None if fps is None else reader.num_frames / fps
        _check_duration(duration_sec, settings.max_video_sec)
        clips.append(ClipInfo(reader.num_frames, fps, duration_sec, width, height))

    source = WatchedSource(**vars(views.source), on_open=note)
    return replace(views, source=source)(Record(path=path, name=path)), clips[-1]


def check_container(path: str, views: Views, settings: DecoderSettings) -> tuple[int, int]:
    """Width and height of a video whose container promises no more than the limits; nothing of it is decoded for long.

    Raises: as `decode`.
    """
    with open_container(path) as container:
        if not container.streams.video:
            raise DataError(f"{path}: it holds no pictures")
        codec = video_stream(container).codec_context
        width, height = (codec.width, codec.height) if codec is not None else (0, 0)
        duration_sec = None if container.duration is None else container.duration / 1e6
    if not width or not height:
        raise DataError(f"{path}: its codec is unknown, or it does not tell the size of its pictures")
    _check_duration(duration_sec, settings.max_video_sec)
    enlarged = max(1.0, views.short_side / min(width, height)) ** 2  # a thin picture grows when its short side does
    num_frames = views.num_clips * views.num_frames
    if width * height * enlarged * num_frames > settings.max_pixels:
        raise TooLargeError(
            f"the model reads {num_frames} frames of {width}x{height} pixels from this video; "
            f"the limit is {settings.max_pixels} pixels together"
        )
    return width, height


def _check_duration(duration_sec: float | None, max_video_sec: float) -> None:
    if duration_sec is not None and duration_sec > max_video_sec:
        raise TooLargeError(f"this video lasts {duration_sec:.1f} s; the limit is {max_video_sec:g} s")


def run(connection: Connection, settings: DecoderSettings) -> None:
    """Answer requests until the other end closes: JSON with a path -> JSON, and behind a success the bytes of views."""
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # both may go to all processes of a terminal or a container:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the server lets running requests finish
    end_with_starter()  # a server that was killed leaves no process behind that hangs in a hostile file
    cv2.setNumThreads(1)  # there is a process for each core already
    views = build_views(settings.data, settings.views)
    _load_decoders()
    _limit_memory(SPARE_BYTES + COPIES * BYTES_A_PIXEL * settings.max_pixels)
    connection.send_bytes(READY)
    while True:
        try:
            path = json.loads(connection.recv_bytes())
        except (EOFError, OSError):
            return
        answer, frames = _answer(path, views, settings)
        connection.send_bytes(json.dumps(answer).encode())
        if frames is not None:
            connection.send_bytes(frames.data.cast("B"))


def _answer(path: str, views: Views, settings: DecoderSettings) -> tuple[dict[str, object], np.ndarray | None]:
    started = time.perf_counter()
    try:
        frames, clip = decode(path, views, settings)
    except TooLargeError as error:
        return {"status": 413, "error": str(error)}, None
    except DataError as error:
        return {"status": 422, "error": without_path(str(error), path)}, None
    except MemoryError:
        return {"status": 422, "error": "decoding this video needs more memory than the server gives it"}, None
    except Exception as error:  # decoders raise what they like over hostile files: that is no fault of the server
        print(f"decoding failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return {"status": 422, "error": f"the decoder failed on this video ({type(error).__name__})"}, None
    seconds = time.perf_counter() - started
    return {"shape": frames.shape, "clip": asdict(clip), "decode_sec": seconds}, np.ascontiguousarray(frames)


def without_path(message: str, path: str) -> str:
    """A message for clients, who need not know where files lie on the server."""
    return message.removeprefix(f"{path}: ").replace(path, "the video")


def _load_decoders() -> None:
    """Import before the memory is limited, and before a request waits for it."""
    import av  # noqa: F401

    from paddlevid.data.decord_reader import has_decord

    has_decord(demanded=False)


def _limit_memory(more_bytes: int) -> None:
    """Let this process have `more_bytes` than it has now; systems without such limits go without."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (ImportError, OSError):
        return
    limit = pages * resource.getpagesize() + more_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
