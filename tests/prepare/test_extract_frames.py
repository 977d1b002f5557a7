"""Pictures from videos: which frames they show, the list of them, and runs that are cut short."""

from __future__ import annotations

import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from small_videos import WIDTH, decode, grey, psnr, turn, write

from paddlevid.build import build_source
from paddlevid.config import load_config
from paddlevid.data.annotations import read_list
from paddlevid.data.records import Record
from paddlevid.data.video import FrameFolder
from paddlevid.errors import DataError
from paddlevid.prepare.decoding import MAX_FRAMES, frames_at_rate
from paddlevid.prepare.frames import Pictures, extract_video
from paddlevid.prepare.naming import list_line, plan_jobs

ROOT = Path(__file__).resolve().parents[2]
Tool = Callable[..., tuple[int, str, str]]
PNG = "img_{:05d}.png"


def extract(path: Path, folder: Path, **options: object) -> np.ndarray:
    """The pictures of a video, read back: uint8 `[T, H, W, 3]`."""
    pictures = Pictures(template=PNG, **options)  # type: ignore[arg-type]
    made = extract_video(pictures, str(path), folder, lambda: None)
    assert len(list(folder.iterdir())) == made.num_frames
    assert sum(file.stat().st_size for file in folder.iterdir()) == made.num_bytes
    return FrameFolder(folder, made.num_frames, PNG).read(np.arange(made.num_frames))


def seconds(*times_ms: int) -> list[Fraction]:
    return [Fraction(time, 1000) for time in times_ms]


@pytest.mark.parametrize(
    ("times_sec", "fps", "expected"),
    [
        (seconds(*range(0, 1000, 100)), 5, [0, 2, 4, 6, 8]),
        (seconds(0, 100, 200), 20, [0, 0, 1, 1, 2]),
        (seconds(0, 100, 200), 10, [0, 1, 2]),
        (seconds(0, 500, 600, 2000), 2, [0, 1, 2, 2, 3]),
        (seconds(0, 33, 67, 100, 133), 15, [0, 2, 4]),  # 30 a second in whole milliseconds: 0, 66.7 and 133.3
        (seconds(0), 30, [0]),
        ([Fraction(i * 1001, 30000) for i in range(7)], Fraction(15000, 1001), [0, 2, 4, 6]),
    ],
)
def test_which_frame_a_picture_shows(times_sec: list[Fraction], fps: Fraction, expected: list[int]) -> None:
    assert frames_at_rate(times_sec, Fraction(fps)).tolist() == expected


def test_no_timestamp_makes_a_million_pictures() -> None:
    with pytest.raises(DataError, match="30000001 pictures at 30 a second: its timestamps span 1000000 s"):
        frames_at_rate(seconds(0, 1_000_000_000), Fraction(30))
    assert MAX_FRAMES < 30_000_001


OPEN = {"bf": "3", "x264-params": "open-gop=1:keyint=10:min-keyint=10:scenecut=0"}


@pytest.mark.parametrize(
    ("name", "options"),
    [("plain.mp4", {}), ("open.mkv", OPEN), ("b.avi", {"bf": "2"}), ("raw.h264", {"bf": "2"}), ("x.ts", OPEN)],
)
def test_pictures_are_the_frames_of_plain_decoding(tmp_path: Path, name: str, options: dict[str, str]) -> None:
    path = write(tmp_path / name, 24, options=options)
    np.testing.assert_array_equal(extract(path, tmp_path / "frames"), decode(path))


def test_pictures_stand_upright(tmp_path: Path) -> None:
    path = write(tmp_path / "x.mp4", 3)
    pictures = extract(turn(path, tmp_path / "turned.mp4"), tmp_path / "frames")
    np.testing.assert_array_equal(pictures, np.rot90(decode(path), -1, axes=(1, 2)))


def test_a_rate_of_frames_of_uneven_length(tmp_path: Path) -> None:
    path = write(tmp_path / "x.mkv", 5, times_ms=[0, 40, 400, 450, 1000])
    pictures = extract(path, tmp_path / "frames", fps=Fraction(5))  # at 0, 200, 400, 600, 800 and 1000 ms
    np.testing.assert_array_equal(pictures, decode(path)[[0, 1, 2, 3, 3, 4]])


