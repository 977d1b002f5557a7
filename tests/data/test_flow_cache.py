from __future__ import annotations

import json
import logging
import multiprocessing
import os
import pickle
import resource
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import pytest
from flow_scenes import Texture, as_frame, places

from paddlevid.data.flow.cache import FlowCache, _warn
from paddlevid.data.flow.method import FlowMethod
from paddlevid.data.flow.reader import FlowReader
from paddlevid.data.video import open_video
from paddlevid.errors import DataError
from paddlevid.runtime import logger

METHOD = FlowMethod("dis")


class Frames:
    """A reader of given frames, which notes what it is asked for."""

    def __init__(self, frames: np.ndarray) -> None:
        self._frames = frames
        self.num_frames, self.fps = len(frames), 25.0
        self.asked: list[list[int]] = []
        self.is_open = True

    def read(self, indices: np.ndarray) -> np.ndarray:
        self.asked.append(np.asarray(indices).tolist())
        return self._frames[indices]

    def __enter__(self) -> Frames:
        return self

    def __exit__(self, *_: object) -> None:
        self.is_open = False


@pytest.fixture
def video(motion_set: Path, tmp_path: Path) -> Path:
    """A video that a test may change."""
    path = tmp_path / "a video.mp4"
    source = sorted((motion_set / "train").glob("*.mp4"))[0]
    path.write_bytes(source.read_bytes())
    return path


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What is warned of."""
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", True)
    _warn.cache_clear()
    caplog.set_level(logging.WARNING)
    return caplog


def flows_of(video: Path, cache: FlowCache | None = None, indices: list[int] | None = None) -> np.ndarray:
    with FlowReader(open_video(video), METHOD, path=str(video), cache=cache) as reader:
        return reader.read(np.arange(reader.num_frames) if indices is None else np.array(indices))


def test_flow_i_is_that_between_frames_i_and_i_plus_1(video: Path) -> None:
    method = FlowMethod("farneback", short_side=48)
    with open_video(video) as reader:
        num_flows, fps = reader.num_frames - 1, reader.fps
        frames = [method.scale(frame) for frame in reader.read(np.arange(num_flows + 1))]
    expected = [method.picture(frames[i], frames[i + 1]) for i in range(num_flows)]
    with FlowReader(open_video(video), method, path=str(video)) as reader:
        assert (reader.num_frames, reader.fps) == (num_flows, fps)
        flows = reader.read(np.array([7, 0, 10, 7, 8]))
        np.testing.assert_array_equal(flows, np.stack([expected[i] for i in (7, 0, 10, 7, 8)]))
        assert (flows.shape, flows.dtype) == ((5, 48, 48, 2), np.uint8)
        with pytest.raises(IndexError, match="of a video with"):
            reader.read(np.array([num_flows]))


def test_each_frame_is_read_once_and_only_where_it_is_needed() -> None:
    texture = Texture(0)(*places(40, 60))
    frames = Frames(np.stack([as_frame(np.roll(texture, shift, axis=1)) for shift in range(9)]))
    with FlowReader(frames, METHOD, path="a") as reader:
        flows = reader.read(np.array([6, 2, 1, 6]))
    assert frames.asked == [[1, 2, 3, 6, 7]]
    assert not frames.is_open
    assert np.median(flows[..., 0]) == np.rint((1 + 20) * 255 / 40)  # a pixel to the right a frame
    assert np.median(flows[..., 1]) in (127, 128)


def test_a_video_of_one_frame_has_no_flow() -> None:
    frames = Frames(np.zeros((1, 40, 60, 3), np.uint8))
    with pytest.raises(DataError, match=r"^one.mp4: no optical flow in a video of 1 frame"):
        FlowReader(frames, METHOD, path="one.mp4")
    assert not frames.is_open


def test_an_error_names_the_video_and_the_frame() -> None:
    frames = Frames(np.zeros((3, 8, 60, 3), np.uint8))
    with (
        FlowReader(frames, METHOD, path="a.mp4") as reader,
        pytest.raises(DataError, match=r"^a.mp4: frame 1: frames of 60x8 pixels"),
    ):
        reader.read(np.array([1]))


def test_what_is_cached_is_what_is_computed(video: Path, tmp_path: Path) -> None:
    cache = pickle.loads(pickle.dumps(FlowCache(tmp_path / "cache", METHOD)))
    expected = flows_of(video)
    np.testing.assert_array_equal(flows_of(video, cache, [3, 4, 9]), expected[[3, 4, 9]])
    folder = cache.video(str(video)).folder
    assert sorted(file.name for file in folder.iterdir()) == ["flow_00004.png", "flow_00005.png", "flow_00010.png"]
    frames = Frames(np.zeros((len(expected) + 1, 64, 64, 3), np.uint8))
    with FlowReader(frames, METHOD, path=str(video), cache=cache) as reader:
        np.testing.assert_array_equal(reader.read(np.array([9, 3, 4])), expected[[9, 3, 4]])
    assert frames.asked == []
    np.testing.assert_array_equal(flows_of(video, cache), expected)
    np.testing.assert_array_equal(flows_of(video, cache), expected)


def test_a_person_sees_what_the_folder_holds(video: Path, tmp_path: Path) -> None:
    cache = FlowCache(tmp_path / "cache", METHOD)
    flows = flows_of(video, cache, [0])
    (method_folder,) = (tmp_path / "cache").iterdir()
    assert json.loads((method_folder / "method.json").read_text()) == METHOD.settings()
    import cv2

    (folder,) = (path for path in method_folder.iterdir() if path.is_dir())
    assert folder.name.startswith("a_video-")
    blue, green, red = cv2.split(cv2.imread(str(folder / "flow_00001.png")))
    np.testing.assert_array_equal(np.stack([red, green], axis=-1), flows[0])
    assert not blue.any()


def test_a_damaged_file_is_computed_anew_and_replaced(video: Path, tmp_path: Path) -> None:
    cache = FlowCache(tmp_path / "cache", METHOD)
    expected = flows_of(video, cache, [0])
    kept = cache.video(str(video))
    file = kept.folder / "flow_00001.png"
    whole = file.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [b"", whole[:8], whole[: len(whole) // 2], whole[:-1], whole + b"x", b"\0" * len(whole)]
    for place in [*range(40), *rng.integers(0, len(whole), 60)]:
        damaged.append(whole[:place] + bytes([whole[place] ^ (1 << int(rng.integers(8)))]) + whole[place + 1 :])
    for data in damaged:
        file.write_bytes(data)
        assert kept.get(0) is None
    np.testing.assert_array_equal(flows_of(video, cache, [0]), expected)
    assert file.read_bytes() == whole
    file.with_name(".flow_00002.1.1.png").write_bytes(whole[:100])  # of a process that was killed
    assert kept.get(1) is None


def test_another_video_or_method_has_flows_of_its_own(video: Path, tmp_path: Path) -> None:
    cache = FlowCache(tmp_path / "cache", METHOD)
    other = tmp_path / "other" / video.name
    other.parent.mkdir()
    other.write_bytes(video.read_bytes())
    folders = [
        cache.video(str(video)).folder,
        cache.video(str(other)).folder,
        cache.video(str(video), frames="img_{:05d}.jpg").folder,
        FlowCache(tmp_path / "cache", FlowMethod("dis", bound=10.0)).video(str(video)).folder,
    ]
    assert cache.video(os.path.relpath(video)).folder == folders[0]
    status = video.stat()
    os.utime(video, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    folders.append(cache.video(str(video)).folder)
    video.write_bytes(video.read_bytes() + b"\0")
    os.utime(video, ns=(status.st_atime_ns, status.st_mtime_ns))
    folders.append(cache.video(str(video)).folder)
    shard = tmp_path / "000.tar"
    shard.write_bytes(b"any")
    folders += [cache.video(f"{shard}/{key}.mp4").folder for key in ("a", "b", "b/c")]
    assert len(set(folders)) == len(folders)
    assert cache.video(f"{shard}/a.mp4").folder in folders
    with pytest.raises(DataError, match=r"missing.mp4: No such file"):
        cache.video(str(tmp_path / "missing.mp4"))


def fill(folder: str, video: str, order: int, barrier: Barrier, answers: multiprocessing.Queue[bytes]) -> None:
    cache = FlowCache(folder, METHOD)
    barrier.wait()
    with FlowReader(open_video(video), METHOD, path=video, cache=cache) as reader:
        for index in range(reader.num_frames)[::order]:
            reader.read(np.array([index]))
        answers.put(reader.read(np.arange(reader.num_frames)).tobytes())


def test_two_processes_fill_it_at_once(video: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(2), context.Queue()
    arguments = [(str(tmp_path / "cache"), str(video), order, barrier, answers) for order in (1, -1)]
    processes = [context.Process(target=fill, args=each) for each in arguments]
    for process in processes:
        process.start()
    found = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    expected = flows_of(video)
    assert found == [expected.tobytes()] * 2
    kept = FlowCache(tmp_path / "cache", METHOD).video(str(video))
    for index in range(len(expected)):
        np.testing.assert_array_equal(kept.get(index), expected[index])
    assert len(list(kept.folder.iterdir())) == len(expected)  # and nothing half-written


def test_a_full_disk_is_told_once_and_costs_no_sample(
    video: Path, tmp_path: Path, heard: pytest.LogCaptureFixture
) -> None:
    expected = flows_of(video)
    cache = FlowCache(tmp_path / "cache", METHOD)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))  # a disk that takes the beginning of a picture
    try:
        found = [flows_of(video, cache) for _ in range(3)]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    for flows in found:
        np.testing.assert_array_equal(flows, expected)
    (record,) = heard.records
    assert "cache: cannot keep optical flow there (File too large)" in record.getMessage()
    assert [file for file in (tmp_path / "cache").rglob("*.png") if file.stat().st_size] == []
    np.testing.assert_array_equal(flows_of(video, cache), expected)
    assert cache.video(str(video)).get(0) is not None  # the disk has room again


def test_a_folder_that_cannot_be_made_is_told_once(
    video: Path, tmp_path: Path, heard: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = FlowCache(tmp_path / "file", METHOD)
    expected = flows_of(video)
    for _ in range(2):
        np.testing.assert_array_equal(flows_of(video, cache), expected)
    assert len(heard.records) == 1
    assert heard.records[0].levelno == logging.WARNING
