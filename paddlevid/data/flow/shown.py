"""Stored flow, for people to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from paddlevid.data.flow.colours import flow_colours

if TYPE_CHECKING:
    from paddlevid.data.video import FrameReader


class ColouredFlow:
    """A reader of flow, uint8 `[T, H, W, 2]`, that gives it in colours, `[T, H, W, 3]`."""

    def __init__(self, reader: FrameReader) -> None:
        self._reader = reader
        self.num_frames, self.fps = reader.num_frames, reader.fps

    def read(self, indices: np.ndarray) -> np.ndarray:
        return flow_colours(self._reader.read(indices))

    def __enter__(self) -> ColouredFlow:
        self._reader.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._reader.__exit__(*error)
