"""Time to open a video and read frames spread evenly over it, one thread, for each decoder.

    python benchmarks/decoders.py [VIDEO ...]

The decoders take turns, so that a machine that gets slower for a while is unfair to none of them. Files are read once
before the clock starts: this measures decoding, not the disk.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlevid.data.video import DECODERS, open_video
from paddlevid.deploy.measure.sample_video import write_video
from paddlevid.errors import DataError


def read_once(path: Path, decoder: str, num_frames: int) -> float:
    """Seconds from opening the file to having its frames."""
    start = time.perf_counter()
    with open_video(path, decoder, num_threads=1) as reader:
        reader.read(np.linspace(0, reader.num_frames - 1, num_frames).astype(int))
    return time.perf_counter() - start


def compare(path: Path, num_frames: int, rounds: int) -> None:
    """Print a line for each decoder, or why it cannot read this video."""
    seconds: dict[str, list[float]] = {}
    for decoder in DECODERS:
        try:
            read_once(path, decoder, num_frames)
            seconds[decoder] = []
        except DataError as error:
            print(f"{path.name:<24} {decoder:<8} {error}")
    for _ in range(rounds):
        for decoder, times in seconds.items():
            times.append(read_once(path, decoder, num_frames))
    fastest = min((median(times) for times in seconds.values()), default=0.0)
    for decoder, times in seconds.items():
        middle = median(times)
        print(f"{path.name:<24} {decoder:<8} {middle * 1e3:9.1f} {min(times) * 1e3:9.1f} {middle / fastest:8.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="*", type=Path, metavar="VIDEO", help="by default one of 10 s, made for this")
    parser.add_argument("--frames", type=int, default=8, help="frames read from each video (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=20, help="times each decoder reads (default: %(default)s)")
    args = parser.parse_args()
    if min(args.frames, args.rounds) < 1:
        parser.error("--frames and --rounds must be at least 1")
    print(f"{'video':<24} {'decoder':<8} {'median ms':>9} {'best ms':>9} {'x fastest':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for video in args.videos or [write_video(Path(folder) / "made_340x256.mp4")]:
            compare(video, args.frames, args.rounds)
