"""The search for broken videos: each kind in each container, and what may happen while it runs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from broken_videos import CONTAINERS, KINDS, write_broken_set

from paddlevid.data.check import Finding, check_record, check_videos
from paddlevid.data.dataset import FrameSource
from paddlevid.data.flow.method import FlowMethod
from paddlevid.data.records import Record

av = pytest.importorskip("av")
Tool = Callable[..., tuple[int, str, str]]

EXPECTED = {
    "empty": "unreadable: this video is empty (0 bytes)",
    "text": "unreadable: pyav cannot open this video: Invalid data found when processing input",
    "cut_10": "truncated: it has ",
    "cut_50": "truncated: it has ",
    "cut_90": "truncated: it has ",
    "audio": "unreadable: pyav cannot open this video: it holds no pictures, only audio",
    "header": "truncated: it has ",
    "flips": "damaged: ",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    missing = {container.codec for container in CONTAINERS.values()} - set(av.codecs_available)
    if missing:
        pytest.skip(f"this PyAV cannot write {', '.join(missing)}")
    return write_broken_set(tmp_path_factory.mktemp("broken"))


def check(path: Path, num_frames: int | None = None, source: FrameSource | None = None) -> Finding | None:
    return check_record(source or FrameSource(), Record(path=str(path), num_frames=num_frames), lambda: None)


def write_pictures(
    path: Path,
    codec: str,
    num_frames: int,
    width: int = 96,
    height: int = 64,
    *,
    options: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
    form: str | None = None,
    steps_ms: Sequence[int] = (40,),
) -> Path:
    """Pictures that are shown as long as `steps_ms` says, in turns."""
    with av.open(str(path), "w", format=form, options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        if len(steps_ms) > 1:
            stream.codec_context.time_base = Fraction(1, 1000)
        rows = np.arange(height, dtype=np.uint8)[:, None, None]
        time_ms = 0
        for i in range(num_frames):
            picture = np.ascontiguousarray(np.broadcast_to(rows * 3 + i, (height, width, 3)).astype(np.uint8))
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if len(steps_ms) > 1:
                frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
                time_ms += steps_ms[i % len(steps_ms)]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


OPEN = {"bf": "3", "x264-params": "open-gop=1:keyint=10:min-keyint=10:scenecut=0"}
UNUSUAL: dict[str, dict[str, Any]] = {
    "open.mp4": {"codec": "libx264", "options": OPEN},
    "open.mkv": {"codec": "libx264", "options": OPEN},
    "open.ts": {"codec": "libx264", "options": OPEN},
    "steps.mp4": {"codec": "libx264", "options": {"bf": "2"}, "steps_ms": (20, 330, 50)},
    "steps.mkv": {"codec": "libx264", "options": {"bf": "2"}, "steps_ms": (20, 330, 50)},
    "refresh.mp4": {"codec": "libx264", "options": {"x264-params": "intra-refresh=1:keyint=20"}},
    "fields.mp4": {"codec": "libx264", "options": {"x264-params": "interlaced=1:bff=1", "bf": "2"}},
    "fragments.mp4": {"codec": "libx264", "options": {"g": "12"}, "muxer": {"movflags": "frag_keyframe+empty_moov"}},
    "live.mkv": {"codec": "libx264", "options": {"g": "12"}, "muxer": {"live": "1"}},
    "live.webm": {"codec": "libvpx-vp9", "options": {"cpu-used": "8"}, "muxer": {"live": "1"}},
    "vp8.webm": {"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "16"}},
    "b.avi": {"codec": "libx264", "options": {"bf": "2"}},
    "divx.avi": {"codec": "mpeg4", "options": {"bf": "2", "g": "12"}},
    "mpeg2.mpg": {"codec": "mpeg2video", "options": {"bf": "2", "g": "12"}},
    "mpeg2.ts": {"codec": "mpeg2video", "options": {"bf": "2", "g": "12"}},
    "wmv.wmv": {"codec": "wmv2"},
    "flash.flv": {"codec": "flv"},
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_what_is_only_unusual_is_good(tmp_path: Path, name: str) -> None:
    if UNUSUAL[name]["codec"] not in av.codecs_available:
        pytest.skip(f"this PyAV cannot write {UNUSUAL[name]['codec']}")
    assert check(write_pictures(tmp_path / name, num_frames=45, **UNUSUAL[name])) is None


def test_a_copy_from_the_middle_is_good(tmp_path: Path) -> None:
    """Its edit list leaves out frames that are in the file, and others need frames that are not."""
    whole = write_pictures(tmp_path / "whole.mp4", "libx264", 45, options=OPEN)
    path = tmp_path / "middle.mp4"
    with av.open(str(whole)) as source, av.open(str(path), "w") as to:
        stream = source.streams.video[0]
        if not hasattr(to, "add_stream_from_template"):
            pytest.skip("this PyAV cannot copy streams so")
        copy = to.add_stream_from_template(stream)
        source.seek(900_000)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                to.mux(packet)
    with av.open(str(path)) as source:
        assert 10 < len(list(source.decode(video=0))) < 45
    assert check(path) is None


def test_the_whole_set_by_the_tool(
    files: dict[tuple[str, str], Path], tmp_path: Path, run_tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "class_names.txt").write_text("run\nwalk\n")
    folder = files["good", "avi"].parent
    lines = [f"{path.name} {label}" for label, path in enumerate(files.values())]
    content = "\ufeff" + "\r\n".join([*lines[:9], "", *lines[9:], "gone.mp4 3"])  # no line break at the end
    (tmp_path / "list.txt").write_bytes(content.encode())
    code, out, err = run_tool("check_videos", "list.txt", "--root", folder, "--workers", 2, "--good", "good/list.txt")
    assert code == 1
    assert (
        out == "46 videos, 41 of them bad: 20 truncated, 15 unreadable, 5 damaged, 1 missing; see list_bad_videos.txt\n"
    )
    bad = dict(line.split("\t") for line in (tmp_path / "list_bad_videos.txt").read_text().splitlines())
    assert set(bad) == {path.name for (kind, _), path in files.items() if kind != "good"} | {"gone.mp4"}
    for (kind, container), path in files.items():
        if kind != "good":
            assert bad[path.name].startswith(EXPECTED[kind]), (kind, container)
            assert f"{path}: {bad[path.name]}\n" in err
    assert bad["gone.mp4"] == "missing: cannot read this video: No such file or directory"
    good = [line for line in content.removeprefix("\ufeff").split("\r\n") if line.startswith("good_") or not line]
    assert (tmp_path / "good" / "list.txt").read_bytes() == "".join(f"{line}\r\n" for line in good).encode()
    assert (tmp_path / "good" / "class_names.txt").read_text() == "run\nwalk\n"


def test_all_good(files: dict[tuple[str, str], Path], tmp_path: Path, run_tool: Tool) -> None:
    videos = tmp_path / "videos"
    (videos / "deep").mkdir(parents=True)
    for container in CONTAINERS:
        path = files["good", container]
        (videos / "deep" / path.name).symlink_to(path)
    output = tmp_path / "new" / "bad.txt"
    assert run_tool("check_videos", videos, "--output", output) == (0, "5 videos, all good\n", "")
    assert output.read_bytes() == b""


def test_bad_videos_are_named_beside_their_list(
    files: dict[tuple[str, str], Path], tmp_path: Path, run_tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "lists"
    folder.mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    good, text = files["good", "avi"], files["text", "avi"]
    (folder / "bad_videos.txt").write_text("of another tool")
    (folder / "train.csv").write_text(f"path,label\n{text},0\n{good},1\n")
    (folder / "class_names.txt").write_text("run\nwalk\n")
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "class_names.txt").write_text("kept\n")
    options = (folder / "train.csv", "--workers", 1, "--good", tmp_path / "good" / "train.csv")
    code, out, _ = run_tool("check_videos", *options)
    assert (code, out) == (1, f"2 videos, 1 of them bad: 1 unreadable; see {folder}/train_bad_videos.txt\n")
    assert (folder / "train_bad_videos.txt").read_text().startswith(f"{text}\tunreadable: ")
    assert (tmp_path / "good" / "train.csv").read_text() == f"path,label\n{good},1\n"
    assert (tmp_path / "good" / "class_names.txt").read_text() == "kept\n"
    (folder / "train.csv").write_text(f"path,label\n{good},1\n")
    assert run_tool("check_videos", folder / "train.csv", "--workers", 1)[0] == 0
    assert sorted(path.name for path in folder.iterdir()) == ["bad_videos.txt", "class_names.txt", "train.csv"]
    assert list((tmp_path / "elsewhere").iterdir()) == []
    (folder / "train.csv").write_text(f'path,label\n"{good}",1\n"a\nb",0\n')
    code, _, err = run_tool("check_videos", *options)
    assert (code, err.count("\n")) == (2, 1)
    assert "rows of " in err


def test_pictures_of_changing_size(tmp_path: Path) -> None:
    parts = [
        write_pictures(tmp_path / "a", "mpeg2video", 20, form="mpeg2video"),
        write_pictures(tmp_path / "b", "mpeg2video", 10, 64, 48, form="mpeg2video"),
    ]
    path = tmp_path / "both.mpg"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    finding = check(path)
    assert finding is not None
    assert finding.kind == "changing size"
    assert finding.reason.startswith("96x64 from frame 0 on, 64x48 from frame ")


def test_fewer_frames_than_the_container_says(tmp_path: Path) -> None:
    path = write_pictures(tmp_path / "x.avi", "mpeg4", 30)
    assert check(path) is None
    content = bytearray(path.read_bytes())
    length = content.index(b"strh") + 8 + 32
    assert content[length : length + 4] == (30).to_bytes(4, "little")
    content[length : length + 4] = (90).to_bytes(4, "little")
    path.write_bytes(content)
    assert check(path) == Finding("too few frames", "30; its head says 90")


def test_no_frames(tmp_path: Path) -> None:
    path = write_pictures(tmp_path / "x.avi", "mpeg4", 1)
    content = path.read_bytes()
    begin = content.index(b"movi") + 4
    empty = bytearray(content[:begin])
    empty[begin - 8 : begin - 4] = (4).to_bytes(4, "little")
    path.write_bytes(empty)
    assert check(path) == Finding("no frames", "pyav finds no frames in this video")


def test_folders_of_frames(tmp_path: Path, run_tool: Tool) -> None:
    cv2 = pytest.importorskip("cv2")
    for name in ("good", "gap", "text", "sizes"):
        (tmp_path / name).mkdir()
        for number in range(1, 6):
            size = 24 if (name, number) == ("sizes", 4) else 16
            cv2.imwrite(str(tmp_path / name / f"img_{number:05d}.jpg"), np.zeros((size, size, 3), np.uint8))
    (tmp_path / "gap" / "img_00003.jpg").unlink()
    (tmp_path / "text" / "img_00002.jpg").write_text("no picture")
    (tmp_path / "list.txt").write_text("good 5 0\ngap 5 1\ntext 5 0\nsizes 5 1\nnone 5 0\n")
    output = tmp_path / "bad.txt"
    code, out, _ = run_tool("check_videos", tmp_path / "list.txt", "--format", "frames", "--output", output)
    assert (code, out.split(":")[0]) == (1, "5 videos, 4 of them bad")
    bad = dict(line.split("\t") for line in output.read_text().splitlines())
    assert sorted(bad) == ["gap", "none", "sizes", "text"]
    assert "img_00003.jpg: No such file" in bad["gap"]
    assert "img_00002.jpg: not a picture that OpenCV can read (10 bytes)" in bad["text"]
    assert bad["sizes"] == "changing size: 16x16 from frame 0 on, 24x24 from frame 3 on"
    assert bad["none"] == "missing: no such folder of frames"


FLOW = ("data.modality=flow", "data.snippet_length=3", "data.mean=[0.5, 0.5]", "data.std=[0.226, 0.226]")
STORED = ("data.format=flow", "data.flow={algorithm: dis}")


def overrides(*texts: str) -> list[str]:
    return [word for text in texts for word in ("-o", text)]


def bad_of(output: Path) -> dict[str, str]:
    return dict(line.split("\t") for line in output.read_text().splitlines())


def test_folders_of_stored_flow(tmp_path: Path, run_tool: Tool, tiny_recipe: Callable[[str], Path]) -> None:
    """With the recipe that trains on them, and without: a picture of the fifth flow is as much worth as one of it."""
    cv2 = pytest.importorskip("cv2")
    folder = tmp_path / "flow"
    for name in ("good", "gap", "text", "sizes", "axes"):
        (folder / name).mkdir(parents=True)
        for number in range(1, 6):
            for axis in "xy":
                size = 24 if number == 5 and (name == "sizes" or (name, axis) == ("axes", "y")) else 16
                path = folder / name / f"flow_{axis}_{number:05d}.jpg"
                cv2.imwrite(str(path), np.full((size, size), 128, np.uint8))
    (folder / "gap" / "flow_y_00005.jpg").unlink()
    (folder / "text" / "flow_x_00004.jpg").write_text("no picture")
    listed, output = folder / "list.txt", tmp_path / "bad.txt"
    listed.write_text("good 5 0\ngap 5 1\ntext 5 0\nsizes 5 1\naxes 5 1\nnone 5 0\n")
    recipe = ("-c", tiny_recipe("tsn"), *overrides(*FLOW, *STORED, f"data.root={folder}"))
    for how in (recipe, ("--format", "flow")):
        code, out, err = run_tool("check_videos", listed, *how, "--output", output)
        assert (code, out.split(":")[0]) == (1, "6 videos, 5 of them bad"), err
        bad = bad_of(output)
        assert sorted(bad) == ["axes", "gap", "none", "sizes", "text"]
        assert "flow_y_00005.jpg: No such file" in bad["gap"]
        assert "flow_x_00004.jpg: not a picture that OpenCV can read (10 bytes)" in bad["text"]
        assert bad["sizes"] == "changing size: 16x16 from frame 0 on, 24x24 from frame 4 on"
        assert bad["axes"].endswith("the x and y pictures of frame 5 differ in size")
        assert bad["none"].startswith("missing: ")


def test_pictures_of_stored_flow_are_called_as_their_note_says(tmp_path: Path, run_tool: Tool) -> None:
    cv2 = pytest.importorskip("cv2")
    (tmp_path / "a").mkdir()
    for number in range(5):
        cv2.imwrite(str(tmp_path / "a" / f"f{number}.png"), np.full((16, 16, 3), 128, np.uint8))
    note = '{"algorithm": "dis", "bound": 20.0, "short_side": null, "warp": false, "template": "f{}.png"'
    (tmp_path / "flow.json").write_text(note + ', "start_index": 0}')
    (tmp_path / "list.txt").write_text("a 5 0\n")
    for given in ("list.txt", "a", ""):
        assert run_tool("check_videos", tmp_path / given, "--format", "flow")[:2] == (0, "1 videos, all good\n")


def test_videos_of_which_there_is_no_flow(tmp_path: Path, run_tool: Tool, tiny_recipe: Callable[[str], Path]) -> None:
    """Training on computed flow refuses them; where it is not computed they are good."""
    for name, num_frames, size in (("good", 5, (96, 64)), ("one", 1, (96, 64)), ("tiny", 5, (32, 12))):
        write_pictures(tmp_path / f"{name}.avi", "mpeg4", num_frames, *size)
    listed, output = tmp_path / "list.txt", tmp_path / "bad.txt"
    listed.write_text("good.avi 0\none.avi 1\ntiny.avi 0\n")
    how = ("-c", tiny_recipe("tsn"), "--root", tmp_path, "--output", output)
    assert run_tool("check_videos", listed, *how)[:2] == (0, "3 videos, all good\n")
    kept = f"data.flow={{algorithm: dis, cache: '{tmp_path / 'kept'}'}}"
    code, out, _ = run_tool("check_videos", listed, *how, *overrides(*FLOW, kept))
    assert (code, out) == (1, f"3 videos, 2 of them bad: 2 no flow; see {output}\n")
    assert bad_of(output) == {
        "one.avi": "no flow: no optical flow in a video of 1 frame: it is between two",
        "tiny.avi": "no flow: frame 0: frames of 32x12 pixels are too small for optical flow: short_side of at least 16"
        " scales them up",
    }
    assert not (tmp_path / "kept").exists(), "a look leaves nothing behind"
    scaled = overrides(*FLOW, "data.flow={algorithm: dis, short_side: 16}")
    assert run_tool("check_videos", listed, *how, *scaled)[1].startswith("3 videos, 1 of them bad: 1 no flow")


def test_the_last_frame_of_a_video_counts_where_flow_is_computed(tmp_path: Path) -> None:
    """A video of 30 frames has 29 flows, and all 30 frames are looked at."""
    path = write_pictures(tmp_path / "x.avi", "mpeg4", 30)
    source = FrameSource(flow=FlowMethod())
    assert check(path, source=source) is None
    content = path.read_bytes()
    index = content.index(b"idx1")
    last = content.rindex(b"00dc", 0, index)
    path.write_bytes(content[: last + 8] + b"\0" * (index - last - 8) + content[index:])
    finding = check(path, source=source)
    assert finding is not None
    assert finding.kind == "damaged"
    assert finding.reason.startswith("from frame 29 of 30 on: ")


def test_a_flow_that_is_not_installed(
    tmp_path: Path, run_tool: Tool, tiny_recipe: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import cv2

    monkeypatch.setattr(cv2, "optflow", None, raising=False)
    path = write_pictures(tmp_path / "x.avi", "mpeg4", 3)
    how = ("-c", tiny_recipe("tsn"), *overrides(*FLOW, "data.flow={algorithm: tvl1}"))
    code, out, err = run_tool("check_videos", path, *how)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: TV-L1 optical flow is in OpenCV's contrib modules")


def records(files: dict[tuple[str, str], Path]) -> list[Record]:
    return [Record(path=str(files["good", container])) for container in CONTAINERS]


def test_a_worker_that_is_killed_costs_nothing(files: dict[tuple[str, str], Path]) -> None:
    results = check_videos(records(files), FrameSource(), num_workers=1)
    found = [next(results)]
    (worker,) = multiprocessing.active_children()
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    found += results
    assert [record.path for record, _ in found] == [record.path for record in records(files)]
    assert [finding for _, finding in found] == [None] * 5


def test_a_decoder_that_hangs_costs_one_video(files: dict[tuple[str, str], Path]) -> None:
    results = check_videos(records(files), FrameSource(), num_workers=1, timeout_sec=3.0)
    found = [next(results)]
    (worker,) = multiprocessing.active_children()
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGSTOP)
    found += results
    assert [finding for _, finding in found] == [None, Finding("timed out", "no answer in 3 s"), None, None, None]


def test_a_file_that_vanishes(files: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    content = files["good", "avi"].read_bytes()
    paths = [tmp_path / f"{number}.avi" for number in range(3)]
    for path in paths:
        path.write_bytes(content)
    results = check_videos([Record(path=str(path)) for path in paths], FrameSource(), num_workers=1)
    assert next(results) == (Record(path=str(paths[0])), None)
    paths[2].unlink()
    assert [finding for _, finding in results] == [
        None,
        Finding("missing", "cannot read this video: No such file or directory"),
    ]


def test_a_video_named_twice_is_decoded_once(files: dict[tuple[str, str], Path]) -> None:
    twice = Record(path=str(files["good", "avi"]))
    assert list(check_videos([twice, twice], FrameSource())) == [(twice, None)]


def test_what_a_user_can_do_wrong(files: dict[tuple[str, str], Path], tmp_path: Path, run_tool: Tool) -> None:
    folder = files["good", "avi"].parent
    listed = tmp_path / "list.txt"
    listed.write_text(f"{files['good', 'avi'].name} 0\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "none.txt").touch()
    output = tmp_path / "bad.txt"
    for arguments, message in [
        ([tmp_path / "gone.txt"], r"gone.txt: no such file or folder"),
        ([tmp_path / "empty"], "empty: neither videos"),
        ([tmp_path / "binary.txt"], "not a text file in UTF-8"),
        ([tmp_path / "none.txt"], "this list is empty"),
        ([listed, "--output", tmp_path / "empty"], "empty: is a folder"),
        ([listed, "--output", listed / "bad.txt"], "bad.txt: cannot write there: "),
        ([listed, "--output", listed], "must be different files"),
        ([listed, "--good", output], "must be different files"),
        ([folder, "--good", tmp_path / "good.txt"], "needs a list"),
    ]:
        code, out, err = run_tool("check_videos", *arguments, *(["--output", output] * ("--output" not in arguments)))
        assert (code, out) == (2, "")
        assert message in err
        assert err.startswith("error: ")
        assert err.count("\n") == 1
    assert not output.exists()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the administrator may write anywhere")
def test_a_folder_that_cannot_be_written(files: dict[tuple[str, str], Path], tmp_path: Path, run_tool: Tool) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    code, _, err = run_tool("check_videos", files["good", "avi"], "--output", closed / "bad.txt")
    assert code == 2
    assert err == f"error: {closed / 'bad.txt'}: cannot write there: Permission denied\n"


def ends(group: int) -> bool:
    for _ in range(100):  # what Python starts beside its own processes ends a little later
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def test_interrupted_it_leaves_no_process(files: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    lines = [f"{path.name} 0\n" for path in files.values()] + [f"{i}.mp4 0\n" for i in range(3000)]
    (tmp_path / "list.txt").write_text("".join(lines))
    command = [sys.executable, root / "tools" / "check_videos.py", "list.txt", "--root", files["good", "avi"].parent]
    process = subprocess.Popen(
        [*map(str, command), "--workers", "2"], cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr is not None
    process.stderr.readline()  # the first bad one: workers are busy
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "interrupted"
    assert "Traceback" not in err
    assert ends(process.pid)
    assert not list(tmp_path.glob("*bad_videos.txt"))


def test_all_kinds_are_expected() -> None:
    assert set(EXPECTED) == set(KINDS)
