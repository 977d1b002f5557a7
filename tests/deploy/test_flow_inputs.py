"""What a model of stored flow or frames is given to predict: plain videos, too, one, a folder or a list of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from paddlevid.config import load_config
from paddlevid.data.records import Record
from paddlevid.deploy.inputs import find_records
from paddlevid.errors import DataError
from paddlevid.schema.data import DataConfig

FLOW = ["data.modality=flow", "data.mean=[0.5, 0.5]", "data.std=[0.2, 0.2]", "data.format=flow"]
FRAMES = ["data.format=frames"]


@pytest.fixture(params=[FLOW, FRAMES], ids=["flow", "frames"])
def data(request: pytest.FixtureRequest, tiny_recipe: Callable[[str], Path]) -> DataConfig:
    return load_config(tiny_recipe("tsn"), request.param).data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two videos, and two folders of pictures; one is called like a video."""
    (tmp_path / "a b").mkdir()
    for name in ("a b/x, y.mp4", "z.AVI"):
        (tmp_path / name).touch()
    for name in ("flow", "w.mp4"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("a b/x, y.mp4 0\nz.AVI 7\n", (0, 7)),
        ("\ufeff\r\na b/x, y.mp4,0\r\nz.AVI, 7\r\n", (0, 7)),
        ("a b/x, y.mp4\nz.AVI\n", (None, None)),
        ('label,path\n\n3,"a b/x, y.mp4"\n4,z.AVI\n', (3, 4)),
        ("{root}/a b/x, y.mp4\n{root}/z.AVI\n", (None, None)),
    ],
)
def test_a_list_of_videos(data: DataConfig, folder: Path, text: str, labels: tuple[int | None, int | None]) -> None:
    path = folder / "list.txt"
    path.write_text(text.replace("{root}", str(folder)), newline="")
    found = list(find_records(path, data))
    videos = [str(folder / "a b/x, y.mp4"), str(folder / "z.AVI")]
    assert [(record.path, record.label, record.num_frames) for record in found] == [
        (video, label, None) for video, label in zip(videos, labels, strict=True)
    ]
    (folder / "elsewhere").mkdir()
    moved = path.rename(folder / "elsewhere" / "list.txt")
    assert list(find_records(moved, data, folder)) == found


def test_several_labels_a_video(data: DataConfig, folder: Path) -> None:
    (folder / "list.txt").write_text("z.AVI 0,4\na b/x, y.mp4 -\n")
    found = find_records(folder / "list.txt", data.model_copy(update={"multi_label": True}))
    assert [(record.name, record.labels) for record in found] == [("z.AVI", (0, 4)), ("a b/x, y.mp4", ())]


@pytest.mark.parametrize(
    "text",
    ["flow 12 3\nw.mp4 5 0\n", "w.mp4 5 0\nflow 12 3\n", "path,num_frames,label\nw.mp4,5,0\nflow,12,3\n"],
)
def test_a_list_of_folders(data: DataConfig, folder: Path, text: str) -> None:
    (folder / "list.txt").write_text(text)
    found = sorted(find_records(folder / "list.txt", data), key=lambda record: record.name)
    assert found == [
        Record(str(folder / "flow"), 3, 12, "flow"),
        Record(str(folder / "w.mp4"), 0, 5, "w.mp4"),
    ]


def test_lists_that_cannot_be_read(data: DataConfig, tmp_path: Path) -> None:
    for content, message in ((b"", "this list is empty"), (b"\xff.mp4 0\n", "not a text file in UTF-8")):
        (tmp_path / "list.txt").write_bytes(content)
        with pytest.raises(DataError, match=message):
            find_records(tmp_path / "list.txt", data)
