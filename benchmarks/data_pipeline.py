"""From a video file to a sample, against the bare decoder and the peers' pipelines: python benchmarks/data_pipeline.py

A round takes each way once, on the same frames of the same video, in one process with one thread. Ratios are those of
processor seconds, which mind other work on the machine less than the clock; they are medians over the rounds. Videos
are 10 s of h264, 340x256 at 30 fps, of natural texture that moves, made for this at two bit rates; or --video.

Ours end as uint8, which the model normalises on its device; the peers' end as normalised float32. The peers' are
written anew from what is known of them:
- PaddleVideo, TimeSformer: PyAV decodes from the key frame before the clip, and each frame of its span becomes RGB;
  8 are taken, normalised in NumPy, turned to a tensor [C, T, H, W], resized by paddle.nn.functional.interpolate,
  cropped, flipped. Facts: paddlevideo/loader/pipelines, configs/recognition/timesformer/timesformer_k400_videos.yaml.
- PaddleVideo, TSM: decord's get_batch, then Pillow: crop, resize, flip; NumPy stacks and normalises.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import cv2  # before decord, whose zlib makes OpenCV read PNG files wrongly
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from natural_video import write_natural_video

from paddlevid import build
from paddlevid.config import load_config
from paddlevid.data.dataset import TrainDataset, Views
from paddlevid.data.records import Record
from paddlevid.data.speed import bare
from paddlevid.data.transforms import MultiScaleCrop, crop_offsets

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
BIT_RATES = (500_000, 1_000_000)  # of the videos that are made
Way = Callable[[int], object]  # of the number of a round

CLIP, CLIP_FLOOR, PEER_CLIP = "TimeSformer clip", "  bare decoder", "  PaddleVideo"
TSM, TSM_FLOOR, PEER_TSM = "TSM clip", "  bare decoder, TSM's", "  decord and Pillow"
CROPS, CROPS_FLOOR, PEER_CROPS = "TimeSformer, 3 crops", "  bare decoder, 3 crops'", "  PaddleVideo, 3 crops"
TIMESFORMER_NORM = (np.full((1, 1, 1, 3), 0.45, np.float32), np.full((1, 1, 1, 3), 0.225, np.float32))
IMAGENET_NORM = tuple(
    np.array(values, np.float32).reshape(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
)


class Goal(NamedTuple):
    """The peer takes at least so many times as long as ours.

    `peer_floors` is what it took on another machine, in times of the bare decoder there: where a machine converts and
    copies faster than it decodes, the peer's gap is narrower than it was there, and ours to the decoder tells more.
    """

    ours: str
    floor: str
    peer: str
    at_least: float
    peer_floors: float


MOST_FLOORS = 1.25  # that a TimeSformer clip takes
GOALS = (
    Goal(CLIP, CLIP_FLOOR, PEER_CLIP, 3.0, 0.50 / 0.145),
    Goal(TSM, TSM_FLOOR, PEER_TSM, 1.3, 0.20 / 0.145),
    Goal(CROPS, CROPS_FLOOR, PEER_CROPS, 2.5, 0.42 / 0.145),
)


# ---- ours -----------------------------------------------------------------------------------------------------------


def our_ways(path: Path) -> tuple[TrainDataset, TrainDataset, Views]:
    """A TimeSformer and a TSM clip, and three crops, as the recipes of Kinetics-400 have them."""
    record = Record(path=str(path), label=0, name=path.name)
    datasets = []
    for recipe in ("timesformer_k400", "tsm_k400"):
        cfg = load_config(CONFIGS / f"{recipe}.yaml")
        data = cfg.data
        dataset = TrainDataset(
            records=[record],
            source=build.build_source(data),
            sampling=build.build_sampling(data, data.num_frames),
            transforms=[build.build_transform(section, data.image_size) for section in cfg.train.transforms],
            num_frames=data.num_frames,
            size=data.image_size,
            num_classes=data.num_classes,
            seed=0,
        )
        datasets.append(dataset)
    cfg = load_config(CONFIGS / "timesformer_k400.yaml")
    assert cfg.test is not None
    return datasets[0], datasets[1], build.build_views(cfg.data, cfg.test)


def indices_of(dataset: TrainDataset, num_frames: int, fps: float, number: int) -> np.ndarray:
    """The frames that the dataset's item (number, 0) has."""
    rng = np.random.default_rng([dataset.seed, number, 0, 0])
    return dataset.sampling(num_frames, fps, rng=rng).reshape(-1)


