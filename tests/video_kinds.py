"""Small videos of every kind that readers must take frame by frame, written with PyAV and, where it cannot, by hand."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import av
import numpy as np

NUM_FRAMES = 32
OPEN = {"x264-params": "open-gop=1:keyint=10:min-keyint=10:scenecut=0", "bf": "3"}
GROUPS = {"x264-params": "keyint=12", "bf": "2"}
HEVC = "keyint=10:min-keyint=10:scenecut=0:log-level=none:pools=1:frame-threads=1"
MILLISECONDS = Fraction(1, 1000)
UNEVEN = np.cumsum(np.random.default_rng(3).integers(1, 80, NUM_FRAMES)).tolist()
INTERLACED = 0x20040000  # AV_CODEC_FLAG_INTERLACED_DCT and AV_CODEC_FLAG_INTERLACED_ME


NO_OPTIONS: Mapping[str, str] = MappingProxyType({})


class Kind(NamedTuple):
    """How a video is written."""

    codec: str = "libx264"
    pixels: str = "yuv420p"
    options: Mapping[str, str] = NO_OPTIONS
    size: tuple[int, int] = (96, 64)  # width, height
    times: list[int] | None = None  # of the frames, in milliseconds; else 25 a second
    mux: Mapping[str, str] = NO_OPTIONS
    flags: int = 0
    format: str | None = None
    has_sound: bool = False  # as its first stream
    num_frames: int = NUM_FRAMES


def _times(first: int) -> list[int]:
    return [first + 40 * number for number in range(NUM_FRAMES)]


KINDS = {
    "b_pyramid.mp4": Kind(options={"bf": "7", "x264-params": "keyint=20:b-pyramid=normal:b-adapt=0"}),
    "strict_pyramid.mkv": Kind(options={"bf": "7", "x264-params": "keyint=20:b-pyramid=strict:b-adapt=0"}),
    "open.mp4": Kind(options=OPEN),
    "open.mkv": Kind(options=OPEN),
    "open.ts": Kind(options=OPEN),
    "open.flv": Kind(options=OPEN),
    "two_frame_groups.mp4": Kind(options={"bf": "2", "x264-params": "keyint=2:min-keyint=1"}),
    "intra.mp4": Kind(options={"x264-params": "keyint=1"}),
    "one_frame.mp4": Kind(num_frames=1),
    "refresh.mp4": Kind(options={"x264-params": "intra-refresh=1:keyint=20"}),
    "uneven.mp4": Kind(options=GROUPS, times=UNEVEN),
    "uneven.mkv": Kind(options=GROUPS, times=UNEVEN),
    "before_zero.mp4": Kind(options=GROUPS, times=_times(-400)),  # its edit list leaves out 10 frames
    "late.mp4": Kind(options=GROUPS, times=_times(1400)),
    "late.mkv": Kind(options=GROUPS, times=_times(1400)),
    "fragments.mp4": Kind(options=GROUPS, mux={"movflags": "frag_keyframe+empty_moov"}),
    "negative_delays.mp4": Kind(options=GROUPS, mux={"movflags": "negative_cts_offsets"}),
    "no_edits.mp4": Kind(options=GROUPS, mux={"use_editlist": "0"}),
    "no_times.avi": Kind(options=GROUPS),
    "no_b.avi": Kind(options={**GROUPS, "bf": "0"}),
    "raw.h264": Kind(options=GROUPS),
    "b.mxf": Kind(options=GROUPS),
    "b.nut": Kind(options=GROUPS),
    "10_bit.mp4": Kind(pixels="yuv420p10le", options=GROUPS),
    "odd_444.mp4": Kind(pixels="yuv444p", size=(97, 63), options=GROUPS),
    "cropped.mp4": Kind(size=(98, 62), options=GROUPS),
    "full_range.mp4": Kind(pixels="yuvj420p", options=GROUPS),
    "grey.mp4": Kind(pixels="gray", options=GROUPS),
    "interlaced.mp4": Kind(options={"bf": "2", "x264-params": "keyint=12:tff=1"}),
    "interlaced.ts": Kind(options={"bf": "2", "x264-params": "keyint=12:bff=1"}),
    "sound_first.mp4": Kind(options=GROUPS, has_sound=True),
    "sound_first.mkv": Kind(options=GROUPS, has_sound=True),
    "hevc.mp4": Kind("libx265", options={"x265-params": f"{HEVC}:open-gop=0"}),
    "hevc_open.mkv": Kind("libx265", options={"x265-params": f"{HEVC}:open-gop=1"}),
    "hevc_open.ts": Kind("libx265", options={"x265-params": f"{HEVC}:open-gop=1"}),
    "hevc_layers.mp4": Kind("libx265", options={"x265-params": f"{HEVC}:temporal-layers=3:bframes=3"}),
    "hevc_10_bit.mp4": Kind("libx265", "yuv420p10le", {"x265-params": HEVC}),
    "raw.hevc": Kind("libx265", options={"x265-params": HEVC}),
    "av1.mp4": Kind("libsvtav1", options={"preset": "12", "g": "12", "svtav1-params": "lp=1"}),
    "av1_10_bit.webm": Kind("libsvtav1", "yuv420p10le", {"preset": "12", "g": "12", "svtav1-params": "lp=1"}),
    "vp9.webm": Kind("libvpx-vp9", options={"auto-alt-ref": "1", "lag-in-frames": "16", "g": "12", "cpu-used": "8"}),
    "vp9_odd.webm": Kind("libvpx-vp9", options={"g": "12", "cpu-used": "8"}, size=(97, 63)),
    "vp9.mp4": Kind("libvpx-vp9", options={"auto-alt-ref": "6", "lag-in-frames": "25", "cpu-used": "8"}),
    "vp8.webm": Kind("libvpx", options={"auto-alt-ref": "1", "lag-in-frames": "16", "g": "12", "cpu-used": "8"}),
    "mpeg2.ts": Kind("mpeg2video", options={"bf": "2", "g": "12"}),
    "mpeg2.mpg": Kind("mpeg2video", options={"bf": "2", "g": "12"}),
    "mpeg2_interlaced.ts": Kind("mpeg2video", options={"bf": "2", "g": "12"}, flags=INTERLACED),
    "mpeg1.mpg": Kind("mpeg1video", options={"bf": "2", "g": "10"}),
    "mpeg4.mp4": Kind("mpeg4", options={"bf": "2", "g": "12"}),
    "mpeg4.avi": Kind("mpeg4", options={"bf": "2", "g": "12"}),
    "mpeg4_odd.avi": Kind("mpeg4", options={"g": "12"}, size=(97, 63)),
    "motion_jpeg.avi": Kind("mjpeg", "yuvj420p"),
    "windows.wmv": Kind("wmv2", options={"g": "12"}, format="asf"),
    "lossless.mkv": Kind("ffv1"),
    "huffyuv.avi": Kind("huffyuv", "yuv422p"),
    "small.gif": Kind("gif", "rgb8"),
}
# Made from others: how, and from which
MADE: dict[str, tuple[Callable[[Path, Path], object], str]] = {}


def made_from(source: str, name: str) -> Callable[[Callable[[Path, Path], object]], Callable[[Path, Path], object]]:
    def add(make: Callable[[Path, Path], object]) -> Callable[[Path, Path], object]:
        MADE[name] = (make, source)
        return make

    return add


def pictures(kind: Kind) -> Iterator[np.ndarray]:
    """Blocks of colours that move, RGB `[H, W, 3]`."""
    width, height = kind.size
    blocks = np.random.default_rng(0).integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), np.uint8)
    large = blocks.repeat(8, axis=0).repeat(8, axis=1)
    for number in range(kind.num_frames):
        picture = np.roll(large, (number, 2 * number), axis=(0, 1))[:height, :width].copy()
        picture[: height // 4] = 255 * number // kind.num_frames  # so that no two frames are alike
        yield picture


def write_kind(folder: Path, name: str) -> Path:
    """The video of a name in KINDS or MADE, written unless it is there."""
    path = folder / name
    if path.exists():
        return path
    if name in MADE:
        make, source = MADE[name]
        make(write_kind(folder, source), path)
    else:
        _write(path, KINDS[name])
    return path


def _write(path: Path, kind: Kind) -> None:
    with av.open(str(path), "w", format=kind.format, options=dict(kind.mux)) as container:
        sound: Any = container.add_stream("aac", rate=16000) if kind.has_sound else None
        stream: Any = container.add_stream(kind.codec, rate=25, options=dict(kind.options))
        (stream.width, stream.height), stream.pix_fmt = kind.size, kind.pixels
        stream.codec_context.thread_count = 1
        stream.codec_context.flags |= kind.flags
        if kind.times:
            stream.codec_context.time_base = MILLISECONDS
        if sound is not None:
            for _ in range(20):
                silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                silence.sample_rate = 16000
                container.mux(sound.encode(silence))
        for number, picture in enumerate(pictures(kind)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if kind.times:
                frame.pts, frame.time_base = kind.times[number], MILLISECONDS
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound is not None:
            container.mux(sound.encode())


def _patch(source: Path, path: Path, box: bytes, offset: int, content: bytes) -> None:
    data = bytearray(source.read_bytes())
    at = data.index(box) + len(box) + offset
    data[at : at + len(content)] = content
    path.write_bytes(data)


def turn(source: Path, path: Path, quarters: int) -> None:
    """Say in the head of a track that its pictures are to be turned clockwise (ISO/IEC 14496-12, tkhd: matrix)."""
    cos, sin = ((1, 0), (0, 1), (-1, 0), (0, -1))[quarters]
    one = 1 << 16
    matrix = struct.pack(">9i", cos * one, sin * one, 0, -sin * one, cos * one, 0, 0, 0, 1 << 30)
    _patch(source, path, b"tkhd", 40, matrix)


def _cut_by_edit_list(source: Path, path: Path, frames: int) -> None:
    """Begin the edit of a track by some frames later: each has 512 units at 25 a second."""
    data = source.read_bytes()
    at = data.index(b"elst") + 4 + 12
    start = int.from_bytes(data[at : at + 4], "big")
    _patch(source, path, b"elst", 12, struct.pack(">i", start + 512 * frames))


@made_from("no_edits_but_one.mp4", "edit_in_group.mp4")
def _edit_in_group(source: Path, path: Path) -> None:
    _cut_by_edit_list(source, path, frames=7)


@made_from("no_edits_but_one.mp4", "edit_behind_group.mp4")
def _edit_behind_group(source: Path, path: Path) -> None:
    _cut_by_edit_list(source, path, frames=17)


KINDS["no_edits_but_one.mp4"] = Kind(options=GROUPS)


def copy_stream(source: Any, container: Any) -> Any:
    """A new stream like one of another container."""
    if hasattr(container, "add_stream_from_template"):
        return container.add_stream_from_template(source)
    return container.add_stream(template=source)


@made_from("no_edits_but_one.mp4", "cover.mp4")
def _add_cover(source: Path, path: Path) -> None:
    encoder: Any = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 64, 48, "yuvj420p", Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 200, np.uint8), format="rgb24").reformat(format="yuvj420p")
    frame.pts = 0
    picture = b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode()])
    with av.open(str(source)) as whole, av.open(str(path), "w") as container:
        cover: Any = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        stream = copy_stream(whole.streams.video[0], container)
        packet: Any = av.Packet(picture)
        packet.stream, packet.pts, packet.dts, packet.time_base, packet.is_keyframe = cover, 0, 0, Fraction(1), True
        container.mux(packet)
        _mux_again(whole, stream, container)


def _mux_again(whole: Any, stream: Any, container: Any) -> None:
    for packet in whole.demux(whole.streams.video[0]):
        if packet.dts is not None:
            packet.stream = stream
            container.mux(packet)


@made_from("no_edits_but_one.mp4", "two_streams.mp4")
def _add_larger_stream(source: Path, path: Path) -> None:
    with av.open(str(source)) as whole, av.open(str(path), "w") as container:
        stream = copy_stream(whole.streams.video[0], container)
        larger: Any = container.add_stream("libx264", rate=25)
        larger.width, larger.height, larger.pix_fmt = 192, 128, "yuv420p"
        noise = np.random.default_rng(0).integers(0, 256, (40, 128, 192, 3), np.uint8)
        for picture in noise:
            container.mux(larger.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(larger.encode())
        _mux_again(whole, stream, container)


KINDS["one_b.avi"] = Kind("mpeg4", options={"bf": "1", "g": "12", "b_strategy": "0"})
EMPTY_VOP = b"\0\0\1\xb6\x50\x4f"  # ISO/IEC 14496-2: a P picture that is not coded, at 25 a second


@made_from("one_b.avi", "packed.avi")
def _pack_b_frames(source: Path, path: Path) -> None:
    """Put each B picture behind the picture that it needs, as DivX 5 does, with an empty one for its own."""
    with av.open(str(source)) as whole:
        chunks = [bytes(packet) for packet in whole.demux(video=0) if packet.size]
    packed: list[bytes] = []
    for chunk in chunks:
        is_b = chunk[4] >> 6 == 2 and chunk.startswith(b"\0\0\1\xb6")
        if is_b:
            packed[-1] += chunk
            packed.append(EMPTY_VOP)
        else:
            packed.append(re.sub(b"\0\0\1\xb2[^\0]*", b"\0\0\1\xb2DivX503b1393p", chunk))
    with av.open(str(source)) as whole, av.open(str(path), "w") as container:
        stream = copy_stream(whole.streams.video[0], container)
        for number, chunk in enumerate(packed):
            packet: Any = av.Packet(chunk)
            packet.stream, packet.time_base, packet.dts, packet.pts = stream, Fraction(1, 25), number, number
            packet.is_keyframe = b"\0\0\1\xb2" in chunk
            container.mux(packet)


NAMES = [name for name in [*KINDS, *MADE] if name not in ("no_edits_but_one.mp4", "one_b.avi")]
