"""Tar shards where lists of videos may be: tools/check_videos.py, and what finds the videos to predict."""

import dataclasses

import pytest
from broken_videos import CONTAINERS, write_clip
from test_shards import write_shard

from paddlevid.config import load_config
from paddlevid.data.records import Record
from paddlevid.deploy.inputs import find_records


@pytest.fixture
def shard(tmp_path, monkeypatch):
    monkeypatch.setenv("PADDLEVID_CACHE", str(tmp_path / "cache"))
    good = write_clip(tmp_path / "good.mp4", CONTAINERS["mp4"], num_frames=20).read_bytes()
    files = {"a/cut.mp4": good[: len(good) // 2], "a/cut.cls": b"1", "b.mp4": good, "b.cls": b"0", "c.mp4": b"?" * 99}
    return write_shard(tmp_path / "set" / "x.tar", files)


def test_broken_clips_are_found_ahead(run_tool, shard, tmp_path):
    output = tmp_path / "bad.txt"
    for source in (shard, shard.parent):
        code, out, _ = run_tool("check_videos", source, "--format", "shards", "--output", output, "--workers", 1)
        assert (code, out) == (1, f"3 videos, 2 of them bad: 1 truncated, 1 unreadable; see {output}\n")
        names = [line.split("\t")[0] for line in output.read_text().splitlines()]
        assert names == ["x.tar/a/cut.mp4", "x.tar/c.mp4"]
        assert "/proc" not in output.read_text()
    code, _, err = run_tool("check_videos", shard, "--format", "shards", "--good", tmp_path / "good.txt")
    assert (code, err) == (2, "error: --good is for lists of videos: what is bad in a shard stays in it\n")


def test_a_model_trained_on_shards_predicts_shards_and_videos(tiny_recipe, shard, tmp_path):
    data = load_config(tiny_recipe(), ["data.format=shards"]).data
    (tmp_path / "shards.txt").write_text("set/x.tar\n")
    for source in (shard, shard.parent, tmp_path / "shards.txt"):
        names = [record.name.split("x.tar/")[1] for record in find_records(source, data)]
        assert names == ["a/cut.mp4", "b.mp4", "c.mp4"]
    (tmp_path / "videos.txt").write_text("good.mp4 3\n")
    record = Record(str(tmp_path / "good.mp4"), 3, None, "good.mp4")
    assert list(find_records(tmp_path / "videos.txt", data)) == [record]
    assert find_records(tmp_path / "good.mp4", data) == [dataclasses.replace(record, label=None, name=record.path)]
