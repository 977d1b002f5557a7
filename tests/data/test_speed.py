"""The bare decoder against decoding in order, the stages' clock and the advice against cases worked by hand."""

import io
import itertools
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from paddlevid.data.dataset import FrameSource
from paddlevid.data.flow.method import FlowMethod
from paddlevid.data.records import Record
from paddlevid.data.shards import ShardRecord
from paddlevid.data.speed import bare, measure, report, timed
from paddlevid.data.speed.measure import Throughput, Times


@pytest.fixture(scope="module")
def h264(tmp_path_factory):
    """60 frames with B-frames and key frames at 0, 25 and 50."""
    path = tmp_path_factory.mktemp("speed") / "b.mp4"
    noise = np.random.default_rng(0).integers(0, 256, (60, 96, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "25", "bf": "3", "sc_threshold": "0"})
        stream.width, stream.height, stream.pix_fmt = 96, 60, "yuv420p"
        for number in range(60):
            picture = np.ascontiguousarray(np.roll(noise, 2 * number, axis=1))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return str(path)


def in_order(path):
    with av.open(path) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_the_floor_gives_the_frames_of_decoding_in_order(h264):
    frames, shown = in_order(h264), bare.times_shown(h264)
    assert [shown.times.index(time) for time in shown.keyframes] == [0, 25, 50]
    for indices in ([7], [0, 59], [24, 25, 26], [58, 3, 3, 40], list(range(0, 60, 7))):
        wanted = sorted(set(indices))
        for times in (shown, None):
            found = bare.decode(h264, np.array(indices), times)
            assert len(found) == len(wanted)
            for frame, index in zip(found, wanted, strict=True):
                np.testing.assert_array_equal(frame, frames[index])


def test_the_floor_on_real_clips(shared_videos):
    for name in ("archery.avi", "arm_wrestling.mp4"):
        path = str(shared_videos / name)
        frames = in_order(path)
        indices = np.linspace(0, len(frames) - 1, 5).astype(int)
        for frame, index in zip(bare.decode(path, indices, bare.times_shown(path)), indices, strict=True):
            np.testing.assert_array_equal(frame, frames[index])


def test_the_floor_reads_parts_of_shards(h264, tmp_path):
    content = Path(h264).read_bytes()
    shard = tmp_path / "0.tar"
    shard.write_bytes(b"x" * 512 + content + b"y" * 100)
    record = ShardRecord(path="0.tar:b.mp4", shard=str(shard), offset=512, size=len(content))
    assert measure._file(record).read() == content
    assert measure._file(Record(path=h264)) == h264
    assert bare.times_shown(io.BytesIO(content)) == bare.times_shown(h264)


def test_a_stage_within_another_takes_its_time(monkeypatch):
    moments = iter([0, 10, 13, 20, 21, 100, 107, 112])
    monkeypatch.setattr(timed.time, "perf_counter", lambda: next(moments))
    clock = timed.Clock()
    with clock.stage("hand-over"), clock.stage("transform"), clock.stage("decode"):  # from 0, 10, 13
        pass  # to 100, 21, 20
    with clock.stage("open"):
        pass
    assert clock.seconds == {"open": 5, "decode": 7, "transform": 3 + 1, "hand-over": 10 + 79}


TIMES = Times({"open": 0.01, "decode": 0.08, "transform": 0.006, "hand-over": 0.004}, 0.09, 0.99, 0.0, 40)
SPEEDS = [Throughput(0, 9.8, 1.0, 40), Throughput(1, 10.0, 1.5, 40), Throughput(2, 19.0, 1.6, 80)]


def advise(times=TIMES, speeds=SPEEDS, cores=4, model=None, source="video"):
    return report.advice(times, speeds, unit="clip", source=source, cores=cores, model_clips_per_second=model)


def test_table_tells_each_stage_its_share_and_the_floor():
    text = "\n".join(report.table(TIMES, SPEEDS, "clip", "video"))
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    assert rows["decode"][1:3] == ["80.00", "80.0%"]
    assert rows["all"][1:] == ["100.00", "10.00", "clips/s"]
    assert rows["floor"][1] == "90.00"
    assert "1.11 times" in text
    assert rows["2"] == ["2", "19.00", "1.90", "1.60", "80"]
    unknown = TIMES._replace(floor_sec=None)
    assert "floor: unknown, PyAV" in "\n".join(report.table(unknown, SPEEDS, "clip", "video"))
    assert "floor: unknown, flow is computed" in "\n".join(report.table(unknown, SPEEDS, "clip", report.COMPUTED))


