"""Clips for training: what is encoded, that frames stay what they are, and the list of them."""

from __future__ import annotations

import resource
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
from paddlevid.prepare.journal import append_line
from paddlevid.prepare.making import FOR_EACH_LIST, as_size, list_key

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
    assert f"; 1 is bad: see {out}/bad_videos.txt\n" in said
    assert (
        f" times); 2 lines in {out}/train.txt\nread them with -o data.root={out} -o train.list={out}/train.txt\n"
        in said
    )
    assert said.endswith(f"\n{FOR_EACH_LIST}\n")
    assert err.startswith(f"{videos}/cut.mp4: ")
    assert (out / "train.txt").read_text() == "deep/a b.mp4 1\nx.mp4 0\n"
    assert (out / "class_names.txt").read_text() == "run\nwalk\n"
    assert (out / "bad_videos.txt").read_text().startswith("cut.mp4\t")
    records = read_list(out / "train.txt", format="video", root=out, num_classes=2)
    assert [decode(Path(record.path)).shape for record in records] == [(7, 32, 48, 3), (9, 32, 48, 3)]

    before = (out / "x.mp4").stat().st_mtime_ns
    write(videos / "deep" / "a b.mp4", 8, seed=1)  # another video: only it is made anew
    code, said, _ = run_tool("make_clips", videos / "train.csv", "-o", out, "--short_side", 32)
    assert (code, "; 1 was there already" in said) == (1, True)
    assert len(decode(out / "deep" / "a b.mp4")) == 8
    assert (out / "x.mp4").stat().st_mtime_ns == before
    code, _, err = run_tool("make_clips", videos / "train.csv", "-o", out)
    assert (code, "was made with short_side 32, not 256" in err) == (2, True)


def test_clips_inside_the_folder_of_the_videos_are_not_made_over(tmp_path: Path, run_tool: Tool) -> None:
    write(tmp_path / "x.avi", 4, codec="mpeg4")
    for _ in range(2):
        assert run_tool("make_clips", tmp_path, "-o", tmp_path / "small")[0] == 0
        assert (tmp_path / "small" / "list.txt").read_text() == "x.mp4\n"


def lines_and_lengths(list_path: Path) -> list[tuple[str, int]]:
    """The names of a list, and the number of frames of each clip."""
    names = [line.rsplit(" ", 1)[0] for line in list_path.read_text().splitlines()]
    return [(name, len(decode(list_path.parent / name))) for name in names]


def test_videos_of_one_name_in_several_sets(tmp_path: Path, run_tool: Tool) -> None:
    lists, out, lengths = tmp_path / "lists", tmp_path / "clips", {"train": 3, "valid": 4, "test": 5}
    lists.mkdir()
    for split, length in lengths.items():
        video = write(tmp_path / "data" / split / "left" / "1.mp4", length)
        (lists / f"{split}.txt").write_text(f"{video} 0\n")
    names = {"train": "1.mp4", "valid": "1.mp4.mp4", "test": "1.mp4_2.mp4"}
    for said_before in ("1 video made", "0 videos made"):
        for split in lengths:
            code, said, _ = run_tool("make_clips", lists / f"{split}.txt", "-o", out)
            assert (code, said_before in said) == (0, True)
            assert f" -o {split}.list={out}/{split}.txt\n" in said
        for split, length in lengths.items():
            assert lines_and_lengths(out / f"{split}.txt") == [(names[split], length)]


def test_links_to_one_video_share_its_clip(tmp_path: Path, run_tool: Tool) -> None:
    write(tmp_path / "videos" / "x.mp4", 3)
    (tmp_path / "videos" / "y.mp4").symlink_to("x.mp4")
    (tmp_path / "link").symlink_to("videos")
    (tmp_path / "train.txt").write_text("videos/x.mp4 0\nvideos/y.mp4 1\nlink/x.mp4 2\n")
    for _ in range(2):
        assert run_tool("make_clips", tmp_path / "train.txt", "-o", tmp_path / "out")[0] == 0
        assert (tmp_path / "out" / "train.txt").read_text() == "videos/x.mp4 0\nvideos/x.mp4 1\nvideos/x.mp4 2\n"


