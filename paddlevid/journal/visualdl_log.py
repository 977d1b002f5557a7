"""The VisualDL log of a run, one file that has each step once, also after the run was resumed.

VisualDL's own writer begins another file each time, of which VisualDL shows the newest alone, and a record that it
could write only half, for want of space, makes all that follow unreadable. A log is a row of records, each behind its
length in eight bytes.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from paddlevid.runtime import atomic_write

APPENDING = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)  # the last for Windows
MAX_PENDING_BYTES = 2**26  # of records that wait for space on the disk


class AppendedFile:
    """A file that grows by whole pieces; a piece that a full disk refuses waits for the next one."""

    def __init__(self, path: Path):
        self.path = path
        self._pending = b""

    def append(self, piece: bytes) -> None:
        """Write what waits, and `piece`. Raises OSError if the disk takes no more; the file is then as it was."""
        self._pending += piece
        if len(self._pending) > MAX_PENDING_BYTES:
            self._pending = b""
        descriptor = os.open(self.path, APPENDING, 0o666)
        try:
            size = os.fstat(descriptor).st_size
            rest = memoryview(self._pending)
            try:
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
            except OSError as error:
                os.ftruncate(descriptor, size)
                error.filename = str(self.path)
                raise
        finally:
            os.close(descriptor)
        self._pending = b""


def start_log(folder: Path, rows: Iterable[dict[str, Any]], start_step: int) -> Path:
    """Begin the log of a run: scalars of `rows`, and of older logs the histograms and pictures up to `start_step`.

    Args:
        rows: as in `metrics.jsonl`: split, step, and the scalars.
        start_step: 0 for a run from scratch, which keeps nothing of older ones. A run shows its clips where it starts,
            so a picture of this very step is about to be made again.
    """
    from visualdl.proto.record_pb2 import Record

    old_files = sorted(folder.glob("vdlrecords*"))
    old_values = [value for path in old_files for value in read_log(path)]
    times = {(value.tag, value.id): value.timestamp for value in old_values}
    meta = Record.Value(
        id=0, tag="meta_data_tag", timestamp=_now(), meta_data=Record.MetaData(display_name="")
    )  # VisualDL wants it first
    values = [meta]
    for row in rows:
        for tag, number in scalars_of(row):
            timestamp = times.get((tag, row["step"]), meta.timestamp)
            values.append(Record.Value(id=row["step"], tag=tag, timestamp=timestamp, value=number))
    last = {"histogram": start_step, "image": start_step - 1} if start_step else {}
    others = {
        (value.tag, value.id): value for value in old_values if value.id <= last.get(value.WhichOneof("one_value"), -1)
    }
    values += others.values()
    path = folder / f"vdlrecords.{time.time():010.0f}.log"
    atomic_write(path, lambda temporary: Path(temporary).write_bytes(b"".join(map(_packed, values))))
    for old in old_files:
        if old != path:
            old.unlink()
    return path


def scalars_of(row: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """The tags and values of a row of `metrics.jsonl`."""
    for name, value in row.items():
        if name not in {"split", "step"}:
            yield f"{row['split']}/{name}", float(value)


def scalar_records(row: dict[str, Any]) -> bytes:
    """A row of `metrics.jsonl` as records."""
    from visualdl.proto.record_pb2 import Record

    values = [Record.Value(id=row["step"], tag=tag, timestamp=_now(), value=number) for tag, number in scalars_of(row)]
    return b"".join(map(_packed, values))


def image_record(tag: str, step: int, png: bytes) -> bytes:
    from visualdl.proto.record_pb2 import Record

    image = Record.Image(encoded_image_string=png)
    return _packed(Record.Value(id=step, tag=tag, timestamp=_now(), image=image))


def histogram_record(tag: str, step: int, values: np.ndarray, bins: int = 50) -> bytes:
    """A histogram of the finite ones of `values`; nothing where there are none."""
    from visualdl.proto.record_pb2 import Record

    finite = values[np.isfinite(values)].astype(np.float64)
    if not finite.size:
        return b""
    counts, edges = np.histogram(finite, bins=bins)
    histogram = Record.Histogram(hist=counts.astype(np.float64).tolist(), bin_edges=edges.tolist())
    return _packed(Record.Value(id=step, tag=tag, timestamp=_now(), histogram=histogram))


def read_log(path: str | Path) -> Iterator[Any]:
    """The `Record.Value`s of a log up to where it ends, or is damaged."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from visualdl.proto.record_pb2 import Record

    data = Path(path).read_bytes()
    start = 0
    while start + 8 <= len(data):
        (length,) = struct.unpack_from("<Q", data, start)
        start += 8
        try:
            record = Record.FromString(data[start : start + length])
        except DecodeError:
            return
        yield from record.values
        start += length


def _packed(value: Any) -> bytes:
    from visualdl.proto.record_pb2 import Record

    data = Record(values=[value]).SerializeToString()
    return struct.pack("<Q", len(data)) + data


def _now() -> int:
    return round(time.time() * 1000)
