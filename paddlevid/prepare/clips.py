"""Videos -> small H.264 clips of which any frame is soon decoded."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from paddlevid.data.isolated import Tick
from paddlevid.errors import DataError
from paddlevid.prepare.decoding import Footage, frames_at_rate, survey
from paddlevid.prepare.journal import Made
from paddlevid.runtime import DISK_ERRORS

ENCODER = "libx264"
FULL_RANGE = 2  # FFmpeg's AVCOL_RANGE_JPEG


@dataclass(frozen=True)
class Encoding:
    """How clips are encoded; the defaults are those that benchmarks/make_clips.py finds best.

    Frames larger than `short_side` are scaled down to it. Without `fps` each frame keeps its time; `seconds` leaves
    out what is shown later. `crf` is that of x264: less is better, 18 is near to what eyes can tell.
    """

    short_side: int = 256
    keyframe_every: int = 8
    b_frames: int = 3
    crf: float = 18.0
    preset: str = "veryfast"
    fps: Fraction | None = None
    seconds: Fraction | None = None

    def settings(self) -> dict[str, Any]:
        """What the clips depend on, for JSON."""
        plain = {key: str(value) if isinstance(value, Fraction) else value for key, value in asdict(self).items()}
        return {"made_by": "make_clips", **plain}

    def options(self) -> dict[str, str]:
        """Those of libx264.

        Nothing that is slow to decode: no arithmetic coding, no deblocking, and no B frame that other frames need, so
        that readers pass over all that nobody wants.
        """
        return {
            "preset": self.preset,
            "tune": "fastdecode",
            "crf": f"{self.crf:g}",
            "g": str(self.keyframe_every),
            "bf": str(self.b_frames),
            # With mbtree the bytes depend on what lay in x264's memory before, on processors with AVX-512
            "x264-params": "b-pyramid=none:open-gop=0:mbtree=0",
        }


def check_encoder() -> None:
    """Raise DataError if this PyAV cannot write H.264."""
    import av

    if ENCODER not in av.codecs_available:
        raise DataError(f"this PyAV has no {ENCODER} to write H.264 with; use that of PyPI: pip install av")


def make_clip(encoding: Encoding, path: str, clip: Path, tick: Tick) -> Made:
    """Encode a video anew, without its sound, as a file that was read back and found whole.

    Raises:
        DataError: the video cannot be read to its end, its frames change size, or they cannot be encoded.
        OSError: the disk refuses the clip.
    """
    footage = survey(path)
    times = footage.times_sec
    if encoding.seconds is not None:
        times = [time for time in times if time < encoding.seconds]
    shown: np.ndarray = np.arange(len(times))
    time_base = footage.time_base
    if encoding.fps is not None:
        shown, time_base = frames_at_rate(times, encoding.fps), 1 / encoding.fps
        times = [number * time_base for number in range(len(shown))]
    else:
        times = list(times)
    _write(encoding, footage, shown, times, time_base, clip, tick)
    made = survey(str(clip))
    for _ in made.frames(tick):
        pass
    if made.times_sec != times:
        raise DataError(
            f"{path}: its clip has {len(made.times_sec)} frames or their times differ; expected {len(times)}"
        )
    with open(clip, "rb") as file:
        os.fsync(file.fileno())
    return Made(len(times), float(made.fps), clip.stat().st_size)


def _write(
    encoding: Encoding,
    footage: Footage,
    shown: np.ndarray,
    times_sec: list[Fraction],
    time_base: Fraction,
    clip: Path,
    tick: Tick,
) -> None:
    """Encode the frames numbered `shown`, which may repeat, for these times."""
    import av

    converter = _Converter(encoding.short_side)
    stream, done = None, 0
    try:
        with av.open(str(clip), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            for number, frame in enumerate(footage.frames(tick)):
                if done == len(shown):
                    break
                if shown[done] != number:
                    continue
                picture = converter(frame)
                if stream is None:
                    stream = _add_stream(container, encoding, frame, picture, footage.fps, time_base)
                if (picture.width, picture.height) != (stream.width, stream.height):
                    raise DataError(f"{footage.path}: its frames differ in size from frame {number} on")
                while done < len(shown) and shown[done] == number:
                    picture.pts, picture.time_base = int(times_sec[done] / time_base), time_base
                    container.mux(stream.encode(picture))
                    done += 1
            if stream is not None:
                container.mux(stream.encode())
    except av.error.FFmpegError as error:
        if error.errno in DISK_ERRORS:
            raise OSError(error.errno, error.strerror, str(clip)) from None
        raise DataError(f"{footage.path}: {ENCODER} cannot encode it: {error.strerror}") from None


def _add_stream(
    container: Any, encoding: Encoding, frame: Any, picture: Any, fps: Fraction, time_base: Fraction
) -> Any:
    stream = container.add_stream(ENCODER, rate=encoding.fps or fps, options=encoding.options())
    stream.width, stream.height, stream.pix_fmt = picture.width, picture.height, "yuv420p"
    stream.thread_count = 1
    stream.codec_context.time_base = time_base
    for name in ("colorspace", "color_range", "color_primaries", "color_trc"):  # or readers see other colours
        if hasattr(picture, name):  # PyAV before 15 does not know all
            setattr(stream.codec_context, name, getattr(picture, name))
    return stream


class _Converter:
    """Frames -> upright yuv420p frames of even size, not larger than the short side."""

    def __init__(self, short_side: int) -> None:
        import av
        from av.video.reformatter import VideoReformatter

        from paddlevid.data.rgb import RgbConverter

        self._short_side = short_side
        self._reformatter = VideoReformatter()
        self._to_rgb = RgbConverter()
        self._options: dict[str, Any] = {"interpolation": "AREA"}
        if int(av.__version__.split(".")[0]) >= 17:
            self._options["threads"] = 1  # by default one a core, in each process

    def __call__(self, frame: Any) -> Any:
        import av

        if not frame.format.name.startswith("yuv4") or frame.color_range == FULL_RANGE or getattr(frame, "rotation", 0):
            # As readers see it; what is YUV already loses less when it is not RGB in between
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(self._to_rgb(frame)), format="rgb24")
        width, height = clip_size(frame.width, frame.height, self._short_side)
        picture = self._reformatter.reformat(frame, width, height, "yuv420p", **self._options)
        picture.pict_type = av.video.frame.PictureType.NONE
        return picture


def clip_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Width and height scaled down to a short side, if they are larger, and then to even numbers.

    >>> clip_size(1920, 1080, 256), clip_size(97, 63, 256)
    ((454, 256), (96, 62))
    """
    scale = min(Fraction(1), Fraction(short_side, min(width, height)))
    return tuple(max(2, int(side * scale) // 2 * 2) for side in (width, height))  # type: ignore[return-value]
