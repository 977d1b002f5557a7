"""The videos of a list: `Record`, and `Records`, which holds a million of them in a few arrays."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

_NONE, _SEVERAL = -(2**63), 1 - 2**63  # in place of a number


@dataclass(frozen=True, slots=True)
class Record:
    """One video or folder of frames. `path` opens it; `name` is the path as the list has it.

    Of a multi-label list, `labels` are its classes in ascending order (maybe none), and `label` is None.
    """

    path: str
    label: int | None = None
    num_frames: int | None = None
    name: str = ""
    labels: tuple[int, ...] | None = None


class Records(Sequence[Record]):
    """Records that share a root folder, made when they are asked for.

    Each costs the bytes of its name and 32 more, in memory and on its way to a worker; as an object of its own it would
    cost several hundred, in each worker.
    """

    def __init__(self, root: str = "") -> None:
        self.root = root
        self._names: bytearray = bytearray()
        self._ends: Any = array("q")  # of each name in the bytes above
        self._labels: Any = array("q")
        self._num_frames: Any = array("q")
        self._labels_of_all: Any = array("q")  # of multi-label records, one after the other
        self._label_ends: Any = array("q")

    def append(
        self, name: str, label: int | None, num_frames: int | None = None, labels: tuple[int, ...] | None = None
    ) -> None:
        """Add a record; see `Record` for what its fields are."""
        self._names += name.encode("utf-8", "surrogateescape")
        self._ends.append(len(self._names))
        self._labels.append(_SEVERAL if labels is not None else _NONE if label is None else label)
        self._num_frames.append(_NONE if num_frames is None else num_frames)
        self._labels_of_all.extend(labels or ())
        self._label_ends.append(len(self._labels_of_all))

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> Record: ...

    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...

    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        start = self._ends[index - 1] if index else 0
        name = self._names[start : self._ends[index]].decode("utf-8", "surrogateescape")
        label, num_frames, labels = self._labels[index], self._num_frames[index], None
        if label == _SEVERAL:
            first = self._label_ends[index - 1] if index else 0
            labels = tuple(self._labels_of_all[first : self._label_ends[index]])
        return Record(
            path=os.path.join(self.root, name),
            label=None if label in (_NONE, _SEVERAL) else label,
            num_frames=None if num_frames == _NONE else num_frames,
            name=name,
            labels=labels,
        )

    def __iter__(self) -> Iterator[Record]:
        return (self[index] for index in range(len(self)))

    def paths(self) -> Iterator[str]:
        """The `path` of each record, several times as fast as by way of records."""
        names, prefix, start = bytes(self._names), os.path.join(self.root, ""), 0
        for end in self._ends:
            name = names[start:end].decode("utf-8", "surrogateescape")
            # What may be an absolute path, also one of Windows, is left to the library
            yield os.path.join(self.root, name) if name[:1] in "/\\" or name[1:2] == ":" else prefix + name
            start = end

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == another for one, another in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Records({len(self)} under {self.root!r})"


def labels_of(records: Sequence[Record], missing: int) -> np.ndarray:
    """The label of each record, int64 `[N]`; `missing` where it has none."""
    if isinstance(records, Records):
        labels = np.array(records._labels, np.int64)
        return np.where((labels == _NONE) | (labels == _SEVERAL), missing, labels)
    return np.array([missing if record.label is None else record.label for record in records], np.int64)


def digest_of(records: Sequence[Record]) -> str:
    """SHA-256 of the names and labels, in their order."""
    if not isinstance(records, Records):
        held = Records()
        for record in records:
            held.append(record.name, record.label, record.num_frames, record.labels)
        records = held
    columns = (records._names, records._ends, records._labels, records._labels_of_all, records._label_ends)
    digest = hashlib.sha256()
    for column in columns:
        digest.update(memoryview(column))
    return digest.hexdigest()
