"""List files: both formats, odd paths, and one-line errors that name the place."""

import numpy as np
import pytest

from paddlevid.data.annotations import check_files, find_missing, multi_hot, read_list
from paddlevid.data.records import Record
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
        ("a.mp4 " + "9" * 5000 + "\n", "video", r":1: expected `path label`"),
        ("a.mp4 0,4,7\n", "video", r":1: expected `path label`, found 'a\.mp4 0,4,7'.*data\.multi_label: true"),
        ("a.mp4 0,4\n", "video", r":1: .*data\.multi_label: true"),
        ("a.mp4 -\n", "video", r":1: .*data\.multi_label: true"),
        ("a 30 0,4\n", "frames", r":1: .*data\.multi_label: true"),
        ("a 30 0,4,7\n", "frames", r":1: .*data\.multi_label: true"),
        ("\n \n", "video", r"list is empty"),
        (b"\xff\xd8\xff\xe0", "video", r"not a text file in UTF-8"),
    ],
)
def test_errors(write, content, list_format, message):
    with pytest.raises(DataError, match=message) as caught:
        read_list(write(content), format=list_format, num_classes=10)
    assert "\n" not in str(caught.value)


@pytest.fixture
def read(write, tmp_path):
    """`read("a.mp4 0,4\\n")` -> (name, num_frames, labels) of each line of a multi-label list."""

    def _read(content, format="video", **options):
        options = {"num_classes": 10, "root": tmp_path, **options}
        records = read_list(write(content), format=format, multi_label=True, **options)
        assert all(record.label is None for record in records)
        return [(record.name, record.num_frames, record.labels) for record in records]

    return _read


def test_multi_label_video_list(read):
    content = "a.mp4 0,4,7\nmy dir/b, c.mp4\t9,2\n#d 5.mp4 -\ne.mp4 3\nf,1,2.mp4  8\r\n-.mp4 -\n"
    assert read(content) == [
        ("a.mp4", None, (0, 4, 7)),
        ("my dir/b, c.mp4", None, (2, 9)),
        ("#d 5.mp4", None, ()),
        ("e.mp4", None, (3,)),
        ("f,1,2.mp4", None, (8,)),
        ("-.mp4", None, ()),
    ]


def test_multi_label_frames_list(read):
    content = "v_1 120 5,0\nclip 3, 4 30 -\nclip\t60\t1\n"
    assert read(content, "frames") == [("v_1", 120, (0, 5)), ("clip 3, 4", 30, ()), ("clip", 60, (1,))]


def test_one_label_lists_have_no_labels(write):
    assert read_list(write("a.mp4 1\n"), format="video")[0].labels is None


@pytest.mark.parametrize(
    ("content", "list_format", "message"),
    [
        ("a.mp4 0\nb.mp4 1,10\n", "video", r"list\.txt:2: label 10 must be 0 to 9 for 10 classes"),
        ("a.mp4 -1\n", "video", r":1: label -1 must be 0 to 9"),
        ("a.mp4 3,1,3\n", "video", r":1: label 3 stands there 2 times: 'a\.mp4 3,1,3'"),
        ("a.mp4\n", "video", r":1: expected `path label,label,\.\.\.` \(`-` for no label\), found 'a\.mp4'"),
        ("a.mp4 1,\n", "video", r":1: expected `path label,label"),
        ("a.mp4 1,,2\n", "video", r":1: expected `path label,label"),
        ("a.mp4 0.5\n", "video", r":1: expected `path label,label"),
        ("a.mp4 1, 2\n", "video", r":1: expected .*joined by commas without blanks"),
        ("a.mp4,3\n", "video", r":1: expected .*one field behind a blank"),
        ("a.mp4 , 3\n", "video", r":1: expected .*one field behind a blank"),
        ("v 30\n", "frames", r":1: expected `path num_frames label,label,\.\.\.`"),
        ("v,30,1\n", "frames", r":1: expected `path num_frames label,label"),
        ("v 0 1,2\n", "frames", r":1: num_frames 0 must be at least 1"),
        ("a.mp4 -\nb.mp4 -\n", "video", r"list\.txt: none of its 2 videos has a label"),
        ("\n", "video", r"list is empty; expected lines of `path label,label"),
    ],
)
def test_errors_of_multi_label_lists(read, content, list_format, message):
    with pytest.raises(DataError, match=message) as caught:
        read(content, list_format)
    assert "\n" not in str(caught.value)


def test_labels_with_blanks_between_them_are_told(read, tmp_path):
    """As in lists of MMAction2, where the path of the second line would be `a.mp4 1 3`."""
    (tmp_path / "a.mp4").touch()
    (tmp_path / "take 3").touch()
    assert read("a.mp4 5\ntake 3 5\ngone 3 5\n") == [
        ("a.mp4", None, (5,)),
        ("take 3", None, (5,)),
        ("gone 3", None, (5,)),
    ]
    with pytest.raises(DataError, match=r":2: .*there is no 'a\.mp4 1 3'; are labels not joined by commas"):
        read("a.mp4 5\na.mp4 1 3 5\n")


