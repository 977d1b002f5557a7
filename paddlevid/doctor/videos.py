"""A sample of the videos of a recipe: whether they open, their sizes, rates and lengths, and how fast they are read."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from paddlevid.build import build_sampling, build_source
from paddlevid.data.annotations import are_too_many
from paddlevid.data.dataset import FrameSource, Sampling
from paddlevid.data.isolated import NoResult, Tick, run_isolated
from paddlevid.data.records import Record
from paddlevid.data.shards import ShardRecord
from paddlevid.doctor.findings import Finding, error, ok, one_line, warning
from paddlevid.doctor.lists import Lists
from paddlevid.errors import DataError
from paddlevid.modality import describe_clip
from paddlevid.runtime import num_cores
from paddlevid.schema import Config
from paddlevid.schema.data import (
    ClipSamplingConfig,
    DataConfig,
    DenseSamplingConfig,
    LinspaceSamplingConfig,
    SegmentSamplingConfig,
)

_VIDEO_TIMEOUT_SEC = 15.0
_MAX_SECONDS = 25.0  # for all videos of the sample
_DISK_BYTES = 256 << 20
_DISK_SECONDS = 5.0


class Look(NamedTuple):
    """What a video is like, and how long a clip of it took to be opened and decoded."""

    width: int
    height: int
    num_frames: int
    fps: float
    seconds: float

    @property
    def duration_sec(self) -> float:
        return self.num_frames / self.fps


def choose_videos(lists: Lists, count: int, seed: int = 0) -> list[Record]:
    """`count` videos drawn from all lists, of each as many."""
    rng = np.random.default_rng(seed)
    chosen: list[Record] = []
    for records in lists.values():
        share = -(-count // len(lists))
        chosen += [records[int(index)] for index in rng.permutation(len(records))[:share]]
    return chosen


def check_disk_speed(videos: Sequence[Record]) -> Iterator[Finding]:
    """How fast whole files come from the disk, as far as the system lets go of what it holds of them."""
    num_bytes, num_files, began = 0, 0, time.perf_counter()
    for record in videos:
        try:
            num_bytes += _read_cold(*_span(record))
        except OSError:
            continue  # told where videos are opened
        num_files += 1
        if num_bytes > _DISK_BYTES or time.perf_counter() - began > _DISK_SECONDS:
            break
    seconds = time.perf_counter() - began
    if not num_files:
        return
    found = (
        f"{num_bytes / seconds / 1e6:.0f} MB/s, {1000 * seconds / num_files:.1f} ms a file "
        f"({num_files} files of {num_bytes / num_files / 1e6:.2g} MB)"
    )
    if seconds / num_files > 0.05:
        yield warning(
            "reading", found, "files come slowly: pack them into shards on a network disk (tools/make_shards.py)"
        )
    else:
        yield ok("reading", found)


def _span(record: Record) -> tuple[str, int, int]:
    """The file, and where in it, the bytes of a record lie; of a folder of frames, its first picture."""
    if isinstance(record, ShardRecord):
        return record.shard, record.offset, record.size
    if record.num_frames is not None:
        with os.scandir(record.path) as entries:
            first = min((entry.path for entry in entries if entry.is_file()), default=record.path)
        return first, 0, os.path.getsize(first)
    return record.path, 0, os.path.getsize(record.path)


def _read_cold(path: str, offset: int, size: int) -> int:
    with open(path, "rb", buffering=0) as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), offset, size, os.POSIX_FADV_DONTNEED)
        file.seek(offset)
        done = 0
        while done < size:
            part = file.read(min(size - done, 1 << 20))
            if not part:
                break
            done += len(part)
    return done


def check_videos(cfg: Config, videos: Sequence[Record]) -> Iterator[Finding]:
    """Open each, read a training clip of it, and compare them with what the recipe makes of them."""
    source, sampling = build_source(cfg.data), build_sampling(cfg.data, cfg.data.num_frames)
    looks: list[Look] = []
    failed: list[str] = []
    deadline = time.monotonic() + _MAX_SECONDS
    work = partial(look_at, source, sampling)
    # One process: what else runs at once would spoil the times
    for number, answer in run_isolated(work, videos, num_workers=1, timeout_sec=_VIDEO_TIMEOUT_SEC):
        if isinstance(answer, Look):
            looks.append(answer)
        else:
            reason = answer.reason if isinstance(answer, NoResult) else answer
            failed.append(f"{videos[number].path}: {reason.removeprefix(f'{videos[number].path}: ')}")
        if time.monotonic() > deadline:
            break
    opened = f"{len(looks)} of {len(looks) + len(failed)} videos of a sample can be read"
    if failed:
        share = cfg.train.max_bad_share
        make, advice = warning, "tools/check_videos.py looks at all, and lists the bad ones"
        if not looks or are_too_many(len(failed), len(looks) + len(failed), share):
            make, advice = error, f"{advice}; training ends where more than train.max_bad_share {share:g} are bad"
        yield make("videos", f"{opened}; {failed[0]}", advice)
    else:
        yield ok("videos", opened)
    if looks:
        yield from _describe(cfg, looks)
        yield from _judge_speed(cfg, looks)


def look_at(source: FrameSource, sampling: Sampling, record: Record, tick: Tick) -> Look | str:
    """What a video is like; or why it cannot be read."""
    import av  # noqa: F401  (not in the time of the first video)
    import cv2

    tick()
    cv2.setNumThreads(0)
    try:
        began = time.perf_counter()
        with source.open(record) as reader:
            indices = sampling(reader.num_frames, reader.fps, rng=np.random.default_rng(0))
            frames = reader.read(indices.reshape(-1))  # [T, H, W, C]
            seconds = time.perf_counter() - began
            if missing := _missing_picture(source, record):
                return (
                    f"{os.path.join(record.path, missing)}: no such picture, of {record.num_frames} that the list tells"
                )
            return Look(frames.shape[2], frames.shape[1], reader.num_frames, reader.fps, seconds)
    except DataError as reason:
        return one_line(reason)


def _missing_picture(source: FrameSource, record: Record) -> str | None:
    """The first name that is not in a folder of frames or flow; a clip is of few of them."""
    if record.num_frames is None or isinstance(record, ShardRecord):
        return None
    axes = ("x", "y") if "{axis" in source.frame_template else ("",)
    numbers = range(source.frame_start_index, source.frame_start_index + record.num_frames)
    names = (source.frame_template.format(number, axis=axis) for number in numbers for axis in axes)
    there: dict[str, set[str]] = {}  # by folder: names may begin with one, such as that of their axis
    for name in names:
        folder, file = os.path.split(os.path.join(record.path, name))
        if folder not in there:
            there[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        if file not in there[folder]:
            return name
    return None


def _describe(cfg: Config, looks: Sequence[Look]) -> Iterator[Finding]:
    short_sides = [min(look.width, look.height) for look in looks]
    sizes = f"{_range([look.width for look in looks])} x {_range([look.height for look in looks])} pixels"
    small = sum(side < cfg.data.image_size for side in short_sides)
    if small:
        told = f"{sizes}; {small} of {len(looks)} have a side below data.image_size {cfg.data.image_size}"
        yield warning("sizes", told, "they are enlarged, and look soft: look for larger versions of them")
    elif np.median(short_sides) > 2.5 * cfg.data.image_size:
        tool = {"flow": "extract_flow", "frames": "extract_frames"}.get(cfg.data.format, "make_clips")
        advice = f"tools/{tool}.py --short_side 256 makes them small once, and quick to decode"
        yield warning("sizes", f"{sizes}: much of each decoded picture is thrown away", advice)
    else:
        yield ok("sizes", sizes)
    rates, durations = [look.fps for look in looks], [look.duration_sec for look in looks]
    yield ok("frame rates", f"{_range(rates)} a second")
    needed = [frames_needed(cfg.data, look.fps) for look in looks]
    unit = "flows" if cfg.data.is_flow else "frames"
    lengths = f"{_range(durations)} s, {_range([look.num_frames for look in looks])} {unit}"
    short = [look for look, frames in zip(looks, needed, strict=True) if look.num_frames < frames]
    if short:
        told = f"{lengths}; {len(short)} of {len(looks)} are shorter than the {max(needed):.0f} {unit} of a clip"
        advice = f"their {unit} are repeated: fewer {unit}, or a lower data.sampling.rate, may do better"
        yield warning("lengths", told, advice)
    else:
        whole = isinstance(cfg.data.sampling, SegmentSamplingConfig | LinspaceSamplingConfig)
        reach = "from all over a video" if whole else f"which span {_range(needed)}"
        yield ok("lengths", f"{lengths}; a clip takes {describe_clip(cfg.data, cfg.data.num_frames)}, {reach}")


def frames_needed(data: DataConfig, fps: float) -> float:
    """How many frames, or flows, a clip reaches over at least, in a video of this frame rate."""
    more = data.frames_per_snippet - 1  # of the last snippet
    if isinstance(data.sampling, ClipSamplingConfig):
        return more + data.num_frames * data.sampling.rate * fps / data.sampling.target_fps
    return more + (data.sampling.window if isinstance(data.sampling, DenseSamplingConfig) else data.num_frames)


def _range(numbers: Sequence[Any]) -> str:
    """From the least to the greatest, in three digits."""
    least, greatest = (f"{number:.0f}" if number >= 100 else f"{number:.3g}" for number in (min(numbers), max(numbers)))
    return least if least == greatest else f"{least} to {greatest}"


def _judge_speed(cfg: Config, looks: Sequence[Look]) -> Iterator[Finding]:
    seconds = float(np.mean([look.seconds for look in looks]))
    cores = num_cores()
    found = (
        f"{1000 * seconds:.0f} ms for {describe_clip(cfg.data, cfg.data.num_frames)}: about {_range([1 / seconds])} a "
        f"second and core, {_range([cores / seconds])} with {cores}"
    )
    advice = "roughly; tools/benchmark_data.py measures it, with transforms and workers"
    if cfg.data.is_flow and cfg.data.format != "flow":
        advice += "; flow is computed in this time, and need not be after tools/extract_flow.py"
    yield ok("decoding", found, advice)
    workers = cfg.train.num_workers
    if workers > cores:
        yield warning("workers", f"train.num_workers is {workers}, for {cores} cores", f"-o train.num_workers={cores}")
    elif workers == 0 and cores > 1:
        advice = f"-o train.num_workers={cores - 1}, so that decoding does not wait for the model"
        yield warning("workers", "train.num_workers is 0: clips are decoded between the steps", advice)
    else:
        yield ok("workers", f"train.num_workers is {workers}, for {cores} cores")
