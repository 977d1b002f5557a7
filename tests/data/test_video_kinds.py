"""Every decoder against plain decoding, over all kinds of videos: the same frames, or an error that tells why not."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddlevid.data import mp4_index, pyav_reader
from paddlevid.data.packet_index import index_packets
from paddlevid.data.pyav_container import video_stream
from paddlevid.data.skipping import has_sub_layers
from paddlevid.data.video import open_video
from paddlevid.errors import DataError

av = pytest.importorskip("av")
from video_kinds import KINDS, MADE, NAMES, NUM_FRAMES, turn, write_kind  # noqa: E402

WAY_OUT = "choose the decoder pyav or auto"
DEEP = ["10_bit.mp4", "hevc_10_bit.mp4", "av1_10_bit.webm"]
ODD = ["vp9_odd.webm", "mpeg4_odd.avi"]
INTERLACED = ["interlaced.mp4", "interlaced.ts", "mpeg2_interlaced.ts"]
INEXACT = {
    **dict.fromkeys(DEEP, r"pictures of more than 8 bits \(yuv420p10le\)"),
    **dict.fromkeys(ODD, r"pictures of 97x63 pixels, an odd size, with half the colours \(yuv420p\)"),
    **dict.fromkeys(INTERLACED, "interlaced pictures"),
    "two_streams.mp4": "files of several streams of pictures",
}
SHOWN = {"before_zero.mp4": 22, "edit_in_group.mp4": 25, "edit_behind_group.mp4": 15, "one_frame.mp4": 1}
DECORD_COUNTS_MORE = ["before_zero.mp4", "edit_in_group.mp4", "edit_behind_group.mp4"]
DECORD_OPENS = {"mp4", "mkv", "webm", "flv", "avi", "wmv"}
DECORD_FAILS = ["refresh.mp4", "av1.mp4"]  # at some frames, or at opening
# Packets do not tell the order of their frames: these are counted by decoding
READ_IN_ORDER = {"no_times.avi", "packed.avi", "raw.h264", "raw.hevc", "b.mxf", "mpeg2.mpg", "one_frame.mp4"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kinds")


def written(folder: Path, name: str) -> Path:
    source = name
    while source in MADE:
        source = MADE[source][1]
    if KINDS[source].codec not in av.codecs_available:
        pytest.skip(f"this PyAV cannot write {KINDS[source].codec}")
    return write_kind(folder, name)


def decode_plainly(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        cover = av.stream.Disposition.attached_pic
        stream = next(stream for stream in container.streams.video if not stream.disposition & cover)
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])


def check_frames(path: Path, decoder: str, expected: np.ndarray) -> None:
    """Read single frames, rows of frames and scattered ones, from one reader and from new ones."""
    last = len(expected) - 1
    rng = np.random.default_rng(0)
    choices = [[last], [0], [last, 0, last], np.linspace(0, last, 8).astype(int), np.arange(last // 2, last + 1)]
    choices += [rng.integers(0, len(expected), 3) for _ in range(4)]
    with open_video(path, decoder) as reader:
        assert reader.num_frames == len(expected)
        for indices in choices:
            np.testing.assert_array_equal(reader.read(np.array(indices)), expected[indices])
    for number in range(0, len(expected), 7):
        with open_video(path, decoder) as reader:
            np.testing.assert_array_equal(reader.read(np.array([number])), expected[[number]])


@pytest.mark.parametrize("name", NAMES)
def test_pyav(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(folder, name)
    expected = decode_plainly(path)
    assert len(expected) == SHOWN.get(name, NUM_FRAMES)
    if name not in READ_IN_ORDER:
        monkeypatch.setattr(pyav_reader, "decode_in_order", None)  # the slow way would fail
    check_frames(path, "auto", expected)


@pytest.mark.parametrize("name", sorted(READ_IN_ORDER))
def test_long_ones_whose_packets_tell_no_times(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if they had too many frames for all to be kept while they are counted."""
    monkeypatch.setattr(pyav_reader, "_MAX_KEPT_PIXELS", 96 * 64 * (SHOWN.get(name, NUM_FRAMES) - 1))
    path = written(folder, name)
    check_frames(path, "pyav", decode_plainly(path))


def is_refused(name: str, decoder: str) -> str:
    """A pattern of the reason, "" if it is read."""
    if name in INEXACT:
        return f"{decoder} does not read {INEXACT[name]} exactly: {WAY_OUT}"
    if decoder == "decord" and name in DECORD_COUNTS_MORE:
        return rf"decord counts \d+ frames, of which {SHOWN[name]} are shown: {WAY_OUT}"
    if decoder == "decord" and name.split(".")[1] not in DECORD_OPENS:
        return rf"decord does not read files of this kind \(.+\) exactly: {WAY_OUT}"
    if decoder == "decord" and name in DECORD_FAILS:
        return r"decord cannot (open this video|decode frames)"
    if decoder == "opencv" and name == "av1.mp4":
        return f"opencv cannot decode frame 0 of 32 .*{WAY_OUT}"
    return ""


