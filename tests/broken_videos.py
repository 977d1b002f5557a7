"""Good clips in five containers, and the ways in which such files are broken: what a download, a disk or a script does.

Each file is made from a good clip by what happens to files: cut off, left without pictures, hit by wrong bits.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Container(NamedTuple):
    """A kind of good file: how it is named, encoded and muxed."""

    suffix: str
    codec: str
    options: dict[str, str]
    audio: str
    muxer: dict[str, str]


_H264 = {"bf": "2", "g": "12", "preset": "veryfast", "crf": "20"}
CONTAINERS = {
    "mp4_faststart": Container(".mp4", "libx264", _H264, "aac", {"movflags": "faststart"}),
    "mp4": Container(".mp4", "libx264", _H264, "aac", {}),
    "avi": Container(".avi", "mpeg4", {"g": "12", "qmin": "3", "qmax": "5"}, "mp2", {}),
    "mkv": Container(".mkv", "libx264", _H264, "aac", {}),
    "webm": Container(".webm", "libvpx-vp9", {"g": "12", "deadline": "realtime", "cpu-used": "8"}, "libopus", {}),
}
KINDS = ("empty", "text", "cut_10", "cut_50", "cut_90", "audio", "header", "flips")
FLIP_EVERY_BYTES = 1000
SAMPLE_RATE = 48000


def write_clip(
    path: Path, container: Container, *, num_frames: int = 60, size: int = 96, fps: int = 20, pictures: bool = True
) -> Path:
    """A textured disc over moving noise, with a tone; only the tone with `pictures=False`."""
    import av

    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (size, size, 3), np.uint8).repeat(2, 0).repeat(2, 1)
    rows, columns = np.mgrid[:size, :size]
    samples_a_frame = SAMPLE_RATE // fps
    with av.open(str(path), "w", options=container.muxer) as output:
        video = None
        if pictures:
            video = output.add_stream(container.codec, rate=fps, options=container.options)
            video.width, video.height, video.pix_fmt, video.thread_count = size, size, "yuv420p", 1
        audio = output.add_stream(container.audio, rate=SAMPLE_RATE, layout="mono")
        resampler = av.AudioResampler(format=audio.format, layout="mono", rate=SAMPLE_RATE)
        for t in range(num_frames):
            if video is not None:
                picture = noise[t : t + size, t // 2 : t // 2 + size].copy()
                disc = (rows - size / 2) ** 2 + (columns - 2 * t) ** 2 < (size / 6) ** 2
                picture[disc] = (255, 4 * t % 256, 0)
                output.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            times = np.arange(t * samples_a_frame, (t + 1) * samples_a_frame) / SAMPLE_RATE
            tone = (np.sin(2 * np.pi * 440 * times) * 8000).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
            frame.sample_rate, frame.pts = SAMPLE_RATE, t * samples_a_frame
            for part in resampler.resample(frame):
                output.mux(audio.encode(part))
        for stream in filter(None, (video, audio)):
            output.mux(stream.encode())
    return path


def payload_span(path: Path) -> tuple[int, int]:
    """Where the packets of a file begin and end, in bytes."""
    import av

    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux() if packet.size and packet.pos]
    return min(pos for pos, _ in places), max(pos + size for pos, size in places)


def flip_bits(content: bytes, span: tuple[int, int], every: int = FLIP_EVERY_BYTES, seed: int = 0) -> bytes:
    """One wrong bit in each `every` bytes of the span, at a place drawn from the seed."""
    rng = np.random.default_rng(seed)
    flipped = bytearray(content)
    for start in range(span[0], span[1] - every + 1, every):
        flipped[start + int(rng.integers(every))] ^= 1 << int(rng.integers(8))
    return bytes(flipped)


def break_file(path: Path, kind: str, good: Path, container: Container) -> Path:
    """Write to `path` what `kind` of `KINDS` makes of the good clip."""
    if kind == "audio":
        return write_clip(path, container, pictures=False)
    content = good.read_bytes()
    made: dict[str, Callable[[], bytes]] = {
        "empty": lambda: b"",
        "text": lambda: b"404: this video is no longer here\n" * 40,
        "cut_10": lambda: content[: len(content) // 10],
        "cut_50": lambda: content[: len(content) // 2],
        "cut_90": lambda: content[: len(content) * 9 // 10],
        "header": lambda: content[: payload_span(good)[0]],
        "flips": lambda: flip_bits(content, payload_span(good)),
    }
    path.write_bytes(made[kind]())
    return path


def write_broken_set(folder: Path) -> dict[tuple[str, str], Path]:
    """`(kind, container)` -> file, for each of both; the good clips have the kind "good"."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, container in CONTAINERS.items():
        good = write_clip(folder / f"good_{name}{container.suffix}", container)
        files["good", name] = good
        for kind in KINDS:
            files[kind, name] = break_file(folder / f"{kind}_{name}{container.suffix}", kind, good, container)
    return files
