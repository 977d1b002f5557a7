"""Reading frames: all decoders against plain decoding, and every way in which a file can be wrong."""

import importlib.util
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from paddlevid.data import pyav_reader
from paddlevid.data.video import FrameFolder, open_video
from paddlevid.errors import DataError

av = pytest.importorskip("av")
SHARED_VIDEOS = Path(__file__).parents[2].parent / "shared" / "videos"
SHARED_NAMES = ["archery.avi", "arm_wrestling.mp4", "test_256x340.mp4"]

# name -> codec, pixel format, options
FILES = {
    "plain.mp4": ("libx264", "yuv420p", {}),
    "no_b.mp4": ("libx264", "yuv420p", {"bf": "0", "x264-params": "keyint=10"}),
    "closed.mp4": ("libx264", "yuv420p", {"bf": "3", "x264-params": "keyint=10"}),
    "open.mp4": ("libx264", "yuv420p", {"bf": "3", "x264-params": "open-gop=1:keyint=10:min-keyint=10:scenecut=0"}),
    "open.mkv": ("libx264", "yuv420p", {"bf": "3", "x264-params": "open-gop=1:keyint=10:min-keyint=10:scenecut=0"}),
    "b.avi": ("libx264", "yuv420p", {"bf": "2", "x264-params": "keyint=10"}),  # AVI has no times for B frames
    "divx.avi": ("mpeg4", "yuv420p", {"bf": "2", "g": "12"}),
    "motion.avi": ("mjpeg", "yuvj420p", {}),
}


