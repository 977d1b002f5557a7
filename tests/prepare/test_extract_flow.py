"""Pictures of flow from videos: what they show, the list of them, and runs that are cut short."""

from __future__ import annotations

import itertools
import json
import os
import random
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

import cv2
import numpy as np
import pytest
from small_videos import decode, turn, write

from paddlevid.build import build_source
from paddlevid.config import load_config
from paddlevid.data.annotations import read_list
from paddlevid.data.flow.method import FlowMethod, tvl1_hint
from paddlevid.errors import DataError
from paddlevid.prepare.flow import FlowPictures, extract_flow, write_note

ROOT = Path(__file__).resolve().parents[2]
Tool = Callable[..., tuple[int, str, str]]
PAIR, ONE = "flow_{axis}_{:05d}.png", "flow_{:05d}.png"
DIS = FlowMethod("dis")


def extract(path: Path, folder: Path, template: str = PAIR, method: FlowMethod = DIS, **options: object) -> np.ndarray:
    """The pictures of a video, read back by nothing but OpenCV: uint8 `[T, H, W, 2]`."""
    pictures = FlowPictures(method, template, **options)  # type: ignore[arg-type]
    made = extract_flow(pictures, str(path), folder, lambda: None)
    numbers = range(1, made.num_frames + 1)
    if "{axis}" in template:
        names = [[template.format(number, axis=axis) for axis in "xy"] for number in numbers]
        flows = [np.stack([cv2.imread(str(folder / name), 0) for name in pair], axis=-1) for pair in names]
    else:
        names = [[template.format(number)] for number in numbers]
        flows = [cv2.imread(str(folder / name))[..., [2, 1]] for (name,) in names]
    assert sorted(os.listdir(folder)) == sorted(name for row in names for name in row)
    assert made.num_bytes == sum(file.stat().st_size for file in folder.iterdir())
    return np.stack(flows)


def frames_to_flow(frames: np.ndarray, method: FlowMethod = DIS) -> np.ndarray:
    return np.stack([method.picture(first, second) for first, second in itertools.pairwise(frames)])


@pytest.mark.parametrize("algorithm", ["dis", "farneback", "tvl1"])
def test_the_motion_of_a_picture_that_moves(tmp_path: Path, algorithm: str) -> None:
    if algorithm == "tvl1" and tvl1_hint():
        pytest.skip(tvl1_hint())
    path = write(tmp_path / "x.mp4", 4, size=(128, 96), options={"crf": "4"})
    flows = extract(path, tmp_path / "flow", method=FlowMethod(algorithm, bound=10))
    assert flows.shape == (3, 96, 128, 2)
    # 2 pixels to the right and 1 down, of 10 that 127.5 levels stand for
    inner = np.median(flows[:, 16:-16, 16:-16].reshape(-1, 2), axis=0)
    assert np.abs(inner - (127.5 + 25.5, 127.5 + 12.75)).max() <= 3


def test_flow_lies_between_the_frames_of_plain_decoding(tmp_path: Path) -> None:
    path = write(tmp_path / "x.mp4", 7)
    expected = frames_to_flow(decode(path))
    assert len(expected) == 6
    np.testing.assert_array_equal(extract(path, tmp_path / "pair"), expected)
    np.testing.assert_array_equal(extract(path, tmp_path / "one", ONE), expected)
    assert not any(cv2.imread(str(file))[..., 0].any() for file in (tmp_path / "one").iterdir())  # blue
    for template, most in (("flow_{axis}_{:05d}.jpg", 1), ("flow_{:05d}.jpg", 2)):
        error = np.abs(extract(path, tmp_path / template[5:7], template).astype(int) - expected)
        assert 0 < error.mean() < most
    small = FlowMethod("dis", short_side=32)
    scaled = np.stack([small.scale(frame) for frame in decode(path)])
    assert scaled.shape == (7, 32, 48, 3)
    np.testing.assert_array_equal(extract(path, tmp_path / "s", method=small), frames_to_flow(scaled))
    at_rate = extract(path, tmp_path / "rate", fps=Fraction(5))  # the video has 10 a second: every other frame
    np.testing.assert_array_equal(at_rate, frames_to_flow(decode(path)[::2]))


