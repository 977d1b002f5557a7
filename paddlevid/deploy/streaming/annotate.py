"""The video that was looked at, with what was seen written into its pictures."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from paddlevid.data.pyav_container import demux, open_container, video_stream
from paddlevid.data.pyav_reader import decode_in_order
from paddlevid.data.rgb import to_rgb
from paddlevid.deploy.predictor import Prediction
from paddlevid.deploy.streaming.timeline import Row, core
from paddlevid.errors import DataError

MP4_AUDIO = {"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"}  # can lie in an mp4 file as they are
NUM_SHOWN = 3
PANEL_OPACITY = 0.65
BAR_RGB, BACK_RGB, TEXT_RGB = (66, 165, 245), (0, 0, 0), (255, 255, 255)


class Annotated(NamedTuple):
    """What was written: frames, and what became of the sound: "copied", "none", or why it is missing."""

    num_frames: int
    audio: str
    reason: str = ""  # why the video ended early, if it did


def annotate_video(
    source: str, rows: Sequence[Row], path: str | Path, *, progress: Callable[[float], object] | None = None
) -> Annotated:
    """Write `source` as H.264 mp4 with the three best classes at the bottom of each picture, in constant memory.

    A picture shows the row of the window in whose core it lies (see `timeline.core`), and nothing where there is none.
    Times and size stay as they are; an odd last row or column of pixels is cut off, and pictures are turned upright.
    Sound is copied as it is where mp4 can hold it. `progress` is told the second that is being written.

    Raises:
        DataError: the source cannot be read, or no H.264 encoder is there.
    """
    import av

    if "libx264" not in av.codecs_available:
        raise DataError(f"{path}: this PyAV has no encoder libx264, which annotated videos need")
    if Path(path).exists() and Path(source).exists() and Path(path).samefile(source):
        raise DataError(f"{path}: the annotated video would be written over the video itself")
    size = _even_size(source)
    with open_container(source, "pyav") as container, av.open(str(path), "w", format="mp4") as output:
        video = video_stream(container)
        zero_sec = (container.start_time or 0) / 1e6
        encoder = _Encoder(output, video, size, Panels(rows), zero_sec)
        sound, note = _add_audio(container, output)
        streams = [video] if sound is None else [video, container.streams.audio[0]]
        reason = ""
        try:
            for packet in demux(container, streams):
                if packet.stream.type == "audio":
                    _copy(packet, sound, zero_sec, output)
                    continue
                encoder.write(packet)
                if progress is not None:
                    progress(encoder.last_sec)
        except av.error.FFmpegError as error:
            reason = error.strerror
        encoder.finish()
    return Annotated(encoder.num_frames, note, reason)


class _Encoder:
    """Decoded, drawn on and encoded again, packet by packet."""

    def __init__(self, output: Any, video: Any, size: tuple[int, int], panels: Panels, zero_sec: float) -> None:
        self.num_frames = 0
        self.last_sec = 0.0
        self._output = output
        self._panels = panels
        self._unit: Fraction = video.time_base
        rate: Fraction = video.average_rate or video.guessed_rate or Fraction(30)
        self._zero = round(zero_sec / self._unit)
        self._step = max(1, round(1 / (rate * self._unit)))
        self._last_pts = -self._step
        self._height, self._width = size
        self._stream = output.add_stream("libx264", rate=rate, options={"preset": "veryfast", "crf": "20"})
        self._stream.width, self._stream.height, self._stream.pix_fmt = self._width, self._height, "yuv420p"
        self._stream.codec_context.time_base = self._unit

    def write(self, packet: Any) -> None:
        import av

        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            return  # the rest of the video is worth having
        for frame in frames:
            if not frame.is_corrupt:
                self._encode(frame)

    def _encode(self, frame: Any) -> None:
        import av

        pts = self._last_pts + self._step if frame.pts is None else frame.pts - self._zero
        if pts <= self._last_pts:
            pts = self._last_pts + self._step
        self._last_pts, self.last_sec = pts, float(pts * self._unit)
        picture = np.ascontiguousarray(to_rgb(frame)[: self._height, : self._width])  # [H, W, 3]
        if picture.shape[:2] != (self._height, self._width):  # some streams change their size on the way
            import cv2

            picture = cv2.resize(picture, (self._width, self._height), interpolation=cv2.INTER_AREA)
        drawn = av.VideoFrame.from_ndarray(self._panels.draw(picture, self.last_sec), format="rgb24")
        drawn.pts, drawn.time_base = pts, self._unit
        self._output.mux(self._stream.encode(drawn))
        self.num_frames += 1

    def finish(self) -> None:
        self._output.mux(self._stream.encode(None))


def _even_size(source: str) -> tuple[int, int]:
    """Height and width of the first picture, turned upright, less what H.264 cannot hold."""
    import av

    try:
        height, width = to_rgb(next(decode_in_order(source))).shape[:2]
    except (StopIteration, av.error.FFmpegError):
        raise DataError(f"{source}: there is no picture in it to annotate") from None
    if min(height, width) < 2:
        raise DataError(f"{source}: pictures of {width}x{height} are too small for an H.264 video")
    return height // 2 * 2, width // 2 * 2


def _add_audio(container: Any, output: Any) -> tuple[Any, str]:
    """The output's stream for the sound, None where there is none or mp4 cannot hold it, and what became of it."""
    if not container.streams.audio:
        return None, "none"
    audio = container.streams.audio[0]
    name = audio.codec_context.name
    if name.removesuffix("float") not in MP4_AUDIO:
        return None, f"left out: mp4 cannot hold {name} as it is"
    return output.add_stream_from_template(audio), "copied"


