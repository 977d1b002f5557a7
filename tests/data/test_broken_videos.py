"""What training reads of broken files: nothing, and each is named; what is only unusual is read."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from broken_videos import CONTAINERS, KINDS, flip_bits, payload_span, write_broken_set

from paddlevid.data.dataset import FrameSource
from paddlevid.data.records import Record
from paddlevid.data.video import open_video
from paddlevid.errors import DataError

av = pytest.importorskip("av")

# decord guesses at damaged MPEG-4 pictures, and does not say so
SILENT = {("decord", "avi", "flips")}
WORDS = {
    "empty": "this video is empty (0 bytes)",
    "text": "cannot open this video: Invalid data found when processing input",
    "cut_10": "cut off: it has ",
    "cut_50": "cut off: it has ",
    "cut_90": "cut off: it has ",
    "audio": "cannot open this video: it holds no pictures, only audio",
    "header": "cut off: it has ",
    "flips": "damaged",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    missing = {container.codec for container in CONTAINERS.values()} - set(av.codecs_available)
    if missing:
        pytest.skip(f"this PyAV cannot write {', '.join(missing)}")
    return write_broken_set(tmp_path_factory.mktemp("broken"))


def read_as_training_does(path: Path, decoder: str) -> np.ndarray:
    with FrameSource(decoder).open(Record(path=str(path))) as reader:
        return reader.read(np.linspace(0, reader.num_frames - 1, 8).astype(int))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("decoder", ["auto", "pyav", "decord"])
def test_each_is_named(
    files: dict[tuple[str, str], Path],
    decoder: str,
    container: str,
    kind: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if decoder == "decord" and importlib.util.find_spec("decord") is None:
        pytest.skip("decord is not installed")
    path = files[kind, container]
    if (decoder, container, kind) in SILENT:
        pytest.skip("decord is silent")
    with pytest.raises(DataError) as caught:
        read_as_training_does(path, decoder)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert WORDS[kind] in message
    assert "\n" not in message
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_good_ones_are_read(files: dict[tuple[str, str], Path], container: str) -> None:
    path = files["good", container]
    with av.open(str(path)) as source:
        expected = np.stack([frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)])
    assert len(expected) == 60
    places = np.linspace(0, 59, 8).astype(int)
    np.testing.assert_array_equal(read_as_training_does(path, "auto"), expected[places])


def test_frames_made_from_a_damaged_one_are_not_read(files: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    """All frames up to the next key frame are made from it; the decoder marks the damaged one alone."""
    good = files["good", "avi"]
    with av.open(str(good)) as source:
        packets = [(packet.pos, packet.size, packet.is_keyframe) for packet in source.demux(video=0) if packet.size]
    keys = [number for number, (_, _, is_key) in enumerate(packets) if is_key]
    assert keys[:3] == [0, 12, 24]
    pos, size, _ = packets[12]
    path = tmp_path / "one.avi"
    path.write_bytes(flip_bits(good.read_bytes(), (pos + 100, pos + size), every=50))
    with av.open(str(path)) as source:
        decoded = list(source.decode(video=0))
    assert [number for number, frame in enumerate(decoded) if frame.is_corrupt] == [12]
    with open_video(good) as reader:
        expected = reader.read(np.arange(60))
    assert not np.array_equal(decoded[15].to_ndarray(format="rgb24"), expected[15])
    with open_video(path) as reader:
        for number in (12, 15, 23):
            with pytest.raises(DataError, match=r"pyav cannot decode frame 12 of 60 .* the decoder had to guess"):
                reader.read(np.array([number]))
        np.testing.assert_array_equal(reader.read(np.array([3, 11, 24, 40])), expected[[3, 11, 24, 40]])


def test_a_transport_stream_that_begins_in_the_middle_is_read(tmp_path: Path) -> None:
    whole = tmp_path / "whole.ts"
    with av.open(str(whole), "w") as container:
        options = {"bf": "2", "x264-params": "open-gop=1:keyint=10:min-keyint=10:scenecut=0"}
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for i in range(60):
            picture = np.full((64, 96, 3), 4 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    content = whole.read_bytes()
    path = tmp_path / "middle.ts"
    path.write_bytes(content[188 * (len(content) // 188 // 3) :])
    with av.open(str(path)) as source:
        expected = np.stack([frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)])
    assert 10 < len(expected) < 60
    with open_video(path) as reader:
        np.testing.assert_array_equal(reader.read(np.arange(reader.num_frames)), expected)


def test_a_stream_that_begins_late_is_no_matter(tmp_path: Path) -> None:
    """The captions of an FLV file may begin anywhere; PyAV 18 does not expect that."""
    whole = tmp_path / "whole.flv"
    with av.open(str(whole), "w") as container:
        stream = container.add_stream("flv", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for i in range(240):
            picture = np.full((64, 96, 3), i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    content = whole.read_bytes()
    tags, position = [], 13
    while position + 11 < len(content):
        size = 11 + int.from_bytes(content[position + 1 : position + 4], "big") + 4
        tags.append(content[position : position + size])
        position += size
    text = b"\x02\x00\x0aonTextData\x08\x00\x00\x00\x01\x00\x04text\x02\x00\x05hello\x00\x00\x09"  # AMF 0
    caption = b"\x12" + len(text).to_bytes(3, "big") + tags[230][4:8] + bytes(3) + text
    caption += len(caption).to_bytes(4, "big")
    late = tmp_path / "late.flv"
    late.write_bytes(content[:13] + b"".join(tags[:230]) + caption * 3 + b"".join(tags[230:]))
    with av.open(str(whole)) as source:
        expected = np.stack([frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)])
    with av.open(str(late)) as source:
        try:
            for _ in source.demux(source.streams.video[0]):
                pass
        except IndexError:
            pass
        else:
            pytest.skip("this PyAV knows streams that begin late")
    with open_video(late) as reader:
        np.testing.assert_array_equal(reader.read(np.arange(reader.num_frames)), expected)


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="/dev/null: is no regular file"):
        open_video("/dev/null")


def test_flips_are_where_they_should_be(files: dict[tuple[str, str], Path]) -> None:
    good, flipped = files["good", "mkv"].read_bytes(), files["flips", "mkv"].read_bytes()
    begin, end = payload_span(files["good", "mkv"])
    wrong = [place for place, (a, b) in enumerate(zip(good, flipped, strict=True)) if a != b]
    assert len(wrong) == (end - begin) // 1000
    assert begin <= wrong[0]
    assert wrong[-1] < end
    assert all((good[place] ^ flipped[place]).bit_count() == 1 for place in wrong)