def write_video(path, codec="libx264", pix_fmt="yuv420p", options=None, num_frames=45, width=96, height=64, fps=25):
    rows, columns = np.mgrid[:height, :width]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        for i in range(num_frames):
            planes = [columns * 2 + i * 4, rows * 3 + i * 2, np.full_like(rows, i * 5)]
            picture = np.stack(planes, axis=-1).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def decode_plainly(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for name, (codec, pix_fmt, options) in FILES.items():
        if codec in av.codecs_available:
            write_video(folder / name, codec, pix_fmt, options)
    return folder


@pytest.fixture
def shared_video():
    if not SHARED_VIDEOS.is_dir():
        pytest.skip(f"no folder of real clips at {SHARED_VIDEOS}")
    return lambda name: SHARED_VIDEOS / name


@pytest.fixture(params=["pyav", "decord", "opencv"])
def decoder(request):
    if importlib.util.find_spec({"pyav": "av", "opencv": "cv2"}.get(request.param, request.param)) is None:
        pytest.skip(f"{request.param} is not installed")
    return request.param


def check_reader(path, decoder, num_threads=1, num_random=6):
    expected = decode_plainly(path)
    rng = np.random.default_rng(0)
    with open_video(path, decoder, num_threads) as reader:
        assert reader.num_frames == len(expected)
        last = len(expected) - 1
        choices = [[0], [last], [last, 0, last], list(np.linspace(0, last, 8).astype(int))]
        choices += [rng.integers(0, len(expected), 3) for _ in range(num_random)]
        for indices in choices:
            frames = reader.read(np.array(indices))
            assert frames.dtype == np.uint8
            # Measured: all decoders give the same bytes, colour conversion included.
            np.testing.assert_array_equal(frames, expected[indices])


@pytest.mark.parametrize("name", FILES)
def test_frames_are_those_of_plain_decoding(files, name, decoder):
    if not (files / name).exists():
        pytest.skip(f"this PyAV cannot write {FILES[name][0]}")
    check_reader(files / name, decoder)


@pytest.mark.parametrize("name", SHARED_NAMES)
def test_frames_of_real_clips(shared_video, name, decoder):
    check_reader(shared_video(name), decoder, num_random=6 if decoder == "pyav" else 1)  # others take long


def test_two_threads_read_the_same(files):
    check_reader(files / "open.mp4", "pyav", num_threads=2)


@pytest.mark.parametrize("name", ["no_b.mp4", "closed.mp4", "open.mp4", "open.mkv", "divx.avi", "motion.avi"])
def test_pyav_jumps_to_key_frames(files, name, monkeypatch):
    monkeypatch.setattr(pyav_reader, "decode_in_order", None)  # the slow way would fail
    expected = decode_plainly(files / name)
    with open_video(files / name, "pyav") as reader:
        for last in range(30, 45):
            np.testing.assert_array_equal(reader.read(np.array([last, 1])), expected[[last, 1]])


@pytest.mark.parametrize("width", [16, 48, 72])
@pytest.mark.parametrize("name", ["plain.mp4", "open.mp4"])
def test_narrow_videos_whose_padding_decord_takes_for_channels(tmp_path, name, width, decoder):
    path = write_video(tmp_path / name, *FILES[name], width=width, height=48)
    assert decode_plainly(path).shape == (45, 48, width, 3)
    if decoder == "decord":
        with open_video(path, decoder) as reader:
            for indices in ([0], [44], [3, 0, 3], [0, 15, 30, 44]):
                with pytest.raises(DataError, match=r"\.mp4: decord cannot read videos of this width .*decoder pyav"):
                    reader.read(np.array(indices))
        decoder = "auto"
    check_reader(path, decoder)


def test_fps(files):
    for decoder in ("pyav", "auto"):
        with open_video(files / "plain.mp4", decoder) as reader:
            assert reader.fps == pytest.approx(25.0)


def test_turned_pictures_stand_upright(files, tmp_path, decoder):
    content = bytearray((files / "plain.mp4").read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    one = 1 << 16
    content[matrix : matrix + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    turned = tmp_path / "turned.mp4"
    turned.write_bytes(content)
    with av.open(str(turned)) as container:
        if not hasattr(next(container.decode(video=0)), "rotation") and decoder == "pyav":
            pytest.skip("this PyAV does not tell the rotation")
    expected = np.rot90(decode_plainly(files / "plain.mp4")[[3]], -1, axes=(1, 2))  # clockwise
    with open_video(turned, decoder) as reader:
        np.testing.assert_array_equal(reader.read(np.array([3])), expected)


def test_indices_that_are_no_frames_are_bugs(files, decoder):
    with open_video(files / "plain.mp4", decoder) as reader:
        for wrong in ([45], [-1]):
            with pytest.raises(IndexError, match="with 45 frames"):
                reader.read(np.array(wrong))
        for wrong in (np.zeros((1, 2), int), np.array([0.0]), np.array([], int)):
            with pytest.raises(ValueError, match="row of whole numbers"):
                reader.read(wrong)


def test_unknown_decoder(files):
    with pytest.raises(ValueError, match="must be one of auto, decord, opencv, pyav"):
        open_video(files / "plain.mp4", "ffmpeg")


def test_auto_is_pyav(files):
    for name in ("plain.mp4", "closed.mp4", "open.mp4", "b.avi"):
        assert type(open_video(files / name)).__name__ == "PyavReader"


def test_without_decord(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "decord", None)
    with open_video(files / "plain.mp4") as reader:
        assert reader.num_frames == 45
    with pytest.raises(DataError, match=r"pip install decord.*decoder pyav"):
        open_video(files / "plain.mp4", "decord")


def write_audio(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        for _ in range(4):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 16000
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "cannot read this video: No such file"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.touch(), "empty"),
        (lambda path: path.write_text("not a video\n" * 9), "{decoder} cannot open this video: Invalid data found"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99)), r"is a picture \(PNG\), not a video"),
        (lambda path: path.write_bytes(b"\xff\xd8\xff\xe0" + bytes(99)), r"is a picture \(JPEG\), not a video"),
        (write_audio, "{decoder} cannot open this video: it holds no pictures, only audio"),
    ],
    ids=["missing", "folder", "empty", "text", "png", "jpeg", "audio"],
)
def test_what_is_no_video(tmp_path, decoder, write, message, capfd):
    path = tmp_path / "x.mp4"
    write(path)
    with pytest.raises(DataError, match=message.format(decoder=decoder)) as caught:
        open_video(path, decoder)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError):
        open_video(path)
    assert capfd.readouterr().err == ""


