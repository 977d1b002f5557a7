"""Lists that are tables: columns by name, quotes, names of classes for labels, and errors that name the line."""

import pytest

from paddlevid.data.annotations import read_list
from paddlevid.errors import DataError

NAMES = ["archery", "cooking, indoors", "bowling"]


@pytest.fixture
def read(tmp_path):
    def _read(content, format="video", **options):
        path = tmp_path / "list.csv"
        path.write_text(content, encoding="utf-8", newline="")
        options = {"root": tmp_path, "num_classes": 10, "class_names": lambda: NAMES, **options}
        records = read_list(path, format=format, **options)
        return [
            (record.name, record.label if record.labels is None else record.labels, record.num_frames)
            for record in records
        ]

    return _read


@pytest.mark.parametrize(
    "content",
    [
        'path,label\n"a, b.mp4",3\nc d.mp4,0\n',
        '\ufeffLabel ;note; Video_Path\r\n3;"x;y";a, b.mp4\r\n\r\n 0 ; ;c d.mp4\r\n',
        "\n\nid\tfilename\tlabels\n7\ta, b.mp4\t3\n8\tc d.mp4\t0\n",
        'video,label,num_frames\n"a, b.mp4",3,x\nc d.mp4,0,\n',
    ],
)
def test_columns_go_by_their_names(read, content):
    assert read(content) == [("a, b.mp4", 3, None), ("c d.mp4", 0, None)]


def test_names_of_classes_are_labels_too(read):
    content = 'path,label\na,archery\nb,"cooking, indoors"\nc,2\nd,bowling\n'
    assert [label for _, label, _ in read(content)] == [0, 1, 2, 2]


def test_several_labels(read):
    content = 'path,labels\na,"4,0"\nb,4;0\nc,5\nd,-\ne,\nf,"bowling;cooking, indoors"\ng,"cooking, indoors"\n'
    found = [labels for _, labels, _ in read(content, multi_label=True)]
    assert found == [(0, 4), (0, 4), (5,), (), (), (1, 2), (1,)]


def test_frames(read):
    assert read("path,num_frames,label\nv 1,30,2\n", "frames") == [("v 1", 2, 30)]


def test_labels_may_be_missing_where_none_are_needed(read):
    assert read("path\na.mp4\n", labelled=False) == [("a.mp4", None, None)]
    content = "path,label\na.mp4,3\nb.mp4,\nc.mp4,unknown\nd.mp4,-1\n"
    assert [label for _, label, _ in read(content, labelled=False)] == [3, None, None, None]


def test_a_line_that_is_no_header_is_a_video(read, tmp_path):
    assert read("video,3\npath,4\n") == [("video", 3, None), ("path", 4, None)]
    (tmp_path / "path").touch()
    assert read("path\n", labelled=False) == [("path", None, None)]


def test_a_line_that_begins_like_a_header_is_a_video(read, tmp_path):
    assert read("Path, winding/1.mp4 0\nb.mp4 1\n") == [("Path, winding/1.mp4", 0, None), ("b.mp4", 1, None)]
    assert read("Path, winding 0\n") == [("Path, winding", 0, None)]
    assert read("path; winding/1.mp4 4,0\n", multi_label=True) == [("path; winding/1.mp4", (0, 4), None)]
    assert read("video, a 30 0\n", "frames") == [("video, a", 0, 30)]
    for name in ("Path, winding/1.mp4", "video, a.mp4"):
        assert read(f"{name}\n", labelled=False) == [(name, None, None)]
    (tmp_path / "path,label").touch()
    assert read("path,label 3\n") == [("path,label", 3, None)]
    assert read("path,label,annotator 2\na,1,x\n") == [("a", 1, None)]


def test_names_that_are_numbers(read):
    """Of folders 1, 2 and 10 sorted as text; a number that is no other class's name is one."""
    for label in ("1", "01"):
        with pytest.raises(DataError, match=rf"csv:2: label '{label}' may be a number, or the name '1' of class 0: "):
            read(f"path,label\na,{label}\n", class_names=lambda: ["1", "10", "2"])
    assert read("path,label\na,2\n", class_names=lambda: ["1", "10", "2"]) == [("a", 2, None)]
    assert read("path,label\na,0\nb,2\n", class_names=lambda: ["0", "1", "2"]) == [("a", 0, None), ("b", 2, None)]
    assert read("a 1\n", class_names=lambda: ["1", "10", "2"]) == [("a", 1, None)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,labl\na,1\n", r"csv:1: the header names the columns path, labl; a column `label` is missing"),
        ("path,class\na,1\n", r"csv:1: .* path, class; .* is what the column of the labels has to be called"),
        ("path,label,x,label\na,1,x,2\n", r"csv:1: .*; which `label` counts\?"),
        ("path label\na 1\n", r"csv:1: a header needs commas between the columns, .*: write `path,label`"),
        ("path,label\na,1\n\nb,x y\n", r"csv:4: label 'x y' is neither a number nor one of the 3 class names: 'b,x y'"),
        ("path,label\na,1\nb\n", r"csv:3: 1 fields under 2 columns"),
        ("path,label\na,b,1\n", r"csv:2: 3 fields under 2 columns; quote a path that has ','"),
        ('path,label\n"a,1\nb,2\n', r"csv:3: not a row of CSV: unexpected end of data"),
        ('path,label\n"a\nb",1\nc,10\n', r"csv:4: label 10 must be 0 to 9"),
        ("path,label\na,\n", r"csv:2: there is no label"),
        ("path,label\n,1\n", r"csv:2: the column `path` is empty"),
        ('path,label\na,"1,2"\n', r"csv:2: 2 labels; several labels a video need data\.multi_label: true"),
        ("path,label\n", r"csv: this list is empty; .* or rows below a header"),
    ],
)
def test_errors_name_the_line(read, content, message):
    with pytest.raises(DataError, match=message) as caught:
        read(content)
    assert "\n" not in str(caught.value)


def test_names_without_a_file_of_names(read):
    with pytest.raises(DataError, match=r"csv:2: label 'archery' is no number; .*data\.class_names"):
        read("path,label\na,archery\n", class_names=lambda: None)


def test_frames_need_their_number(read):
    with pytest.raises(DataError, match=r"csv:1: .*`num_frames` is missing"):
        read("path,label\na,1\n", "frames")
    with pytest.raises(DataError, match=r"csv:2: num_frames 0 must be at least 1"):
        read("path,label,num_frames\na,1,0\n", "frames")
    with pytest.raises(DataError, match=r"csv:2: `num_frames` is 'x'"):
        read("path,label,num_frames\na,1,x\n", "frames")


def test_several_labels_of_one_video_must_differ(read):
    with pytest.raises(DataError, match=r"csv:2: label 3 stands there 2 times"):
        read("path,labels\na,3;3\n", multi_label=True)
    with pytest.raises(DataError, match="none of its 1 videos has a label"):
        read("path,labels\na,\n", multi_label=True)
