"""Videos made over into other files, in parallel, each whole or not at all; a run that was stopped goes on."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from paddlevid.data.class_names import CLASS_NAMES_FILE
from paddlevid.data.isolated import NoResult, Tick, run_isolated
from paddlevid.data.records import Record
from paddlevid.errors import DataError
from paddlevid.prepare.lists import BAD_FILE, unlistable
from paddlevid.prepare.naming import Job, list_line, plan_jobs
from paddlevid.runtime import atomic_write, fsync_folder

JOURNAL_FILE = ".made.jsonl"
PARTIAL_FOLDER = ".partial"
TIMEOUT_SEC = 120.0  # without a frame


class Made(NamedTuple):
    """What came of a video."""

    num_frames: int
    fps: float
    num_bytes: int


class _Row(NamedTuple):
    """A line of the journal: what a name was made of, by its size and its time, and what came of it."""

    name: str
    source: str
    source_bytes: int
    source_mtime_ns: int
    made: Made


Make = Callable[[str, Path, Tick], Made]  # of a video at a path, a file or folder at another; a function of a module


@dataclass
class Report:
    """What became of each video, by its absolute path; `done_before` were whole before this run."""

    names: dict[str, str] = field(default_factory=dict)
    made: dict[str, Made] = field(default_factory=dict)
    bad: dict[str, str] = field(default_factory=dict)
    done_before: int = 0
    source_bytes: int = 0


def rewrite(
    make: Make,
    records: Sequence[Record],
    root: Path,
    folder: Path,
    *,
    suffix: str,
    settings: Mapping[str, Any],
    num_workers: int,
    on_start: Callable[[int, int], None] = lambda total, done: None,
    on_done: Callable[[str, str], None] = lambda path, reason: None,
) -> Report:
    """Let `make` write what becomes of each video into a hidden folder, and rename it once it is whole.

    For `root` and `suffix` see `plan_jobs`. `settings` are all that the results depend on. `on_start` is told how many
    there are and how many are done, `on_done` of each path, with the reason where it is bad.

    Raises:
        DataError: `folder` has other things in it, was made with other settings, or another run writes into it.
        OSError: the disk is full, or refuses something else. Nothing that is not whole is left.
    """
    report = Report()
    with _lock(folder), contextlib.ExitStack() as stack:
        known = _open_journal(folder, settings)
        jobs = plan_jobs(records, root, suffix, {row.source: row.name for row in known.values()})
        stack.callback(shutil.rmtree, folder / PARTIAL_FOLDER, ignore_errors=True)
        waiting = [job for job in jobs if not _is_settled(job, folder, known, report)]
        on_start(len(jobs), len(jobs) - len(waiting))
        answers = run_isolated(
            partial(_make_one, make, str(folder)), waiting, num_workers=num_workers, timeout_sec=TIMEOUT_SEC
        )
        stack.callback(answers.close)  # type: ignore[attr-defined]
        for index, answer in answers:
            job = waiting[index]
            if isinstance(answer, OSError):
                raise answer
            if isinstance(answer, _Row):
                _add(report, job, answer)
                on_done(job.path, "")
            else:
                ended = "its decoder crashed" if isinstance(answer, NoResult) and answer.is_crash else "timed out"
                report.bad[job.path] = f"{ended}: {answer.reason}" if isinstance(answer, NoResult) else answer
                on_done(job.path, report.bad[job.path])
    return report


def _add(report: Report, job: Job, row: _Row) -> None:
    report.names[job.path], report.made[job.path] = job.name, row.made
    report.source_bytes += row.source_bytes


def _is_settled(job: Job, folder: Path, known: Mapping[str, _Row], report: Report) -> bool:
    """Whether there is nothing to do, because it is done, or bad; the report is told."""
    target, row = folder / job.name, known.get(job.name)
    reason = unlistable(job.name.lstrip(" \t\ufeff")) or ("its name ends in a comma" if job.name[-1] == "," else "")
    if reason or not os.path.isfile(job.path):
        report.bad[job.path] = reason or "no such file"
        return True
    if not os.path.lexists(target):
        return False
    if row is None or row.source != job.source:
        origin = "something else" if row is None else row.source
        raise DataError(f"{target}: is there already, made of {origin}; choose another folder for {job.path}")
    if row[2:4] != _stamp(job.path):
        return False
    _add(report, job, row)
    report.done_before += 1
    return True


def _stamp(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


def _make_one(make: Make, folder: str, job: Job, tick: Tick) -> _Row | str | OSError:
    """Returns why a bad video is bad, and what the disk refuses."""
    target = Path(folder, job.name)
    try:
        (Path(folder) / PARTIAL_FOLDER).mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=Path(folder) / PARTIAL_FOLDER, ignore_cleanup_errors=True) as place:
            part = Path(place) / target.name
            stamp = _stamp(job.path)
            try:
                made = make(job.path, part, tick)
            except DataError as error:
                return str(error).removeprefix(f"{job.path}: ")
            tick()  # a process whose parent was killed ends here: another run may be at work on this video
            part.lstat()
            row = _Row(job.name, job.source, *stamp, made)
            if target.is_dir():  # made of what the video was before
                shutil.rmtree(target)
            target.unlink(missing_ok=True)
            # First the note, then the result: that a thing is there means nothing without a note of whose it is
            _append(Path(folder) / JOURNAL_FILE, row)
            target.parent.mkdir(parents=True, exist_ok=True)
            part.rename(target)
            fsync_folder(target.parent)
            return row
    except OSError as error:
        if not error.filename or PARTIAL_FOLDER in str(error.filename):
            error.filename = str(target)
        return error


# ---- the folder, and the journal in it -------------------------------------------------------------------------------


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Hold the folder for this run alone, where the system can; also after a run that was killed."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:
        yield
        return
    with open(folder / JOURNAL_FILE, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"{folder}: another run writes into this folder; wait for its end") from None
        except OSError:
            pass  # a file system without locks
        yield


def _open_journal(folder: Path, settings: Mapping[str, Any]) -> dict[str, _Row]:
    """What is noted, by name; a new journal is begun where there is none. Lines that were cut off do not count."""
    path = folder / JOURNAL_FILE
    shutil.rmtree(folder / PARTIAL_FOLDER, ignore_errors=True)
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    whole = [line for line in lines if line.endswith(b"\n")]
    if not whole:
        path.write_text(json.dumps(dict(settings)) + "\n", encoding="utf-8")
        return {}
    if len(whole) < len(lines):
        path.write_bytes(b"".join(whole))
    noted = json.loads(whole[0])
    differ = [f"{key} {noted.get(key)}, not {value}" for key, value in settings.items() if noted.get(key) != value]
    if differ:
        raise DataError(f"{folder}: was made with {'; '.join(differ)}; choose another folder, or delete this one")
    rows = [json.loads(line) for line in whole[1:]]
    return {row[0]: _Row(row[0], row[1], row[2], row[3], Made(*row[4])) for row in rows}


def _append(path: Path, row: _Row) -> None:
    line = json.dumps(row).encode() + b"\n"
    with open(path, "ab", buffering=0) as file:  # at once: several processes write
        file.write(line)
        os.fsync(file.fileno())


# ---- what is written beside --------------------------------------------------------------------------------------


def write_list(records: Sequence[Record], report: Report, path: Path, *, is_frames: bool) -> int:
    """Write the list of what was made, in the order of `records` and with their labels; how many lines it has."""
    num_lines = 0

    def write(temporary: str) -> None:
        nonlocal num_lines
        with open(temporary, "w", encoding="utf-8", newline="\n") as file:
            num_lines = _write_lines(file, records, report, is_frames)

    atomic_write(path, write)
    return num_lines


def _write_lines(file: TextIO, records: Sequence[Record], report: Report, is_frames: bool) -> int:
    num_lines = 0
    for record in records:
        key = os.path.abspath(record.path)
        if key in report.made:
            num_frames = report.made[key].num_frames if is_frames else None
            file.write(list_line(report.names[key], record, num_frames) + "\n")
            num_lines += 1
    return num_lines


def write_bad(records: Sequence[Record], report: Report, folder: Path) -> None:
    """Name the bad videos and the reasons in `folder`; those of other lists that were named before stay named."""
    path = folder / BAD_FILE
    lines: dict[str, str] = {}
    with contextlib.suppress(FileNotFoundError):
        found = path.read_text("utf-8", errors="replace").split("\n")
        lines = dict(line.split("\t", 1) for line in found if "\t" in line)
    for record in records:
        name = repr(record.name)[1:-1] if unlistable(record.name) else record.name
        reason = report.bad.get(os.path.abspath(record.path))
        lines.pop(name, None)
        if reason is not None:
            lines[name] = " ".join(reason.split())
    text = "".join(f"{name}\t{reason}\n" for name, reason in lines.items())
    atomic_write(path, lambda temporary: Path(temporary).write_text(text, encoding="utf-8"))


def copy_class_names(source: Path, target: Path) -> None:
    """Copy the names of the classes beside one list to beside another, where there are any."""
    names = source.parent / CLASS_NAMES_FILE
    copy = target.parent / CLASS_NAMES_FILE
    if names.is_file() and not (copy.exists() and names.samefile(copy)):
        content = names.read_bytes()
        atomic_write(copy, lambda path: Path(path).write_bytes(content))
