"""Videos of a training list that turned out unreadable: each named once, counted, listed, and limited in number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import paddle

from paddlevid.data.records import Record
from paddlevid.errors import DataError
from paddlevid.ranks import on_first
from paddlevid.runtime import Ranks, atomic_write, logger


class BadVideos:
    """What a run knows of unreadable videos, the same in all processes after each `report`.

    `max_share` is the share of the list from 0 to 1 that may be unreadable before the run ends.
    """

    def __init__(self, records: Sequence[Record], list_path: str, folder: Path, ranks: Ranks, max_share: float) -> None:
        self.reasons: dict[str, str] = {}  # by name, in the order in which they were found
        self._records = records
        self._list_path = list_path
        self._path = folder / "bad_videos.txt"
        self._ranks = ranks
        self._max_share = max_share
        self._new: dict[str, str] = {}

    def add(self, failures: Iterable[tuple[int, str]]) -> None:
        """Take in what a batch reports: index of the record and reason."""
        for index, reason in failures:
            record = self._records[index]
            if record.name not in self.reasons:
                self._new.setdefault(record.name, reason.removeprefix(f"{record.path}: "))

    @property
    def num_new(self) -> int:
        """How many were found since the last report, by this process."""
        return len(self._new)

    def report(self) -> None:
        """Name those that are new, write the list, and see whether there are too many; all processes together.

        Raises:
            DataError: more than `max_share` of the list is unreadable.
        """
        found = [self._new]
        if self._ranks.world > 1:
            found = []
            paddle.distributed.all_gather_object(found, self._new)
        self._new = {}
        new = {name: reason for part in found for name, reason in part.items() if name not in self.reasons}
        self.reasons.update(new)
        for name, reason in new.items():
            logger.info(f"unreadable, another video takes its place: {name}: {reason}")
        if new:
            on_first(self._ranks, self.write)  # all wait for it: who leaves first, is taken for the cause of the end
        # One is no share of a short list
        if len(self.reasons) > max(self._max_share * len(self._records), 1.0 if self._max_share else 0.0):
            raise DataError(
                f"{self._list_path}: {len(self.reasons)} of {len(self._records)} videos could not be read so far, "
                f"more than train.max_bad_share {self._max_share:g} of them; they are listed in {self._path}, the "
                f"first is {': '.join(next(iter(self.reasons.items())))}; leave them out (tools/check_videos.py makes "
                "a list without the broken ones), or raise that share"
            )

    def restore(self, reasons: dict[str, str]) -> None:
        """Take over what the run knew at a checkpoint."""
        self.reasons = dict(reasons)

    def write(self) -> None:
        """Write `bad_videos.txt`, a name and the reason a line; a disk that refuses it is told, no more."""
        lines = "".join(f"{name}\t{' '.join(reason.split())}\n" for name, reason in self.reasons.items())
        try:
            atomic_write(self._path, lambda path: Path(path).write_text(lines, encoding="utf-8"))
        except OSError as error:
            logger.warning(f"warning: {self._path}: {error.strerror}")
