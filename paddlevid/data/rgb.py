"""Decoded frames of PyAV as pictures: uint8 RGB `[H, W, 3]`, upright."""

from __future__ import annotations

from typing import Any

import numpy as np


class RgbConverter:
    """`to_rgb` for many frames of a video: to set a conversion up takes longer than to convert a small picture."""

    def __init__(self) -> None:
        from av.video.reformatter import VideoReformatter

        self._reformatter = VideoReformatter()
        self._options = {"threads": 1}  # by default PyAV 17 takes one a core, in each process that loads data

    def __call__(self, frame: Any) -> np.ndarray:
        try:
            converted = self._reformatter.reformat(frame, format="rgb24", **self._options)
        except TypeError:
            if not self._options:
                raise
            self._options = {}  # before PyAV 17 there is one, and no such argument
            return self(frame)
        return _upright(converted.to_ndarray(), frame)


def to_rgb(frame: Any) -> np.ndarray:
    """The picture of a decoded frame, uint8 RGB `[H, W, 3]`, upright."""
    return _upright(frame.to_ndarray(format="rgb24"), frame)


def _upright(frame_hwc: np.ndarray, frame: Any) -> np.ndarray:
    # Telephones write how far the picture is to be turned, counterclockwise; PyAV before 14 does not tell.
    quarter_turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.rot90(frame_hwc, quarter_turns) if quarter_turns else frame_hwc
