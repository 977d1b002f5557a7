"""Tar shards: what the WebDataset library writes is what is read, any clip by itself, and damage is told by name."""

import contextlib
import io
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from broken_videos import CONTAINERS, write_clip

from paddlevid.data import shard_index, shards
from paddlevid.data.annotations import read_list
from paddlevid.data.dataset import FrameSource
from paddlevid.data.records import Record, Records, labels_of
from paddlevid.data.shards import shard_numbers, shuffle_by_shard
from paddlevid.errors import DataError

NAMES = ["archery", "bowling", "cooking, indoors"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A small clip in each of five containers."""
    folder = tmp_path_factory.mktemp("clips")
    return [write_clip(folder / f"{name}{kind.suffix}", kind, num_frames=20) for name, kind in CONTAINERS.items()]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PADDLEVID_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "shards"


def write_shard(path: Path, files: dict[str, bytes]) -> Path:
    """By the standard library, from the names and contents of its files."""
    path.parent.mkdir(exist_ok=True, parents=True)
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def read(source, root="", **options):
    options = {"num_classes": 10, "class_names": lambda: NAMES, **options}
    return read_list(source, format="shards", root=root, **options)


@pytest.fixture
def webdataset_shards(clips, tmp_path):
    """The clips in three shards of WebDataset's own writer, with the labels 0 to 4."""
    webdataset = pytest.importorskip("webdataset")
    folder = tmp_path / "set"
    folder.mkdir()
    with webdataset.ShardWriter(str(folder / "train-%06d.tar"), maxcount=2, verbose=0) as writer:
        for label, clip in enumerate(clips):
            writer.write({"__key__": f"some.folder/{clip.stem}", clip.suffix[1:]: clip.read_bytes(), "cls": label})
    return folder


def open_files() -> list[str]:
    """What the descriptors of this process lead to."""
    links = []
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the listing itself is gone
            links.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return links


@pytest.mark.parametrize("decoder", ["auto", "pyav", "decord", "opencv"])
def test_frames_are_those_of_loose_files(webdataset_shards, clips, decoder):
    records = read(webdataset_shards)
    assert [record.name for record in records] == [
        f"train-00000{number // 2}.tar/some.folder/{clip.name}" for number, clip in enumerate(clips)
    ]
    np.testing.assert_array_equal(labels_of(records, -1), range(5))
    np.testing.assert_array_equal(shard_numbers(records), [0, 0, 1, 1, 2])
    indices = np.array([7, 0, 19, 7])
    for record, clip in zip(records, clips, strict=True):
        source = FrameSource(decoder)
        with source.open(record) as packed, source.open(Record(str(clip))) as loose:
            assert any("memfd:clip" in link for link in open_files())
            assert (packed.num_frames, packed.fps) == (loose.num_frames, loose.fps)
            np.testing.assert_array_equal(packed.read(indices), loose.read(indices))
    assert not any("memfd:clip" in link or link.endswith(".tar") for link in open_files())


def test_temporary_files_where_there_are_none_in_memory(webdataset_shards, clips, tmp_path, monkeypatch):
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    record = read(webdataset_shards)[3]
    with FrameSource().open(record) as packed, FrameSource().open(Record(str(clips[3]))) as loose:
        np.testing.assert_array_equal(packed.read(np.arange(20)), loose.read(np.arange(20)))
        assert list(tmp_path.glob("tmp*"))
    assert not list(tmp_path.glob("tmp*"))


def test_ways_to_name_shards(webdataset_shards, tmp_path, monkeypatch):
    pytest.importorskip("braceexpand")
    expected = [record.path for record in read(webdataset_shards)]
    assert len(expected) == 5
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("train-000000.tar\n\ntrain-{000001..000002}.tar\n")
    (tmp_path / "b.txt").write_text("".join(f"{webdataset_shards}/train-00000{n}.tar\n" for n in range(3)))
    for source, root in [
        (f"{webdataset_shards}/train-{{000000..000002}}.tar", "elsewhere"),
        ("a.txt", webdataset_shards),
        ("b.txt", "elsewhere"),
    ]:
        assert [record.path for record in read(source, root)] == expected
    assert [record.path for record in read("set/train-000002.tar")] == ["set/train-000002.tar/some.folder/webm.webm"]


def test_labels(tmp_path):
    shard = write_shard(
        tmp_path / "x.tar",
        {
            "__meta__/notes.txt": b"by hand",
            "a.cls": b" 3\n",
            "a.mp4": b"",
            "b.mp4": b"",
            "b.json": b'{"label": 4}',
            "c.txt": b"cooking, indoors",
            "c.MP4": b"",
            "d.x.txt": b"9",
            "d.cls": b"5",
            "d.txt": b"a man on a horse",  # a caption: the number goes before it
            "d.webm": b"",
            "e/f.json": b'{"label": "bowling"}',
            "e/f.avi": b"",
            "only.jpg": b"",
        },
    )
    records = read(shard)
    found = [(record.name, record.label) for record in records]
    assert found == [
        ("x.tar/a.mp4", 3),
        ("x.tar/b.mp4", 4),
        ("x.tar/c.MP4", 2),
        ("x.tar/d.webm", 5),
        ("x.tar/e/f.avi", 1),
    ]


def test_several_labels(tmp_path):
    files = {"a.json": b'{"labels": [4, 0]}', "a.mp4": b"", "b.json": b'{"labels": []}', "b.mp4": b"", "c.mp4": b""}
    records = read(write_shard(tmp_path / "x.tar", {**files, "c.cls": b"7"}), multi_label=True)
    assert [record.labels for record in records] == [(0, 4), (), (7,)]


def test_unlabelled(tmp_path):
    shard = write_shard(tmp_path / "x.tar", {"a.mp4": b"", "b.mp4": b"", "b.cls": b"3", "c.mp4": b"", "c.txt": b"?"})
    assert [record.label for record in read(shard, labelled=False)] == [None, 3, None]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.mp4": b""}, r"x\.tar/a\.mp4: there is no label; labels are KEY\.cls"),
        ({"a.mp4": b"", "a.cls": b"10"}, r"x\.tar/a\.mp4: label 10 must be 0 to 9 for 10 classes"),
        ({"a.mp4": b"", "a.txt": b"x"}, r"a\.mp4: label 'x' is neither a number nor one of the 3 class names"),
        ({"a.mp4": b"", "a.json": b"{"}, r"x\.tar/a\.json: cannot read this label"),
        ({"a.mp4": b"", "a.json": b'{"label": 0.5}'}, r"a\.json: cannot read this label: neither a number nor a name"),
        ({"a.mp4": b"", "a.avi": b""}, r"x\.tar: one sample has the videos a\.mp4 and a\.avi"),
        ({"a.jpg": b"", "a.cls": b"1"}, r"x\.tar: this shard holds no videos; .* found KEY\.cls, KEY\.jpg"),
        ({}, r"x\.tar: this shard holds no videos; .* found nothing"),
    ],
)
def test_samples_that_cannot_be_used(tmp_path, files, message):
    with pytest.raises(DataError, match=message) as caught:
        read(write_shard(tmp_path / "x.tar", files))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [100, 1024, 1536 + 100, 1536 + 512, 3000, 3584])
