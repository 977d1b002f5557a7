"""A video that browsers play, made where the given one is in a format that they do not know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from paddlevid.data.pyav_container import video_stream
from paddlevid.data.records import Record

# What current browsers play, by the end of the file's name.
PLAYABLE_CODECS = {".mp4": ("h264", "av1", "vp9"), ".m4v": ("h264",), ".webm": ("vp8", "vp9", "av1")}
MAX_SECONDS = 60
MAX_HEIGHT = 360


def make_playable(record: Record, folder: Path) -> Path | None:
    """The video itself, or a copy in `folder` (h264, the first minute, no sound); None where there is none to show."""
    path = Path(record.path)
    if record.num_frames is not None:  # a folder of pictures
        return None
    import av
    from av.error import FFmpegError

    try:
        with av.open(str(path)) as source:
            stream = video_stream(source)
            codec = stream.codec_context
            if codec.name in PLAYABLE_CODECS.get(path.suffix.lower(), ()) and codec.pix_fmt == "yuv420p":
                return path
            return _transcode(source, stream, folder / "preview.mp4")
    except (FFmpegError, IndexError, ValueError):
        return None  # the page does without: whether the model can read it is told elsewhere


def _transcode(source: Any, stream: Any, copy: Path) -> Path:
    import av
    from av.error import FFmpegError

    stream.thread_type = "AUTO"
    rate = stream.guessed_rate or 25
    scale = min(1.0, MAX_HEIGHT / stream.height)
    width, height = (max(2, round(size * scale / 2) * 2) for size in (stream.width, stream.height))
    with av.open(str(copy), "w", options={"movflags": "faststart"}) as target:
        output = target.add_stream("libx264", rate=rate, options={"preset": "ultrafast", "crf": "24"})
        output.width, output.height, output.pix_fmt = width, height, "yuv420p"
        try:
            for number, frame in enumerate(source.decode(stream)):
                if number > MAX_SECONDS * rate:
                    break
                picture = frame.reformat(width=width, height=height, format="yuv420p")
                picture.pts, picture.time_base = number, 1 / rate
                target.mux(output.encode(picture))
        except FFmpegError:
            pass  # the video breaks off here, and so does its copy
        target.mux(output.encode())
    return copy
