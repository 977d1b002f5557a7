"""tools/make_shards.py: what it writes trains as the list does, and goes on where it was stopped."""

import hashlib
import sys
import tarfile

import numpy as np
import pytest

from paddlevid.data.annotations import read_list
from paddlevid.data.records import labels_of
from paddlevid.errors import DataError
from paddlevid.prepare.shards import make_key, plan_shards

webdataset = pytest.importorskip("webdataset")


@pytest.fixture
def small_set(tmp_path):
    """A list of ten files that are called videos, the tenth missing."""
    (tmp_path / "set" / "some class").mkdir(parents=True)
    for number in range(9):
        (tmp_path / "set" / "some class" / f"v.{number}.mp4").write_bytes(bytes([number]) * 100)
    lines = "".join(f"some class/v.{number}.mp4 {number % 3}\n" for number in range(10))
    (tmp_path / "set" / "list.txt").write_text(lines)
    (tmp_path / "set" / "class_names.txt").write_text("a\nb\nc\n")
    return tmp_path / "set" / "list.txt"


def samples(folder):
    """(key, number in its bytes, label) of each sample, as the library reads them."""
    pipeline = webdataset.WebDataset(sorted(map(str, folder.glob("*.tar"))), shardshuffle=False, empty_check=False)
    return [(sample["__key__"], sample["mp4"][0], int(sample["cls"])) for sample in pipeline]


def test_the_library_reads_what_the_tool_writes(run_tool, small_set, tmp_path):
    pattern = tmp_path / "out" / "train-%06d.tar"
    code, out, _ = run_tool("make_shards", small_set, "-o", pattern, "--max_count", 4, "--keep_order")
    assert code == 1
    first, left_out, hint, more = out.splitlines()
    assert first.startswith("9 videos, 900 bytes, in 3 shards; ")
    assert left_out.startswith("left out: 1, the first some class/v.9.mp4: No such file or directory")
    assert hint == (f"read them with -o data.format=shards -o 'train.list={tmp_path}/out/train-{{000000..000002}}.tar'")
    assert more.startswith("run this for each list of the recipe into the same folder: train.list, valid.list")
    expected = [(f"some class/v_{number}", number, number % 3) for number in range(9)]
    assert samples(tmp_path / "out") == expected
    assert (tmp_path / "out" / "class_names.txt").read_text() == "a\nb\nc\n"
    assert (tmp_path / "out" / "missing.txt").read_text().startswith("some class/v.9.mp4\tNo such file")
    run_tool("make_shards", small_set, "-o", tmp_path / "mixed" / "x-%d.tar", "--max_size", "250B", "--workers", 1)
    mixed = samples(tmp_path / "mixed")
    assert mixed != expected
    assert sorted(mixed) == expected
    assert len(list((tmp_path / "mixed").glob("*.tar"))) == 5  # two of 100 bytes in each


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.tar")}


def test_whole_shards_are_kept(run_tool, small_set, tmp_path):
    arguments = ["make_shards", small_set, "-o", tmp_path / "out" / "t-%03d.tar", "--workers", 1, "--max_count", 4]
    run_tool(*arguments)
    before = digests(tmp_path / "out")
    kept, gone = tmp_path / "out" / "t-000.tar", tmp_path / "out" / "t-001.tar"
    time_before = kept.stat().st_mtime_ns
    gone.unlink()
    unfinished = tmp_path / "out" / ".t-001.12345.tar"
    unfinished.write_bytes(b"half")
    code, out, _ = run_tool(*arguments)
    assert (code, digests(tmp_path / "out")) == (1, before)
    assert "in 3 shards, 2 of them there already" in out
    assert kept.stat().st_mtime_ns == time_before
    assert not unfinished.exists()
    # A video that changed and kept its size: its shard alone is written anew
    (small_set.parent / "some class" / "v.4.mp4").write_bytes(bytes([77]) * 100)
    code, out, _ = run_tool(*arguments)
    assert "in 3 shards, 2 of them there already" in out
    after = digests(tmp_path / "out")
    assert len({name for name in after if after[name] != before[name]}) == 1
    assert 77 in {number for _, number, _ in samples(tmp_path / "out")}
    assert "in 3 shards, 3 of them there already" in run_tool(*arguments)[1]
    # What was noted of the last shard was lost
    journal = tmp_path / "out" / ".packed.jsonl"
    journal.write_text(journal.read_text()[:-20])
    assert "in 3 shards, 2 of them there already" in run_tool(*arguments)[1]
    assert "in 3 shards, 3 of them there already" in run_tool(*arguments)[1]
    # Another list, or other sizes of shards
    code, _, err = run_tool(*arguments[:-1], 5)
    assert code == 2
    assert "t-002.tar: is none of the 2 shards of this list; write into another folder" in err
    small_set.write_text(small_set.read_text().replace("v.3.mp4 0", "v.3.mp4 1"))
    code, _, err = run_tool(*arguments)
    assert code == 2
    assert "is there, with other videos or labels than this list has" in err