def _copy(packet: Any, sound: Any, zero_sec: float, output: Any) -> None:
    if packet.dts is None:  # marks the end
        return
    zero = round(zero_sec / packet.time_base)
    packet.dts -= zero
    if packet.pts is not None:
        packet.pts -= zero
    packet.stream = sound
    output.mux(packet)


class Panels:
    """Draws the best classes of the row that a time belongs to onto a picture."""

    def __init__(self, rows: Sequence[Row]) -> None:
        spans = [(row.start_sec, row.end_sec) for row in rows]
        self._cores = [core(spans, place) for place in range(len(rows))]
        self._starts = [start_sec for start_sec, _ in self._cores]
        self._rows = rows
        self._drawn: tuple[int, np.ndarray, np.ndarray] | None = None  # of which row; the panel, what shines through

    def draw(self, picture_hwc: np.ndarray, time_sec: float) -> np.ndarray:
        """A picture uint8 `[H, W, 3]` at a time -> the same with a panel at its bottom."""
        place = bisect_right(self._starts, time_sec) - 1
        if place < 0 or (time_sec >= self._cores[place][1] and place + 1 < len(self._rows)):
            return picture_hwc
        if self._drawn is None or self._drawn[0] != place:
            self._drawn = place, *_panel(self._rows[place].predictions[:NUM_SHOWN], *picture_hwc.shape[:2])
        _, panel, through = self._drawn
        top = len(picture_hwc) - len(panel)
        below = (picture_hwc[top:] * through + panel).astype(np.uint8)
        return np.concatenate([picture_hwc[:top], below])


def _panel(predictions: Sequence[Prediction], height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """What to add, float32 `[h, W, 3]`, to what is left of the picture, its share `[h, W, 1]`."""
    from matplotlib import get_data_path
    from PIL import Image, ImageDraw, ImageFont

    text_height = max(8, min(height // 22, width // 24))
    font = ImageFont.truetype(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf", text_height)
    line = round(text_height * 1.4)
    margin = text_height // 2
    panel_height = min(height, line * NUM_SHOWN + margin)
    colours = Image.new("RGB", (width, panel_height), BACK_RGB)
    opacity = Image.new("L", (width, panel_height), round(255 * PANEL_OPACITY))
    name_left, bar_length = margin * 2 + round(width * 0.3), round(width * 0.3) - round(text_height * 2.6)
    for rank, prediction in enumerate(predictions):
        top = margin // 2 + rank * line
        for image, bar, text in ((colours, BAR_RGB, TEXT_RGB), (opacity, 255, 255)):
            canvas = ImageDraw.Draw(image)
            canvas.text((margin, top), f"{prediction.score:.2f}", fill=text, font=font)
            left = margin + round(text_height * 2.6)
            right = left + round(max(0, bar_length) * prediction.score)
            canvas.rectangle((left, top + line // 5, right, top + line - line // 4), fill=bar)
            canvas.text((name_left, top), _fit(prediction.name, font, width - name_left - margin), fill=text, font=font)
    share = np.asarray(opacity, np.float32)[..., None] / 255  # [h, W, 1]
    return np.asarray(colours, np.float32) * share, 1 - share


def _fit(name: str, font: Any, width: int) -> str:
    """The name, or as much of it as is no wider than `width` pixels."""
    if font.getlength(name) <= width:
        return name
    while name and font.getlength(name + "…") > width:
        name = name[:-1]
    return name + "…"