def test_several_labels_of_a_csv_list_are_told_from_numbers_in_paths(write, tmp_path):
    (tmp_path / "take 3").touch()
    assert fields(read_list(write("take 3,7\n"), format="video", root=tmp_path)) == [("take 3", None, 7)]
    with pytest.raises(DataError, match=r"data\.multi_label"):
        read_list(write("take 4,7\n"), format="video", root=tmp_path)


@pytest.mark.parametrize("multi_label", [False, True])
def test_unlabelled_reading_takes_labels_of_either_kind_off(write, tmp_path, multi_label):
    for name in ("a.mp4", "take 3", "b -", "c,1"):
        (tmp_path / name).touch()

    def names(content, format="video"):
        options = {"format": format, "labelled": False, "root": tmp_path, "multi_label": multi_label}
        return [record.name for record in read_list(write(content), **options)]

    assert names("a.mp4\na.mp4 4\na.mp4 0,4,7\na.mp4 0,4\na.mp4 -\na.mp4 -1\na.mp4,3\na.mp4 1,1\n") == ["a.mp4"] * 8
    assert names("take 3\ntake 3 5\ntake 3 5,6\ntake 3 -\n") == ["take 3"] * 4
    assert names("b -\nb - -\nb - 1,2\nc,1\nc,1 1,2\n") == ["b -"] * 3 + ["c,1"] * 2
    assert names("a.mp4 30\na.mp4 30 0,4\na.mp4 30 -\na.mp4 30 2\n", "frames") == ["a.mp4"] * 4


def test_unlabelled_reading_of_missing_files_goes_by_the_kind(read, write):
    assert read("x.mp4 0,4\nx.mp4\nx.mp4 -\nx.mp4 -1\n", labelled=False) == [
        ("x.mp4", None, (0, 4)),
        ("x.mp4", None, None),
        ("x.mp4", None, ()),
        ("x.mp4", None, None),
    ]
    assert fields(read_list(write("x.mp4,4\n"), format="video", labelled=False)) == [("x.mp4", None, 4)]


def test_multi_hot():
    records = [Record("a", labels=(0, 2)), Record("b", labels=()), Record("c", labels=(1,))]
    np.testing.assert_array_equal(multi_hot(records, 3), [[1, 0, 1], [0, 0, 0], [0, 1, 0]])


def test_missing_list(tmp_path):
    with pytest.raises(DataError, match=r"none\.txt: cannot read this list: No such file"):
        read_list(tmp_path / "none.txt", format="video")


def test_check_files(tmp_path, capsys):
    (tmp_path / "a.mp4").touch()
    records = [Record(str(tmp_path / name)) for name in ("a.mp4", "b.mp4", "c.mp4")]
    check_files(records[:1])
    assert capsys.readouterr().err == ""
    with pytest.raises(DataError, match=r"b\.mp4: no such file or folder; 2 of the 3"):
        check_files(records)


def test_missing_files_of_large_folders(tmp_path, monkeypatch):
    """Whose names are read at once; those that are written otherwise are asked for."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "many").mkdir()
    for number in range(100):
        (tmp_path / "many" / f"{number}.mp4").touch()
        (tmp_path / f"{number}.mp4").touch()
    for prefix in (f"{tmp_path}/many/", f"{tmp_path}//many//", "many/", ""):
        paths = [f"{prefix}{number}.mp4" for number in range(102)] + [
            f"{prefix}../{tmp_path.name}",
            f"{prefix}nowhere/x",
        ]
        gone = [f"{prefix}{name}" for name in ("100.mp4", "101.mp4", "nowhere/x")]
        found = find_missing([Record(path) for path in paths])
        assert found == (gone if "many" not in prefix else [*gone[:2], f"{prefix}../{tmp_path.name}", gone[2]])
    assert find_missing([Record(f"gone/{number}.mp4") for number in range(100)])[99] == "gone/99.mp4"


def test_some_files_may_be_missing(tmp_path, capsys):
    names = [f"{number}.mp4" for number in range(10)]
    for name in names[:8]:
        (tmp_path / name).touch()
    records = [Record(str(tmp_path / name)) for name in names]
    with pytest.raises(DataError, match="2 of the 10"):
        check_files(records, max_missing_share=0.19)  # at most one
    check_files(records, max_missing_share=0.2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"warning: {tmp_path / '8.mp4'}: no such file or folder; 2 of the 10 in the list are missing and count as "
        "unreadable"
    )
    check_files(records[7:], max_missing_share=1.0)
    with pytest.raises(DataError, match=r"2 of the 2 .*root folder"):
        check_files(records[8:], max_missing_share=1.0)
