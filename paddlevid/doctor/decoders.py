"""Whether each decoder reads a small video that is made here, and gives the frames that went into it."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from paddlevid.data.isolated import NoResult, Tick, run_isolated
from paddlevid.data.video import DECODERS, open_video
from paddlevid.doctor.findings import Finding, error, ok, one_line, warning
from paddlevid.errors import DataError

NUM_FRAMES = 40
INDICES = np.array([0, 3, 13, 14, 27, NUM_FRAMES - 1])
_TIMEOUT_SEC = 30.0


def check_decoders(chosen: str) -> Iterator[Finding]:
    """One finding a decoder; what another than the `chosen` one cannot do is a warning."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            path, codec = write_clip(Path(folder))
            expected = _digest(_decode_all(path)[INDICES])
        except (ImportError, OSError, ValueError) as reason:
            yield error("decoders", f"no video could be made and read by PyAV: {one_line(reason)}", "pip install av")
            return
        names = [name for name in DECODERS if name != "auto"]
        work = partial(_read, str(path))
        for number, answer in run_isolated(work, names, num_workers=1, timeout_sec=_TIMEOUT_SEC):
            name = names[number]
            make = error if name == chosen or (name == "pyav" and chosen == "auto") else warning
            advice = f"choose another: -o data.decoder={'auto' if make is warning or name != 'pyav' else 'decord'}"
            if isinstance(answer, NoResult):
                yield make(name, answer.reason, advice)
            elif answer.startswith("error: "):
                yield make(name, answer.removeprefix("error: ").replace(str(path), "the test video"), advice)
            elif answer != expected:
                yield make(name, f"other frames than those of decoding in order ({codec})", advice)
            else:
                yield ok(name, f"reads {codec}, the same frames as decoding in order")


def write_clip(folder: Path) -> tuple[Path, str]:
    """A video of moving texture, and its codec: H.264 with B-frames where it can be written, else MPEG-4."""
    import av

    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    path = folder / "clip.mp4"
    noise = np.random.default_rng(0).integers(0, 256, (32, 96, 3), np.uint8).repeat(4, 0).repeat(4, 1)
    with av.open(str(path), "w") as container:
        options = {"bf": "2", "g": "12"} if codec == "libx264" else {"g": "12"}
        stream = container.add_stream(codec, rate=20, options=options)
        stream.width, stream.height, stream.pix_fmt, stream.thread_count = 128, 96, "yuv420p", 1
        for number in range(NUM_FRAMES):
            picture = np.ascontiguousarray(noise[:96, 5 * number : 5 * number + 128])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path, "h264" if codec == "libx264" else codec


def _decode_all(path: Path) -> np.ndarray:
    """All frames in order, as FFmpeg gives them: uint8 `[T, H, W, C]`."""
    import av

    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def _read(path: str, decoder: str, tick: Tick) -> str:
    """The digest of some frames, or "error: " and the reason."""
    del tick
    try:
        with open_video(path, decoder=decoder) as reader:
            return _digest(reader.read(INDICES))
    except (DataError, ImportError, OSError) as reason:
        return f"error: {one_line(reason)}"


def _digest(frames: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(frames).tobytes()).hexdigest()
