"""Containers opened through PyAV, and the packets of their pictures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from paddlevid.errors import DataError

# Of one frame: 8K video has half of them, and the damaged head of a small file may promise a hundred times as many.
MAX_PIXELS = 1 << 26


def open_container(
    path: str, decoder: str, *, options: dict[str, str] | None = None, timeout: float | None = None
) -> Any:
    """A container with pictures in it. `options` and `timeout`, in seconds, are for URLs."""
    import av

    try:
        # Titles and comments are in any encoding, and nobody reads them; PyAV 19 decodes none that nobody asks for
        lenient = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
        container = av.open(path, options=options or {}, timeout=timeout, **lenient)
    except av.error.FFmpegError as error:
        raise DataError(f"{path}: {decoder} cannot open this video: {error.strerror}") from None
    problem = _problem(container)
    if problem:
        container.close()
        raise DataError(f"{path}: {decoder} cannot open this video: {problem}")
    return container


def _problem(container: Any) -> str:
    if not container.streams.video:
        kinds = sorted({stream.type for stream in container.streams}) or ["nothing"]
        return f"it holds no pictures, only {', '.join(kinds)}"
    context = video_stream(container).codec_context
    if context is None:
        return "its codec is unknown"
    if context.width * context.height > MAX_PIXELS:
        return f"its pictures are said to have {context.width}x{context.height} pixels (damaged?)"
    return ""


def video_stream(container: Any) -> Any:
    """The first stream of pictures that is no cover art: a file of music or a film may begin with one."""
    streams = container.streams.video
    return next((stream for stream in streams if not is_cover(stream)), streams[0])


def is_cover(stream: Any) -> bool:
    """Whether a stream is one picture that goes with a film or with music."""
    return bool(getattr(stream, "disposition", 0) & 0x400)  # AV_DISPOSITION_ATTACHED_PIC; PyAV before 13 tells none


def frame_rate(stream: Any) -> float:
    """Frames a second; 0 where nothing tells."""
    return float(stream.average_rate or stream.guessed_rate or stream.base_rate or 0)


def read_only(container: Any, stream: Any) -> None:
    """Let the packets of all other streams lie in the file, where the container can."""
    import av

    discard = getattr(av.stream, "Discard", None)  # PyAV before 16 has none
    for other in container.streams:
        if discard is not None and other.index != stream.index:
            other.discard = discard.all


def limit_decoder(stream: Any, num_threads: int) -> None:
    """For a decoder that has not begun yet. A picture of more than MAX_PIXELS makes it fail."""
    context = stream.codec_context
    context.thread_count = num_threads
    context.thread_type = "AUTO" if num_threads > 1 else "SLICE"
    context.options = {**context.options, "max_pixels": str(MAX_PIXELS)}


def demux(container: Any, stream: Any) -> Iterator[Any]:
    """The packets of a stream, and an empty one behind the last."""
    while True:
        try:
            yield from container.demux(stream)
            return
        except IndexError:
            pass  # a packet of another stream, which begins behind the head of the file: PyAV 18 does not know it