def test_videos_that_are_cut_off_are_in_no_shard(run_tool, small_set, motion_set, tmp_path):
    video = next(motion_set.rglob("*.mp4"))
    (small_set.parent / "whole.mp4").write_bytes(video.read_bytes())
    (small_set.parent / "cut.mp4").write_bytes(video.read_bytes()[:-100])
    small_set = small_set.rename(small_set.with_name("valid.txt"))
    small_set.write_text("whole.mp4 1\ncut.mp4 0\n")
    missing = tmp_path / "out" / "missing.txt"
    missing.parent.mkdir()
    missing.write_text("of_another_list.mp4\tNo such file or directory\na line of another tool\n")
    before = missing.read_text()
    arguments = ["make_shards", small_set, "-o", tmp_path / "out" / "x-%d.tar"]
    code, out, _ = run_tool(*arguments)
    assert code == 1
    assert out.startswith("1 video, ")
    assert " kB, in 1 shard; " in out
    assert "left out: 1, the first cut.mp4: cut off: it has " in out
    assert f" -o valid.list={tmp_path}/out/x-0.tar\n" in out
    assert missing.read_text().startswith(f"{before}cut.mp4\tcut off: it has ")
    (small_set.parent / "cut.mp4").write_bytes(video.read_bytes())
    assert run_tool(*arguments[:-1], tmp_path / "out" / "y-%d.tar")[0] == 0
    assert missing.read_text() == before
    missing.unlink()
    assert run_tool(*arguments[:-1], tmp_path / "out" / "y-%d.tar")[0] == 0
    assert not missing.exists()
    (tmp_path / "out" / "class_names.txt").write_text("b\na\nc\n")
    code, _, err = run_tool(*arguments[:-1], tmp_path / "out" / "z-%d.tar")
    assert (code, "is not as" in err, err.count("\n")) == (2, True, 1)


def test_what_the_tool_refuses(run_tool, small_set, tmp_path):
    code, _, err = run_tool("make_shards", small_set, "-o", tmp_path / "train.tar")
    assert (code, err.splitlines()[-1]) == (
        2,
        "make_shards.py: error: --output needs one place for a number, and the suffix .tar: DIR/train-%06d.tar",
    )
    small_set.write_text("gone.mp4 1\nlist.txt 2\n")
    code, _, err = run_tool("make_shards", small_set, "-o", tmp_path / "out" / "t-%d.tar", "--keep_order")
    assert (code, err) == (
        2, "error: none of the 2 videos can be read; the first: gone.mp4: No such file or directory\n"
    )  # fmt: skip


def test_without_the_library(run_tool, small_set, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, _, err = run_tool("make_shards", small_set, "-o", tmp_path / "out" / "t-%d.tar")
    assert (code, err) == (2, 'error: webdataset is not installed: pip install -e ".[shards]"\n')
    monkeypatch.setitem(sys.modules, "braceexpand", None)
    with pytest.raises(DataError, match=r"patterns need braceexpand .*; a folder of shards"):
        read_list("x-{0..1}.tar", format="shards")


def test_several_labels(run_tool, small_set, tmp_path):
    small_set.write_text("some class/v.1.mp4 0,2\nsome class/v.2.mp4 -\n")
    run_tool("make_shards", small_set, "-o", tmp_path / "out" / "t-%d.tar", "--multi_label", "--keep_order")
    records = read_list(tmp_path / "out", format="shards", multi_label=True)
    assert [record.labels for record in records] == [(0, 2), ()]
    code, out, _ = run_tool(
        "make_shards", small_set, "-o", tmp_path / "out" / "t-%d.tar", "--multi_label", "--keep_order"
    )
    assert (code, "1 of them there already" in out) == (0, True)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("a/b.mp4", "a/b"),
        ("/abs/../x.y.z.mp4", "abs/x_y_z"),
        ("a.b/c.mp4", "a.b/c"),
        (".mp4", "_mp4"),
        ("__meta__/a b.mp4", "meta/a b"),
    ],
)
def test_keys(name, key):
    assert make_key(name) == key


def test_keys_differ(small_set):
    small_set.write_text("some class/v.1.mp4 0\nsome class/v.1.mp4 1\n" + "./some class/v.1.mp4 2\n")
    records = read_list(small_set, format="video", root=small_set.parent)
    plan = plan_shards(records, "x-%d.tar", max_bytes=10**9, max_count=9, seed=None)
    assert [clip.key for clip in plan.shards[0].clips] == ["some class/v_1", "some class/v_1_2", "some class/v_1_3"]


def test_training_on_shards_is_training_on_the_list(run_tool, run_main, tiny_recipe, motion_set, tmp_path):
    recipe = tiny_recipe("timesformer")
    shards = {}
    for split in ("train", "valid"):
        pattern = tmp_path / "shards" / f"{split}-%d.tar"
        count = 5 if split == "train" else 100
        arguments = [motion_set / f"{split}.txt", "-o", pattern, "--max_count", count, "--keep_order", "--workers", 1]
        run_tool("make_shards", *arguments)
        numbers = "{0..3}" if split == "train" else "0"
        shards[split] = tmp_path / "shards" / f"{split}-{numbers}.tar"
    with tarfile.open(tmp_path / "shards" / "train-0.tar") as archive:
        assert len(archive.getnames()) == 10
    common = ["-c", recipe, "--validate", "-o", "train.epochs=1"]
    assert run_main(*common, "-o", f"output_dir={tmp_path / 'a'}") == 0
    overrides = [f"train.list={shards['train']}", f"valid.list={shards['valid']}", "data.format=shards"]
    overrides += [f"output_dir={tmp_path / 'b'}", "data.root=nowhere", "train.num_workers=1"]
    assert run_main(*common, *[part for override in overrides for part in ("-o", override)]) == 0
    weights = [(tmp_path / name / "last.pdparams").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]
    numbers = labels_of(read_list(motion_set / "train.txt", format="video", root=motion_set), -1)
    np.testing.assert_array_equal(labels_of(read_list(shards["train"], format="shards"), -1), numbers)
