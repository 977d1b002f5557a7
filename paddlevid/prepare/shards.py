"""A list of videos -> tar shards, as WebDataset has them; which clip goes where is settled before one is written."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from paddlevid.data.isolated import NoResult, Tick, run_isolated
from paddlevid.data.records import Record
from paddlevid.data.shard_index import VIDEO_SUFFIXES, Stamp, index_shard
from paddlevid.data.structure import check_structure
from paddlevid.errors import DataError
from paddlevid.prepare.journal import append_line
from paddlevid.runtime import atomic_write

JOURNAL_FILE = ".packed.jsonl"  # of each shard, when its videos were last changed
_TIMEOUT_SEC = 600.0  # for the reading of one video
_NUM_LOOKS = 16  # at once, as each may wait for a network disk


class Clip(NamedTuple):
    """A video and what becomes of it: `KEY.mp4`, with its label in `KEY.cls` or, of several, in `KEY.json`."""

    path: str
    key: str
    suffix: str
    num_bytes: int
    mtime_ns: int
    label: int | None
    labels: tuple[int, ...] | None


class Shard(NamedTuple):
    """A file to write, and the clips in it."""

    path: Path
    clips: list[Clip]

    @property
    def num_bytes(self) -> int:
        return sum(clip.num_bytes for clip in self.clips)

    def digest(self) -> str:
        """Of the times at which its videos were last changed."""
        return hashlib.sha256(" ".join(str(clip.mtime_ns) for clip in self.clips).encode()).hexdigest()


class Plan(NamedTuple):
    """All shards of a list, and why some of its videos are in none: by the names that they have in it."""

    shards: list[Shard]
    left_out: dict[str, str]


def plan_shards(
    records: Sequence[Record], pattern: str, *, max_bytes: int, max_count: int, seed: int | None = 0
) -> Plan:
    """Divide the videos of a list among shards of at most so many bytes, unless a video has more, and so many videos.

    Videos that are missing or cut off are left out.

    Args:
        pattern: the path of a shard, with a place for its number: `train-%06d.tar`.
        seed: of the order in which videos are written, which mixes the classes of a sorted list; None keeps the list's.

    Raises:
        DataError: no video of the list can be read.
    """
    order = range(len(records)) if seed is None else np.random.default_rng(seed).permutation(len(records)).tolist()
    groups: list[list[Clip]] = []
    left_out: dict[str, str] = {}
    taken: dict[str, int] = {}
    group_bytes = 0
    for record, found in _look_at_all(records, order):
        if isinstance(found, str):
            left_out[record.name] = found
            continue
        num_bytes, mtime_ns = found
        if not groups or len(groups[-1]) >= max_count or group_bytes + num_bytes > max_bytes:
            groups.append([])
            group_bytes = 0
        group_bytes += num_bytes
        key = _distinct(make_key(record.name), taken)
        groups[-1].append(Clip(record.path, key, _suffix(record), num_bytes, mtime_ns, record.label, record.labels))
    if not groups:
        name, reason = next(iter(left_out.items()))
        raise DataError(f"none of the {len(records)} videos can be read; the first: {name}: {reason}")
    return Plan([Shard(Path(pattern % number), clips) for number, clips in enumerate(groups)], left_out)


def _look_at_all(records: Sequence[Record], order: Sequence[int]) -> Iterator[tuple[Record, Stamp | str]]:
    """Each record in this order, with the state of its file, or why it is left out."""
    from tqdm import tqdm

    with (
        ThreadPoolExecutor(_NUM_LOOKS) as pool,
        tqdm(total=len(order), unit="video", disable=not sys.stderr.isatty(), leave=False) as bar,
    ):
        for start in range(0, len(order), 1024):
            some = [records[index] for index in order[start : start + 1024]]
            yield from zip(some, pool.map(_look_at, some), strict=True)
            bar.update(len(some))


def _look_at(record: Record) -> Stamp | str:
    if _suffix(record) not in VIDEO_SUFFIXES:
        return f"no suffix of a video that shards may have ({', '.join(VIDEO_SUFFIXES)})"
    try:
        status = os.stat(record.path)
        check_structure(record.path)
    except OSError as error:
        return error.strerror or str(error)
    except DataError as error:
        return str(error).removeprefix(f"{record.path}: ")
    return Stamp(status.st_size, status.st_mtime_ns)


def _suffix(record: Record) -> str:
    return os.path.splitext(record.name)[1][1:].lower()


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

    A shard whose videos were changed since, and kept their sizes, is not one of them.

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
    digests = _read_digests(Path(folder))
    return {shard.path for shard in whole if digests.get(shard.path.name) == shard.digest()}


def _read_digests(folder: Path) -> dict[str, str]:
    """Of the shards in a folder, by their names. A line that was torn counts for nothing: its shard is written anew."""
    digests = {}
    path = folder / JOURNAL_FILE
    for line in path.read_bytes().split(b"\n") if path.exists() else []:
        try:
            name, digest = json.loads(line)
            digests[str(name)] = digest
        except (ValueError, TypeError):
            continue
    return digests


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
    append_line(shard.path.parent / JOURNAL_FILE, [shard.path.name, shard.digest()])
    index_shard(str(shard.path), tick)


def _sample(clip: Clip) -> dict[str, str | bytes]:
    try:
        with open(clip.path, "rb") as file:
            content, mtime_ns = file.read(), os.fstat(file.fileno()).st_mtime_ns
    except OSError as error:
        raise DataError(f"{clip.path}: {error.strerror or error}") from None
    if len(content) != clip.num_bytes:
        raise DataError(f"{clip.path}: had {clip.num_bytes} bytes at the beginning, and has {len(content)} now")
    if mtime_ns != clip.mtime_ns:
        raise DataError(f"{clip.path}: was changed since the beginning; start again")
    sample: dict[str, str | bytes] = {"__key__": clip.key, clip.suffix: content}
    if clip.labels is not None:
        sample["json"] = json.dumps({"labels": list(clip.labels)}).encode()
    elif clip.label is not None:
        sample["cls"] = str(clip.label).encode()
    return sample