def test_advice_on_the_number_of_workers():
    # 10 clips a second each: 35 need 4; 4 cores give 40 at most, of which a model that takes 80 waits for the half
    assert "needs 4 workers of 10.0" in advise(model=35)[1]
    assert "needs 8 workers" in advise(model=80)[1]
    assert "at most about 40 clips/s" in advise(model=80)[1]
    assert "wait 50%" in advise(model=80)[1]
    assert "at most about 40" in advise()[1]


@pytest.mark.parametrize(
    ("seconds", "cpu_share", "stage", "tool"),
    [
        ((0.01, 0.08, 0.006, 0.004), 0.99, "decode, 80%", "make_clips"),
        ((0.07, 0.02, 0.006, 0.004), 0.99, "open, 70%", "make_shards"),
        ((0.01, 0.08, 0.006, 0.004), 0.3, "decode, 80%", "70% of the time is waiting for the disk"),
        ((0.01, 0.03, 0.056, 0.004), 0.99, "transform, 56%", "leave out transforms"),
        ((0.01, 0.03, 0.006, 0.054), 0.99, "hand-over, 54%", "image_size"),
    ],
)
def test_advice_names_the_bottleneck(seconds, cpu_share, stage, tool):
    times = Times(dict(zip(timed.STAGES, seconds, strict=True)), None, cpu_share, 0.0, 40)
    first = advise(times)[0]
    assert f"bottleneck is {stage}" in first
    assert tool in first


def test_advice_minds_other_work_and_the_format():
    crowded = TIMES._replace(cpu_share=0.5, crowded_share=0.45)  # 5 % are left for the disk
    assert "Other work held the cores in 45%" in advise(crowded)[-1]
    assert "make_clips" in advise(crowded)[0]
    assert "smaller frames" in advise(source="frames")[0]
    assert "pack them anew" in advise(source="shards")[0]


def test_advice_for_each_source_of_frames():
    """None is told of tools that do not help it, whatever the stage."""
    slow = {
        "disk": TIMES._replace(cpu_share=0.3),
        "decode": TIMES,
        "open": TIMES._replace(seconds={**TIMES.seconds, "open": 0.5}),
        "transform": TIMES._replace(seconds={**TIMES.seconds, "transform": 0.5}),
    }
    tools = {
        "flow": {"decode": "extract_flow.py --short_side", "transform": "extract_flow.py --short_side"},
        report.COMPUTED: {
            "decode": "extract the flow once (tools/extract_flow.py)",
            "transform": "data.flow.short_side",
        },
        report.CACHED: {"decode": "when more of it is in data.flow.cache", "transform": "data.flow.short_side"},
    }
    method = FlowMethod()
    assert report.what_is_read("frames", FrameSource(flow=method)) == report.COMPUTED
    assert report.what_is_read("video", FrameSource(flow=method, flow_cache="kept")) == report.CACHED
    assert report.what_is_read("flow", FrameSource(flow=method, stored_flow=True)) == "flow"
    assert report.what_is_read("shards", FrameSource()) == "shards"
    for source, expected in tools.items():
        for stage, times in slow.items():
            told = advise(times, source=source)[0]
            assert expected.get(stage, "faster disk") in told
            assert "make_clips" not in told


def test_advice_where_workers_do_not_scale():
    assert len(advise()) == 2
    slow = [SPEEDS[1], Throughput(2, 12.0, 1.6, 80)]
    assert "only 1.20 times" in advise(speeds=slow)[2]
    assert len(advise(speeds=[SPEEDS[1], Throughput(8, 12.0, 1.6, 80)], cores=4)) == 2  # more than there are cores


@pytest.fixture(scope="module")
def flow_folders(tmp_path_factory):
    """Two folders of eight flows, and a list of them."""
    folder = tmp_path_factory.mktemp("flow")
    rng = np.random.default_rng(0)
    for name in "ab":
        (folder / name).mkdir()
        for axis, number in itertools.product("xy", range(1, 9)):
            path = folder / name / f"flow_{axis}_{number:05d}.jpg"
            cv2.imwrite(str(path), rng.integers(0, 256, (48, 64), np.uint8))
    (folder / "list.txt").write_text("a 8 0\nb 8 1\n")
    return folder


