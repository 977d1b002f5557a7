"""Time to open a video and read the frames of a clip, one thread: each decoder, in each container and codec.

    python benchmarks/decoders.py [VIDEO ...] [--source VIDEO]

Without VIDEO, ten seconds of 340x256 pixels are written in every container and codec of KINDS, of moving blocks, or of
the pictures of --source. The clip is that of a TimeSformer: 8 frames, 32 apart.

The floor is a bare loop over the packets, with PyAV: it knows where the frames are, opens the file once, has the
decoder skip those that nobody wants and no other frame needs, converts the wanted ones, and ends with the last of them.
It does not seek, so a reader that does may be below it.

Times are of the processor, all threads of the process together. The decoders take turns, so that a machine that gets
slower for a while is unfair to none of them. Files are read once before: this measures decoding, not the disk.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlevid.data.video import open_video
from paddlevid.deploy.measure.sample_video import write_video
from paddlevid.errors import DataError

DECODERS = ("pyav", "decord", "opencv")
NUM_FRAMES, FPS, WIDTH, HEIGHT = 300, 30, 340, 256


class Kind(NamedTuple):
    """A codec, its options, and whether its decoder can skip frames that no other one needs."""

    codec: str
    options: dict[str, str]
    pixels: str = "yuv420p"
    can_skip: bool = True


_H264 = Kind("libx264", {})
_VP9 = Kind("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "row-mt": "1"}, can_skip=False)
_AV1 = Kind("libsvtav1", {"preset": "10"}, can_skip=False)
KINDS = {
    "h264.mp4": _H264,
    "h264.mkv": _H264,
    "h264.ts": _H264,
    "h264.avi": _H264,
    "h264_key_every_16.mp4": Kind("libx264", {"g": "16"}),
    "h264_no_b.mp4": Kind("libx264", {"bf": "0"}),
    "hevc.mp4": Kind("libx265", {"x265-params": "log-level=none"}),
    "vp9.webm": _VP9,
    "vp9.mp4": _VP9,
    "vp8.webm": Kind("libvpx", {"deadline": "realtime", "cpu-used": "8"}),
    "av1.mp4": _AV1,
    "av1.webm": _AV1,
    "mpeg4.avi": Kind("mpeg4", {"qscale": "4"}),
    "mpeg4_b.avi": Kind("mpeg4", {"qscale": "4", "bf": "2"}),
    "mpeg4.mp4": Kind("mpeg4", {"qscale": "4"}),
    "mpeg2.ts": Kind("mpeg2video", {"qscale": "4", "bf": "2"}),
    "mjpeg.avi": Kind("mjpeg", {"qscale": "4"}, "yuvj420p"),
}


def pictures(source: Path) -> Iterator[Any]:
    """The pictures of a video, over and over."""
    import av

    while True:
        with av.open(str(source)) as container:
            for frame in container.decode(video=0):
                yield frame.reformat(WIDTH, HEIGHT, "yuv420p").to_ndarray()


def write_kind(path: Path, kind: Kind, source: Path) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(kind.codec, rate=FPS, options=kind.options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, kind.pixels
        for picture in itertools.islice(pictures(source), NUM_FRAMES):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="yuv420p")))
        container.mux(stream.encode())


def clip_indices(num_frames: int) -> np.ndarray:
    """8 frames, 32 apart, or as far as they can be, from the middle of the video."""
    step = max(1, min(32, (num_frames - 1) // 7))
    return np.minimum((num_frames - 1 - 7 * step) // 2 + step * np.arange(8), num_frames - 1)


def wanted_numbers(path: Path) -> tuple[np.ndarray, list[Any]]:
    """The indices of the clip, and the times of all frames as plain decoding tells them."""
    import av

    with av.open(str(path)) as container:
        times = [frame.pts for frame in container.decode(video=0)]
    return clip_indices(len(times)), times


def read_floor(path: Path, times: set[int], *, can_skip: bool) -> np.ndarray | None:
    """The frames shown at `times`; None if they do not come."""
    import av
    from av.video.reformatter import VideoReformatter

    convert, frames = VideoReformatter(), []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        context.thread_count = 1
        for packet in container.demux(stream):
            if can_skip:
                context.skip_frame = "DEFAULT" if packet.pts in times else "NONREF"
            for frame in packet.decode():
                if frame.pts in times:
                    frames.append(convert.reformat(frame, format="rgb24", threads=1).to_ndarray())
            if len(frames) == len(times):
                return np.stack(frames)
    return None


def read_clip(path: Path, decoder: str, indices: np.ndarray) -> np.ndarray:
    with open_video(path, decoder, num_threads=1) as reader:
        return reader.read(indices)


def compare(path: Path, rounds: int, *, can_skip: bool) -> None:
    """Print a line: the time of the floor in milliseconds, and that of each decoder as a multiple of it."""
    indices, times = wanted_numbers(path)
    wanted = {times[index] for index in indices}
    # Packets that do not tell when their frames are shown leave nothing for a bare loop to go by
    expected = read_floor(path, wanted, can_skip=can_skip) if times == sorted(set(times) - {None}) else None
    readers: dict[str, Callable[[], Any]] = {}
    if expected is not None:
        readers["floor"] = partial(read_floor, path, wanted, can_skip=can_skip)
    cells = {}
    for decoder in DECODERS:
        try:
            frames = read_clip(path, decoder, indices)
        except DataError:
            cells[decoder] = "error"
            continue
        if expected is not None and not np.array_equal(frames, expected):
            cells[decoder] = f"off by {np.abs(frames.astype(int) - expected).max()}"
        readers[decoder] = partial(read_clip, path, decoder, indices)
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(rounds):
        for name, read in readers.items():
            start = time.process_time()
            read()
            seconds[name].append(time.process_time() - start)
    msec = {name: 1e3 * median(row) for name, row in seconds.items()}
    floor = f"{msec['floor']:.1f}" if "floor" in msec else "-"
    line = f"{path.name:<24} {floor:>9}"
    for decoder in DECODERS:
        if decoder in msec:
            ratio = f" {msec[decoder] / msec['floor']:5.2f}x" if "floor" in msec else ""
            line += f"  {msec[decoder]:9.1f}{ratio:<7}{cells.get(decoder, ''):<9}"
        else:
            line += f"  {cells[decoder]:>9}{'':<16}"
    print(line.rstrip(), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="*", type=Path, metavar="VIDEO", help="by default one of each kind")
    parser.add_argument("--source", type=Path, metavar="VIDEO", help="whose pictures the kinds are made of")
    parser.add_argument("--rounds", type=int, default=20, help="times each decoder reads (default: %(default)s)")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    import av

    titles = "".join(f"  {decoder + ' ms':>9}{'x floor':>7}{'':<9}" for decoder in DECODERS)
    print(f"{'video':<24} {'floor ms':>9}{titles}".rstrip())
    for video in args.videos:
        compare(video, args.rounds, can_skip=True)
    if args.videos:
        return
    with tempfile.TemporaryDirectory() as folder:
        source = args.source or write_video(Path(folder) / "source.mp4")
        for name, kind in KINDS.items():
            path = Path(folder) / name
            if kind.codec not in av.codecs_available:
                print(f"{name:<24} this PyAV cannot write {kind.codec}")
                continue
            write_kind(path, kind, source)
            compare(path, args.rounds, can_skip=kind.can_skip)
            path.unlink()


if __name__ == "__main__":
    main()
