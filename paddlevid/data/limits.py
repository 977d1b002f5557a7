"""Videos of which only PyAV gives the right pictures: decord and OpenCV convert some kinds of them to other colours."""

from __future__ import annotations

from typing import Any

from paddlevid.data.pyav_container import is_cover
from paddlevid.errors import DataError

_INTERLACED = {2, 3, 4, 5}  # AVFieldOrder
WAY_OUT = "choose the decoder pyav or auto"


def check_convertible(path: str, container: Any, stream: Any, decoder: str) -> None:
    """Raise DataError where `decoder` would give other pictures than PyAV: measured, 2 to 255 grey levels off."""
    context = stream.codec_context
    pixels = context.format
    kind = ""
    if pixels is not None and any(part.bits > 8 for part in pixels.components):
        kind = f"pictures of more than 8 bits ({pixels.name})"
    elif getattr(context, "field_order", 0) in _INTERLACED:
        kind = "interlaced pictures"
    elif pixels is not None and _is_cut_in_half(pixels, context.width, context.height):
        kind = (
            f"pictures of {context.width}x{context.height} pixels, an odd size, with half the colours ({pixels.name})"
        )
    elif sum(not is_cover(other) for other in container.streams.video) > 1:
        kind = "files of several streams of pictures"  # each takes another one
    if kind:
        raise DataError(f"{path}: {decoder} does not read {kind} exactly: {WAY_OUT}")


def _is_cut_in_half(pixels: Any, width: int, height: int) -> bool:
    """Whether a pixel at the edge shares its colour with none."""
    return pixels.chroma_width(width) * 2 == width + 1 or pixels.chroma_height(height) * 2 == height + 1