def test_a_shard_that_is_cut_off_is_told_by_name(tmp_path, keep):
    """Two samples of 600 bytes: a head of 512 bytes and 1024 of content, twice, then blocks of zeros."""
    shard = write_shard(tmp_path / "x.tar", {"a.mp4": b"x" * 600, "b.mp4": b"y" * 600})
    shard.write_bytes(shard.read_bytes()[: min(keep, 2 * 1536)])
    with pytest.raises(DataError, match=r"x\.tar: (cut off|cannot read this shard)"):
        read(shard, labelled=False)


def test_what_is_no_shard(tmp_path):
    good = write_shard(tmp_path / "good.tar", {"a.mp4": b"x" * 600, "b.mp4": b"y" * 600})
    content = bytearray(good.read_bytes())
    content[1536:1600] = b"?" * 64
    (tmp_path / "damaged.tar").write_bytes(content)
    (tmp_path / "text.tar").write_bytes(b"404: not here\n" * 100)
    with tarfile.open(tmp_path / "gz.tar", "w:gz") as archive:
        archive.add(good, "a.mp4")
    (tmp_path / "list.txt").write_text("good.tar\ndamaged.tar\ngone.tar\n")
    (tmp_path / "videos.txt").write_text("a.mp4 3\n")
    for name, message in {
        "damaged.tar": r"damaged\.tar: damaged: no file of a tar begins at byte 1536",
        "text.tar": r"text\.tar: cannot read this shard as a tar file",
        "gz.tar": r"gz\.tar: is compressed \(gzip\)",
        "gone.tar": r"gone\.tar: cannot read this shard: No such file",
        "list.txt": r"damaged\.tar: .*; .*gone\.tar: .* \(2 of 3 shards cannot be used\)",
        "videos.txt": r"videos\.txt:1: expected the path of a \.tar shard \(data\.format: shards\), found 'a\.mp4 3'",
        "none.txt": r"none\.txt: cannot read this list of shards: No such file",
    }.items():
        with pytest.raises(DataError, match=message) as caught:
            read(tmp_path / name, tmp_path, labelled=False)
        assert "\n" not in str(caught.value)


