"""List files: both formats, odd paths, and one-line errors that name the place."""

import pytest

from paddlevid.data.annotations import Record, check_files, read_list
from paddlevid.errors import DataError


@pytest.fixture
def write(tmp_path):
    def _write(content: str | bytes):
        path = tmp_path / "list.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return _write


def fields(records):
    return [(record.name, record.num_frames, record.label) for record in records]


def test_video_list(write):
    path = write("a.mp4 0\n\nmy dir/b c.mp4\t12\n#hash, one.mp4 3\n/abs/d.mp4  2\n")
    records = read_list(path, format="video", root="/data")
    assert records == [
        Record("/data/a.mp4", 0, None, "a.mp4"),
        Record("/data/my dir/b c.mp4", 12, None, "my dir/b c.mp4"),
        Record("/data/#hash, one.mp4", 3, None, "#hash, one.mp4"),
        Record("/abs/d.mp4", 2, None, "/abs/d.mp4"),
    ]


def test_frames_list(write):
    path = write("v_1 120 5\nclip 3 30 0\n")
    assert fields(read_list(path, format="frames")) == [("v_1", 120, 5), ("clip 3", 30, 0)]


def test_commas(write):
    assert fields(read_list(write("a b.mp4,1\nc.mp4 , 2\n"), format="video")) == [
        ("a b.mp4", None, 1),
        ("c.mp4", None, 2),
    ]
    assert fields(read_list(write("a b,30,1\n"), format="frames")) == [("a b", 30, 1)]


def test_bom_crlf_and_other_scripts(write):
    path = write(b"\xef\xbb\xbf" + "射箭.mp4 1\r\nb.mp4 0\r\n".encode())
    assert fields(read_list(path, format="video")) == [("射箭.mp4", None, 1), ("b.mp4", None, 0)]


def test_labels_may_be_missing_where_none_are_needed(write):
    path = write("a.mp4\nclip 3.mp4\nb.mp4 7\nc.mp4 -1\n")
    found = fields(read_list(path, format="video", labelled=False))
    assert found == [("a.mp4", None, None), ("clip 3.mp4", None, None), ("b.mp4", None, 7), ("c.mp4", None, None)]
    found = fields(read_list(write("a 30\nb 30 2\n"), format="frames", labelled=False))
    assert found == [("a", 30, None), ("b", 30, 2)]


def test_a_number_that_belongs_to_an_existing_path_is_no_label(write, tmp_path):
    (tmp_path / "take 3").mkdir()
    found = fields(read_list(write("take 3\ntake 4\n"), format="video", labelled=False, root=tmp_path))
    assert found == [("take 3", None, None), ("take", None, 4)]
    found = fields(read_list(write("take 3 30\n"), format="frames", labelled=False, root=tmp_path))
    assert found == [("take 3", 30, None)]


@pytest.mark.parametrize(
    ("content", "list_format", "message"),
    [
        ("a.mp4 0\nb.mp4\n", "video", r"list\.txt:2: expected `path label`, found 'b\.mp4'"),
        ("a.mp4 0.5\n", "video", r":1: expected `path label`"),
        ("7\n", "video", r":1: expected `path label`"),
        ("a 3\n", "frames", r":1: expected `path num_frames label`, found 'a 3'"),
        ("a.mp4 -1\n", "video", r":1: label -1 must be 0 to 9 for 10 classes"),
        ("a.mp4 9\nb.mp4 10\n", "video", r":2: label 10 must be 0 to 9 for 10 classes"),
        ("a 0 3\n", "frames", r":1: num_frames 0 must be at least 1"),
        ("\n \n", "video", r"list is empty"),
        (b"\xff\xd8\xff\xe0", "video", r"not a text file in UTF-8"),
    ],
)
def test_errors(write, content, list_format, message):
    with pytest.raises(DataError, match=message) as caught:
        read_list(write(content), format=list_format, num_classes=10)
    assert "\n" not in str(caught.value)


def test_missing_list(tmp_path):
    with pytest.raises(DataError, match=r"none\.txt: cannot read this list: No such file"):
        read_list(tmp_path / "none.txt", format="video")


def test_check_files(tmp_path):
    (tmp_path / "a.mp4").touch()
    records = [Record(str(tmp_path / name)) for name in ("a.mp4", "b.mp4", "c.mp4")]
    check_files(records[:1])
    with pytest.raises(DataError, match=r"b\.mp4: no such file or folder; 2 of the 3"):
        check_files(records)
