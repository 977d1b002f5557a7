"""Frames as pictures: a grid of clips with captions, and the bytes of PNG and JPEG files."""

from __future__ import annotations

import base64
import warnings
from collections.abc import Sequence

import numpy as np

from paddlevid.data.flow.colours import flow_colours

# Taken where installed, for names that matplotlib's own font lacks.
CJK_FONTS = (
    "Noto Sans CJK SC",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Microsoft YaHei",
    "PingFang SC",
    "Hiragino Sans GB",
    "SimHei",
    "Arial Unicode MS",
)
DPI = 100
GAP = 4  # pixels between frames
CAPTION_HEIGHT = 26


def as_rgb(frames: np.ndarray) -> np.ndarray:
    """uint8 `[..., C]` -> `[..., 3]`: grey of one channel; of two, optical flow, by `flow_colours`."""
    channels = frames.shape[-1]
    if channels == 1:
        return np.repeat(frames, 3, axis=-1)
    if channels == 2:
        return flow_colours(frames)
    return frames


def spread(num_frames: int, at_most: int) -> np.ndarray:
    """Numbers of at most so many frames, evenly over all of them, the first and the last among them."""
    return np.linspace(0, num_frames - 1, min(num_frames, at_most)).round().astype(np.int64)


def resize_height(frame_hwc: np.ndarray, height: int) -> np.ndarray:
    import cv2

    old_height, old_width = frame_hwc.shape[:2]
    width = max(1, round(old_width * height / old_height))
    method = cv2.INTER_AREA if height < old_height else cv2.INTER_CUBIC
    return cv2.resize(frame_hwc, (width, height), interpolation=method)


def clip_grid(
    clips: np.ndarray, captions: Sequence[str], *, max_clips: int = 8, max_frames: int = 8, height: int = 112
) -> np.ndarray:
    """The first views of clips uint8 `[B, V, T, H, W, C]` -> a picture uint8 `[h, w, 3]`: a row a clip, captions above.

    Args:
        captions: one for each clip, in any script for which a font is installed.
        height: of a frame in the picture, in pixels.
    """
    numbers = spread(clips.shape[2], max_frames)
    rows = [
        [resize_height(frame, height) for frame in as_rgb(clip[0, numbers])]  # T pictures [h, w, 3]
        for clip in clips[:max_clips]
    ]
    frame_width = rows[0][0].shape[1]
    row_height = CAPTION_HEIGHT + height + GAP
    canvas = np.full((len(rows) * row_height + GAP, len(numbers) * (frame_width + GAP) + GAP, 3), 255, np.uint8)
    for row, frames in enumerate(rows):
        top = row * row_height + CAPTION_HEIGHT
        for column, frame in enumerate(frames):
            left = GAP + column * (frame_width + GAP)
            canvas[top : top + height, left : left + frame_width] = frame
    lines = [(GAP, row * row_height + CAPTION_HEIGHT / 2, caption) for row, caption in enumerate(captions[: len(rows)])]
    return write_lines(canvas, lines)


def write_lines(picture_hwc: np.ndarray, lines: Sequence[tuple[float, float, str]]) -> np.ndarray:
    """Write texts, each from a point (x, y) at half its height, over a picture uint8 `[H, W, 3]`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width, _ = picture_hwc.shape
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    canvas = FigureCanvasAgg(figure)
    figure.figimage(picture_hwc)
    for x, y, text in lines:
        figure.text(
            x / width, 1 - y / height, text, va="center", fontsize=9.5, family=text_fonts(), parse_math=False
        )  # in names a dollar is a dollar
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def text_fonts() -> list[str]:
    """Fonts for matplotlib, the first that has a letter drawing it."""
    from matplotlib import font_manager

    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(name for name in CJK_FONTS if name in installed)]


def encode_png(picture_hwc: np.ndarray) -> bytes:
    """uint8 RGB or RGBA `[H, W, C]` -> the bytes of a PNG."""
    import cv2

    order = cv2.COLOR_RGBA2BGRA if picture_hwc.shape[-1] == 4 else cv2.COLOR_RGB2BGR
    return cv2.imencode(".png", cv2.cvtColor(picture_hwc, order))[1].tobytes()


def encode_jpeg(picture_hwc: np.ndarray, quality: int) -> bytes:
    """uint8 RGB `[H, W, 3]` -> the bytes of a JPEG."""
    import cv2

    picture = cv2.cvtColor(picture_hwc, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def data_url(data: bytes, kind: str) -> str:
    """The bytes of a picture (`png` or `jpeg`) as the address of an image in a page that needs no other file."""
    return f"data:image/{kind};base64," + base64.b64encode(data).decode()