def test_no_list_takes_the_place_of_one_of_other_videos(tmp_path: Path, run_tool: Tool) -> None:
    out = tmp_path / "out"
    for name in ("one", "two"):
        write(tmp_path / name / "x.mp4", 3)
        (tmp_path / name / "class_names.txt").write_text(f"{name}\n")
        (tmp_path / name / "train.txt").write_text("x.mp4 0\n")
        (tmp_path / name / f"{name}.txt").write_text("x.mp4 0\n")
    assert run_tool("make_clips", tmp_path / "one" / "train.txt", "-o", out)[0] == 0
    assert run_tool("make_clips", tmp_path / "one", "-o", out)[0] == 0
    before = {path: path.read_bytes() for path in out.iterdir()}
    for arguments, message in [
        ([tmp_path / "two"], f"list.txt: is there already, of {tmp_path}/one; choose another DIR"),
        ([tmp_path / "two" / "train.txt"], f"train.txt: is there already, of {tmp_path}/one/train.txt; choose another"),
        ([tmp_path / "one" / "train.txt", "--root", tmp_path / "two"], f"/one/train.txt below {tmp_path}/one;"),
        ([tmp_path / "two" / "two.txt"], f"two/class_names.txt: is not as {out}/class_names.txt, which other lists"),
    ]:  # fmt: skip
        code, _, err = run_tool("make_clips", *arguments, "-o", out)
        assert (code, message in err, err.count("\n")) == (2, True, 1), err
    assert {path: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize(
    ("kept", "more", "name"),
    [
        ('["a.', "", "a.mp4.mp4"),  # whose a.mp4 is cannot be told any more
        ('["a.mp4", "/', "\n", "a.mp4.mp4"),
        ('["a.mp4", "{source}", 12', "", "a.mp4"),
        ("\0\0\0", "\n", "a.mp4.mp4"),
    ],
)
def test_a_torn_line_costs_one_video(tmp_path: Path, run_tool: Tool, kept: str, more: str, name: str) -> None:
    out = tmp_path / "out"
    for number, letter in enumerate("abc"):
        write(tmp_path / "videos" / f"{letter}.mp4", 3 + number)
    (tmp_path / "videos" / "train.txt").write_text("a.mp4 0\nb.mp4 0\nc.mp4 0\n")
    arguments = ["make_clips", tmp_path / "videos" / "train.txt", "-o", out, "--workers", 1]
    run_tool(*arguments)
    journal = out / ".made.jsonl"
    text = journal.read_text()
    start, end = text.index('["a.mp4"'), text.index('["b.mp4"')
    # The next line goes on where it is torn, or does not
    journal.write_text(text[:start] + kept.replace("{source}", f"{tmp_path}/videos/a.mp4") + more + text[end:])
    code, said, err = run_tool(*arguments)
    assert (code, err) == (0, "")
    assert "1 video made" in said
    assert "; 2 were there already" in said
    assert lines_and_lengths(out / "train.txt") == [(name, 3), ("b.mp4", 4), ("c.mp4", 5)]
    assert run_tool(*arguments)[1].startswith(f"{out}: 0 videos made")
    assert lines_and_lengths(out / "train.txt")[0] == (name, 3)


def test_a_torn_first_line(tmp_path: Path, run_tool: Tool) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / ".made.jsonl").write_text('{"made_by": "make_cl')
    arguments = ["make_clips", write(tmp_path / "x.mp4", 3), "-o", out]
    assert run_tool(*arguments)[0] == 0
    (out / ".made.jsonl").write_text('{"made_by": "make_cl')
    code, _, err = run_tool(*arguments)
    assert (code, err.count("\n")) == (2, 1)
    assert f"{out}/.made.jsonl: its first line is damaged, and nothing else tells how {out} was made" in err


def test_the_line_goes_on_behind_one_that_was_torn(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(b'{}\n["a')
    append_line(path, ["b", 1])
    assert path.read_bytes().split(b"\n") == [b"{}", b'["a', b'["b", 1]']
    with pytest.raises(OSError, match="No space left on device") as caught:
        append_short(path)
    assert caught.value.filename == str(path)


def append_short(path: Path) -> None:
    """Append to a file that may grow by 5 bytes more, as on a disk that fills up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 5, hard))
    try:
        append_line(path, ["long enough"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("tool", ["make_clips", "extract_frames", "make_shards"])
@pytest.mark.parametrize("second", ["data.root=data", "other"])
def test_an_override_is_no_folder(run_tool: Tool, tool: str, second: str) -> None:
    code, _, err = run_tool(tool, "x.txt", "-o", "x-%d.tar", "-o", second)
    assert code == 2
    assert err.splitlines()[-1].startswith(f"{tool}.py: error: -o ")
    assert "recipes are changed with --override" in err


def test_why_nothing_is_made(tmp_path: Path, run_tool: Tool) -> None:
    videos = write(tmp_path / "videos" / "x.mp4", 3).parent
    for arguments, message in [
        ([videos, "-o", videos], f"{videos}: is also the folder to write to, {videos}; choose another DIR"),
        ([videos / "x.mp4", "-o", videos], f"{videos}/x.mp4: lies in the folder to write to, {videos}; choose"),
        ([videos, "-o", tmp_path], f"{videos}: lies in the folder to write to, {tmp_path}; choose another DIR"),
    ]:
        code, _, err = run_tool("make_clips", *arguments)
        assert (code, message in err, err.count("\n")) == (2, True, 1)
    for number in range(25):
        (tmp_path / "frames" / str(number)).mkdir(parents=True)
        (tmp_path / "frames" / str(number) / "img_00001.jpg").touch()
    (tmp_path / "frames" / "train.txt").write_text("".join(f"{number} 1 0\n" for number in range(25)))
    code, said, err = run_tool("make_clips", tmp_path / "frames" / "train.txt", "-o", tmp_path / "out")
    reason = "is a folder of frames, it seems; only videos can be made over"
    assert code == 1
    assert "; 25 are bad: see " in said
    assert said.count(reason) == 3
    lines = err.splitlines()
    assert lines[:20] == [f"{tmp_path}/frames/{number} 1: {reason}" for number in range(20)]
    assert lines[20:] == [f"more bad videos: {tmp_path}/out/bad_videos.txt will name them all"]


def test_sizes_in_words() -> None:
    sizes = [2, 900, 999.7, 52_345_678, 1.25e9]
    assert [as_size(size) for size in sizes] == ["2 bytes", "900 bytes", "1 kB", "52.3 MB", "1.25 GB"]
    assert [list_key(stem) for stem in ("val", "trainlist01", "k400_test", "latest", "1")] == [
        "valid.list", "train.list", "test.list", None, None
    ]  # fmt: skip