def test_a_video_cut_off(tmp_path, decoder, capfd):
    whole = write_video(tmp_path / "whole.mp4", options={"bf": "0"}, num_frames=60)
    with av.open(str(whole)) as source, av.open(str(tmp_path / "f.mp4"), "w", options={"movflags": "faststart"}) as to:
        stream = source.streams.video[0]
        copy = (
            to.add_stream_from_template(stream)
            if hasattr(to, "add_stream_from_template")
            else to.add_stream(template=stream)
        )
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                to.mux(packet)
    content = (tmp_path / "f.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(content[: len(content) * 7 // 10])
    for name in (decoder, "auto"):
        with pytest.raises(DataError, match=rf"cut\.mp4: cut off: it has {cut.stat().st_size} bytes, of ") as caught:
            open_video(cut, name)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.fixture
def folder(tmp_path):
    cv2 = pytest.importorskip("cv2")
    for number in range(1, 6):
        picture = np.zeros((20, 30, 3), np.uint8)
        picture[..., 2] = 10 * number  # red, as OpenCV orders the channels
        cv2.imwrite(str(tmp_path / f"{number:06d}.png"), picture)
        cv2.imwrite(str(tmp_path / f"flow_x_{number:05d}.png"), picture[..., 2])
        cv2.imwrite(str(tmp_path / f"flow_y_{number:05d}.png"), picture[..., 2] + 5)
    return tmp_path


def test_frame_folder(folder):
    with FrameFolder(folder, 5, "{:06d}.png") as reader:
        assert (reader.num_frames, reader.fps) == (5, 30.0)
        frames = reader.read(np.array([4, 0, 4]))
    assert frames.shape == (3, 20, 30, 3)
    assert frames[:, 0, 0].tolist() == [[50, 0, 0], [10, 0, 0], [50, 0, 0]]
    assert FrameFolder(folder, 3, "{:06d}.png", start_index=3).read(np.array([0]))[0, 0, 0, 0] == 30


def test_flow_folder(folder):
    frames = FrameFolder(folder, 5, "flow_{axis}_{:05d}.png", is_flow=True).read(np.array([1, 2]))
    assert frames.shape == (2, 20, 30, 2)
    assert frames[:, 0, 0].tolist() == [[20, 25], [30, 35]]


def test_flow_in_the_red_and_green_of_one_picture(tmp_path):
    import cv2

    picture_bgr = np.full((20, 30, 3), (128, 7, 200), np.uint8)
    assert cv2.imwrite(str(tmp_path / "000001.png"), picture_bgr)
    frames = FrameFolder(tmp_path, 1, "{:06d}.png", is_flow=True).read(np.array([0]))
    assert (frames.shape, frames[0, 0, 0].tolist()) == ((1, 20, 30, 2), [200, 7])


def test_frame_folder_errors(folder):
    with pytest.raises(DataError, match=r"000006\.png: No such file.* frames 1 to 9, named \{:06d\}\.png"):
        FrameFolder(folder, 9, "{:06d}.png").read(np.array([0, 5]))
    with pytest.raises(IndexError, match="with 5 frames"):
        FrameFolder(folder, 5, "{:06d}.png").read(np.array([5]))
    with pytest.raises(DataError, match="no such folder"):
        FrameFolder(folder / "none", 5)
    for template in ("img.jpg", "img_{:05x2}.jpg", "{a}.jpg", "flow_{axis}_{:05d}.png"):
        with pytest.raises(ValueError, match="template"):
            FrameFolder(folder, 5, template)
    (folder / "000002.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"000002\.png: not a picture that OpenCV can read"):
        FrameFolder(folder, 5, "{:06d}.png").read(np.array([1]))
    import cv2

    cv2.imwrite(str(folder / "000003.png"), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(DataError, match="differ in size, 30x20 and 8x8 pixels"):
        FrameFolder(folder, 5, "{:06d}.png").read(np.array([0, 2]))


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
def test_a_title_in_another_encoding_is_no_matter(tmp_path, decoder):
    path = tmp_path / "titled.mp4"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "TITLETITLE"
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 96, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())
    data = path.read_bytes()
    assert b"TITLETITLE" in data
    path.write_bytes(data.replace(b"TITLETITLE", b"\xff\xfeTITLE\xe9\xe8\xff"))
    with open_video(path, decoder) as reader:
        assert reader.read(np.array([0])).shape == (1, 64, 96, 3)


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
def test_an_unknown_codec_is_one_line(tmp_path, decoder):
    path = write_video(tmp_path / "strange.mp4", num_frames=3)
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zz9z"))
    with pytest.raises(DataError, match=r"strange\.mp4: .*codec is unknown"):
        open_video(path, decoder)
