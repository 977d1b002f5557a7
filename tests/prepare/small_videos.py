"""Small videos to make over, each with pictures of its own."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

WIDTH, HEIGHT = 96, 64


def draw(num_frames: int, seed: int = 0, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A picture that moves by some pixels a frame and gets lighter, uint8 `[T, H, W, 3]`."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 160, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    picture = blocks.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    return np.stack([np.roll(picture, (t, 2 * t), axis=(0, 1)) + np.uint8(2 * t % 90) for t in range(num_frames)])


def write(
    path: Path,
    num_frames: int = 12,
    *,
    seed: int = 0,
    codec: str = "libx264",
    times_ms: Sequence[int] | None = None,
    fps: Fraction | int = 10,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    options: dict[str, str] | None = None,
    pix_fmt: str = "yuv420p",
) -> Path:
    """Write a video whose frames begin at `times_ms`, or evenly apart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        if times_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, picture in enumerate(draw(num_frames, seed, *size)):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def turn(path: Path, turned: Path) -> Path:
    """A copy of an MP4 that says that it is to be shown turned clockwise by a quarter."""
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    one = 1 << 16
    content[matrix : matrix + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    turned.write_bytes(content)
    return turned


def decode(path: Path) -> np.ndarray:
    """All frames, one after the other, by nothing but PyAV: uint8 `[T, H, W, 3]`."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2)))


def grey(frames: np.ndarray) -> np.ndarray:
    """How light each pixel is: H.264 and JPEG keep colours for 2x2 pixels only."""
    return frames @ np.array([0.299, 0.587, 0.114])