# ---- the peers' -----------------------------------------------------------------------------------------------------


def paddlevideo_frames(path: Path, first: int, last: int, num_frames: int) -> np.ndarray:
    """Of the span from frame `first` to `last`, `num_frames` evenly apart, uint8 `[T, H, W, 3]`."""
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        ticks_a_frame = stream.duration / stream.frames
        start, end = int(first * ticks_a_frame), int(last * ticks_a_frame)
        container.seek(max(start - 1024, 0), any_frame=False, backward=True, stream=stream)
        found = {}
        for frame in container.decode(video=0):
            if frame.pts >= start:
                found[frame.pts] = frame
            if frame.pts > end:
                break
    span = np.array([_to_rgb(found[pts]) for pts in sorted(found)])  # [frames of the span, H, W, 3]
    places = np.clip(np.linspace(0, last - first, num_frames), 0, len(span) - 1).astype(np.int64)
    return np.stack([span[place] for place in places])


def _to_rgb(frame: Any) -> np.ndarray:
    try:
        return frame.reformat(format="rgb24", threads=1).to_ndarray()
    except TypeError:  # before PyAV 17 there is one thread, and no such argument
        return frame.to_rgb().to_ndarray()


def paddlevideo_resized(frames_thwc: np.ndarray, short_side: int) -> Any:
    """Normalised, then resized: a float32 tensor `[C, T, H, W]`."""
    import paddle

    mean, std = TIMESFORMER_NORM
    normalised = frames_thwc / 255.0
    normalised -= mean
    normalised /= std
    video = paddle.to_tensor(normalised, dtype=paddle.float32).transpose([3, 0, 1, 2])  # [C, T, H, W]
    height, width = video.shape[2:]
    if min(height, width) == short_side:
        return video
    size = (height * short_side // min(height, width), width * short_side // min(height, width))
    return paddle.nn.functional.interpolate(video, size=size, mode="bilinear", align_corners=False)


def paddlevideo_clip(path: Path, indices: np.ndarray, rng: np.random.Generator) -> Any:
    import paddle

    frames = paddlevideo_frames(path, indices[0], indices[-1], len(indices))
    video = paddlevideo_resized(frames, round(rng.uniform(256, 320)))
    top, left = (int(rng.integers(0, side - 224)) for side in video.shape[2:])
    video = video[:, :, top : top + 224, left : left + 224]
    return (paddle.flip(video, axis=[3]) if rng.random() < 0.5 else video).numpy()


def paddlevideo_three_crops(path: Path, indices: np.ndarray) -> Any:
    import paddle

    frames = paddlevideo_frames(path, indices[0], indices[-1], len(indices))
    video = paddlevideo_resized(frames, 224)
    height, width = video.shape[2:]
    step_y, step_x = (height - 224) // 2, (width - 224) // 2
    crops = [video[:, :, i * step_y :, i * step_x :][:, :, :224, :224] for i in (0, 2, 1)]
    return paddle.concat(crops, axis=1).numpy()  # [C, 3*T, H, W]


def decord_clip(path: Path, indices: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    import decord
    from PIL import Image

    reader = decord.VideoReader(str(path), num_threads=1)
    pictures = [Image.fromarray(frame) for frame in reader.get_batch(indices).asnumpy()]
    width, height = pictures[0].size
    sizes = MultiScaleCrop(224).crop_sizes(height, width)
    crop_height, crop_width = sizes[rng.integers(len(sizes))]
    offsets = crop_offsets(height, width, crop_height, crop_width, more=True)
    top, left = offsets[rng.integers(len(offsets))]
    box = (left, top, left + crop_width, top + crop_height)
    pictures = [picture.crop(box).resize((224, 224), Image.Resampling.BILINEAR) for picture in pictures]
    if rng.random() < 0.5:
        pictures = [picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for picture in pictures]
    video = np.stack([np.asarray(picture) for picture in pictures]).astype(np.float32).transpose(0, 3, 1, 2)
    mean, std = IMAGENET_NORM
    return (video / 255 - mean) / std  # float32 [T, C, H, W]


# ---- side by side ---------------------------------------------------------------------------------------------------


def ways_of(path: Path) -> dict[str, Way]:
    """All ways, in the order of a round. PaddleVideo's TSM is left out where decord or Pillow is missing."""
    from importlib.util import find_spec

    clips, tsm, views = our_ways(path)
    with clips.source.open(clips.records[0]) as reader:
        num_frames, fps = reader.num_frames, reader.fps
    shown = bare.times_shown(str(path))
    fixed = views.sampling(num_frames, fps, rng=None).reshape(-1)

    def clip_indices(number: int) -> np.ndarray:
        return indices_of(clips, num_frames, fps, number)

    def tsm_indices(number: int) -> np.ndarray:
        return indices_of(tsm, num_frames, fps, number)

    ways: dict[str, Way] = {
        CLIP: lambda number: _sample(clips, number),
        CLIP_FLOOR: lambda number: bare.decode(str(path), clip_indices(number), shown),
        PEER_CLIP: lambda number: paddlevideo_clip(path, clip_indices(number), np.random.default_rng(number)),
        TSM: lambda number: _sample(tsm, number),
        TSM_FLOOR: lambda number: bare.decode(str(path), tsm_indices(number), shown),
        PEER_TSM: lambda number: decord_clip(path, tsm_indices(number), np.random.default_rng(number)),
        CROPS: lambda number: views(clips.records[0]),
        CROPS_FLOOR: lambda number: bare.decode(str(path), fixed, shown),
        PEER_CROPS: lambda number: paddlevideo_three_crops(path, fixed),
    }
    if find_spec("decord") is None or find_spec("PIL") is None:
        del ways[PEER_TSM]
    return ways


def _sample(dataset: TrainDataset, number: int) -> np.ndarray:
    sample = dataset[number, 0]
    if sample["error"] or sample["failures"]:
        raise SystemExit(sample["error"] or sample["failures"][0][1])
    return sample["frames"]


class Cost(NamedTuple):
    """Of one sample, in seconds."""

    clock: float
    processor: float


def compare(path: Path, rounds: int) -> None:
    """Print the table of one video."""
    ways = ways_of(path)
    for way in ways.values():
        way(0)
    costs: dict[str, list[Cost]] = {name: [] for name in ways}
    for number in range(1, rounds + 1):
        for name, way in ways.items():
            started, processor_started = time.perf_counter(), time.process_time()
            way(number)
            costs[name].append(Cost(time.perf_counter() - started, time.process_time() - processor_started))
    print(f"\n{path.name}, {path.stat().st_size / 1e6:.2f} MB, medians of {rounds} rounds")
    print(f"  {'ms a sample':<26}{'clock':>9}{'processor':>11}")
    for name, own in costs.items():
        print(f"  {name:<26}{1e3 * median(c.clock for c in own):9.1f}{1e3 * median(c.processor for c in own):11.1f}")
    to_floor = ratio(costs, CLIP, CLIP_FLOOR)
    print(f"  {CLIP} / bare decoder: {to_floor:.2f}  {verdict(to_floor <= MOST_FLOORS, 'at most', MOST_FLOORS)}")
    for goal in GOALS:
        if goal.peer not in costs:
            print(f"  {goal.peer.strip()}: not measured, decord or Pillow is not installed")
            continue
        here = ratio(costs, goal.peer, goal.ours)
        there = goal.peer_floors / ratio(costs, goal.ours, goal.floor)
        print(f"  {goal.peer.strip()} / ours: {here:.2f}  {verdict(here >= goal.at_least, 'at least', goal.at_least)}")
        what = f"with the peer's {goal.peer_floors:.2f} times the bare decoder, of another machine"
        print(f"    {what}: {there:.2f}  {verdict(there >= goal.at_least, 'at least', goal.at_least)}")


def ratio(costs: dict[str, list[Cost]], way: str, base: str) -> float:
    return median(a.processor / b.processor for a, b in zip(costs[way], costs[base], strict=True))


def verdict(holds: bool, relation: str, goal: float) -> str:
    return f"({relation} {goal:g}: {'met' if holds else 'NOT MET'})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=Path, action="append", metavar="FILE", help="instead of those made; repeatable")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each way (%(default)s)")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")  # read when Paddle is loaded
    import paddle

    from paddlevid.deploy.measure.machine import describe_machine

    paddle.set_device("cpu")
    cv2.setNumThreads(0)
    machine = describe_machine()
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    print(f"{machine['cpu']}, {machine['cores']} cores; {versions}")
    with tempfile.TemporaryDirectory() as folder:
        for path in args.video or made_videos(Path(folder)):
            compare(path, args.rounds)


def made_videos(folder: Path) -> list[Path]:
    return [
        write_natural_video(folder / f"made_{bit_rate // 1000}_kbit.mp4", bit_rate=bit_rate) for bit_rate in BIT_RATES
    ]


if __name__ == "__main__":
    main()
