"""Computed flow, kept on the disk without loss: what is read from there is what would be computed.

    FOLDER/METHOD/method.json                       what the flow depends on, beside the video
    FOLDER/METHOD/VIDEO-DIGEST/flow_00001.png       between the first and the second frame: x in red, y in green

Several processes may read and write the same folder. Nothing in it is needed: all of it, or a part, may be deleted.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import threading
import zlib
from pathlib import Path

import numpy as np

from paddlevid.data.flow.method import FlowMethod
from paddlevid.errors import DataError
from paddlevid.runtime import logger

_PNG_HEAD = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


class FlowCache:
    """The flows of `method`, in a folder of their own below `folder`. It may travel to other processes."""

    def __init__(self, folder: str | os.PathLike[str], method: FlowMethod) -> None:
        self.folder = Path(folder).expanduser().absolute()
        self.method = method

    def video(self, path: str, frames: str = "") -> VideoCache:
        """The flows of a video as it is now: another file of the same name is another video.

        Args:
            path: of a file or of a folder of frames; of a clip in a shard, SHARD/MEMBER.
            frames: what the frames depend on beside it.

        Raises:
            DataError: there is no such video.
        """
        absolute = os.path.abspath(path)
        identity = json.dumps([absolute, *_size_and_time(absolute), frames])
        name = re.sub(r"[^\w.-]", "_", Path(absolute).stem)[:40]
        folder, settings = self._method_folder()
        return VideoCache(folder / f"{name}-{_digest(identity)}", str(self.folder), settings)

    def _method_folder(self) -> tuple[Path, str]:
        settings = self.method.settings()
        digest = _digest(json.dumps(settings, sort_keys=True))
        return self.folder / f"{self.method.algorithm}-{digest}", json.dumps(settings, indent=2) + "\n"


class VideoCache:
    """The flows of one video; made by `FlowCache.video`."""

    def __init__(self, folder: Path, root: str, settings: str) -> None:
        self.folder = folder
        self._root = root
        self._settings = settings
        self._writes = True

    def get(self, index: int) -> np.ndarray | None:
        """Flow `index`, counted from 0, uint8 `[H, W, 2]`; None where it is not there, or is damaged."""
        import cv2

        try:
            data = self._file(index).read_bytes()
        except OSError:
            return None
        if not _is_whole(data):
            return None
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)  # BGR
        if picture is None or picture.ndim != 3 or picture.shape[2] != 3:
            return None
        return np.ascontiguousarray(picture[..., 2:0:-1])  # [H, W, 2]

    def put(self, index: int, picture_hw2: np.ndarray) -> None:
        """Keep flow `index`, uint8 `[H, W, 2]`. What the disk refuses is said once, and the run goes on without."""
        if not self._writes:
            return
        try:
            method_file = self.folder.parent / "method.json"
            self.folder.mkdir(parents=True, exist_ok=True)
            if not method_file.exists():
                _write(method_file, self._settings.encode())
            _write(self._file(index), _png(picture_hw2))
        except OSError as error:
            self._writes = False
            _warn(self._root, error.strerror or str(error))

    def _file(self, index: int) -> Path:
        return self.folder / f"flow_{index + 1:05d}.png"


def _size_and_time(path: str) -> tuple[int, int]:
    """Size and time of the last change of a file, or of the shard that it is a part of."""
    holder = path
    while True:
        try:
            status = os.stat(holder)
            return status.st_size, status.st_mtime_ns
        except NotADirectoryError:
            holder = os.path.dirname(holder)
        except OSError as error:
            raise DataError(f"{path}: {error.strerror or error}") from None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _png(picture_hw2: np.ndarray) -> bytes:
    import cv2

    picture = np.zeros((*picture_hw2.shape[:2], 3), np.uint8)  # BGR
    picture[..., 2], picture[..., 1] = picture_hw2[..., 0], picture_hw2[..., 1]
    # A fifth smaller than by default, and 1 ms more to write; higher levels take several times as long
    options = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
    return cv2.imencode(".png", picture, options)[1].tobytes()


def _is_whole(data: bytes) -> bool:
    """Whether all chunks of a PNG are there and as they were written; decoders fill what is not with anything."""
    if not data.startswith(_PNG_HEAD) or not data.endswith(_PNG_END):
        return False
    place, view = len(_PNG_HEAD), memoryview(data)
    while place < len(data):
        end = place + 8 + int.from_bytes(view[place : place + 4], "big")
        if end + 4 > len(data) or zlib.crc32(view[place + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            return False
        place = end + 4
    return True


def _write(path: Path, data: bytes) -> None:
    """Write a file that others see whole or not at all, whoever else writes it."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.{threading.get_ident()}{path.suffix}")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@functools.cache
def _warn(folder: str, reason: str) -> None:
    logger.warning("%s: cannot keep optical flow there (%s); it is computed anew each time", folder, reason)