def test_flow_of_a_turned_video_is_that_of_upright_frames(tmp_path: Path) -> None:
    path = write(tmp_path / "x.mp4", 3)
    upright = np.ascontiguousarray(np.rot90(decode(path), -1, axes=(1, 2)))
    np.testing.assert_array_equal(
        extract(turn(path, tmp_path / "turned.mp4"), tmp_path / "flow"), frames_to_flow(upright)
    )


def test_what_has_no_flow(tmp_path: Path) -> None:
    path = write(tmp_path / "x.mp4", 1)
    with pytest.raises(DataError, match=r"x\.mp4: has one frame; flow lies between two"):
        extract(path, tmp_path / "flow")
    path = write(tmp_path / "y.mp4", 3)
    with pytest.raises(DataError, match="has one frame at 1 a second"):
        extract(path, tmp_path / "flow", fps=Fraction(1))
    content = write(tmp_path / "z.avi", 24, codec="mpeg4").read_bytes()
    (tmp_path / "z.avi").write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(DataError):
        extract(tmp_path / "z.avi", tmp_path / "flow")


@pytest.mark.parametrize("template", ["a/flow_{:05d}.png", "flow_{:05d}.bmp"])
def test_templates_that_name_no_pictures(template: str) -> None:
    with pytest.raises(DataError, match="template"):
        FlowPictures(DIS, template)


