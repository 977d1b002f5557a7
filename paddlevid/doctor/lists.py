"""The lists of a recipe: labels against its classes, files that are missing, and videos that come twice."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from paddlevid.build import read_recipe_list
from paddlevid.data.annotations import are_too_many
from paddlevid.data.class_names import number_names, read_class_names
from paddlevid.data.flow.note import NOTE_FILE, find_note
from paddlevid.data.records import Record, Records, labels_of
from paddlevid.data.shards import ShardRecord
from paddlevid.doctor.findings import Finding, error, first_few, ok, one_line, warning
from paddlevid.errors import ConfigError, DataError
from paddlevid.modality import check_stored_flow
from paddlevid.schema import Config

SPLITS = ("train", "valid", "test")
MAX_STATS = 5000  # files of a list that are looked for, unless all are
FEW_VIDEOS = 5  # of a class
_HEAD_BYTES = 1 << 20
_THREADS = 16  # a network disk lets each of them wait

Lists = dict[str, Records]
Progress = Callable[[Iterable[Record], int, str], Iterable[Record]]  # items, how many, and what is done with them


def _silent(items: Iterable[Record], total: int, what: str) -> Iterable[Record]:
    return items


def read_lists(cfg: Config, lists: Lists) -> Iterator[Finding]:
    """Read the lists that a recipe has, and put those that can be read into `lists`.

    Where their classes have other names, or others than those of the training list, that is told first.
    """
    data, told = cfg.data, set()
    for split in SPLITS:
        section = getattr(cfg, split)
        if section is None:
            continue
        try:
            read_class_names(data.class_names, data.num_classes, train_list=cfg.train.list, list_path=section.list)
        except DataError as reason:
            if str(reason) not in told:
                yield error("class names", one_line(reason, limit=1000))
            told.add(str(reason))
        try:
            lists[split] = read_recipe_list(data, section.list, train_list=cfg.train.list)
        except DataError as reason:
            if str(reason) not in told:
                yield error(split, one_line(reason), f"correct the list, or give another: -o {split}.list=...")


def check_classes(cfg: Config, lists: Lists, names: Sequence[str]) -> Iterator[Finding]:
    """The classes of each list against `data.num_classes`, and those of the others against those learned."""
    num_classes = cfg.data.num_classes
    counts = {split: _class_counts(records, num_classes) for split, records in lists.items()}
    for split, count in counts.items():
        seen = int((count > 0).sum())
        found = f"{len(lists[split])} videos, {seen} of {num_classes} classes"
        if split == "train":
            yield from _check_training(found, count, names)
        elif "train" in counts and (new := np.flatnonzero((count > 0) & (counts["train"] == 0))).size:
            yield warning(
                split,
                f"{found}, {new.size} of them not in the training list: {_name(new, names)}",
                "such videos cannot be told right: are both lists of the same classes?",
            )
        else:
            yield ok(split, found)


def _check_training(found: str, count: np.ndarray, names: Sequence[str]) -> Iterator[Finding]:
    unseen, highest = np.flatnonzero(count == 0), int(np.flatnonzero(count)[-1]) if count.any() else 0
    if unseen.size and highest + 1 + unseen.size == len(count) and highest < len(count) // 2:
        advice = f"is it a list of fewer classes? -o data.num_classes={highest + 1}"
        yield warning("train", f"{found}: labels end at {highest}", advice)
    elif unseen.size:
        yield warning("train", f"{found}; without a video: {_name(unseen, names)}", "they cannot be learned")
    else:
        yield ok("train", found)
    few = np.flatnonzero((count > 0) & (count < FEW_VIDEOS))
    if few.size:
        told = f"classes with fewer than {FEW_VIDEOS} videos, {few.size}: {_name(few, names)}"
        yield warning("train", told, "add videos, or leave the classes out")
    most, least = int(count.max()), int(count[count > 0].min()) if count.any() else 0
    if least and most > 20 * least:
        yield warning(
            "train",
            f"the largest class has {most} videos, the smallest {least}",
            "train.class_balanced: true draws all classes equally often",
        )


def _class_counts(records: Sequence[Record], num_classes: int) -> np.ndarray:
    """How many videos each class has, `[K]`."""
    labels = labels_of(records, -1)
    if (labels < 0).any():  # several a video
        labels = np.array([label for record in records for label in record.labels or ()], np.int64)
    return np.bincount(labels, minlength=num_classes)


def _name(labels: np.ndarray, names: Sequence[str]) -> str:
    return first_few(f"{label} ({names[label]})" if names[label] != str(label) else label for label in labels)


def check_class_names(cfg: Config, names: Sequence[str]) -> Finding:
    if names == number_names(cfg.data.num_classes):
        return ok("class names", "none: predictions show numbers (data.class_names: a file with a name a line)")
    return ok("class names", f"{len(names)}: {first_few(names)}")


def check_missing(
    cfg: Config, lists: Lists, *, look_at_all: bool, seed: int = 0, progress: Progress = _silent
) -> Iterator[Finding]:
    """Whether the files are there: all, or a sample of long lists."""
    for split, records in lists.items():
        if cfg.data.format == "shards":
            continue  # the lists are read from them
        sampled = len(records) > MAX_STATS and not look_at_all
        looked = [records[int(index)] for index in _sample(len(records), MAX_STATS, seed)] if sampled else records
        with ThreadPoolExecutor(_THREADS) as pool:
            there = pool.map(os.path.exists, (record.path for record in looked), chunksize=64)
            shown = progress(looked, len(looked), f"looking for the files of {split}")
            missing = [record for record, is_there in zip(shown, there, strict=True) if not is_there]
        of = f"{len(looked)} of {len(records)} files looked for (--all for all)" if sampled else f"{len(looked)} files"
        if not missing:
            yield ok(f"{split} files", f"{of}, all there")
            continue
        found = f"{of}: {len(missing)} missing, such as {missing[0].path}"
        if len(missing) == len(looked):
            yield error(f"{split} files", found, "is data.root the folder where the paths of the list begin?")
        elif split == "train" and are_too_many(len(missing), len(looked), cfg.train.max_bad_share):
            advice = f"more than train.max_bad_share {cfg.train.max_bad_share:g} allows, training would end: find them"
            yield error(f"{split} files", found, advice)
        else:
            yield warning(f"{split} files", found, "they count as unreadable; tools/check_videos.py lists all such")


def check_flow(cfg: Config, lists: Lists) -> Iterator[Finding]:
    """Whether the folders of stored flow hold the flow of the recipe: training ends where they do not."""
    data, told = cfg.data, set()
    for split, records in lists.items():
        if data.format != "flow" or not len(records):
            continue
        try:
            found = find_note(records[0].path)
            if found is None:
                text = f"no flow.json above {records[0].path} says what its pictures are"
                finding = warning(f"{split} flow", text, "are data.modality, data.flow.bound and the names right?")
            else:
                check_stored_flow(data, records)
                finding = ok(f"{split} flow", f"that of the recipe, as {found[0]}/{NOTE_FILE} says")
        except (ConfigError, DataError) as reason:
            finding = error(f"{split} flow", one_line(reason))
        if finding.found not in told:
            yield finding
        told.add(finding.found)


def _sample(total: int, count: int, seed: int) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).permutation(total)[:count])


def check_repeats(cfg: Config, lists: Lists) -> Iterator[Finding]:
    """Videos that come twice in a list, or in the training list and another, by their paths."""
    if cfg.data.format == "shards":
        yield ok("overlap", "not looked for by names in shards", "--duplicates compares contents")
        return
    places: dict[str, dict[str, list[int]]] = {}
    for split, records in lists.items():
        by_path: dict[str, list[int]] = defaultdict(list)
        for index, record in enumerate(records):
            by_path[os.path.normpath(record.path)].append(index)
        places[split] = by_path
    for split, by_path in places.items():
        twice = {path: indices for path, indices in by_path.items() if len(indices) > 1}
        torn = [path for path, indices in twice.items() if _differ([lists[split][index] for index in indices])]
        if torn:
            found = f"{len(torn)} with several labels: {first_few(torn)}"
            yield error(split, found, "leave one line a video; for several labels a video, data.multi_label: true")
        elif twice:
            yield warning(split, f"{len(twice)} more than once: {first_few(twice)}", "they count as often")
    yield from _check_leaks({split: set(by_path) for split, by_path in places.items()})


def _differ(records: Sequence[Record]) -> bool:
    return len({(record.label, record.labels) for record in records}) > 1


def _check_leaks(videos: Mapping[str, set[str]]) -> Iterator[Finding]:
    """What the training list has in common with the others."""
    others = [split for split in videos if split != "train"]
    learned = videos.get("train", set())
    for split in others:
        common = sorted(learned & videos[split])
        if common:
            yield error(split, f"{len(common)} also in the training list: {first_few(common)}", _LEAK)
    if learned and others and not any(learned & videos[split] for split in others):
        yield ok("overlap", "no video of the other lists is in the training list")


_LEAK = "what was learned is no test: take them out of one of the lists"


def check_copies(lists: Lists, progress: Progress = _silent) -> Iterator[Finding]:
    """The same by what is in the files: their size and first megabyte. Files of a size of their own are not read."""
    distinct = {record.path: record for records in lists.values() for record in records}
    with ThreadPoolExecutor(_THREADS) as pool:
        sizes = dict(zip(distinct, pool.map(_size, distinct.values(), chunksize=64), strict=True))
        of_size: dict[int, list[str]] = defaultdict(list)
        for path, size in sizes.items():
            of_size[size].append(path)
        doubtful = [distinct[path] for size, paths in of_size.items() if size > 0 and len(paths) > 1 for path in paths]
        heads = pool.map(_digest, doubtful)
        shown = progress(doubtful, len(doubtful), "comparing files of one size")
        digests = {record.path: digest for record, digest in zip(shown, heads, strict=True) if digest}
    copies: dict[str, set[str]] = defaultdict(set)
    for path, digest in digests.items():
        copies[digest].add(path)
    same = [paths for paths in copies.values() if len(paths) > 1]
    if not same:
        yield ok("copies", f"no two of {len(distinct)} videos have the same content")
    in_list = {split: {record.path for record in records} for split, records in lists.items()}
    for split, own in in_list.items():
        inside = [(a, b) for a, b, *_ in (sorted(own & group) for group in same if len(own & group) > 1)]
        if inside:
            told = f"{len(inside)} with copies under other names: {_pairs(inside)}"
            yield warning(split, told, "leave one of each")
        learned = in_list.get("train", set())
        leaks = [(a, b) for group in same for a in sorted(own & group) for b in sorted(learned & group)[:1] if a != b]
        if leaks and split != "train":
            told = f"{len(leaks)} with copies in the training list: {_pairs(leaks)}"
            yield error(split, told, _LEAK)


def _pairs(pairs: Sequence[tuple[str, str]]) -> str:
    return first_few((f"{a} = {b}" for a, b in pairs), limit=1)


def _size(record: Record) -> int:
    """In bytes; -1 of what is no file, or is missing."""
    if isinstance(record, ShardRecord):
        return record.size
    try:
        return os.stat(record.path).st_size if os.path.isfile(record.path) else -1
    except OSError:
        return -1


def _digest(record: Record) -> str:
    path, offset, size = record.path, 0, _size(record)
    if isinstance(record, ShardRecord):
        path, offset = record.shard, record.offset
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            return f"{size} {hashlib.sha256(file.read(min(size, _HEAD_BYTES))).hexdigest()}"
    except OSError:
        return ""
