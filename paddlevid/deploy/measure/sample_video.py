"""A video to time decoders and models with, where the user has none at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_video(path: Path, seconds: int = 10, fps: int = 30, width: int = 340, height: int = 256) -> Path:
    """Write a video like those of Kinetics, of blocks of colours that move by some pixels a frame."""
    import av

    blocks = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8 + 1, 3), np.uint8)
    picture = blocks.repeat(8, axis=0).repeat(8, axis=1)[:, :width]  # [H, W, 3]
    with av.open(str(path), "w") as container:
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(seconds * fps):
            moved = np.ascontiguousarray(np.roll(picture, (number, 3 * number), axis=(0, 1)))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(moved, format="rgb24")))
        container.mux(stream.encode())
    return path
