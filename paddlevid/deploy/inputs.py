"""What a user points at -> records to predict."""

from __future__ import annotations

import re
from pathlib import Path

from paddlevid.data.annotations import Record, read_list
from paddlevid.errors import DataError
from paddlevid.schema.data import DataConfig

VIDEO_SUFFIXES = {
    ".mp4",
    ".avi",
    ".mkv",
    ".webm",
    ".mov",
    ".m4v",
    ".mpg",
    ".mpeg",
    ".wmv",
    ".flv",
    ".3gp",
    ".ts",
    ".gif",
}
LIST_SUFFIXES = {".txt", ".csv", ".list"}


def find_records(path: str | Path, data: DataConfig) -> list[Record]:
    """Records of a video, of all videos under a folder, of a folder of frames, or of a list (.txt, .csv, .list).

    Raises:
        DataError: there is nothing at `path`, or nothing in it that the model can read.
    """
    path = Path(path)
    if path.is_file() and path.suffix.lower() in LIST_SUFFIXES:
        return read_list(path, format=data.format, root=data.root, labelled=False)
    if data.format == "frames":
        return [_frame_folder(path, data.frame_template)]
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in VIDEO_SUFFIXES and file.is_file())
        if not files:
            raise DataError(f"{path}: no videos in this folder ({', '.join(sorted(VIDEO_SUFFIXES))})")
        return [Record(path=str(file), name=str(file)) for file in files]
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    return [Record(path=str(path), name=str(path))]


def _frame_folder(path: Path, template: str) -> Record:
    """A folder of numbered pictures, counted by the names that fit the template."""
    pattern = re.sub(r"\\\{.*?\\\}", r"\\d+", re.escape(template))
    names = [file.name for file in path.iterdir()] if path.is_dir() else []
    num_frames = sum(re.fullmatch(pattern, name) is not None for name in names)
    if num_frames == 0:
        raise DataError(f"{path}: no folder with pictures named like {template}")
    return Record(path=str(path), num_frames=num_frames, name=str(path))