FLOW = {"modality": "flow", "snippet_length": 3, "mean": [0.5, 0.5], "std": [0.226, 0.226]}
FLOW_OPTIONS = [word for key, value in FLOW.items() for word in ("-o", f"data.{key}={value}")]


def test_the_floor_of_stored_flow_reads_both_axes(flow_folders):
    read = timed.Read(
        FrameSource(frame_template="flow_{axis}_{:05d}.jpg", stored_flow=True),
        Record(path=str(flow_folders / "a"), num_frames=8),
        np.array([4, 0, 4]),
    )
    pictures = measure.Floor()._decoder(read)()
    names = ["flow_x_00001", "flow_y_00001", "flow_x_00005", "flow_y_00005"]
    assert [picture.shape for picture in pictures] == [(48, 64)] * 4
    for picture, name in zip(pictures, names, strict=True):
        np.testing.assert_array_equal(picture, cv2.imread(str(flow_folders / "a" / f"{name}.jpg"), 0))


def test_benchmark_data_on_flow(tiny_recipe, run_tool, flow_folders):
    arguments = (tiny_recipe("tsn"), "--workers", "0", "--samples", 4, *FLOW_OPTIONS)
    stored = ("data.format=flow", "data.flow={algorithm: dis}", f"data.root={flow_folders}", "train.global_batch=2")
    stored += (f"train.list={flow_folders / 'list.txt'}", "train.batch_size=2", "data.class_names=null")
    code, out, err = run_tool("benchmark_data", *arguments, *(word for text in stored for word in ("-o", text)))
    assert code == 0, err
    assert out.startswith(
        "train: 2 clips, each 4 snippets of 3 flows (dis) of 32 x 32, segment sampling; format flow, "
    )
    assert "the bare decoder, same frames" in out
    code, out, err = run_tool("benchmark_data", *arguments, "-o", "data.flow={algorithm: dis}")
    assert (code, err) == (0, "")
    assert "compute their flow\n" in out
    assert "floor: unknown, flow is computed, which no decoder does\n" in out
    assert "bottleneck is decode" in out
    assert "extract the flow once (tools/extract_flow.py)" in out


@pytest.mark.parametrize("split", ["train", "test"])
def test_benchmark_data_on_videos(tiny_recipe, run_tool, tmp_path, split):
    picture = tmp_path / "speed.png"
    arguments = (tiny_recipe(), "--workers", "0,1" if split == "train" else "0", "--samples", 8, "--split", split)
    code, out, err = run_tool("benchmark_data", *arguments, "--plot", picture, "--clips_per_second", 1000)
    assert (code, err) == (0, "")
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
    stages = [float(rows[stage][1]) for stage in timed.STAGES]
    assert min(stages) > 0
    assert sum(stages) == pytest.approx(float(rows["all"][1]), abs=0.03)
    assert float(rows["floor"][1]) > 0
    assert float(rows["0"][1]) > 0
    assert ("1" in rows) == (split == "train")
    assert "bottleneck" in out
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_unreadable_videos_are_counted(tiny_recipe, motion_set, tmp_path, run_tool):
    good = (motion_set / "test.txt").read_text().splitlines()[:3]
    (tmp_path / "bad.mp4").write_text("no video")
    (tmp_path / "some.txt").write_text("\n".join([*good, f"{tmp_path / 'bad.mp4'} 0"]) + "\n")
    options = ("-o", f"test.list={tmp_path / 'some.txt'}", "--split", "test", "--workers", "0", "--samples", 10)
    code, out, _ = run_tool("benchmark_data", tiny_recipe(), *options)
    assert code == 0
    assert "\n1 video could not be read" in out  # in each of three batches


def test_benchmark_data_says_in_a_line_what_is_wrong(tiny_recipe, run_tool, tmp_path):
    bad = tmp_path / "bad.txt"
    (tmp_path / "bad.mp4").write_text("no video")
    bad.write_text(f"{tmp_path / 'bad.mp4'} 0\n")
    for arguments, what in (
        (("-o", f"train.list={bad}", "--workers", "0"), "no video of the first batch can be read: "),
        (("-o", "train.nothing=1"), "nothing"),
    ):
        code, _, err = run_tool("benchmark_data", "-c", tiny_recipe(), *arguments)
        assert code == 2
        assert what in err
        assert len(err.strip().splitlines()) == 1
