"""Videos made over into other files, in parallel, each whole or not at all; a run that was stopped goes on."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from paddlevid.data.class_names import CLASS_NAMES_FILE
from paddlevid.data.isolated import NoResult, Tick, run_isolated
from paddlevid.data.records import Record
from paddlevid.errors import DataError
from paddlevid.prepare.journal import (
    JOURNAL_FILE,
    PARTIAL_FOLDER,
    ListNote,
    Made,
    Notes,
    Row,
    append_line,
    claim_list,
    hold,
    open_journal,
)
from paddlevid.prepare.lists import BAD_FILE, unlistable
from paddlevid.prepare.naming import Job, list_line, plan_jobs
from paddlevid.runtime import atomic_write, fsync_folder

TIMEOUT_SEC = 120.0  # without a frame

Make = Callable[[str, Path, Tick], Made]  # of a video at a path, a file or folder at another; a function of a module


@dataclass
class Report:
    """What became of each video, by its real path; `done_before` were whole before this run, with so many frames."""

    names: dict[str, str] = field(default_factory=dict)
    made: dict[str, Made] = field(default_factory=dict)
    bad: dict[str, str] = field(default_factory=dict)
    done_before: int = 0
    frames_before: int = 0
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
    note: ListNote | None = None,
    on_start: Callable[[int, int], None] = lambda total, done: None,
    on_done: Callable[[str, str], None] = lambda path, reason: None,
) -> Report:
    """Let `make` write what becomes of each video into a hidden folder, and rename it once it is whole.

    For `root` and `suffix` see `plan_jobs`. `settings` are all that the results depend on. `note` says of what the list
    is that will be written. `on_start` is told how many there are and how many are done, `on_done` of each other path,
    with the reason where it is bad.

    Raises:
        DataError: `folder` has other things in it, was made with other settings, or another run writes into it.
        OSError: the disk is full, or refuses something else. Nothing that is not whole is left.
    """
    report = Report()
    with hold(folder), contextlib.ExitStack() as stack:
        shutil.rmtree(folder / PARTIAL_FOLDER, ignore_errors=True)
        notes = open_journal(folder, settings)
        if note is not None:
            claim_list(folder, notes, note)
        known = {row.name: row.source for row in notes.rows.values()}
        # Whose a thing is of which a torn line may have told, nobody knows: leave it
        jobs = plan_jobs(records, root, suffix, known, lambda name: notes.is_torn and os.path.lexists(folder / name))
        stack.callback(shutil.rmtree, folder / PARTIAL_FOLDER, ignore_errors=True)
        waiting = [job for job in jobs if not _is_settled(job, folder, notes, report)]
        on_start(len(jobs), report.done_before)
        for job in jobs:
            if job.source in report.bad:
                on_done(job.path, report.bad[job.source])
        answers = run_isolated(
            partial(_make_one, make, str(folder)), waiting, num_workers=num_workers, timeout_sec=TIMEOUT_SEC
        )
        stack.callback(answers.close)  # type: ignore[attr-defined]
        for index, answer in answers:
            job = waiting[index]
            if isinstance(answer, OSError):
                raise answer
            if isinstance(answer, Row):
                _add(report, job, answer)
                on_done(job.path, "")
            else:
                ended = "its decoder crashed" if isinstance(answer, NoResult) and answer.is_crash else "timed out"
                report.bad[job.source] = f"{ended}: {answer.reason}" if isinstance(answer, NoResult) else answer
                on_done(job.path, report.bad[job.source])
    return report


def _add(report: Report, job: Job, row: Row) -> None:
    report.names[job.source], report.made[job.source] = job.name, row.made
    report.source_bytes += row.source_bytes


def _is_settled(job: Job, folder: Path, notes: Notes, report: Report) -> bool:
    """Whether there is nothing to do, because it is done, or bad; the report is told."""
    target, row = folder / job.name, notes.rows.get(job.name)
    reason = unlistable(job.name.lstrip(" \t\ufeff")) or ("its name ends in a comma" if job.name[-1] == "," else "")
    if reason or not os.path.isfile(job.path):
        report.bad[job.source] = reason or _why_no_file(job.path)
        return True
    if not os.path.lexists(target):
        return False
    if row is None:
        raise DataError(f"{target}: is there already, made of something else; choose another folder")
    if row[2:4] != _stamp(job.path):
        return False
    _add(report, job, row)
    report.done_before += 1
    report.frames_before += row.made.num_frames
    return True


def _why_no_file(path: str) -> str:
    folder = re.sub(r"[ \t]+\d+$", "", path)  # of a line `path num_frames label`, the label is off
    if os.path.isdir(folder):
        return "is a folder of frames, it seems; only videos can be made over" if os.listdir(folder) else "is a folder"
    return "no such file"


def _stamp(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


def _make_one(make: Make, folder: str, job: Job, tick: Tick) -> Row | str | OSError:
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
            row = Row(job.name, job.source, *stamp, made)
            if target.is_dir():  # made of what the video was before
                shutil.rmtree(target)
            target.unlink(missing_ok=True)
            # First the note, then the result: that a thing is there means nothing without a note of whose it is
            append_line(Path(folder) / JOURNAL_FILE, row)
            target.parent.mkdir(parents=True, exist_ok=True)
            part.rename(target)
            fsync_folder(target.parent)
            return row
    except OSError as error:
        if not error.filename or PARTIAL_FOLDER in str(error.filename):
            error.filename = str(target)
        return error


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
        key = os.path.realpath(record.path)
        if key in report.made:
            num_frames = report.made[key].num_frames if is_frames else None
            file.write(list_line(report.names[key], record, num_frames) + "\n")
            num_lines += 1
    return num_lines


def write_bad(records: Sequence[Record], report: Report, folder: Path) -> None:
    """Name the bad videos and the reasons in `folder`; see `write_reasons`."""
    names = ((record.name, report.bad.get(os.path.realpath(record.path))) for record in records)
    write_reasons(folder / BAD_FILE, names)


def write_reasons(path: Path, reasons: Iterable[tuple[str, str | None]]) -> None:
    """Write what is wrong with videos, by their names; those of other lists that are in the file stay there.

    A reason of None takes a name off the file. Without any there is no file.
    """
    lines: dict[str, str] = {}
    with contextlib.suppress(FileNotFoundError):
        found = path.read_text("utf-8", errors="replace").split("\n")
        lines = {line.split("\t")[0]: line for line in found if line}
    for raw_name, reason in reasons:
        name = repr(raw_name)[1:-1] if unlistable(raw_name) else raw_name
        lines.pop(name, None)
        if reason is not None:
            lines[name] = f"{name}\t{' '.join(reason.split())}"
    if not lines:
        path.unlink(missing_ok=True)
        return
    text = "".join(f"{line}\n" for line in lines.values())
    atomic_write(path, lambda temporary: Path(temporary).write_text(text, encoding="utf-8"))


def copy_class_names(source: Path, target: Path) -> None:
    """Copy the names of the classes beside one list to beside another, where there are any."""
    names = source.parent / CLASS_NAMES_FILE
    copy = target.parent / CLASS_NAMES_FILE
    if names.is_file() and not (copy.exists() and names.samefile(copy)):
        content = names.read_bytes()
        atomic_write(copy, lambda path: Path(path).write_bytes(content))
