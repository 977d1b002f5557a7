"""What different encodings of a video cost on the disk, and how soon training samples are read from them.

    python benchmarks/make_clips.py [VIDEO ...]

Each video is encoded in each way at a short side of 256. A row tells the size against that of the source, the seconds
to encode, how near its pixels are to those of the source (PSNR, in RGB), and the milliseconds to open it and read the
frames of a training sample of TimeSformer (8 frames, 32 apart) and of TSM (8 segments), one thread, decoder "auto",
with the ratio to x264's own defaults. The encodings take turns, so that a machine that gets slower for a while is
unfair to none of them; the random samples are the same for all. The default of tools/make_clips.py has a star.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlevid.data.dataset import Sampling
from paddlevid.data.sampling import ClipSampling, SegmentSampling
from paddlevid.data.video import open_video
from paddlevid.deploy.measure.sample_video import write_video
from paddlevid.prepare.clips import Encoding, make_clip

SAMPLINGS: dict[str, Sampling] = {"timesformer": ClipSampling(8, 32), "tsm": SegmentSampling(8)}


@dataclass(frozen=True)
class Free(Encoding):
    """An encoding with options of libx264 of its own."""

    x264: dict[str, str] = field(default_factory=dict)

    def options(self) -> dict[str, str]:
        return {"preset": self.preset, "crf": f"{self.crf:g}", **self.x264}


def free(preset: str = "medium", crf: float = 18.0, params: str = "", **x264: str) -> Free:
    return Free(preset=preset, crf=crf, x264=x264 | ({"x264-params": params} if params else {}))


NO_PYRAMID = "b-pyramid=none"
FIXED = "b-pyramid=none:b-adapt=0"
ENCODINGS: dict[str, Encoding] = {
    "x264's defaults (g 250, crf 23)": free(crf=23.0, g="250"),
    "g 250, crf 18": free(g="250"),
    "g 32, bf 3": free(g="32"),
    "g 16, bf 3": free(g="16"),
    "g 16, bf 0": free(g="16", bf="0"),
    "g 8, bf 0": free(g="8", bf="0"),
    "g 8, bf 2, no pyramid": free(g="8", bf="2", params=NO_PYRAMID),
    "g 16, bf 7 fixed, no pyramid": free(g="16", bf="7", params=FIXED),
    "g 32, bf 15 fixed, no pyramid": free(g="32", bf="15", params=FIXED),
    "g 8, bf 3, CAVLC": free(g="8", bf="3", params=f"{NO_PYRAMID}:cabac=0"),
    "g 8, bf 3, no deblocking": free(g="8", bf="3", params=f"{NO_PYRAMID}:no-deblock=1"),
    "g 8, bf 3, fastdecode": free(g="8", bf="3", params=NO_PYRAMID, tune="fastdecode"),
    "g 8, bf 0, fastdecode, veryfast": free("veryfast", g="8", bf="0", tune="fastdecode"),
    "g 8, bf 7 fixed, fastdecode, veryfast": free("veryfast", g="8", bf="7", params=FIXED, tune="fastdecode"),
    "g 16, bf 7 fixed, fastdecode, veryfast": free("veryfast", g="16", bf="7", params=FIXED, tune="fastdecode"),
    "* g 8, bf 3, fastdecode, veryfast": Encoding(),
    "the same, crf 20": Encoding(crf=20.0),
    "the same, crf 23": Encoding(crf=23.0),
    "the same, g 4": Encoding(keyframe_every=4),
    "the same, g 1": Encoding(keyframe_every=1),
    "the same, g 1, crf 23": Encoding(keyframe_every=1, crf=23.0),
}


@dataclass
class Row:
    """One encoding of one video."""

    clip: Path
    encode_sec: float
    psnr: float = 0.0
    read_ms: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in SAMPLINGS})


def encode(video: Path, name: str, clip: Path) -> Row:
    start = time.process_time()
    make_clip(ENCODINGS[name], str(video), clip, lambda: None)
    return Row(clip, time.process_time() - start)


def read_sample(clip: Path, sampling: str, draw: int) -> float:
    """Milliseconds of processor time to open a clip and read the frames of a random sample."""
    start = time.process_time()
    with open_video(clip) as reader:
        indices = SAMPLINGS[sampling](reader.num_frames, reader.fps, rng=np.random.default_rng([draw]))
        reader.read(indices.reshape(-1))
    return 1e3 * (time.process_time() - start)


def read_even(path: Path) -> np.ndarray:
    """20 frames evenly over a video, in grey levels as real numbers."""
    with open_video(path) as reader:
        return reader.read(np.linspace(0, reader.num_frames - 1, 20).astype(int)).astype(float)


def compare(video: Path, folder: Path, rounds: int) -> None:
    """Print a row for each encoding of a video."""
    rows = {name: encode(video, name, folder / f"{number}.mp4") for number, name in enumerate(ENCODINGS)}
    source = read_even(video)
    for row in rows.values():
        frames = read_even(row.clip)
        if frames.shape == source.shape:
            row.psnr = 10 * np.log10(255**2 / np.mean((frames - source) ** 2))
    for draw in range(rounds):
        for row in rows.values():
            for sampling, times in row.read_ms.items():
                times.append(read_sample(row.clip, sampling, draw))
    first = next(iter(rows.values()))
    base = {sampling: mean(times) for sampling, times in first.read_ms.items()}
    print(f"\n{video.name}: {source.shape[2]}x{source.shape[1]}, {video.stat().st_size / 1e3:.0f} kB")
    print(f"{'encoding':<40} {'size':>6} {'s':>5} {'PSNR':>5}" + "".join(f"  {name:>11}  ratio" for name in SAMPLINGS))
    for name, row in rows.items():
        size = row.clip.stat().st_size / video.stat().st_size
        psnr = f"{row.psnr:5.1f}" if row.psnr else "    -"
        means = {sampling: mean(times) for sampling, times in row.read_ms.items()}
        cells = "".join(f"  {means[sampling]:8.1f} ms  {means[sampling] / base[sampling]:5.2f}" for sampling in means)
        print(f"{name:<40} {size:5.2f}x {row.encode_sec:5.2f} {psnr}{cells}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="*", type=Path, metavar="VIDEO", help="by default one of 10 s, made for this")
    parser.add_argument("--rounds", type=int, default=15, help="samples read from each encoding (default: %(default)s)")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    with tempfile.TemporaryDirectory() as place:
        for path in args.videos or [write_video(Path(place) / "made_340x256.mp4")]:
            compare(path, Path(place), args.rounds)
