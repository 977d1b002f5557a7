"""Trees of empty files, lists as text, and what the tools print to go on with."""

from __future__ import annotations

import shlex
from pathlib import Path

from paddlevid.data.annotations import read_list


def plant(root: Path, *names: str) -> Path:
    """Empty files below `root`."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def records(path: Path, root: Path, *, labelled: bool = True) -> list[tuple[str, int | None]]:
    """What paddlevid reads in a list: names and labels."""
    found = read_list(path, format="video", root=root, labelled=labelled)
    assert all(record.path == str(root / record.name) for record in found)
    return [(record.name, record.label) for record in found]


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def command(out: str) -> tuple[list[str], list[str]]:
    """The command line that a tool prints last: its words without the overrides, and these."""
    words = shlex.split(out.splitlines()[-1])
    assert words[:2] == ["python", "main.py"]
    places = [place for place, word in enumerate(words) if word == "-o"]
    overrides = [words[place + 1] for place in places]
    taken = {place + step for place in places for step in (0, 1)}
    return [word for place, word in enumerate(words) if place not in taken], overrides
