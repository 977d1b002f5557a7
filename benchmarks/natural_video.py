"""A video that is as hard to decode as real ones are, for benchmarks."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_natural_video(
    path: Path, bit_rate: int, seconds: int = 10, fps: int = 30, width: int = 340, height: int = 256
) -> Path:
    """A background that drifts and an object before it that circles, of textures like those of photographs."""
    import av

    rng = np.random.default_rng(0)
    background, surface = _texture(rng, 512, 1024), _texture(rng, 256, 256)
    mask = np.clip(_pink_noise(rng, 256, 256) * 4 + 1, 0, 1)[..., None]
    left = (width - 256) // 2
    with av.open(str(path), "w") as container:
        if "libx264" not in av.codecs_available:
            raise SystemExit("this PyAV has no libx264: give a video with --video")
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate = bit_rate
        for number in range(seconds * fps):
            top, start = int(100 + 80 * np.sin(number / 40)), int(1.3 * number) % 600
            picture = background[top : top + height, start : start + width].copy()
            shift = (int(40 * np.cos(number / 17)), int(90 * np.sin(number / 25)))
            share, moved = np.roll(mask, shift, (0, 1)), np.roll(surface, shift, (0, 1))
            picture[:256, left : left + 256] = (1 - share) * picture[:256, left : left + 256] + share * moved
            noisy = picture * 45 + 120 + rng.standard_normal((height, width, 1)) * 1.5  # a sensor's noise
            frame = np.clip(noisy, 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def _texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Mostly grey, some colour: `[H, W, 3]`, about -2 to 2."""
    grey, *colors = (_pink_noise(rng, height, width)[..., None] for _ in range(4))
    return grey + 0.3 * np.concatenate(colors, axis=-1)


def _pink_noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Noise whose amplitudes fall as 1 / frequency, as those of photographs do; standard deviation 1."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    frequency[0, 0] = np.inf
    noise = np.fft.ifft2(np.fft.fft2(rng.standard_normal((height, width))) / frequency).real
    return noise / noise.std()
