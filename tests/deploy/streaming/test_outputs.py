"""What a command is asked to write never destroys what it reads, or what else it writes."""

from __future__ import annotations

import os

import pytest

from paddlevid.deploy.streaming.outputs import check_outputs
from paddlevid.errors import ConfigError


@pytest.fixture
def place(tmp_path, monkeypatch):
    """In the working folder: a video under three names, a folder of frames, and a folder of links to both."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.mp4").write_bytes(b"video")
    os.link("a.mp4", "hard.mp4")
    (tmp_path / "soft.mp4").symlink_to("a.mp4")
    (tmp_path / "frames").mkdir()
    (tmp_path / "link").symlink_to("frames")
    return tmp_path


@pytest.mark.parametrize(
    ("source", "outputs", "expected"),
    [
        ("a.mp4", {"--csv": "a.mp4"}, "--csv a.mp4: would be written over the input"),
        ("a.mp4", {"--csv": "./frames/../a.mp4"}, "over the input"),
        ("a.mp4", {"--csv": "hard.mp4"}, "over the input"),
        ("soft.mp4", {"--csv": None, "--png": "a.mp4"}, "--png a.mp4: would be written over"),
        ("file:a.mp4", {"--csv": "a.mp4"}, "over the input"),
        ("frames", {"-o": "link/out.mp4"}, "-o link/out.mp4: lies in the folder frames"),
        ("a.mp4", {"--csv": "z", "--json": "./z"}, "--json z: --csv is to be written there as well"),
        ("a.mp4", {"--csv": "link/z", "--json": "frames/z"}, "as well"),
        ("a.mp4", {"--csv": "frames"}, "--csv frames: is a folder"),
        ("a.mp4", {"--csv": "none/z.csv"}, "no folder none; make it first"),
        ("a.mp4", {"--csv": "a.mp4/z.csv"}, "no folder a.mp4"),
    ],
)
def test_what_is_refused(place, source, outputs, expected):
    with pytest.raises(ConfigError, match=expected) as caught:
        check_outputs(source, outputs)
    assert "\n" not in str(caught.value)
    assert not (place / "none").exists()


@pytest.mark.parametrize("source", ["a.mp4", "frames", "0", "rtsp://host/a", "none.mp4"])
def test_what_may_be_written(place, source):
    (place / "old.csv").write_text("of the run before")
    check_outputs(source, {"--csv": "old.csv", "--json": "b.json", "--png": None, "--segments": f"{place}/c.csv"})
    check_outputs(source, {"--csv": "/dev/null", "--json": "/dev/null"})


@pytest.mark.parametrize("option", ["--csv", "--json", "--segments", "--video", "--png"])
def test_predict_long_keeps_its_input(run_tool, place, option):
    name = "a.png" if option == "--png" else "a.mp4"
    (place / name).write_bytes(b"video")
    code, _, err = run_tool("predict_long", "-m", "no folder", "-i", name, option, name)
    assert (code, err) == (2, f"error: {option} {name}: would be written over the input\n")
    assert (place / name).read_bytes() == b"video"


def test_predict_long_refuses_one_path_for_two_outputs(run_tool, place):
    code, _, err = run_tool("predict_long", "-m", "no folder", "-i", "a.mp4", "--csv", "z.txt", "--json", "z.txt")
    assert (code, err) == (2, "error: --json z.txt: --csv is to be written there as well\n")
