"""What a user points at -> records to predict."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from paddlevid.data.annotations import read_list
from paddlevid.data.csv_lists import find_header
from paddlevid.data.records import Record
from paddlevid.data.shard_lists import names_shards
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


def find_records(path: str | Path, data: DataConfig, root: str | Path | None = None) -> Sequence[Record]:
    """Records of a video, of all videos under a folder, of a folder of frames, or of a list (.txt, .csv, .list).

    With `data.format` "shards" also of .tar shards: one, a pattern, a folder or a list of them.

    A folder whose pictures are named by `data.template` is one record; a model does not mind where frames are
    from. Lists have the format that the model was trained with, or are of videos: then the path of the first line is
    that of one. Their relative paths begin at `root`, by default at the folder of the list: where the training data lay
    on another machine is no matter here.

    Raises:
        DataError: there is nothing at `path`, or nothing in it that can be read.
    """
    path = Path(path)
    is_list = path.is_file() and path.suffix.lower() in LIST_SUFFIXES
    format = data.list_format
    if format == "shards" and not names_shards(str(path)):
        format = "video"  # a model does not mind where its videos are from, either
    if is_list or format == "shards":
        root = path.parent if root is None else root
        if format == "frames" and _lists_videos(path, root):
            format = "video"
        return read_list(path, format=format, root=root, labelled=False, multi_label=data.multi_label)
    if path.is_file():
        return [Record(path=str(path), name=str(path))]
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder")
    files = sorted(file for file in path.rglob("*") if file.is_file())
    pattern = _name_pattern(data.template)
    num_pictures = Counter(file.parent for file in files if pattern.fullmatch(file.name))
    records = [Record(path=str(file), name=str(file)) for file in files if file.suffix.lower() in VIDEO_SUFFIXES]
    records += [Record(path=str(folder), num_frames=n, name=str(folder)) for folder, n in num_pictures.items()]
    if not records:
        raise DataError(
            f"{path}: neither videos ({', '.join(sorted(VIDEO_SUFFIXES))}) nor pictures named like "
            f"{data.template} in this folder"
        )
    return records


def _lists_videos(list_path: Path, root: str | Path) -> bool:
    """Whether the first path of a list, below a header or with labels behind it, is that of a video that is there."""
    try:
        with open(list_path, encoding="utf-8-sig", newline="") as file:
            lines = (line.strip(" \t\r\n") for line in file)
            filled = (line for line in lines if line)
            line = next(filled, "")
            header = None if _begins_with_video(line, root) else find_header(line)
            if header is None:
                return _begins_with_video(line, root)
            row = next(csv.reader(filled, delimiter=header.delimiter), [])
            column = header.names.index(header.path)
            return column < len(row) and _begins_with_video(row[column].strip(), root)
    except (OSError, UnicodeDecodeError, csv.Error):
        return False  # whoever reads the list says what is wrong with it


def _begins_with_video(line: str, root: str | Path) -> bool:
    """Whether the path of a video is the whole line, or the part of it before a separator."""
    ends = [match.start() for match in re.finditer(r"[ \t,]|$", line)]
    names = (line[:end] for end in ends if os.path.splitext(line[:end])[1].lower() in VIDEO_SUFFIXES)
    return any(os.path.isfile(os.path.join(root, name)) for name in names)


def _name_pattern(template: str) -> re.Pattern[str]:
    """What matches the numbered names of a frame template; of flow, where each frame has two pictures, those of x."""
    return re.compile(re.sub(r"\\\{.*?\\\}", r"\\d+", re.escape(template.replace("{axis}", "x"))))
