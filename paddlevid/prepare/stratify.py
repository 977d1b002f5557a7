"""A split that gives each class its share, and keeps together what is of one source."""

from __future__ import annotations

import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from paddlevid.errors import ConfigError


class Shares(NamedTuple):
    """The shares of each class that validation and test get, each 0 to 1; the rest is for training."""

    valid: float = 0.1
    test: float = 0.0
    seed: int = 0


class _Groups:
    """The videos that stay together, with how many there are of each class."""

    def __init__(self, classes: Mapping[str, Sequence[str]], pattern: str | None) -> None:
        self.videos: defaultdict[str, list[str]] = defaultdict(list)
        self.sizes: defaultdict[str, Counter[str]] = defaultdict(Counter)  # group -> class -> videos
        self.of_class: dict[str, list[str]] = {}
        self.split_of: dict[str, str] = {}
        self.num_unmatched = 0
        compiled = None if pattern is None else _compile(pattern)
        for class_name, names in classes.items():
            keys = [self._key(compiled, name) for name in names]
            for key, name in zip(keys, names, strict=True):
                self.videos[key].append(name)
                self.sizes[key][class_name] += 1
            self.of_class[class_name] = sorted(set(keys))
        self._num_free = Counter({class_name: len(keys) for class_name, keys in self.of_class.items()})

    def _key(self, pattern: re.Pattern[str] | None, name: str) -> str:
        if pattern is None:
            return name
        match = pattern.search(name.partition("/")[2])
        if match is None:
            self.num_unmatched += 1
            return name
        return "/".join(part or "" for part in match.groups()) if match.groups() else match[0]

    def can_spare(self, key: str, num_kept: int) -> bool:
        """Whether each class of a group keeps so many other groups that no split has."""
        return all(self._num_free[class_name] > num_kept for class_name in self.sizes[key])

    def give(self, key: str, split: str) -> None:
        self.split_of[key] = split
        self._num_free.subtract(self.sizes[key].keys())


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"--group '{pattern}': not a regular expression: {error}") from None


def draw_split(
    classes: Mapping[str, Sequence[str]], shares: Shares, group: str | None = None
) -> tuple[dict[str, str], list[str]]:
    """Video -> train, valid or test, and notes on what could not be as asked.

    `classes` has the paths of the videos of each class, `CLASS/...`. What is drawn for a class depends on the
    seed and on this class alone, unless groups have videos of several. Each class gets a video in each split as long
    as it has one group more than it needs; training comes first, then validation.

    Raises:
        ConfigError: the shares leave nothing to train on, or the regular expression `group` finds nothing.
    """
    if not (shares.valid >= 0 and shares.test >= 0 and shares.valid + shares.test < 1):  # NaN fails as well
        raise ConfigError(
            f"shares of {shares.valid:g} for validation and {shares.test:g} for test: each must be 0 or more, and both "
            "together less than 1"
        )
    groups = _Groups(classes, group)
    num_videos = sum(map(len, classes.values()))
    if group is not None and groups.num_unmatched == num_videos:
        raise ConfigError(f"--group '{group}': found in no name, such as {next(iter(groups.videos))}")
    notes = []
    for split, share, num_later in (("test", shares.test, 1 + (shares.valid > 0)), ("valid", shares.valid, 1)):
        if share == 0:
            continue
        without = [name for name in sorted(classes) if not _draw(name, split, share, num_later, groups, shares.seed)]
        if without:
            notes.append(f"{len(without)} class(es) with too few videos for {split}, such as {without[0]}")
    if groups.num_unmatched:
        notes.append(
            f"{groups.num_unmatched} video(s) in whose names --group '{group}' finds nothing; each stands alone"
        )
    drawn = {name: groups.split_of.get(key, "train") for key, names in groups.videos.items() for name in names}
    return drawn, notes


def _draw(class_name: str, split: str, share: float, num_later: int, groups: _Groups, seed: int) -> int:
    """Give groups of a class to a split until it has its share; how many videos of the class it then has.

    Each class of a group keeps `num_later` groups for what is drawn after it.
    """
    own = groups.of_class[class_name]
    sizes = {key: groups.sizes[key][class_name] for key in own}
    have = sum(sizes[key] for key in own if groups.split_of.get(key) == split)
    wanted = max(1, int(share * sum(sizes.values()) + 0.5))
    rng = np.random.default_rng([seed, zlib.crc32(class_name.encode(errors="surrogateescape")), num_later])
    free = [own[place] for place in rng.permutation(len(own)) if own[place] not in groups.split_of]
    for key in free:
        then = have + sizes[key]
        is_nearer = abs(then - wanted) < abs(have - wanted) and then <= 1.5 * wanted
        if is_nearer and groups.can_spare(key, num_later):
            groups.give(key, split)
            have = then
    if have:
        return have
    for key in sorted(free, key=sizes.__getitem__):  # all are too big: the smallest one, then
        if groups.can_spare(key, num_later):
            groups.give(key, split)
            return sizes[key]
    return 0
