"""Clips for training: what is encoded, that frames stay what they are, and the list of them."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from small_videos import HEIGHT, WIDTH, decode, grey, psnr, turn, write

from paddlevid.data.annotations import read_list
from paddlevid.data.video import open_video
from paddlevid.errors import DataError
from paddlevid.prepare.clips import Encoding, clip_size, make_clip

Tool = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.skipif("libx264" not in av.codecs_available, reason="this PyAV cannot write H.264")


def make(path: Path, **options: object) -> Path:
    """The clip of a video, beside it."""
    clip = path.with_name(f"{path.name}.mp4")
    made = make_clip(Encoding(**options), str(path), clip, lambda: None)  # type: ignore[arg-type]
    assert made.num_bytes == clip.stat().st_size
    assert made.num_frames == len(decode(clip))
    return clip


def times_of(path: Path) -> list[Fraction]:
    """When each frame is shown, in seconds."""
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


@pytest.mark.parametrize(
    ("size", "short_side", "expected"),
    [
        ((1920, 1080), 256, (454, 256)),  # 455.1 to 455, and 455 to 454
        ((1080, 1920), 256, (256, 454)),
        ((340, 256), 256, (340, 256)),
        ((320, 240), 256, (320, 240)),
        ((97, 63), 256, (96, 62)),
        ((400, 400), 33, (32, 32)),
    ],
)
def test_sizes(size: tuple[int, int], short_side: int, expected: tuple[int, int]) -> None:
    assert clip_size(*size, short_side) == expected


def nals(packet: bytes) -> list[tuple[int, int]]:
    """Type and reference count of each unit of an H.264 packet of an MP4."""
    found, place = [], 0
    while place < len(packet):
        length = int.from_bytes(packet[place : place + 4], "big")
        found.append((packet[place + 4] & 31, packet[place + 4] >> 5 & 3))
        place += 4 + length
    return found


def test_what_is_in_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "x.avi", 40, codec="mpeg4", options={"bf": "2"})
    clip = make(path)
    content = clip.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    with av.open(str(clip)) as container:
        assert [stream.type for stream in container.streams] == ["video"]
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height, stream.average_rate) == (WIDTH, HEIGHT, 10)
        packets = [packet for packet in container.demux(stream) if packet.size]
    keys = [number for number, packet in enumerate(packets) if packet.is_keyframe]
    assert keys[0] == 0
    assert max(np.diff([*keys, 40])) <= 8
    slices = [[(kind, needed) for kind, needed in nals(bytes(packet)) if kind in (1, 5)] for packet in packets]
    assert all(units[0][0] == 5 for units in (slices[key] for key in keys))  # IDR: no frame refers beyond
    is_shown_late = [packet.pts < before.pts for before, packet in pairwise(packets)]
    needed = [units[0][1] > 0 for units in slices[1:]]
    assert any(is_shown_late)  # there are B frames
    assert not any(late and ref for late, ref in zip(is_shown_late, needed, strict=True))


@pytest.mark.parametrize("every", [1, 3])
def test_key_frames_as_asked(tmp_path: Path, every: int) -> None:
    clip = make(write(tmp_path / "x.mp4", 10), keyframe_every=every)
    with av.open(str(clip)) as container:
        keys = [number for number, packet in enumerate(container.demux(video=0)) if packet.is_keyframe]
    assert max(np.diff([*keys, 10])) == every


@pytest.mark.parametrize("name", ["x.mp4", "x.mkv", "x.ts", "raw.h264", "b.avi", "turned.mp4"])
def test_each_frame_is_that_of_the_source(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, 20, options={"bf": "2"})
    frames = decode(path)
    if name == "turned.mp4":
        path, frames = turn(path, tmp_path / "t.mp4"), np.rot90(frames, -1, axes=(1, 2))
    clip = decode(make(path))
    assert clip.shape == frames.shape
    likeness = np.array([[psnr(one, other) for other in frames] for one in clip])
    assert likeness.argmax(axis=1).tolist() == list(range(20))
    assert likeness.diagonal().min() > 30
    assert np.abs(clip.mean(axis=(0, 1, 2)) - frames.mean(axis=(0, 1, 2))).max() < 1.5


@pytest.mark.parametrize("pix_fmt", ["yuvj420p", "yuv444p"])
def test_colours_stay(tmp_path: Path, pix_fmt: str) -> None:
    path = write(tmp_path / "x.mp4", 4, pix_fmt=pix_fmt)
    frames, clip = decode(path), decode(make(path))
    assert np.abs(clip.mean(axis=(0, 1, 2)) - frames.mean(axis=(0, 1, 2))).max() < 3  # 16 to 235 for 0 to 255 is 8 off


def test_a_smaller_clip(tmp_path: Path) -> None:
    path = write(tmp_path / "x.mp4", 4)
    clip = decode(make(path, short_side=16, crf=1.0))
    means = decode(path).reshape(4, 16, 4, WIDTH // 4, 4, 3).mean(axis=(2, 4))  # of 4x4 pixels
    assert clip.shape == (4, 16, 24, 3)
    assert psnr(grey(clip), grey(means)) > 28


@pytest.mark.parametrize("name", ["x.mkv", "x.mp4"])
def test_times_stay_uneven(tmp_path: Path, name: str) -> None:
    times_ms = [0, 40, 400, 450, 1000, 1033]
    clip = make(write(tmp_path / name, 6, times_ms=times_ms))
    assert times_of(clip) == [Fraction(time, 1000) for time in times_ms]


def test_a_constant_rate(tmp_path: Path) -> None:
    path = write(tmp_path / "x.mkv", 5, times_ms=[0, 40, 400, 450, 1000])
    clip = make(path, fps=Fraction(5))
    assert times_of(clip) == [Fraction(number, 5) for number in range(6)]
    likeness = np.array([[psnr(one, other) for other in decode(path)] for one in decode(clip)])
    assert likeness.argmax(axis=1).tolist() == [0, 1, 2, 3, 3, 4]
    with open_video(clip) as reader:
        assert reader.fps == pytest.approx(5.0)


def test_the_first_seconds(tmp_path: Path) -> None:
    path = write(tmp_path / "x.mp4", 20)
    assert times_of(make(path, seconds=Fraction("0.8"))) == [Fraction(number, 10) for number in range(8)]


def test_a_rate_of_fractions_stays(tmp_path: Path) -> None:
    clip = make(write(tmp_path / "x.mp4", 20, fps=Fraction(30000, 1001)))
    with av.open(str(clip)) as container:
        assert container.streams.video[0].average_rate == Fraction(30000, 1001)


def test_a_damaged_video_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "x.mp4", 24)
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat")
    content[start + 2000 : start + 4000 : 7] = bytes(len(range(2000, 4000, 7)))
    path.write_bytes(content)
    with pytest.raises(DataError, match="frame"):
        make(path)


def test_the_tool(tmp_path: Path, run_tool: Tool) -> None:
    videos, out = tmp_path / "videos", tmp_path / "clips"
    write(videos / "deep" / "a b.mp4", 7, seed=1)
    write(videos / "x.avi", 9, seed=2, codec="mpeg4")
    (videos / "cut.mp4").write_bytes((videos / "deep" / "a b.mp4").read_bytes()[:-300])
    (videos / "class_names.txt").write_text("run\nwalk\n")
    (videos / "train.csv").write_text("path,label\ndeep/a b.mp4,walk\ncut.mp4,run\nx.avi,run\n")
    code, said, err = run_tool("make_clips", videos / "train.csv", "-o", out, "--short_side", 32)
    assert code == 1
    assert f"{out}: 2 videos made in " in said
    assert f"; 1 are bad: see {out}/bad_videos.txt\n" in said
    assert f" times); 2 lines in {out}/train.txt\nread them with -o data.root={out}\n" in said
    assert err.startswith(f"{videos}/cut.mp4: ")
    assert (out / "train.txt").read_text() == "deep/a b.mp4 1\nx.mp4 0\n"
    assert (out / "class_names.txt").read_text() == "run\nwalk\n"
    assert (out / "bad_videos.txt").read_text().startswith("cut.mp4\t")
    records = read_list(out / "train.txt", format="video", root=out, num_classes=2)
    assert [decode(Path(record.path)).shape for record in records] == [(7, 32, 48, 3), (9, 32, 48, 3)]

    before = (out / "x.mp4").stat().st_mtime_ns
    write(videos / "deep" / "a b.mp4", 8, seed=1)  # another video: only it is made anew
    code, said, _ = run_tool("make_clips", videos / "train.csv", "-o", out, "--short_side", 32)
    assert (code, "; 1 were there already" in said) == (1, True)
    assert len(decode(out / "deep" / "a b.mp4")) == 8
    assert (out / "x.mp4").stat().st_mtime_ns == before
    code, _, err = run_tool("make_clips", videos / "train.csv", "-o", out)
    assert (code, "was made with short_side 32, not 256" in err) == (2, True)


def test_clips_inside_the_folder_of_the_videos_are_not_made_over(tmp_path: Path, run_tool: Tool) -> None:
    write(tmp_path / "x.avi", 4, codec="mpeg4")
    for _ in range(2):
        assert run_tool("make_clips", tmp_path, "-o", tmp_path / "small")[0] == 0
        assert (tmp_path / "small" / "list.txt").read_text() == "x.mp4\n"
