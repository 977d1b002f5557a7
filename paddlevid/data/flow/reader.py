"""The optical flow of a video, computed when it is asked for."""

from __future__ import annotations

import numpy as np

from paddlevid.data.clip import Clip, distinct
from paddlevid.data.flow.cache import FlowCache
from paddlevid.data.flow.method import FlowMethod, choose_algorithm
from paddlevid.data.video import FrameReader
from paddlevid.errors import DataError


class FlowReader:
    """A FrameReader of the flow of a video, uint8 `[T, H, W, 2]`: flow i is that between the frames i and i + 1.

    Args:
        reader: of the frames; it is closed with this one, also where this one cannot be made.
        path: of the video, for errors and for the cache; of a clip in a shard, SHARD/MEMBER.
        cache: where flows are kept.
        frames: what the frames depend on beside the path, such as the template of the names of a folder.

    Raises:
        DataError: the video has one frame.
        ConfigError: the algorithm is not installed.
    """

    def __init__(
        self, reader: FrameReader, method: FlowMethod, *, path: str, cache: FlowCache | None = None, frames: str = ""
    ) -> None:
        self._reader = reader
        self._method = method
        self._path = path
        try:
            choose_algorithm(method.algorithm)  # which is that of training, and may not be installed here
            if reader.num_frames < 2:
                raise DataError(f"{path}: no optical flow in a video of {reader.num_frames} frame: it is between two")
            self._kept = None if cache is None else cache.video(path, frames)
        except BaseException:
            reader.__exit__(None, None, None)
            raise
        self.num_frames = reader.num_frames - 1
        self.fps = reader.fps

    def read(self, indices: np.ndarray) -> np.ndarray:
        """The flows at the indices `[T]`, in any order; those that repeat, or are in the cache, are not computed."""
        wanted, positions = distinct(indices, self.num_frames)
        clip = Clip(self._path, positions)
        missing = []
        for rank, index in enumerate(wanted):
            picture = None if self._kept is None else self._kept.get(int(index))
            if picture is None:
                missing.append(rank)
            else:
                clip.put(rank, picture)
        if missing:
            self._compute(clip, wanted, missing)
        return clip.frames()

    def _compute(self, clip: Clip, wanted: np.ndarray, ranks: list[int]) -> None:
        flows = wanted[ranks]
        numbers = np.union1d(flows, flows + 1)
        frames = self._reader.read(numbers)
        # Scaled one by one: all at once may take more memory than those that were read
        place, scaled = -1, np.empty(0, np.uint8)
        for rank, first in zip(ranks, np.searchsorted(numbers, flows), strict=True):
            before = scaled if place == first else self._method.scale(frames[first])
            place, scaled = first + 1, self._method.scale(frames[first + 1])
            try:
                picture = self._method.picture(before, scaled)
            except DataError as error:
                raise DataError(f"{self._path}: frame {wanted[rank]}: {error}") from None
            if self._kept is not None:
                self._kept.put(int(wanted[rank]), picture)
            clip.put(rank, picture)

    def __enter__(self) -> FlowReader:
        self._reader.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._reader.__exit__(*exception)
