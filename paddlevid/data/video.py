"""Frames by index, from a video file or a folder of pictures: one interface, `FrameReader`.

Readers are made in the process that uses them; importing this module opens and loads nothing.
"""

import os
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import numpy as np

from paddlevid.errors import DataError

DECODERS = ("auto", "decord", "pyav")


class FrameReader(Protocol):
    """What reads frames, for a `with` block. Frames are numbered from 0 in the order in which they are shown."""

    @property
    def num_frames(self) -> int: ...

    @property
    def fps(self) -> float: ...

    def read(self, indices: np.ndarray) -> np.ndarray:
        """The frames at the indices `[T]`, in any order, as uint8 `[T, H, W, C]`; repeats are decoded once.

        Raises DataError if a frame cannot be decoded, IndexError if there is no such frame.
        """
        ...

    def __enter__(self) -> "FrameReader": ...

    def __exit__(self, *_: object) -> None: ...


def open_video(path: str | os.PathLike[str], decoder: str = "auto", num_threads: int = 1) -> FrameReader:
    """Open a video file with `decoder`: "decord", "pyav" or "auto".

    Both give the same frames, in RGB and turned upright where the file says how. "auto" is decord, and PyAV where
    decord is not installed or cannot read the file (AV1, many transport streams). Raises DataError if the file is
    missing or no video, or if the decoder cannot open it or is not installed.
    """
    if decoder not in DECODERS:
        raise ValueError(f"decoder {decoder!r} must be one of {', '.join(DECODERS)}")
    path = os.fspath(path)
    _check_file(path)
    if decoder == "pyav" or not _has_decord(demanded=decoder == "decord"):
        return _PyavReader(path, num_threads)
    if decoder == "decord":
        return _DecordReader(path, num_threads)
    try:
        return _DecordReader(path, num_threads, or_pyav=True)
    except DataError:
        return _PyavReader(path, num_threads)


