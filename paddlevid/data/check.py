"""Whole videos looked through ahead of training: every frame is decoded, and what is wrong is told in one line."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from paddlevid.data.dataset import FrameSource
from paddlevid.data.flow.reader import FlowReader
from paddlevid.data.isolated import NoResult, Tick, run_isolated
from paddlevid.data.pyav_container import demux, open_container, video_stream
from paddlevid.data.pyav_reader import HAD_TO_GUESS
from paddlevid.data.records import Record
from paddlevid.data.shards import ShardRecord, clip_file
from paddlevid.data.structure import DamagedVideoError, TruncatedVideoError
from paddlevid.data.video import FrameReader
from paddlevid.errors import DataError


class Finding(NamedTuple):
    """What is wrong with a video: `kind` in a word or two, `reason` in the decoder's own words where it has any."""

    kind: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason}"


def check_videos(
    records: Sequence[Record],
    source: FrameSource,
    *,
    num_workers: int = 1,
    timeout_sec: float = 120.0,
) -> Iterator[tuple[Record, Finding | None]]:
    """Each distinct record with what is wrong with it, None where nothing is, as they are done.

    Decoding runs in `num_workers` processes. A video that crashes one, or whose decoder does not go on for
    `timeout_sec`, is told as bad; the others go on.
    """
    distinct = list({(record.path, record.num_frames): record for record in records}.values())
    work = partial(check_record, source)
    for index, answer in run_isolated(work, distinct, num_workers=num_workers, timeout_sec=timeout_sec):
        if isinstance(answer, NoResult):
            yield distinct[index], Finding("crashed the decoder" if answer.is_crash else "timed out", answer.reason)
        else:
            yield distinct[index], answer


def check_record(source: FrameSource, record: Record, tick: Tick) -> Finding | None:
    """Look through a video, or a folder of frames or of stored flow; `tick` is called at each frame."""
    try:
        return _check_all(replace(source, flow=None), record, tick) or _check_flow(source, record, tick)
    except DataError as error:
        reason = str(error).removeprefix(f"{record.path}: ")
        file = record.shard if isinstance(record, ShardRecord) else record.path
        return Finding(_kind(file, error), reason.removeprefix("damaged: ").removeprefix("cut off: "))


def _check_all(source: FrameSource, record: Record, tick: Tick) -> Finding | None:
    """Each frame, or each picture of stored flow."""
    with source.open(record) as reader:
        if record.num_frames is not None:
            return _check_pictures(reader, tick)
        num_frames = reader.num_frames
    with clip_file(record) if isinstance(record, ShardRecord) else nullcontext(record.path) as path:
        return _check_frames(path, num_frames, tick)


def _check_flow(source: FrameSource, record: Record, tick: Tick) -> Finding | None:
    """The first flow, where it is computed from the frames: a single one, or very small ones, have none."""
    if source.flow is None:
        return None
    # What is wrong with the frames is so for each algorithm, and this one takes milliseconds
    quick = replace(source, flow=replace(source.flow, algorithm="dis", warp=False), flow_cache=None)
    tick()
    try:
        with quick.open(record) as reader:
            if isinstance(reader, FlowReader):
                reader.read(np.array([0]))
    except DataError as error:
        return Finding("no flow", str(error).removeprefix(f"{record.path}: "))
    return None


def _kind(path: str, error: DataError) -> str:
    if not os.path.exists(path):
        return "missing"
    if isinstance(error, TruncatedVideoError):
        return "truncated"
    if isinstance(error, DamagedVideoError):
        return "damaged"
    return "no frames" if "finds no frames" in str(error) else "unreadable"


def _check_pictures(reader: FrameReader, tick: Tick) -> Finding | None:
    sizes: dict[tuple[int, int], int] = {}
    for number in range(reader.num_frames):
        tick()
        height, width = reader.read(np.array([number])).shape[1:3]
        sizes.setdefault((width, height), number)
    return _check_sizes(sizes)


def _check_sizes(sizes: dict[tuple[int, int], int]) -> Finding | None:
    """`sizes`: width and height -> the first frame that has them."""
    if len(sizes) < 2:
        return None
    changes = ", ".join(f"{width}x{height} from frame {number} on" for (width, height), number in sizes.items())
    return Finding("changing size", changes)


class _Tally:
    """What comes out of the decoder."""

    def __init__(self) -> None:
        self.num_frames = 0
        self.num_promised = 0  # by the container, where it counts them
        self.sizes: dict[tuple[int, int], int] = {}
        self.first_damaged: int | None = None
        self.words = ""  # of the decoder, on the first damage that it told of

    def add_damage(self, words: str = "") -> None:
        if self.first_damaged is None:
            self.first_damaged = self.num_frames
        self.words = self.words or words


def _check_frames(path: str, num_frames: int, tick: Tick) -> Finding | None:
    """Decode all of a video; `num_frames` are those that readers promise."""
    import av

    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as log, open_container(path, "pyav") as container:
            tally = _decode(container, tick)
    finally:
        av.logging.set_level(level)
    if tally.first_damaged is not None:
        told = [*(" ".join(message.split()) for _, _, message in log), tally.words, HAD_TO_GUESS]
        return Finding("damaged", f"from frame {tally.first_damaged} of {num_frames} on: {next(filter(None, told))}")
    if tally.num_frames == 0:
        return Finding("no frames", "not one can be decoded")
    if tally.num_frames < num_frames:
        return Finding("too few frames", f"{tally.num_frames} of {num_frames} can be decoded")
    # Some that write AVI count a few frames that they have dropped
    if tally.num_promised - tally.num_frames > max(2, tally.num_promised // 20):
        return Finding("too few frames", f"{tally.num_frames}; its head says {tally.num_promised}")
    return _check_sizes(tally.sizes)


def _decode(container: Any, tick: Callable[[], None]) -> _Tally:
    import av

    tally = _Tally()
    stream = video_stream(container)
    stream.codec_context.thread_count = 1
    # MP4 counts also those frames that its edit list leaves out
    tally.num_promised = stream.frames if "avi" in container.format.name else 0
    first_key = None
    for packet in demux(container, stream):
        tick()
        if first_key is None and packet.is_keyframe:
            first_key = packet.pts
        if packet.is_corrupt:
            tally.add_damage()
        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:
            tally.add_damage(error.strerror)
            continue
        for frame in frames:
            if None not in (frame.pts, first_key) and frame.pts < first_key:
                continue  # it needs frames from before the file was cut, and no reader counts it
            tally.sizes.setdefault((frame.width, frame.height), tally.num_frames)
            if frame.is_corrupt:
                tally.add_damage()
            tally.num_frames += 1
    return tally