def test_the_note_tells_the_first_number_and_the_rate(tmp_path: Path) -> None:
    write_note(tmp_path, FlowPictures(FlowMethod("dis", 10, warp=True), start_index=0, fps=Fraction(25, 2)))
    note = {"algorithm": "dis", "bound": 10, "short_side": None, "warp": True}
    note |= {"template": "flow_{axis}_{:05d}.jpg", "start_index": 0, "fps": 12.5}
    assert json.loads((tmp_path / "flow.json").read_text()) == note


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A labelled list of videos, two of which cannot be used."""
    folder = tmp_path_factory.mktemp("videos")
    write(folder / "a b.mp4", 5, seed=1)
    write(folder / "deep" / "x.mp4", 6, seed=2)
    write(folder / "deep" / "x.avi", 7, seed=3, codec="mpeg4")
    write(folder / "one.mp4", 1)
    (folder / "bad.mp4").write_bytes(b"no video")
    (folder / "train.txt").write_text("a b.mp4 1\ndeep/x.mp4 0\nbad.mp4 1\ndeep/x.avi 2\none.mp4 0\na b.mp4 2\n")
    return folder


def test_the_tool(videos: Path, tmp_path: Path, run_tool: Tool, tiny_recipe: Callable[[str], Path]) -> None:
    out, recipe = tmp_path / "flow", tiny_recipe("tsn")
    arguments: list[object] = ["extract_flow", videos / "train.txt", "-o", out, "--workers", 2, "-c", recipe]
    flow = ["data.modality=flow", "data.mean=[0.5, 0.5]", "data.std=[0.226, 0.226]"]
    of_recipe = [*flow, "data.flow.algorithm=dis", "data.flow.short_side=32", "data.format=flow"]
    arguments += [part for pair in of_recipe for part in ("--override", pair)]
    code, said, err = run_tool(*arguments, "--bound", 7.5, "--layout", "one")
    assert code == 1
    assert said.startswith(f"{out}: 3 videos made in ")
    assert f"; 2 are bad: see {out}/bad_videos.txt\n15 flows, " in said
    assert f" flows/s; 4 lines in {out}/train.txt\n" in said
    assert sorted(line.split(": ")[0] for line in err.splitlines()) == [f"{videos}/bad.mp4", f"{videos}/one.mp4"]
    assert (out / "train.txt").read_text() == "a b 4 1\ndeep/x.mp4 5 0\ndeep/x.avi 6 2\na b 4 2\n"
    assert "one.mp4\thas one frame; flow lies between two\n" in (out / "bad_videos.txt").read_text()
    note = {"algorithm": "dis", "bound": 7.5, "short_side": 32, "warp": False, "template": ONE}
    note |= {"start_index": 1, "fps": None}
    assert json.loads((out / "flow.json").read_text()) == note
    preview = cv2.imread(str(out / "flow.png"))
    assert preview.shape[0] > 3 * 128  # three videos
    assert preview.shape[1] > 3 * 2 * 192  # three frames and flows

    (line,) = [line for line in said.splitlines() if line.startswith("read them with ")]
    overrides = shlex.split(line.removeprefix("read them with "))[1::2]
    assert "data.flow.bound=7.5" in overrides
    cfg = load_config(recipe, [*flow, *overrides])
    records = read_list(cfg.train.list, format=cfg.data.list_format, root=cfg.data.root, num_classes=3)
    with build_source(cfg.data).open(records[2]) as reader:
        assert reader.num_frames == 6
        pictures = reader.read(np.arange(6))
    method = FlowMethod("dis", 7.5, 32)
    scaled = np.stack([method.scale(frame) for frame in decode(videos / "deep" / "x.avi")])
    np.testing.assert_array_equal(pictures, frames_to_flow(scaled, method))

    code, said, err = run_tool(*arguments, "--layout", "one")
    assert (code, said, err.count("\n")) == (2, "", 1)
    assert f"error: {out}: was made with bound 7.5, not 20.0; choose another folder" in err
    code, said, _ = run_tool(*arguments, "--bound", 7.5, "--layout", "one", "--preview", tmp_path / "p.png")
    assert (code, "; 3 were there already; 2 are bad" in said, "flows/s" in said) == (1, True, False)
    assert (tmp_path / "p.png").read_bytes() == (out / "flow.png").read_bytes()


def test_the_best_algorithm_is_told(videos: Path, tmp_path: Path, run_tool: Tool) -> None:
    code, said, _ = run_tool("extract_flow", videos / "a b.mp4", "-o", tmp_path / "flow", "--warp")
    assert code == 0
    chosen = "dis; TV-L1 " if tvl1_hint() else "tvl1\n"
    assert said.startswith(f"flow is computed by {chosen}")
    assert ("pip install opencv-contrib" in said) == bool(tvl1_hint())
    assert "-o data.modality=warped_flow" in said
    assert json.loads((tmp_path / "flow" / "flow.json").read_text())["warp"] is True
    files = [f"flow_{axis}_{number:05d}.jpg" for axis in "xy" for number in range(1, 5)]
    assert sorted(os.listdir(tmp_path / "flow" / "a b")) == files


def test_what_a_user_can_do_wrong(videos: Path, tmp_path: Path, run_tool: Tool) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.txt").touch()
    dis = ["--algorithm", "dis"]
    for arguments, message in [
        ([videos / "gone", "-o", tmp_path / "x", *dis], "gone: no such file or folder"),
        ([tmp_path / "empty", "-o", tmp_path / "x", *dis], "empty: "),
        ([tmp_path / "empty.txt", "-o", tmp_path / "x", *dis], "empty.txt: "),
        ([videos / "train.txt", "-o", tmp_path / "x", "--short_side", 8, *dis], "short_side 8 must be at least 16"),
        ([videos / "train.txt", "-o", "/proc/flow", *dis], "/proc/flow: No such file or directory"),
        ([videos / "train.txt", "-o", videos, *dis], "train.txt: is there already, and a new list"),
    ]:
        code, out, err = run_tool("extract_flow", *arguments)
        assert (code, out) == (2, "")
        assert message in err
        assert err.startswith("error: ")
        assert err.count("\n") == 1
    if tvl1_hint():
        code, out, err = run_tool("extract_flow", videos / "a b.mp4", "-o", tmp_path / "x", "--algorithm", "tvl1")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "pip install opencv-contrib" in err
    for option in (["--quality", "101"], ["--bound", "0"], ["--preview", "x.jpg"], ["--layout", "two"]):
        assert run_tool("extract_flow", videos / "a b.mp4", "-o", tmp_path / "x", *option)[0] == 2
    assert not (tmp_path / "x").exists()


def test_a_list_of_bad_videos_alone_is_in_no_ones_way(tmp_path: Path, run_tool: Tool) -> None:
    out = tmp_path / "out"
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "train.txt").write_text("x.mp4 1\n")
        code, said, _ = run_tool("extract_flow", tmp_path / folder / "train.txt", "-o", out, "--algorithm", "dis")
        assert (code, "1 is bad" in said) == (1, True)
        assert sorted(os.listdir(out)) == [".made.jsonl", "bad_videos.txt"]


def test_a_full_disk_is_one_line_and_leaves_nothing_half(tmp_path: Path, run_tool: Tool) -> None:
    write(tmp_path / "x.mp4", 3, size=(320, 240))
    out = tmp_path / "out"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # no file grows beyond, as on a disk that fills up
    try:
        code, said, err = run_tool("extract_flow", tmp_path / "x.mp4", "-o", out, "--algorithm", "dis")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (code, said, err) == (2, "", f"error: {out / 'x'}: File too large\n")
    assert os.listdir(out) == [".made.jsonl"]


# ---- runs that are killed --------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but for the journal, whose lines come in any order."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".made.jsonl"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def copies(folder: Path, num_videos: int) -> Path:
    first = write(folder / "00.mp4", 20, size=(160, 120))
    for number in range(1, num_videos):
        shutil.copy(first, folder / f"{number:02}.mp4")
    return folder


def start(videos: Path, out: Path, workers: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(ROOT / "tools" / "extract_flow.py"), str(videos), "-o", str(out)]
    command += ["--workers", str(workers), "--algorithm", "dis"]
    return subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def whole_folders(out: Path) -> list[str]:
    """The folders that are there; each must have all its pictures."""
    folders = list(out.glob("[0-9]*"))
    for folder in folders:
        assert len(os.listdir(folder)) == 2 * 19
    return sorted(path.name for path in folders)


@pytest.mark.slow
def test_killed_and_started_again(tmp_path: Path, run_tool: Tool) -> None:
    videos, out = copies(tmp_path / "videos", 6), tmp_path / "flow"
    process = start(videos, out, 1)
    deadline = time.monotonic() + 60
    while not (out / "01").is_dir() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    done = whole_folders(out)
    assert 2 <= len(done) < 6
    code, said, _ = run_tool("extract_flow", videos, "-o", out, "--workers", 1, "--algorithm", "dis")
    assert (code, f"; {len(done)} were there already" in said) == (0, True)
    assert whole_folders(out) == [f"{number:02}" for number in range(6)]
    assert (out / "list.txt").read_text() == "".join(f"{number:02} 19\n" for number in range(6))
    assert not (out / ".partial").exists()
    files = contents(out)
    for number in range(1, 6):  # of the same video, some made before the kill and some after it
        for file in os.listdir(out / "00"):
            assert files[f"{number:02}/{file}"] == files[f"00/{file}"]


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_stopped_ten_times(tmp_path: Path, stop: signal.Signals) -> None:
    videos, plain, out = copies(tmp_path / "videos", 40), tmp_path / "plain", tmp_path / "flow"
    begin = time.monotonic()
    assert start(videos, plain, 2).wait(timeout=600) == 0
    whole_sec = time.monotonic() - begin
    rng = random.Random(0)
    seen = [0]
    for _ in range(10):
        process = start(videos, out, 2)
        time.sleep(rng.uniform(0.02, 0.4) * whole_sec)
        assert process.poll() is None
        os.killpg(process.pid, stop)
        said = process.communicate(timeout=60)[0]
        if stop == signal.SIGINT and b"interrupted" in said:  # not before Python was there to be told
            assert not (out / ".partial").exists()
        seen.append(len(whole_folders(out)))
    assert seen == sorted(seen)
    assert start(videos, out, 2).wait(timeout=600) == 0
    assert contents(out) == contents(plain)
