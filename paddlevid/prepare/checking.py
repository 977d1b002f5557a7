"""Videos looked at before they come onto a list, in processes of their own; a journal keeps what was found."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple

from paddlevid.data.check import check_record
from paddlevid.data.dataset import FrameSource
from paddlevid.data.isolated import NoResult, Tick, run_isolated
from paddlevid.data.records import Record
from paddlevid.data.video import open_video
from paddlevid.errors import DataError
from paddlevid.prepare.lists import unlistable

Level = Literal["none", "quick", "full"]


class Verdict(NamedTuple):
    """What a check found; `reason` is empty where nothing is wrong. It holds as long as size and time are the same."""

    size: int
    mtime_ns: int
    level: str
    reason: str


class Journal:
    """A file with a line for each video that was checked: what a killed process has found, the next one need not.

    It holds the verdicts by name; the last one on a video counts. A line that was cut off is dropped. `written` are the
    names of the files beside it that a run wrote or was about to write; None where nothing is known of these.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        self.verdicts: dict[str, Verdict] = {}
        self.written: list[str] | None = None
        self._file.seek(0)
        end = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                self._file.truncate(end)
                break
            end += len(line)
            try:
                content = json.loads(line)
                if isinstance(content, dict):
                    self.written = [name for name in content["written"] if os.path.basename(name) == name]
                    continue
                name, *verdict = content
                self.verdicts[name] = Verdict(*verdict)
            except (ValueError, TypeError, KeyError):
                continue  # damaged, or not ours: that video is checked again

    def add(self, name: str, verdict: Verdict) -> None:
        """Keep a verdict; it is with the system when this returns."""
        self.verdicts[name] = verdict
        self._add_line([name, *verdict])

    def note_written(self, names: Iterable[str]) -> None:
        """Keep which files beside it are ours, in place of what is known of that."""
        names = sorted(names)
        if names != self.written:
            self.written = names
            self._add_line({"written": names})

    def _add_line(self, content: object) -> None:
        self._file.write(json.dumps(content).encode() + b"\n")
        self._file.flush()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


class Checked(NamedTuple):
    """The videos that are bad, with reasons; how many were looked at now, and how many an earlier run knew."""

    bad: dict[str, str]
    num_checked: int
    num_known: int


def check_names(
    root: str | Path,
    names: Iterable[str],
    level: Level,
    journal: Journal,
    *,
    num_workers: int,
    timeout_sec: float,
    on_start: Callable[[int], object] = lambda count: None,
    on_done: Callable[[], object] = lambda: None,
) -> Checked:
    """Check the videos under `root`: `quick` opens each and reads its packets, `full` decodes every frame.

    With `none`, only names that no list can hold are bad. `on_start` is told how many videos there are to look at. A
    video that crashes its process twice, or does not go on for `timeout_sec`, is bad, but not for the journal: the
    next run tries it again.
    """
    bad, states, num_known = _look_up(root, names, level, journal.verdicts)
    on_start(len(states))
    unchecked = list(states)
    paths = [os.path.join(root, name) for name in unchecked]
    work = partial(check_video, level)
    for index, answer in run_isolated(work, paths, num_workers=num_workers, timeout_sec=timeout_sec):
        name = unchecked[index]
        if isinstance(answer, NoResult):
            kind = "crashed the decoder" if answer.is_crash else "timed out"
            bad[name] = f"{kind}: {answer.reason}"
        else:
            state = states[name]
            journal.add(name, Verdict(state.st_size, state.st_mtime_ns, level, answer))
            if answer:
                bad[name] = answer
        on_done()
    return Checked(dict(sorted(bad.items())), len(unchecked), num_known)


def _look_up(
    root: str | Path, names: Iterable[str], level: Level, verdicts: Mapping[str, Verdict]
) -> tuple[dict[str, str], dict[str, os.stat_result], int]:
    """The videos that are known to be bad, those still to be checked, and how many the journal knew."""
    bad, states, num_known = {}, {}, 0
    for name in names:
        if reason := unlistable(name):
            bad[name] = reason
        elif level != "none":
            try:
                state = os.stat(os.path.join(root, name))
            except OSError as error:
                bad[name] = f"missing: {error.strerror}"
                continue
            verdict = _known(verdicts, name, state, level)
            if verdict is None:
                states[name] = state
                continue
            num_known += 1
            if verdict.reason:
                bad[name] = verdict.reason
    return bad, states, num_known


def _known(verdicts: Mapping[str, Verdict], name: str, state: os.stat_result, level: Level) -> Verdict | None:
    """What is known of a file of this size and time; what passed the quick check may still fail the full one."""
    verdict = verdicts.get(name)
    if verdict is None or (verdict.size, verdict.mtime_ns) != (state.st_size, state.st_mtime_ns):
        return None
    return verdict if verdict.reason or verdict.level in ("full", level) else None


def check_video(level: Level, path: str, tick: Tick) -> str:
    """What is wrong with a video in one line; empty where nothing is."""
    if level == "full":
        finding = check_record(FrameSource(), Record(path=path), tick)
        return "" if finding is None else str(finding)
    try:
        with open_video(path):
            return ""
    except DataError as error:
        return str(error).removeprefix(f"{path}: ")
