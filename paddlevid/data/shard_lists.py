"""Lists of tar shards -> records of the clips in them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from paddlevid.data.isolated import NoResult, Tick, run_isolated
from paddlevid.data.shard_index import ShardIndex, index_shard, kept_index
from paddlevid.data.shards import ShardRecords
from paddlevid.errors import DataError
from paddlevid.runtime import num_cores

_MIN_PROCESSES = 8  # that read headers at once: a network disk lets each of them wait
_TIMEOUT_SEC = 120.0  # for one header
_MAX_ERRORS_TOLD = 3


def read_shards(
    source: str,
    *,
    root: str,
    parse_label: Callable[[str], tuple[int, ...] | None],
    multi_label: bool,
    labelled: bool,
    num_classes: int | None,
) -> ShardRecords:
    """The clips of all shards of a list, in the order of the shards, and within each in its own.

    `source` is a text file with the path of a shard a line, from `root`; or a pattern such as
    `train-{000000..000099}.tar`, a folder of .tar files, or one of them, and then `root` is not asked for. Shards are
    indexed at the first time, several at once.

    Raises:
        DataError: a shard is missing, cut off or no tar file, or a sample has no label or one outside 0..num_classes-1.
    """
    folder, names = find_shards(source, root)
    paths = [os.path.join(folder, name) for name in names]
    records = ShardRecords(folder)
    has_label = False
    for path, name, index in zip(paths, names, index_shards(paths), strict=True):
        records.add_shard(path, index)
        for clip, text in zip(index.names, index.labels, strict=True):
            try:
                labels = parse_label(text)
                if labels and labelled:
                    _check_range(labels, num_classes)
                    has_label = True
            except ValueError as error:
                raise DataError(f"{path}/{clip}: {error}; labels are KEY.cls, KEY.json or KEY.txt") from None
            if multi_label and labels is not None:
                records.append(f"{name}/{clip}", None, None, tuple(sorted(labels)))
            else:
                records.append(f"{name}/{clip}", labels[0] if labels else None)
    if labelled and not has_label:
        raise DataError(f"{source}: none of its {len(records)} videos has a label")
    return records


def _check_range(labels: tuple[int, ...], num_classes: int | None) -> None:
    for label in labels:
        if label < 0 or (num_classes is not None and label >= num_classes):
            wanted = "0 or more" if num_classes is None else f"0 to {num_classes - 1} for {num_classes} classes"
            raise ValueError(f"label {label} must be {wanted}")
    if len(set(labels)) < len(labels):
        raise ValueError(f"a label stands there twice: {list(labels)}")


def find_shards(source: str, root: str = "") -> tuple[str, list[str]]:
    """A folder, and the paths of shards from there, of what `read_shards` takes for a source."""
    if os.path.isdir(source):
        names = sorted(name for name in os.listdir(source) if name.endswith(".tar") and not name.startswith("."))
        if not names:
            raise DataError(f"{source}: no .tar shards in this folder")
        return source, names
    if source.endswith(".tar"):
        folder, pattern = os.path.split(source)
        if os.path.exists(source) or "{" not in source:
            return folder, [pattern]
        if "{" in folder:
            return "", _expand(source, source)
        return folder, _expand(pattern, source)
    try:
        lines = Path(source).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{source}: cannot read this list of shards: {getattr(error, 'strerror', error)}") from None
    names = []
    for number, line in enumerate(lines, start=1):
        name = line.strip()
        if name and not name.endswith(".tar"):
            raise DataError(
                f"{source}:{number}: expected the path of a .tar shard (data.format: shards), found {name!r}"
            )
        if name:
            names += [name] if os.path.exists(os.path.join(root, name)) else _expand(name, f"{source}:{number}")
    if not names:
        raise DataError(f"{source}: this list is empty; expected a path of a .tar shard a line")
    return root, names


def names_shards(source: str) -> bool:
    """Whether this is a .tar file, a pattern of such, a folder of them, or a list whose first line is one."""
    if source.endswith(".tar"):
        return True
    try:
        if os.path.isdir(source):
            return any(name.endswith(".tar") for name in os.listdir(source))
        with open(source, encoding="utf-8-sig") as lines:
            return next((line.strip() for line in lines if line.strip()), "").endswith(".tar")
    except (OSError, UnicodeDecodeError):
        return False


def _expand(pattern: str, where: str) -> list[str]:
    if "{" not in pattern:
        return [pattern]
    try:
        from braceexpand import braceexpand

        return list(braceexpand(pattern))
    except ImportError:
        raise DataError(
            f'{where}: patterns need braceexpand (pip install -e ".[shards]"); a folder of shards, or a text file with '
            "a shard a line, needs nothing"
        ) from None
    except ValueError as error:
        raise DataError(f"{where}: not a pattern such as train-{{000000..000099}}.tar: {error}") from None


def index_shards(paths: Sequence[str]) -> list[ShardIndex]:
    """The index of each shard; those that are not kept are made in several processes.

    Raises:
        DataError: shards that cannot be used; it names the first of them.
    """
    found: dict[str, ShardIndex] = {}
    errors: dict[str, str] = {}
    missing = []
    for path in dict.fromkeys(paths):
        try:
            kept = kept_index(path)
        except DataError as error:
            errors[path] = str(error)
            continue
        if kept is None:
            missing.append(path)
        else:
            found[path] = kept
    for path, answer in _index_missing(missing):
        if isinstance(answer, ShardIndex):
            found[path] = answer
        else:
            errors[path] = answer
    if errors:
        told = [errors[path] for path in paths if path in errors][:_MAX_ERRORS_TOLD]
        more = f" ({len(errors)} of {len(found) + len(errors)} shards cannot be used)" if len(paths) > 1 else ""
        raise DataError("; ".join(told) + more)
    return [found[path] for path in paths]


def _index_missing(paths: list[str]) -> Iterator[tuple[str, ShardIndex | str]]:
    from tqdm import tqdm

    with tqdm(total=len(paths), desc="indexing shards", unit="shard", disable=not sys.stderr.isatty()) as bar:
        if len(paths) < _MIN_PROCESSES:  # not worth the start of processes
            for path in paths:
                yield path, _index(path, lambda: None)
                bar.update()
            return
        workers = min(len(paths), max(num_cores(), _MIN_PROCESSES))
        for number, answer in run_isolated(_index, paths, num_workers=workers, timeout_sec=_TIMEOUT_SEC):
            yield paths[number], f"{paths[number]}: {answer.reason}" if isinstance(answer, NoResult) else answer
            bar.update()


def _index(path: str, tick: Tick) -> ShardIndex | str:
    """The index, or why there is none."""
    try:
        return index_shard(path, tick)
    except DataError as error:
        return str(error)
