"""Speed and memory of tools/predict_long.py's windows over an hour of video: python benchmarks/long_video.py -m FOLDER

The video is a clip of a minute whose packets are repeated, which takes seconds to make and an hour to watch. Memory is
the resident memory of this process, which starts to count once the model and the first windows have been through.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlevid.deploy.streaming.streams import Ahead, format_time, open_stream
from paddlevid.deploy.streaming.windows import Scored, Window, frame_crops, plan_windows, score_windows, slide

MIB = 2**20
CLIP_SEC = 60
PERIOD_SEC = 600  # of the table of memory


def write_hour(path: Path, minutes: float, width: int, height: int, fps: int) -> Path:
    """Blocks of colours that move, and change every ten seconds, as h264; the packets of a minute again and again."""
    import av

    clip = path.with_name("clip.mp4")
    rng = np.random.default_rng(0)
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"preset": "fast", "bf": "2", "g": str(fps * 4)})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(CLIP_SEC * fps):
            if number % (10 * fps) == 0:
                blocks = rng.integers(0, 256, (height // 8, width // 8 + 1, 3), np.uint8)
                picture = blocks.repeat(8, axis=0).repeat(8, axis=1)[:, :width]
            moved = np.ascontiguousarray(np.roll(picture, (number, 3 * number), axis=(0, 1)))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(moved, format="rgb24")))
        container.mux(stream.encode())
    with av.open(str(path), "w") as output:
        repeated = None
        for turn in range(max(1, round(minutes * 60 / CLIP_SEC))):
            with av.open(str(clip)) as container:
                source = container.streams.video[0]
                repeated = repeated or output.add_stream_from_template(source)
                shift = round(turn * CLIP_SEC / source.time_base)
                for packet in container.demux(source):
                    if packet.dts is not None:
                        packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, repeated
                        output.mux(packet)
    return path


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / MIB


def measure(scored: Iterator[Scored]) -> list[tuple[float, float, float]]:
    """(second of the video, seconds spent, MiB) of each window."""
    begun = time.perf_counter()
    return [(window.end_sec, time.perf_counter() - begun, resident_mib()) for window in scored]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", required=True, metavar="FOLDER", help="what tools/export_model.py wrote")
    parser.add_argument("--video", help="look at this file instead of one made for it")
    parser.add_argument("--minutes", type=float, default=60, help="length of the video that is made (60)")
    parser.add_argument("--size", default="340x256", help="of its pictures (340x256)")
    parser.add_argument("--fps", type=int, default=25)
    parser.add_argument("--window_sec", type=float)
    parser.add_argument("--stride_sec", type=float)
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--batch_size", type=int, default=8)
    args = parser.parse_args()
    from paddlevid.deploy.predictor import Predictor

    width, height = map(int, args.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        video = args.video or str(write_hour(Path(folder) / "hour.mp4", args.minutes, width, height, args.fps))
        print(f"made the video in {time.perf_counter() - begun:.1f} s, {Path(video).stat().st_size / MIB:.0f} MiB")
        predictor = Predictor(args.model, args.runtime, num_threads=args.threads, batch_size=args.batch_size)
        predictor.warm_up()
        stream = open_stream(video)
        plan = plan_windows(predictor.manifest, stream, args.window_sec, args.stride_sec)
        windows = slide(stream, plan, frame_crops(predictor.manifest))
        with Ahead[Window](windows, args.batch_size) as ahead:
            rows = measure(score_windows(predictor, iter(ahead)))
    report(rows, args.batch_size, f"{predictor.runtime.name} {predictor.runtime.precision}")


def report(rows: list[tuple[float, float, float]], batch_size: int, runtime: str) -> None:
    end_sec, spent_sec, _ = rows[-1]
    print(f"{runtime}: {len(rows)} windows of {format_time(end_sec)} in {spent_sec:.1f} s", end="")
    print(f", {end_sec / spent_sec:.1f} x real time")
    settled = rows[min(2 * batch_size, len(rows) - 1) :]
    start_mib, most_mib = settled[0][2], max(mib for *_, mib in settled)
    most = f"at most {most_mib:.0f}, {rows[-1][2]:.0f} at the end"
    print(f"resident MiB: {start_mib:.0f} after the first windows, {most}")
    print(f"{'until':>10} {'most MiB':>9} {'x real time':>12}")
    before_sec = before_spent = 0.0
    for period in range(int(end_sec // PERIOD_SEC) + 1):
        of_period = [row for row in rows if period * PERIOD_SEC < row[0] <= (period + 1) * PERIOD_SEC]
        if of_period:
            last_sec, last_spent, _ = of_period[-1]
            speed = (last_sec - before_sec) / (last_spent - before_spent)
            print(f"{format_time(last_sec):>10} {max(mib for *_, mib in of_period):9.0f} {speed:12.1f}")
            before_sec, before_spent = last_sec, last_spent


if __name__ == "__main__":
    main()