def test_sizes(tmp_path: Path) -> None:
    path = write(tmp_path / "x.mp4", 2)
    plain = decode(path)
    small = extract(path, tmp_path / "small", short_side=16)
    means = plain.reshape(2, 16, 4, WIDTH // 4, 4, 3).mean(axis=(2, 4))  # of 4x4 pixels
    assert small.shape == (2, 16, 24, 3)
    assert np.abs(small - means).max() <= 1
    np.testing.assert_array_equal(extract(path, tmp_path / "as_is", short_side=100), plain)
    large = extract(path, tmp_path / "large", short_side=100, enlarge=True)
    assert large.shape == (2, 100, 150, 3)
    assert psnr(large[:, ::2, ::2].mean(), plain.mean()) > 40


def test_jpeg_of_two_qualities(tmp_path: Path) -> None:
    path = write(tmp_path / "x.mp4", 2)
    sizes = []
    for quality in (20, 95):
        folder = tmp_path / str(quality)
        made = extract_video(Pictures(quality=quality, start_index=0), str(path), folder, lambda: None)
        assert sorted(os.listdir(folder)) == ["img_00000.jpg", "img_00001.jpg"]
        sizes.append(made.num_bytes)
        pictures = FrameFolder(folder, 2, start_index=0).read(np.arange(2))
    assert sizes[0] < sizes[1] / 2
    assert psnr(pictures, decode(path)) > 25


def test_a_damaged_video_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "x.mp4", 24, options={"g": "6"})
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat")
    content[start + 2000 : start + 4000 : 7] = bytes(len(range(2000, 4000, 7)))
    path.write_bytes(content)
    with pytest.raises(DataError, match="frame"):
        extract(path, tmp_path / "frames")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("img.jpg", "a place for a number"),
        ("a/{:05d}.jpg", "a place for a number"),
        ("{:05d}.bmp", "must end in"),
        ("{x}.jpg", "template"),
        ("{:d", "template"),
    ],
)
def test_templates_that_name_no_pictures(template: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Pictures(template=template)


def names_of(root: str, *paths: str, suffix: str = "") -> list[str]:
    return [job.name for job in plan_jobs([Record(path) for path in paths], root, suffix)]


def test_names() -> None:
    assert names_of("/r", "/r/a/x.mp4", "/r/b/x.mp4", "/r/a/../c.webm") == ["a/x", "b/x", "c"]
    assert names_of("/r", "/r/x.mp4", "/r/x.avi", "/r/y.avi") == ["x.mp4", "x.avi", "y"]
    assert names_of("/r", "/r/x.mp4", "/r/x/y.mp4", "/r/x.mp4") == ["x.mp4", "x/y"]
    assert names_of("/r", "/r/x,.mp4", "/r/y .mp4", "/r/v1.2") == ["x,.mp4", "y .mp4", "v1"]
    assert names_of("/r", "/s/a/x.mp4", "/s/b/x.mp4") == ["a/x", "b/x"]
    assert names_of("/r", "/r/x.mp4", "/r/x.avi", suffix=".mp4") == ["x.mp4.mp4", "x.avi.mp4"]
    assert names_of("/r", "/r/x.mp4", "/r/x.avi", "/r/x.avi.mkv") == ["x.mp4", "x.avi", "x.avi.mkv"]
    jobs = plan_jobs([Record("/r/x.avi"), Record("/r/y.mp4")], "/r", known={"x": "/r/x.mp4", "y.mp4": "/r/y.mp4"})
    assert [(job.source, job.name) for job in jobs] == [("/r/x.avi", "x.avi"), ("/r/y.mp4", "y.mp4")]
    known = {"x": "/s/x.mp4", "x.mp4": "/t/x.mp4", "x.mp4_2": "/u/x.mp4", "y/1": "/s/y/1.mp4"}
    jobs = plan_jobs([Record("/r/x.mp4"), Record("/r/y.mp4")], "/r", known=known)
    assert [job.name for job in jobs] == ["x.mp4_3", "y.mp4"]  # y is a folder
    with pytest.raises(DataError, match=r"/r/x/y\.mp4: .* named x/y\.mp4, as"):
        plan_jobs([Record("/r/x/y.mp4")], "/r", known={"x": "/s/x.mp4"})
    with pytest.raises(DataError, match=r"/r/x: .* named x, as something else is; rename"):
        names_of("/r", "/r/x", "/r/x/y.mp4")


def test_lines_are_read_back(tmp_path: Path) -> None:
    names = ["a b", " c", "take 3", "x,5", "d, 7", "-", "é 1,2", "#1"]
    for name in names:
        (tmp_path / name).mkdir()
    kinds = {
        "labels": [Record("", label=index) for index in range(len(names))],
        "several": [Record("", labels=tuple(range(index))) for index in range(len(names))],
        "none": [Record("")] * len(names),
    }
    for kind, records in kinds.items():
        lines = [list_line(name, record, 9) for name, record in zip(names, records, strict=True)]
        path = tmp_path / f"{kind}.txt"
        path.write_text("\n".join(lines), encoding="utf-8")
        is_labelled, has_several = kind != "none", kind == "several"
        read = read_list(path, format="frames", root=tmp_path, labelled=is_labelled, multi_label=has_several)
        assert [os.path.normpath(record.name) for record in read] == names
        assert [(record.label, record.labels) for record in read] == [(one.label, one.labels) for one in records]
        assert {record.num_frames for record in read} == {9}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two labelled lists, one with names that are hard to read, and videos that cannot be read."""
    folder = tmp_path_factory.mktemp("videos")
    write(folder / "a b.mp4", 7, seed=1)
    write(folder / "deep" / "x.mp4", 8, seed=2)
    write(folder / "deep" / "x.avi", 9, seed=3, codec="mpeg4")
    (folder / "bad.mp4").write_bytes(b"no video")
    (folder / "train.txt").write_text("a b.mp4 1\ndeep/x.mp4 0\nbad.mp4 1\ndeep/x.avi 2\ngone.mp4 0\na b.mp4 2\n")
    (folder / "valid.txt").write_text("deep/x.mp4 0,2\na b.mp4 -\n")
    (folder / "class_names.txt").write_text("run\nwalk\nfly\n")
    return folder


def state(folder: Path) -> dict[str, int]:
    """When each picture was written, by its name."""
    return {str(file.relative_to(folder)): file.stat().st_mtime_ns for file in sorted(folder.rglob("*.jpg"))}


def test_the_tool(videos: Path, tmp_path: Path, run_tool: Tool, tiny_recipe: Callable[[str], Path]) -> None:
    out = tmp_path / "frames"
    code, said, err = run_tool("extract_frames", videos / "train.txt", "-o", out, "--short_side", 32, "--fps", 5)
    assert code == 1
    assert said.startswith(f"{out}: 3 videos made in ")
    assert f"; 2 are bad: see {out}/bad_videos.txt\n13 pictures, " in said
    assert f"4 lines in {out}/train.txt\n" in said
    reason = (out / "bad_videos.txt").read_text().splitlines()[0].removeprefix("bad.mp4\t")
    assert err.splitlines() == [f"{videos}/gone.mp4: no such file", f"{videos}/bad.mp4: {reason}"]
    # At 10 frames a second 7, 8 and 9 of them begin until 0.6, 0.7 and 0.8 s
    assert (out / "train.txt").read_text() == "a b 4 1\ndeep/x.mp4 4 0\ndeep/x.avi 5 2\na b 4 2\n"
    assert (out / "class_names.txt").read_text() == "run\nwalk\nfly\n"
    bad = (out / "bad_videos.txt").read_text().splitlines()
    assert bad[0].startswith("bad.mp4\tpyav cannot open this video")
    assert bad[1:] == ["gone.mp4\tno such file"]
    hidden = {path.name for path in out.rglob(".*")}
    assert hidden == {".made.jsonl"}

    (line,) = [line for line in said.splitlines() if line.startswith("read them with ")]
    assert "'data.frame_template=img_{:05d}.jpg'" in line
    cfg = load_config(tiny_recipe("tsm"), shlex.split(line.removeprefix("read them with "))[1::2])
    assert Path(cfg.train.list) == out / "train.txt"
    records = read_list(cfg.train.list, format=cfg.data.format, root=cfg.data.root, num_classes=3)
    with build_source(cfg.data).open(records[2]) as reader:
        assert (reader.num_frames, reader.fps) == (5, 5.0)
        pictures = reader.read(np.arange(5))
    whole = decode(videos / "deep" / "x.avi")[::2].reshape(5, 32, 2, 48, 2, 3).mean(axis=(2, 4))
    assert psnr(grey(pictures), grey(whole)) > 30

    before = state(out)
    assert len(before) == 13
    shutil.rmtree(out / "deep" / "x.avi")
    code, said, _ = run_tool("extract_frames", videos / "train.txt", "-o", out, "--short_side", 32, "--fps", 5)
    assert (code, said.split(" video made in ")[0]) == (1, f"{out}: 1")
    assert "; 2 were there already; 2 are bad" in said
    after = state(out)
    assert {name for name in before if before[name] != after[name]} == {n for n in before if n.startswith("deep/x.avi")}

    code, said, _ = run_tool(
        "extract_frames", videos / "valid.txt", "-o", out, "--multi_label", "--short_side", 32, "--fps", 5
    )
    assert code == 0
    assert "2 were there already\n" in said
    assert (out / "valid.txt").read_text() == "deep/x.mp4 4 0,2\na b 4 -\n"


def test_what_a_user_can_do_wrong(videos: Path, tmp_path: Path, run_tool: Tool) -> None:
    foreign = tmp_path / "foreign"
    (foreign / "a b").mkdir(parents=True)
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "train.txt").touch()
    (tmp_path / "none.txt").write_text("a b.mp4\n")
    for arguments, message in [
        ([videos / "train.txt", "-o", foreign], "is there already, made of something else"),
        ([videos / "train.txt", "-o", taken], "train.txt: is there already, and a new list"),
        ([videos / "train.txt", "-o", videos], "train.txt: is there already, and a new list"),
        ([tmp_path / "none.txt", "-o", tmp_path / "x"], "a list without labels needs --unlabelled"),
        ([videos / "gone", "-o", tmp_path / "x"], "gone: no such file or folder"),
        ([videos / "a b.mp4", "-o", tmp_path / "x", "--template", "a.jpg"], "a place for a number"),
    ]:
        code, out, err = run_tool("extract_frames", *arguments)
        assert (code, out) == (2, "")
        assert message in err
        assert err.startswith("error: ")
        assert err.count("\n") == 1


def test_other_settings_and_other_videos_need_another_folder(videos: Path, tmp_path: Path, run_tool: Tool) -> None:
    out, other = tmp_path / "frames", tmp_path / "other"
    assert run_tool("extract_frames", videos / "a b.mp4", "-o", out, "--format", "png")[0] == 0
    assert (out / "list.txt").read_text() == "a b 7\n"
    code, _, err = run_tool("extract_frames", videos / "a b.mp4", "-o", out)
    assert code == 2
    assert "was made with template img_{:05d}.png, not img_{:05d}.jpg; choose another folder" in err
    write(other / "a b.avi", 2, codec="mpeg4")
    (other / "more.txt").write_text("a b.avi\n")
    assert run_tool("extract_frames", other, "-o", out, "--format", "png")[0] == 2
    arguments = ["extract_frames", other / "more.txt", "-o", out, "--format", "png", "--unlabelled"]
    code, said, _ = run_tool(*arguments)
    assert (code, "\n2 pictures, " in said, "; 1 line in " in said) == (0, True, True)
    assert "train.list" not in said  # without labels nothing trains
    assert (out / "more.txt").read_text() == "a b.avi 2\n"
    assert (out / "list.txt").read_text() == "a b 7\n"
    assert len(list((out / "a b").iterdir())) == 7


@pytest.mark.parametrize("tool", ["extract_frames", "make_clips"])
def test_a_full_disk_is_one_line_and_leaves_nothing_half(tmp_path: Path, run_tool: Tool, tool: str) -> None:
    write(tmp_path / "x.mp4", 4, size=(320, 240), options={"crf": "1"})
    out = tmp_path / "out"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))  # no file grows beyond, as on a disk that fills up
    try:
        code, said, err = run_tool(tool, tmp_path / "x.mp4", "-o", out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (code, said) == (2, "")
    assert err == f"error: {out / 'x'}{'.mp4' * (tool == 'make_clips')}: File too large\n"
    assert os.listdir(out) == [".made.jsonl"]
    assert run_tool(tool, tmp_path / "x.mp4", "-o", out)[0] == 0


def test_killed_and_started_again(tmp_path: Path, run_tool: Tool) -> None:
    videos, out = tmp_path / "videos", tmp_path / "frames"
    first = write(videos / "00.mp4", 20, size=(320, 240))
    for number in range(1, 10):
        shutil.copy(first, videos / f"{number:02}.mp4")
    command = [sys.executable, str(ROOT / "tools" / "extract_frames.py"), str(videos), "-o", str(out), "--workers", "1"]
    process = subprocess.Popen(command, start_new_session=True)
    deadline = time.monotonic() + 60
    while not (out / "01").is_dir() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = sorted(path.name for path in out.glob("[0-9]*"))
    assert 2 <= len(done) < 10
    assert all(len(list((out / name).iterdir())) == 20 for name in done)
    before = {name: time for name, time in state(out).items() if not name.startswith(".partial")}
    code, said, _ = run_tool("extract_frames", videos, "-o", out, "--workers", 1)
    assert (code, f"; {len(done)} were there already" in said) == (0, True)
    assert len(state(out)) == 10 * 20
    assert {name: time for name, time in state(out).items() if name in before} == before
    assert (out / "list.txt").read_text() == "".join(f"{number:02} 20\n" for number in range(10))
    assert not (out / ".partial").exists()
