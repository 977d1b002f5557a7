"""Files that a command is asked to write, looked at before it reads anything."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from paddlevid.errors import ConfigError


def check_outputs(source: str | Path, outputs: Mapping[str, str | None]) -> None:
    """Make sure that nothing that is written destroys what is read, or what else is written.

    Args:
        source: a file, a folder, or something else that a stream is read from, such as a URL.
        outputs: the path of each option that has one. Devices, such as /dev/stdout, may stand for several.

    Raises:
        ConfigError: a path is the source, lies in a source that is a folder, is that of two options, is a folder
            itself, or lies in a folder that is not there.
    """
    source_path = Path(str(source).removeprefix("file:"))
    seen: dict[str, Path] = {}
    for option, text in outputs.items():
        if text is None:
            continue
        path = Path(text)
        _check_place(option, path)
        if path.exists() and not path.is_file():
            continue  # a device or a pipe
        if _is_same(path, source_path):
            raise ConfigError(f"{option} {path}: would be written over the input")
        if source_path.is_dir() and source_path.resolve() in path.resolve().parents:
            raise ConfigError(f"{option} {path}: lies in the folder {source_path}, which is the input")
        for other, taken in seen.items():
            if _is_same(path, taken):
                raise ConfigError(f"{option} {path}: {other} is to be written there as well")
        seen[option] = path


def _check_place(option: str, path: Path) -> None:
    if path.is_dir():
        raise ConfigError(f"{option} {path}: is a folder; give the name of a file")
    if not path.parent.is_dir():
        raise ConfigError(f"{option} {path}: there is no folder {path.parent}; make it first")


def _is_same(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):  # one of them is not there, or a URL
        return os.path.realpath(one) == os.path.realpath(other)
