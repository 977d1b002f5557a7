"""A list of videos -> tar shards, as WebDataset has them; which clip goes where is settled before one is written."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from paddlevid.data.isolated import NoResult, Tick, run_isolated
from paddlevid.data.records import Record
from paddlevid.data.shard_index import VIDEO_SUFFIXES, index_shard
from paddlevid.errors import DataError
from paddlevid.runtime import atomic_write

_TIMEOUT_SEC = 600.0  # for the reading of one video


class Clip(NamedTuple):
    """A video and what becomes of it: `KEY.mp4`, with its label in `KEY.cls` or, of several, in `KEY.json`."""

    path: str
    key: str
    suffix: str
    num_bytes: int
    label: int | None
    labels: tuple[int, ...] | None


class Shard(NamedTuple):
    """A file to write, and the clips in it."""

    path: Path
    clips: list[Clip]

    @property
    def num_bytes(self) -> int:
        return sum(clip.num_bytes for clip in self.clips)


class Plan(NamedTuple):
    """All shards of a list, and why some of its videos are in none: by the names that they have in it."""

    shards: list[Shard]
    left_out: dict[str, str]


def plan_shards(
    records: Sequence[Record], pattern: str, *, max_bytes: int, max_count: int, seed: int | None = 0
) -> Plan:
    """Divide the videos of a list among shards of at most so many bytes, unless a video has more, and so many videos.

    Args:
        pattern: the path of a shard, with a place for its number: `train-%06d.tar`.
        seed: of the order in which videos are written, which mixes the classes of a sorted list; None keeps the list's.

    Raises:
        DataError: no video of the list can be read.
    """
    order = range(len(records)) if seed is None else np.random.default_rng(seed).permutation(len(records))
    groups: list[list[Clip]] = []
    left_out: dict[str, str] = {}
    taken: dict[str, int] = {}
    group_bytes = 0
    for index in order:
        record = records[index]
        suffix = os.path.splitext(record.name)[1][1:].lower()
        try:
            num_bytes = os.stat(record.path).st_size
            if suffix not in VIDEO_SUFFIXES:
                raise OSError(0, f"no suffix of a video that shards may have ({', '.join(VIDEO_SUFFIXES)})")
        except OSError as error:
            left_out[record.name] = error.strerror or str(error)
            continue
        if not groups or len(groups[-1]) >= max_count or group_bytes + num_bytes > max_bytes:
            groups.append([])
            group_bytes = 0
        group_bytes += num_bytes
        key = _distinct(make_key(record.name), taken)
        groups[-1].append(Clip(record.path, key, suffix, num_bytes, record.label, record.labels))
    if not groups:
        name, reason = next(iter(left_out.items()))
        raise DataError(f"none of the {len(records)} videos can be read; the first: {name}: {reason}")
    return Plan([Shard(Path(pattern % number), clips) for number, clips in enumerate(groups)], left_out)


def make_key(name: str) -> str:
    """The key of a video: its name without the suffix; other dots would end the key, and become underscores."""
    parts = [part for part in re.split(r"[/\\]", os.path.splitext(name)[0]) if part not in ("", ".", "..")]
    stem = parts[-1].replace(".", "_") if parts else "clip"
    folders = [re.sub(r"^__(.*)__$", r"\1", part) for part in parts[:-1]]  # such names are for notes on shards
    return "/".join([*folders, stem])


def _distinct(key: str, taken: dict[str, int]) -> str:
    """The key, or where it is taken with a number behind it."""
    while key in taken:
        taken[key] += 1
        key = f"{key}_{taken[key]}"
    taken[key] = 1
    return key


def find_whole(plan: Plan, pattern: str) -> set[Path]:
    """The shards of a plan that are there already, left from an earlier run; what one has left unfinished is removed.

    Raises:
        DataError: a file in the place of a shard holds something else, or there are more shards than in the plan.
    """
    folder, name = os.path.split(pattern)
    numbered = re.sub(r"%0?\d*d", r"(\\d+)", re.escape(name), count=1)
    unfinished = re.compile(r"\." + numbered.removesuffix(r"\.tar") + r"\.\d+\.tar")
    planned = {shard.path.name for shard in plan.shards}
    for found in sorted(os.listdir(folder or ".")) if os.path.isdir(folder or ".") else []:
        if unfinished.fullmatch(found):
            Path(folder, found).unlink()
        elif re.fullmatch(numbered, found) and found not in planned:
            raise DataError(
                f"{os.path.join(folder, found)}: is none of the {len(planned)} shards of this list; {_ELSEWHERE}"
            )
    whole = [shard for shard in plan.shards if shard.path.exists()]
    for shard in whole:
        index = index_shard(str(shard.path))
        expected = [(f"{clip.key}.{clip.suffix}", clip.num_bytes, _label_text(clip)) for clip in shard.clips]
        if list(zip(index.names, index.sizes.tolist(), index.labels, strict=True)) != expected:
            raise DataError(f"{shard.path}: is there, with other videos or labels than this list has; {_ELSEWHERE}")
    return {shard.path for shard in whole}


_ELSEWHERE = "write into another folder, or delete the old shards"


def _label_text(clip: Clip) -> str:
    """As the index of a shard has it."""
    if clip.labels is not None:
        return ";".join(map(str, clip.labels)) or "-"
    return "" if clip.label is None else str(clip.label)


def write_shards(shards: Sequence[Shard], *, num_workers: int) -> None:
    """Write shards, several at once, with a progress bar; each appears under its name once it is whole.

    Raises:
        DataError: a video cannot be read; the shards that are whole stay.
    """
    from tqdm import tqdm

    total = sum(shard.num_bytes for shard in shards)
    with tqdm(total=total, unit="B", unit_scale=True, disable=not sys.stderr.isatty(), leave=False) as bar:
        if min(num_workers, len(shards)) < 2:
            for shard in shards:
                _write_shard(shard, lambda: None)
                bar.update(shard.num_bytes)
            return
        for number, answer in run_isolated(_try, shards, num_workers=num_workers, timeout_sec=_TIMEOUT_SEC):
            reason = answer.reason if isinstance(answer, NoResult) else answer
            if reason:
                raise DataError(f"{shards[number].path}: {reason}" if isinstance(answer, NoResult) else reason)
            bar.update(shards[number].num_bytes)


def _try(shard: Shard, tick: Tick) -> str:
    """What is wrong with a video of a shard, "" once it is written."""
    try:
        _write_shard(shard, tick)
    except DataError as error:
        return str(error)
    return ""


def _write_shard(shard: Shard, tick: Tick) -> None:
    """Write a shard and its index. The same videos give the same bytes."""
    from webdataset import TarWriter

    def write(temporary: str) -> None:
        with open(temporary, "wb") as file, TarWriter(file, encoder=False, mtime=0) as writer:
            for clip in shard.clips:
                tick()
                writer.write(_sample(clip))

    atomic_write(shard.path, write)
    index_shard(str(shard.path), tick)


def _sample(clip: Clip) -> dict[str, str | bytes]:
    try:
        content = Path(clip.path).read_bytes()
    except OSError as error:
        raise DataError(f"{clip.path}: {error.strerror or error}") from None
    if len(content) != clip.num_bytes:
        raise DataError(f"{clip.path}: had {clip.num_bytes} bytes at the beginning, and has {len(content)} now")
    sample: dict[str, str | bytes] = {"__key__": clip.key, clip.suffix: content}
    if clip.labels is not None:
        sample["json"] = json.dumps({"labels": list(clip.labels)}).encode()
    elif clip.label is not None:
        sample["cls"] = str(clip.label).encode()
    return sample
