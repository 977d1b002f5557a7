"""What is checked, what the journal keeps, and what a killed run leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from dataset_trees import lines, plant, records

from paddlevid.prepare.checking import Journal, Verdict

TOOL = Path(__file__).parents[2] / "tools" / "prepare_folder.py"


@pytest.fixture
def videos(motion_set, tmp_path):
    """Two classes of eight good videos each, as hard links."""
    root = tmp_path / "set"
    for number, source in enumerate(sorted((motion_set / "train").rglob("*.mp4"))):
        target = root / "ab"[number % 2] / f"{number:02d}.mp4"
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, target)
    return root


def replace(path: Path, content: bytes) -> None:
    """Other content with the size and the time that the file had."""
    state = path.stat()
    path.unlink()
    path.write_bytes(content.ljust(state.st_size, b"x")[: state.st_size])
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def bad_names(folder: Path) -> dict[str, str]:
    if not (folder / "bad_videos.txt").exists():
        return {}
    return dict(line.split("\t", 1) for line in lines(folder / "bad_videos.txt"))


def test_broken_videos_are_listed_with_reasons(videos, run_tool, tmp_path):
    (videos / "a" / "empty.mp4").touch()
    (videos / "a" / "text 1.avi").write_text("not a video")
    (videos / "b" / "half.mp4").write_bytes((videos / "b" / "01.mp4").read_bytes()[:-900])
    (videos / "b" / "gone.mp4").symlink_to("nowhere.mp4")
    (videos / "b" / "two\nlines.mp4").touch()
    os.close(os.open(os.fsencode(videos / "b") + b"/\xff.mp4", os.O_CREAT))
    code, out, err = run_tool("prepare_folder", videos, "--valid_share", "0", "--workers", "2")
    assert (code, err) == (0, "")
    bad = bad_names(videos)
    odd = ["b/two\\nlines.mp4", "b/\\udcff.mp4"]
    assert sorted(bad) == sorted(["a/empty.mp4", "a/text 1.avi", "b/gone.mp4", "b/half.mp4", *odd])
    assert bad["a/empty.mp4"] == "this video is empty (0 bytes)"
    assert bad["b/half.mp4"].startswith("cut off")
    assert bad["b/gone.mp4"] == "missing: No such file or directory"
    expected = [(f"{'ab'[number % 2]}/{number:02d}.mp4", number % 2) for number in range(16)]
    assert records(videos / "train.txt", videos) == sorted(expected)
    assert "train.txt      16 videos, 2 classes, 0 missing, 6 broken left out" in out


def test_what_was_checked_is_not_checked_again(videos, run_tool):
    assert "16 videos checked;" in run_tool("prepare_folder", videos)[1]
    replace(videos / "a" / "00.mp4", b"junk")  # looks as it did
    replace(videos / "a" / "02.mp4", b"junk")
    os.utime(videos / "a" / "02.mp4")  # as large as it was, but of now
    out = run_tool("prepare_folder", videos)[1]
    assert "1 video checked, 15 known from an earlier run" in out
    assert list(bad_names(videos)) == ["a/02.mp4"]
    out = run_tool("prepare_folder", videos, "--check", "full")[1]  # asks for more than is known of good ones
    assert "15 videos checked, 1 known from an earlier run" in out
    assert list(bad_names(videos)) == ["a/00.mp4", "a/02.mp4"]
    assert "0 videos checked, 16 known" in run_tool("prepare_folder", videos)[1]
    with (videos / "checked_videos.jsonl").open("rb+") as journal:  # the last line is cut off
        journal.truncate(journal.seek(0, os.SEEK_END) - 5)
    assert "1 video checked, 15 known" in run_tool("prepare_folder", videos, "--check", "full")[1]
    assert "0 videos checked, 16 known" in run_tool("prepare_folder", videos, "--check", "full")[1]


def test_what_is_missing_or_bad_no_longer_leaves_no_file(videos, run_tool):
    (videos / "a" / "empty.mp4").touch()
    run_tool("prepare_folder", videos)
    assert list(bad_names(videos)) == ["a/empty.mp4"]
    assert not (videos / "missing.txt").exists()
    (videos / "missing.txt").write_text("of somebody else\n")
    (videos / "a" / "empty.mp4").unlink()
    assert run_tool("prepare_folder", videos)[0] == 0
    assert not (videos / "bad_videos.txt").exists()
    assert (videos / "missing.txt").read_text() == "of somebody else\n"


def test_a_verdict_is_with_the_system_at_once(tmp_path):
    with Journal(tmp_path / "journal.jsonl") as journal:
        journal.add("a.mp4", Verdict(1, 2, "quick", "no index"))
        with Journal(tmp_path / "journal.jsonl") as other:
            assert other.verdicts == {"a.mp4": (1, 2, "quick", "no index")}


def test_frames_that_cannot_be_decoded_are_found_by_the_full_check_alone(videos, run_tool):
    path = videos / "a" / "00.mp4"
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat") + 1200
    content[start : start + 600] = bytes(600)
    path.unlink()
    path.write_bytes(content)
    assert run_tool("prepare_folder", videos)[0] == 0
    assert bad_names(videos) == {}
    assert run_tool("prepare_folder", videos, "--check", "full")[0] == 0
    assert list(bad_names(videos)) == ["a/00.mp4"]
    assert bad_names(videos)["a/00.mp4"].startswith("damaged: ")


def test_a_killed_run_goes_on_where_it_was(videos, run_tool, tmp_path):
    for path in sorted(videos.rglob("*.mp4")):
        for copy in range(15):
            os.link(path, path.with_name(f"{path.stem}_{copy:02d}.mp4"))
    (videos / "b" / "broken.mp4").write_bytes(b"junk")
    output = tmp_path / "lists"
    journal = output / "checked_videos.jsonl"
    options = [videos, "--output", output, "--check", "full", "--workers", "1"]
    run = subprocess.Popen([sys.executable, TOOL, *map(str, options)], stdout=subprocess.PIPE)
    while run.poll() is None and (not journal.exists() or journal.read_bytes().count(b"\n") < 40):
        time.sleep(0.002)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert run.returncode == -signal.SIGKILL
    assert [path.name for path in output.iterdir()] == ["checked_videos.jsonl"]
    known = journal.read_bytes().count(b"\n")
    assert 40 <= known < 257
    code, out, _ = run_tool("prepare_folder", *options)
    assert code == 0
    assert f"{257 - known} videos checked, {known} known from an earlier run" in out
    assert run_tool("prepare_folder", videos, "--output", tmp_path / "whole", "--check", "full")[0] == 0
    for name in ("train.txt", "valid.txt", "class_names.txt", "bad_videos.txt"):
        assert (output / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_files_of_others_are_not_replaced(videos, run_tool):
    (videos / "train.txt").write_text("mine\n")
    code, _, err = run_tool("prepare_folder", videos)
    assert (code, err.count("\n")) == (2, 1)
    assert "train.txt is there already, and of another tool; choose a folder with --output" in err
    assert (videos / "train.txt").read_text() == "mine\n"
    assert not (videos / "checked_videos.jsonl").exists()


def test_all_videos_broken_is_an_error_that_names_one(tmp_path, run_tool):
    root = plant(tmp_path, "a/1.mp4", "b/2.mp4")
    code, _, err = run_tool("prepare_folder", root)
    assert (code, err.count("\n")) == (2, 1)
    assert "all 2 videos are broken, such as a/1.mp4: this video is empty" in err
    assert not (root / "train.txt").exists()
    assert list(bad_names(root)) == ["a/1.mp4", "b/2.mp4"]