def test_errors_of_a_clip_name_it_by_its_shard(clips, tmp_path):
    good = clips[0].read_bytes()
    files = {"a.mp4": good[: len(good) // 2], "b.mp4": b"", "c.mp4": b"no video" * 100, "d.mp4": good}
    shard = write_shard(tmp_path / "x.tar", files)
    records = read(shard, labelled=False)
    for record in records[:3]:
        with pytest.raises(DataError) as caught, FrameSource().open(record):
            pass
        assert str(caught.value).startswith(f"{shard}/{record.name.removeprefix('x.tar/')}: ")
        assert "/proc" not in str(caught.value)
    with FrameSource().open(records[3]) as reader, pytest.raises(IndexError):
        reader.read(np.array([20]))
    os.utime(shard, ns=(0, 0))
    with pytest.raises(DataError, match=r"d\.mp4: .*x\.tar was changed since it was indexed"):
        FrameSource().open(records[3])


@pytest.mark.parametrize("beside", [True, False])
def test_a_shard_is_indexed_once(tmp_path, monkeypatch, cache, beside):
    shard = write_shard(tmp_path / "x.tar", {"ü/a b.mp4": b"12", "ü/a b.cls": b"3", "c.mp4": b"", "c.cls": b"4"})
    index = Path(f"{shard}.clips.npz")
    if not beside:
        index.mkdir()  # nothing can be written there
    first = read(shard)
    assert index.is_file() is beside
    assert len(list(cache.glob("*.npz"))) == (not beside)
    with monkeypatch.context() as patch:
        patch.setattr(shard_index, "_scan", None)  # would fail if it were called
        assert read(shard) == first
    kept = index if beside else next(cache.glob("*.npz"))
    kept.write_bytes(kept.read_bytes()[:100])  # a damaged index is made again
    assert read(shard) == first
    write_shard(shard, {"new.mp4": b"", "new.cls": b"1"})
    assert [record.name for record in read(shard)] == ["x.tar/new.mp4"]


def test_many_shards_are_indexed_by_processes(tmp_path):
    for number in range(9):
        write_shard(tmp_path / "set" / f"{number}.tar", {f"{number}.mp4": b"", f"{number}.cls": str(number).encode()})
    records = read(tmp_path / "set")
    assert [(record.name, record.label) for record in records] == [(f"{n}.tar/{n}.mp4", n) for n in range(9)]
    shutil.rmtree(tmp_path / "set")


def test_places_of_clips_take_few_bytes(tmp_path):
    index = shard_index.ShardIndex(shard_index.Stamp(1, 2), ["a.mp4"] * 3, [""] * 3, np.arange(3), np.arange(3) * 10)
    records = shards.ShardRecords("root")
    records.add_shard("root/x.tar", index)
    for name in index.names:
        records.append(f"x.tar/{name}", 1)
    assert (
        records[-1]
        == records[2]
        == shards.ShardRecord("root/x.tar/a.mp4", 1, None, "x.tar/a.mp4", None, "root/x.tar", 2, 20, index.stamp)
    )
    assert [record.offset for record in records[0:3:2]] == [0, 2]
    assert shard_numbers(Records()) is None


SHARDS = np.repeat([5, 2, 9, 7, 1], [4, 30, 11, 25, 30])


@pytest.mark.parametrize("at_once", [1, 2, 3, 99])
def test_at_most_so_many_shards_are_open(at_once):
    order = shuffle_by_shard(SHARDS, np.random.default_rng(3), at_once)
    assert order.dtype == np.int64
    np.testing.assert_array_equal(np.sort(order), np.arange(100))
    visited = SHARDS[order]
    spans = [(np.flatnonzero(visited == shard)[0], np.flatnonzero(visited == shard)[-1]) for shard in np.unique(SHARDS)]
    num_open = [sum(first <= place <= last for first, last in spans) for place in range(100)]
    assert max(num_open) == min(at_once, 5)
    np.testing.assert_array_equal(order, shuffle_by_shard(SHARDS, np.random.default_rng(3), at_once))
    assert (order != shuffle_by_shard(SHARDS, np.random.default_rng(4), at_once)).any()
    with pytest.raises(ValueError, match="at least 1"):
        shuffle_by_shard(SHARDS, np.random.default_rng(3), 0)


def test_with_all_shards_open_the_order_is_that_of_any_list():
    expected = np.random.default_rng(3).permutation(100)
    for at_once in (5, 99):
        np.testing.assert_array_equal(shuffle_by_shard(SHARDS, np.random.default_rng(3), at_once), expected)
    assert (shuffle_by_shard(SHARDS, np.random.default_rng(3), 4) != expected).any()


def test_every_sample_may_come_first():
    """3 shards of 2 samples, two of them open: each sample begins a sixth of the orders, and ends a sixth."""
    orders = np.array([shuffle_by_shard(np.arange(6) % 3, np.random.default_rng(seed), 2) for seed in range(3000)])
    for place in (0, 5):
        counts = np.bincount(orders[:, place], minlength=6)
        assert abs(counts - 500).max() < 100  # 4.9 standard deviations