@pytest.mark.parametrize("decoder", ["decord", "opencv"])
@pytest.mark.parametrize("name", NAMES)
def test_others(folder: Path, name: str, decoder: str, capfd: pytest.CaptureFixture[str]) -> None:
    if importlib.util.find_spec({"opencv": "cv2"}.get(decoder, decoder)) is None:
        pytest.skip(f"{decoder} is not installed")
    path = written(folder, name)
    expected = decode_plainly(path)
    reason = is_refused(name, decoder)
    if not reason:
        check_frames(path, decoder, expected)
        assert capfd.readouterr().err == ""
        return
    if name not in INEXACT:  # other builds of it may read this, and then it must be right
        reason += "|^right$"
    try:
        check_frames(path, decoder, expected)
        message = "right"
    except DataError as error:
        message = str(error)
    assert re.search(reason, message)
    assert "\n" not in message


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(".mp4")])
def test_the_tables_of_mp4_tell_what_its_packets_tell(folder: Path, name: str) -> None:
    path = written(folder, name)
    with av.open(str(path)) as container:
        from_tables = mp4_index.index_mp4(container, video_stream(container))
    with av.open(str(path)) as container:
        from_packets = index_packets(container, video_stream(container))
    if from_tables is None:
        assert name in ("fragments.mp4", "negative_delays.mp4", "edit_behind_group.mp4", "one_frame.mp4")
    else:
        assert from_tables == from_packets


@pytest.mark.parametrize("quarters", [1, 2, 3])
@pytest.mark.parametrize("decoder", ["pyav", "decord", "opencv"])
@pytest.mark.parametrize("name", ["open.mp4", "hevc.mp4"])
def test_turned_by_each_quarter(folder: Path, name: str, decoder: str, quarters: int) -> None:
    path = written(folder, name)
    turned = folder / f"turned_{quarters}_{name}"
    turn(path, turned, quarters)
    expected = np.rot90(decode_plainly(path)[[20, 3]], -quarters, axes=(1, 2))  # clockwise
    with open_video(turned, decoder) as reader:
        np.testing.assert_array_equal(reader.read(np.array([20, 3])), expected)


def test_packed_pictures_are_those_that_were_packed(folder: Path) -> None:
    """What the made file holds, checked: DivX 5 puts a B picture into the packet of the next one."""
    path = written(folder, "packed.avi")
    with av.open(str(path)) as container:
        sizes = [packet.size for packet in container.demux(video=0) if packet.size]
    assert sizes.count(6) > 8
    # The last B picture waits for one more packet
    np.testing.assert_array_equal(decode_plainly(path), decode_plainly(folder / "one_b.avi"))


def test_tables_read_wrongly_cost_time_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if each frame were shown one later than it is."""
    path = written(folder, "open.mp4")
    expected = decode_plainly(path)
    read_delays = mp4_index._read_delays

    def wrong(*arguments: Any) -> np.ndarray | None:
        delays = read_delays(*arguments)
        return None if delays is None else delays + 512

    monkeypatch.setattr(mp4_index, "_read_delays", wrong)
    with open_video(path) as reader:
        for indices in ([3], [0, 31], [12, 13]):
            np.testing.assert_array_equal(reader.read(np.array(indices)), expected[indices])


class Counting:
    """Counts the packets that a decoder is given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.places: list[int] = []
        checked = pyav_reader._checked

        def count(*arguments: Any) -> Any:
            for place, packet in checked(*arguments):
                self.places.append(place)
                yield place, packet

        monkeypatch.setattr(pyav_reader, "_checked", count)


def test_only_groups_with_wanted_frames_are_decoded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed groups of 12: frames 2, 13 and 26 lie in the first three, and little behind them is decoded."""
    path = folder / "closed.mp4"
    from video_kinds import Kind, _write

    _write(path, Kind(options={"bf": "0", "x264-params": "keyint=12:min-keyint=12:scenecut=0"}))
    expected = decode_plainly(path)
    counting = Counting(monkeypatch)
    with open_video(path) as reader:
        np.testing.assert_array_equal(reader.read(np.array([26, 2, 13])), expected[[26, 2, 13]])
    assert counting.places == [0, 1, 2, 12, 13, 24, 25, 26]


def test_layers_of_hevc(folder: Path) -> None:
    """Written with one layer and with three, in both of the forms in which containers tell it."""
    for name, expected in (
        ("hevc.mp4", False),
        ("hevc_layers.mp4", True),
        ("hevc_open.ts", False),
        ("raw.hevc", False),
    ):
        with av.open(str(written(folder, name))) as container:
            assert has_sub_layers(container.streams.video[0].codec_context.extradata) is expected
    three = bytes.fromhex("00000001 4001 0c05 ffff 0160")  # 0x05: 2 for vps_max_sub_layers_minus1, then nesting
    assert has_sub_layers(three)
    assert has_sub_layers(b"")