class FrameFolder:
    """A folder of `num_frames` pictures, named by `template` and numbers from `start_index`, e.g. "img_{:05d}.jpg".

    A template with `{axis}` ("flow_{axis}_{:05d}.jpg") stands for optical flow: two grey pictures a frame, axis x and
    y, are read as uint8 `[T, H, W, 2]`. A folder has no frame rate of its own: `fps` is that of its extraction.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        num_frames: int,
        template: str = "img_{:05d}.jpg",
        start_index: int = 1,
        fps: float = 30.0,
    ) -> None:
        try:
            names = {template.format(number, axis="x") for number in (0, 1)}
        except (ValueError, IndexError, KeyError, AttributeError) as error:
            raise ValueError(f"frame template {template!r}: {error}") from None
        if len(names) == 1:
            raise ValueError(f"frame template {template!r} has no place for a number, such as {{:05d}}")
        self.path = os.fspath(path)
        self.num_frames = num_frames
        self.fps = fps
        self._template = template
        self._start_index = start_index
        self._axes = ("x", "y") if "{axis" in template else ("",)
        if not os.path.isdir(self.path):
            raise DataError(f"{self.path}: no such folder of frames")

    def read(self, indices: np.ndarray) -> np.ndarray:
        wanted, positions = _distinct(indices, self.num_frames)
        clip = _Clip(self.path, positions)
        for rank, index in enumerate(wanted):
            clip.put(rank, self._read_picture(int(index) + self._start_index))
        return clip.frames()

    def _read_picture(self, number: int) -> np.ndarray:
        import cv2

        planes = []
        for axis in self._axes:
            file = os.path.join(self.path, self._template.format(number, axis=axis))
            flag = cv2.IMREAD_GRAYSCALE if axis else cv2.IMREAD_COLOR
            try:
                data = np.fromfile(file, np.uint8)
            except OSError as error:
                last = self._start_index + self.num_frames - 1
                raise DataError(
                    f"{file}: {error.strerror or error}; its list gives the folder frames"
                    f" {self._start_index} to {last}, named {self._template}"
                ) from None
            picture = cv2.imdecode(data, flag) if data.size else None
            if picture is None:
                raise DataError(f"{file}: not a picture that OpenCV can read ({data.size} bytes)")
            planes.append(picture if axis else cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
        if len(planes) == 1:
            return planes[0]
        if planes[0].shape != planes[1].shape:
            raise DataError(f"{self.path}: the x and y pictures of frame {number} differ in size")
        return np.stack(planes, axis=-1)  # [H, W, 2]

    def __enter__(self) -> "FrameFolder":
        return self

    def __exit__(self, *_: object) -> None:
        pass


class _Clip:
    """Collects distinct frames into uint8 `[T, H, W, C]`, each at all its places, as they come."""

    def __init__(self, path: str, positions: np.ndarray) -> None:
        self._path = path
        self._positions = positions
        self._frames: np.ndarray | None = None

    def put(self, rank: int, frame_hwc: np.ndarray) -> None:
        if self._frames is None:
            self._frames = np.empty((len(self._positions), *frame_hwc.shape), np.uint8)
        if frame_hwc.shape != self._frames.shape[1:]:
            (height, width), (first_height, first_width) = frame_hwc.shape[:2], self._frames.shape[1:3]
            raise DataError(
                f"{self._path}: frames differ in size, {first_width}x{first_height} and {width}x{height} pixels"
            )
        self._frames[self._positions == rank] = frame_hwc

    def frames(self) -> np.ndarray:
        assert self._frames is not None
        return self._frames


class _DecordReader:
    """Reads by decord's `get_batch` where that is right: decord takes the place of a key frame in the file for its
    number, and so gives frames up to 10 away from those asked for in videos with open groups of pictures (many in HEVC,
    MPEG-4 and MPEG-2). Those are read forward, one frame after the other; "auto" leaves them to PyAV.
    """

    def __init__(self, path: str, num_threads: int, *, or_pyav: bool = False) -> None:
        import decord

        decord.logging.set_level(decord.logging.QUIET)
        self._path = path
        self._num_threads = num_threads
        self._or_pyav = or_pyav
        # Also because decord prints its reason, and hides it from its caller, when it cannot open a file.
        with _open_pyav(path, "decord") as container:
            index = _index_packets(container, container.streams.video[0])
        self._can_seek = index is not None and index.can_seek_by_number
        if or_pyav and not self._can_seek:
            raise DataError(f"{path}: decord would give other frames than those asked for")
        self._reader = self._open()
        self.num_frames = len(self._reader)
        self.fps = float(self._reader.get_avg_fps())

    def read(self, indices: np.ndarray) -> np.ndarray:
        wanted, positions = _distinct(indices, self.num_frames)
        try:
            with self._errors(f"cannot decode frames {wanted[0]} to {wanted[-1]} of {self.num_frames}"):
                if not self._can_seek:
                    return self._read_in_order(wanted, positions)
                frames = self._reader.get_batch(wanted).asnumpy()
                return frames if np.array_equal(wanted, indices) else frames[positions]
        except DataError:
            other = _PyavReader(self._path, self._num_threads) if self._or_pyav else None
            if other is None or other.num_frames != self.num_frames:
                raise
            return other.read(indices)

    def _read_in_order(self, wanted: np.ndarray, positions: np.ndarray) -> np.ndarray:
        reader = self._open()
        clip = _Clip(self._path, positions)
        for number in range(wanted[-1] + 1):
            frame = reader.next()
            if number in wanted:
                clip.put(int(np.searchsorted(wanted, number)), frame.asnumpy())
        return clip.frames()

    def _open(self) -> Any:
        import decord

        with self._errors("cannot open this video"):
            # fault_tol: fail if a frame had to be replaced by a neighbour, which decord does in silence by default.
            return decord.VideoReader(self._path, ctx=decord.cpu(0), num_threads=self._num_threads, fault_tol=1e-9)

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        import decord

        # RuntimeError: a file that cannot be opened; AssertionError: one without frames; StopIteration: past the end.
        kinds = (RuntimeError, AssertionError, StopIteration, decord.DECORDError, decord.DECORDLimitReachedError)
        try:
            yield
        except kinds as error:
            raise DataError(f"{self._path}: decord {what} (damaged or cut off?): {_one_line(error)}") from None

    def __enter__(self) -> "_DecordReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._reader = None


class _Index(NamedTuple):
    """The times at which the frames and the key frames are shown, in the units of the file, rising."""

    times: list[int]
    keyframes: list[int]
    can_seek_by_number: bool  # each key frame has as many frames before it in the file as before it in time

    def keyframe_before(self, time: int) -> int:
        return max(0, bisect_right(self.keyframes, time) - 1)


class _PyavReader:
    """Reads by the times of the packets: seeks to key frames, and skips unwanted frames that no other one needs.

    Frames are counted by decoding where packets do not tell. When the quick way does not find a frame, the video is
    decoded from the beginning, one frame after the other: seeking never changes what is read, only how fast.
    """

    def __init__(self, path: str, num_threads: int) -> None:
        self._path = path
        self._num_threads = num_threads
        with _open_pyav(path, "pyav") as container:
            stream = container.streams.video[0]
            rate = stream.average_rate or stream.guessed_rate or stream.base_rate
            self._index = _index_packets(container, stream)
        self.num_frames = _count_frames(path) if self._index is None else len(self._index.times)
        if self.num_frames == 0 or not rate:
            raise DataError(f"{path}: pyav finds no frames in this video")
        self.fps = float(rate)

    def read(self, indices: np.ndarray) -> np.ndarray:
        wanted, positions = _distinct(indices, self.num_frames)
        clip = _Clip(self._path, positions)
        if self._index is None or not self._read_quickly(wanted, self._index, clip):
            self._read_in_order(wanted, clip)
        return clip.frames()

    def _read_quickly(self, wanted: np.ndarray, index: _Index, clip: _Clip) -> bool:
        """Put the wanted frames into the clip; False if not all of them were found."""
        import av

        waiting = {index.times[frame]: rank for rank, frame in enumerate(wanted)}  # by rising time
        decoded = -1  # the last key frame given to the decoder
        with _open_pyav(self._path, "pyav") as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = self._num_threads
            stream.codec_context.thread_type = "AUTO" if self._num_threads > 1 else "SLICE"
            try:
                while waiting:
                    start = index.keyframe_before(next(iter(waiting)))
                    if start <= decoded:
                        return False
                    if start > 0:
                        container.seek(index.keyframes[start], stream=stream)
                    decoded = _decode_from(start, container.demux(stream), index, waiting, clip)
            except av.error.FFmpegError:
                return False
        return True

    def _read_in_order(self, wanted: np.ndarray, clip: _Clip) -> None:
        import av

        waiting = {int(frame): rank for rank, frame in enumerate(wanted)}
        numbers = None if self._index is None else {time: number for number, time in enumerate(self._index.times)}
        reason = "the video ends before it"
        try:
            for count, frame in enumerate(_decode_in_order(self._path)):
                number = count if numbers is None else numbers.get(frame.pts)
                if number in waiting and not frame.is_corrupt:
                    clip.put(waiting.pop(number), _to_rgb(frame))
                if not waiting:
                    return
        except av.error.FFmpegError as error:
            reason = error.strerror
        raise DataError(
            f"{self._path}: pyav cannot decode frame {min(waiting)} of {self.num_frames} (counted from 0; damaged or"
            f" cut off?): {reason}"
        )

    def __enter__(self) -> "_PyavReader":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _decode_from(start: int, packets: Iterable[Any], index: _Index, waiting: dict[int, int], clip: _Clip) -> int:
    """Decode until the next waiting frame lies behind a key frame still to come; return the last key frame decoded.

    Frames that are found go from `waiting` into the clip. None is taken before key frame `start` was seen: the file may
    not have been wound to where it was asked to.
    """
    numbers = {time: number for number, time in enumerate(index.keyframes)}
    decoded = -1
    for packet in packets:
        number = numbers.get(packet.pts, -1)
        if decoded >= 0 or number == start:
            decoded = max(decoded, number)
        packet.stream.codec_context.skip_frame = "DEFAULT" if packet.pts in waiting else "NONREF"
        for frame in packet.decode():
            if decoded >= 0 and frame.pts in waiting and not frame.is_corrupt:
                clip.put(waiting.pop(frame.pts), _to_rgb(frame))
        if not waiting or (decoded >= 0 and index.keyframe_before(next(iter(waiting))) > decoded):
            break
    return max(decoded, start)


def _index_packets(container: Any, stream: Any) -> _Index | None:
    """None where packets do not tell when frames are shown, or where some never are (VP8)."""
    import av

    times = []
    keyframes = []
    discarded = False
    try:
        for packet in container.demux(stream):
            if not packet.size:
                continue
            if packet.is_keyframe and packet.pts is not None:
                keyframes.append((packet.pts, len(times)))
            if packet.is_discard:
                discarded = True
            else:
                times.append(packet.pts)
    except av.error.FFmpegError:
        pass  # the file is cut off: what came before counts
    if None in times or len(set(times)) < len(times) or not keyframes or stream.codec_context.name == "vp8":
        return None
    if stream.codec_context.has_b_frames and times == sorted(times):
        return None  # AVI counts packets: B frames are shown in another order than that of their times
    # Frames shown before the first key frame need frames from before the file was cut; no decoder shows them.
    shown = sorted(time for time in times if time >= keyframes[0][0])
    in_place = all(bisect_left(shown, time) == place for time, place in keyframes)
    return _Index(shown, sorted(time for time, _ in keyframes), in_place and not discarded and len(shown) == len(times))


def _count_frames(path: str) -> int:
    import av

    count = 0
    try:
        for _ in _decode_in_order(path):
            count += 1
    except av.error.FFmpegError:
        pass  # the file is damaged: what came before counts
    return count


def _decode_in_order(path: str) -> Iterator[Any]:
    with _open_pyav(path, "pyav") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for packet in container.demux(stream):
            yield from packet.decode()


def _open_pyav(path: str, decoder: str) -> Any:
    import av

    try:
        container = av.open(path)
    except av.error.FFmpegError as error:
        raise DataError(f"{path}: {decoder} cannot open this video: {error.strerror}") from None
    if container.streams.video:
        return container
    kinds = sorted({stream.type for stream in container.streams}) or ["nothing"]
    container.close()
    raise DataError(f"{path}: {decoder} cannot open this video: it holds no pictures, only {', '.join(kinds)}")


def _to_rgb(frame: Any) -> np.ndarray:
    frame_hwc = frame.to_ndarray(format="rgb24")
    # Telephones write how far the picture is to be turned, counterclockwise; PyAV before 14 does not tell.
    quarter_turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.rot90(frame_hwc, quarter_turns) if quarter_turns else frame_hwc


def _distinct(indices: np.ndarray, num_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """The distinct indices, rising, and for each index its rank among them."""
    indices = np.asarray(indices)
    if indices.ndim != 1 or not indices.size or not np.issubdtype(indices.dtype, np.integer):
        raise ValueError(f"indices must be a row of whole numbers, not {indices.dtype} of shape {indices.shape}")
    if indices.min() < 0 or indices.max() >= num_frames:
        raise IndexError(f"indices {indices.min()} to {indices.max()} of a video with {num_frames} frames")
    return np.unique(indices, return_inverse=True)


def _has_decord(*, demanded: bool) -> bool:
    try:
        import cv2  # noqa: F401  (decord brings its own zlib: loaded first, it makes OpenCV read PNG files wrongly)
        import decord  # noqa: F401
    except ImportError as error:
        if demanded:
            raise DataError(
                f"decoder decord cannot be loaded ({_one_line(error)}): install it (pip install decord), or choose the"
                " decoder pyav"
            ) from None
        return False
    return True


_PICTURES = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n",
    "BMP": rb"BM....\0\0\0\0",
    "TIFF": rb"II\*\0|MM\0\*",
    "WebP": rb"RIFF....WEBP",
}


def _check_file(path: str) -> None:
    if os.path.isdir(path):
        raise DataError(f"{path}: is a folder, not a video file (for a folder of frames, use a list of frames)")
    try:
        with open(path, "rb") as file:
            head = file.read(16)
    except OSError as error:
        raise DataError(f"{path}: cannot read this video: {error.strerror or error}") from None
    if not head:
        raise DataError(f"{path}: this video is empty (0 bytes)")
    for kind, magic in _PICTURES.items():
        if re.match(magic, head, re.DOTALL):
            raise DataError(f"{path}: is a picture ({kind}), not a video")


def _one_line(error: BaseException) -> str:
    """A decoder's message without its trace, on one line."""
    text = str(error).split("Stack trace")[0]
    text = re.sub(r"\[\d\d:\d\d:\d\d\] \S+:\d+: ", "", text)  # decord's time and line of source
    return " ".join(text.split())[:200]
