"""Features of videos: the right numbers, the same bytes however the work is shared out, killed or begun again."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from paddlevid import build
from paddlevid.config import load_config
from paddlevid.data.records import Record
from paddlevid.deploy.features.extract import open_folder, shard_of
from paddlevid.deploy.features.files import Item, Shard, find_done, plan_files, read_settings, walk, write_features
from paddlevid.deploy.features.joined import write_set
from paddlevid.deploy.features.tables import failed_names, read_index, write_index
from paddlevid.deploy.inputs import find_records
from paddlevid.deploy.manifest import ModelFiles, make_manifest, write_manifest
from paddlevid.errors import ConfigError, DataError, UserError

D = 3  # features of the graph of these tests: the mean of each channel


@pytest.fixture
def folder(tiny_recipe, tmp_path):
    """An exported folder whose graph is written by hand: uint8 frames -> logits [B, 8], the mean colour [B, 3]."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.ones((D, 8), np.float32), "weight")
    nodes = [
        helper.make_node("Cast", ["frames"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["features"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("MatMul", ["features", "weight"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "mean colour",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["B", 4, 32, 32, 3])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", 8]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["B", D]),
        ],
        [weight],
    )
    path = tmp_path / "inference" / "Net"
    path.mkdir(parents=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path / "Net.onnx")
    manifest = make_manifest(load_config(tiny_recipe("tsn")), version="0", weights_sha256="0" * 64, feature_dim=D)
    files = (ModelFiles(format="onnx", files=("Net.onnx",)),)
    write_manifest(manifest.model_copy(update={"models": files}), path)
    return path


@pytest.fixture
def videos(motion_set, tmp_path):
    """A folder of 240 names for the 30 videos of the motion set, and a list of them."""
    sources = sorted(motion_set.rglob("*.mp4"))
    for i in range(240):
        path = tmp_path / "videos" / f"class{i % 7}" / f"clip{i:03}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(sources[i % len(sources)], path)
    return tmp_path / "videos"


def command(*arguments: object) -> list[str]:
    return [sys.executable, str(ROOT / "tools" / "extract_features.py"), *map(str, arguments)]


def run(*arguments: object, **options) -> subprocess.CompletedProcess:
    """Run the tool in a process of its own."""
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=300, check=False, **options)


def contents(out: Path) -> dict[str, bytes]:
    """All files of a folder of features, hidden ones as well."""
    return {file: (out / file).read_bytes() for file in walk(out)}


def expected(folder: Path, video: Path, num_clips: int, crops: int) -> np.ndarray:
    """The mean colour of each clip, straight from the frames."""
    manifest = open_folder(folder, num_clips=num_clips).manifest
    frames = build.build_views(manifest.data, manifest.views)(Record(path=str(video)))  # [V, T, H, W, C]
    assert len(frames) == num_clips * crops
    means = frames.astype(np.float64).mean(axis=(1, 2, 3)).reshape(num_clips, crops, D)
    return means.mean(axis=1)


def test_the_mean_over_crops_of_each_clip(folder, motion_set, tmp_path):
    out = tmp_path / "out"
    done = run("-m", folder, motion_set / "test.txt", out, "--num_clips", 2)
    assert done.returncode == 0, done.stderr
    lines = (motion_set / "test.txt").read_text().splitlines()
    names = [line.rsplit(" ", 1)[0] for line in lines]
    files = {file for file in walk(out) if file.endswith(".npy")}
    assert files == {name.removesuffix(".mp4") + ".npy" for name in names}
    for name in names:
        features = np.load(out / name.replace(".mp4", ".npy"))
        assert features.dtype == np.float32
        assert features.shape == (2, D)
        np.testing.assert_allclose(features, expected(folder, motion_set / name, 2, 3), rtol=1e-6)
    settings = json.loads((out / "features.json").read_text())
    told = {name: settings[name] for name in ("model", "weights_sha256", "num_clips", "crop", "runtime", "dtype")}
    assert told == {
        "model": "tsn",
        "weights_sha256": "0" * 64,
        "num_clips": 2,
        "crop": "three",
        "runtime": settings["runtime"],
        "dtype": "float32",
    }
    assert not (out / "failed.csv").exists()


@pytest.mark.parametrize("name", ["timesformer", "tsm", "tsn"])
def test_a_recipe_and_weights_give_forward_features(tiny_recipe, motion_set, tmp_path, name):
    import paddle

    from paddlevid.checkpoint import save_weights

    path = tiny_recipe(name)
    cfg = load_config(path)
    paddle.seed(3)
    model = build.build_model(cfg)
    model.eval()
    save_weights(model, tmp_path / "weights.pdparams")
    video = next((motion_set / "test").rglob("*.mp4"))
    done = run("-c", path, "-w", tmp_path / "weights.pdparams", video, tmp_path / "out", "--dtype", "float16")
    assert done.returncode == 0, done.stderr
    frames = build.build_views(cfg.data, cfg.test)(Record(path=str(video)))
    with paddle.no_grad():
        feats = model.forward_features(build.build_normalize(cfg)(paddle.to_tensor(frames)))  # [V, D]
    features = np.load(tmp_path / "out" / f"{video.stem}.npy")
    assert features.dtype == np.float16
    np.testing.assert_allclose(features, feats.numpy().mean(axis=0, keepdims=True), rtol=2e-3, atol=1e-4)


# ---- the same bytes -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_same_bytes_however_the_work_is_shared_out_or_killed(folder, videos, tmp_path):
    common = ["-m", folder, videos]
    assert run(*common, tmp_path / "alone").returncode == 0
    alone = contents(tmp_path / "alone")
    assert sum(file.endswith(".npy") for file in alone) == 240

    shards = [
        subprocess.Popen(command(*common, tmp_path / "shards", "--shard", f"{i}/3", "--num_workers", i))
        for i in (1, 2, 3)
    ]
    assert [process.wait(300) for process in shards] == [0, 0, 0]
    assert contents(tmp_path / "shards") == alone

    # Another order of the list: it is read backwards, in another process each, one of which dies
    backwards = tmp_path / "backwards.txt"
    names = sorted(file.removesuffix(".npy") + ".mp4" for file in alone if file.endswith(".npy"))
    backwards.write_text("".join(f"{videos / name}\n" for name in reversed(names)))
    for stop_at in (1, 60):
        process = subprocess.Popen(command(*common, tmp_path / "killed", "--num_workers", 1), stdout=subprocess.PIPE)
        wait_for_files(tmp_path / "killed", stop_at, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        present = {file for file in walk(tmp_path / "killed") if not Path(file).name.startswith(".")}
        assert sum(file.endswith(".npy") for file in present) < 240, "it was killed too late to tell anything"
        assert all((tmp_path / "killed" / file).read_bytes() == alone[file] for file in present)
    # what a killed process may leave in the middle of writing
    (tmp_path / "killed" / "class0" / ".clip007.4711.npy").write_bytes(b"half")
    done = run(*common, tmp_path / "killed", "--num_workers", 4)
    assert done.returncode == 0
    assert "were there already" in done.stdout
    assert contents(tmp_path / "killed") == alone

    assert run("-m", folder, backwards, tmp_path / "backwards").returncode == 0
    assert {
        file.removeprefix(str(videos).lstrip("/") + "/"): content
        for file, content in contents(tmp_path / "backwards").items()
        if file.endswith(".npy")
    } == {file: content for file, content in alone.items() if file.endswith(".npy")}


def wait_for_files(out: Path, count: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not out.is_dir() or sum(file.endswith(".npy") for file in walk(out)) < count:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_each_shard_takes_its_part_by_position(folder, videos, tmp_path):
    assert run("-m", folder, videos, tmp_path / "out", "--shard", "2/100").returncode == 0
    files = {file for file in walk(tmp_path / "out") if file.endswith(".npy")}
    names = sorted(str(path.relative_to(videos)) for path in videos.rglob("*.mp4"))
    assert files == {name.replace(".mp4", ".npy") for name in (names[1], names[101], names[201])}


@pytest.mark.parametrize("text", ["0/4", "5/4", "4", "a/b", "1/0", "-1/4", "1/"])
def test_no_such_shard(text):
    with pytest.raises(ConfigError, match="I from 1 to N"):
        shard_of(text, {})


def test_shards_of_a_launch():
    assert shard_of(None, {}) == Shard(1, 1)
    assert shard_of("2/4", {}) == Shard(2, 4)
    assert shard_of(None, {"PADDLE_TRAINER_ID": "0", "PADDLE_TRAINERS_NUM": "3"}) == Shard(1, 3)
    assert shard_of("2/4", {"PADDLE_TRAINER_ID": "0", "PADDLE_TRAINERS_NUM": "1"}) == Shard(2, 4)
    with pytest.raises(ConfigError, match="already"):
        shard_of("2/4", {"PADDLE_TRAINER_ID": "0", "PADDLE_TRAINERS_NUM": "3"})


def test_a_launch_does_all_though_one_process_meets_a_bad_video(folder, videos, tmp_path):
    (videos / "class0" / "clip000.mp4").unlink()  # the first of the first shard, and only this shard ends early
    (videos / "class0" / "clip000.mp4").write_text("no video")
    launch = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--log_dir", tmp_path / "log"]
    arguments = command("-m", folder, videos, tmp_path / "out", "--format", "npz")[1:]
    done = subprocess.run(
        [*map(str, launch), *arguments], capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path
    )
    assert done.returncode != 0, "a video failed"
    assert sum(file.endswith(".npy") for file in walk(tmp_path / "out")) == 239
    (failure,) = csv.DictReader((tmp_path / "out" / "failed-1-of-2.csv").open())
    assert failure["name"] == "class0/clip000.mp4"
    assert len(np.load(tmp_path / "out" / "features.npz")["names"]) == 239


# ---- going on, and not ----------------------------------------------------------------------------------------------


def test_other_settings_are_refused_in_one_line(folder, motion_set, tmp_path):
    out = tmp_path / "out"
    common = ["-m", folder, motion_set / "test.txt", out]
    assert run(*common).returncode == 0
    before = contents(out)
    done = run(*common, "--dtype", "float16", "--crop", "center")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "dtype float32, not float16" in done.stderr
    assert "crop three, not center" in done.stderr
    assert contents(out) == before

    done = run(*common, "--dtype", "float16", "--overwrite", "--shard", "1/2")
    assert done.returncode == 2, "what other shards have not overwritten yet would pass for new"
    assert contents(out) == before
    assert run(*common, "--dtype", "float16", "--overwrite").returncode == 0
    after = contents(out)
    assert after.keys() == before.keys()
    assert {np.load(out / file).dtype for file in after if file.endswith(".npy")} == {np.dtype("float16")}


def test_a_run_goes_on_in_the_runtime_that_it_was_begun_in(folder, motion_set, tmp_path):
    """Which one is the fastest, or installed, may change between two runs and differ between two machines."""
    common = ["-m", folder, motion_set / "test.txt"]
    for runtime in ("onnxruntime", "openvino"):
        pytest.importorskip(runtime)
        out = tmp_path / runtime
        assert run(*common, out, "--runtime", runtime, "--shard", "1/2").returncode == 0
        done = run(*common, out)
        assert done.returncode == 0, done.stderr
        assert json.loads((out / "features.json").read_text())["runtime"] == runtime
        assert sum(file.endswith(".npy") for file in walk(out)) == 7
    done = run(*common, tmp_path / "openvino", "--runtime", "onnxruntime")
    assert done.returncode == 2
    assert "runtime openvino, not onnxruntime" in done.stderr


def test_overwrite_computes_what_is_there_anew(folder, motion_set, tmp_path):
    common = ["-m", folder, motion_set / "test.txt", tmp_path / "out"]
    assert run(*common).returncode == 0
    before = contents(tmp_path / "out")
    spoilt = next(file for file in before if file.endswith(".npy"))
    (tmp_path / "out" / spoilt).write_bytes(before[spoilt][:-1] + b"?")
    assert run(*common).returncode == 0
    assert contents(tmp_path / "out") != before, "files that are there are not read again"
    assert run(*common, "--overwrite").returncode == 0
    assert contents(tmp_path / "out") == before


def test_features_of_unknown_origin_or_of_another_video_are_not_taken_for_done(folder, motion_set, tmp_path):
    source = next((motion_set / "test").rglob("*.mp4"))
    (tmp_path / "in").mkdir()
    shutil.copy(source, tmp_path / "in" / "x.mp4")
    (tmp_path / "out").mkdir()
    np.save(tmp_path / "out" / "x.npy", np.zeros(3))
    done = run("-m", folder, tmp_path / "in", tmp_path / "out")
    assert done.returncode == 2
    assert "features.json" in done.stderr

    assert run("-m", folder, tmp_path / "in", tmp_path / "out", "--overwrite").returncode == 0
    (tmp_path / "in" / "x.mp4").rename(tmp_path / "in" / "x.avi")
    done = run("-m", folder, tmp_path / "in", tmp_path / "out")
    assert done.returncode == 2
    assert "x.mp4, not of x.avi" in done.stderr


def test_videos_of_another_data_set_with_the_same_names_are_refused(folder, motion_set, tmp_path):
    sources = sorted((motion_set / "test").rglob("*.mp4"))
    one = sources[0]
    other = next(path for path in sources if path.stat().st_size != one.stat().st_size)
    for name, source in (("a", one), ("b", other), ("moved", one)):
        (tmp_path / name).mkdir()
        shutil.copy(source, tmp_path / name / "x.mp4")
    out = tmp_path / "out"
    assert run("-m", folder, tmp_path / "a", out).returncode == 0
    before = contents(out)
    (row,) = csv.DictReader((out / "videos.csv").open())
    assert row == {"file": "x.npy", "video": "x.mp4", "bytes": str(one.stat().st_size)}
    done = run("-m", folder, tmp_path / "b", out)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "has the features of another video" in done.stderr
    assert contents(out) == before
    done = run("-m", folder, tmp_path / "moved", out)
    assert done.returncode == 0, done.stderr
    assert "1 were there already" in done.stdout
    assert contents(out) == before
    assert run("-m", folder, tmp_path / "b", out, "--overwrite").returncode == 0
    np.testing.assert_allclose(np.load(out / "x.npy"), expected(folder, other, 1, 3), rtol=1e-6)


def test_sizes_of_sources_by_hand(tmp_path):
    (tmp_path / "in" / "frames").mkdir(parents=True)
    for name, size in (("in/x.mp4", 5), ("in/frames/1.jpg", 7), ("in/frames/2.jpg", 8), ("in/frames/.hidden", 1)):
        (tmp_path / name).write_bytes(b"-" * size)
    names = ("x.mp4", "frames", "gone.mp4")
    items = [Item(Record(path=str(tmp_path / "in" / name)), name, f"{name}.npy") for name in names]

    def sizes():
        return [source.size for source in read_index(tmp_path).values()]

    (tmp_path / "videos.csv").write_text("file,video\nx.mp4.npy,x.mp4\n")  # as it was before sizes were noted
    write_index(tmp_path, items, {"x.mp4.npy", "frames.npy"}, Shard())
    assert sizes() == ["5", "7", ""]
    (tmp_path / "in" / "x.mp4").unlink()
    (tmp_path / "in" / "frames" / "1.jpg").unlink()
    write_index(tmp_path, items, {"x.mp4.npy"}, Shard())
    assert sizes() == ["5", "8", ""], "what is gone keeps its size, what has no features yet takes the new one"
    (tmp_path / "in" / "x.mp4").write_bytes(b"-" * 6)
    with pytest.raises(DataError, match=r"another video x\.mp4, of 5 bytes; .*x\.mp4 has 6"):
        write_index(tmp_path, items, {"x.mp4.npy"}, Shard())


@pytest.mark.parametrize("length", [0, 60, 128, 139])
def test_a_half_written_file_is_not_done(folder, motion_set, tmp_path, length):
    arguments = ["-m", folder, motion_set / "test.txt", tmp_path / "out", "--format", "npz"]
    assert run(*arguments).returncode == 0
    before = contents(tmp_path / "out")
    spoilt = max(file for file in before if file.endswith(".npy"))
    assert len(before[spoilt]) == 140  # a header of 128 bytes and three numbers
    (tmp_path / "out" / spoilt).write_bytes(before[spoilt][:length])
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    assert "1 videos in" in done.stdout
    assert "6 were there already" in done.stdout
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize(
    "content", [b"", b"\x93NUMPY\x01\x00", b"no numbers", b"PK\x03\x04", b"\x93NUMPY\x01\x00\x02\x00{("]
)
def test_a_set_of_damaged_files_is_one_line(tmp_path, content):
    (tmp_path / "x.npy").write_bytes(content)
    item = Item(Record(path="x.mp4"), "x.mp4", "x.npy")
    assert not find_done(tmp_path, [item], [item])
    with pytest.raises(DataError, match=r"x\.npy: cannot be read: .*remove it"):
        write_set(tmp_path, [item], "npz", Shard())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("features.json", b"[]"),
        ("features.json", b"{}"),
        ("features.json", b'{"runtime": ["openvino"], "precision": "fp32"}'),
        ("features.json", b'{"runtime": "openvino"}'),
        ("features.json", b"\xff\x00\xfe"),
        ("features.json", b"[" * 100_000),
        ("videos.csv", b"\xff\x00\n\x00\n"),
        ("videos.csv", b"a,b\n1,2\n"),
        ("videos.csv", b"file,video\nx.npy\n"),
        ("videos.csv", b"file,video\n../x.npy,x.mp4\n"),
        ("videos.csv", b"file,video\n" + b"x" * 200_000),
        ("failed-3-of-3.csv", b"name,reason\n\xff\xfe,x\n"),
        ("failed-3-of-3.csv", b"a,b\n1,2\n"),
    ],
)
def test_damaged_descriptions_are_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    (tmp_path / "failed_by_hand.csv").write_bytes(b"\xff")  # is none of ours
    read = {"features.json": read_settings, "videos.csv": read_index}.get(name, failed_names)
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / name}: ")
    assert "\n" not in str(caught.value)


def test_broken_videos_are_named_and_tried_again(folder, motion_set, tmp_path):
    source = next((motion_set / "test").rglob("*.mp4"))
    (tmp_path / "in" / "deep").mkdir(parents=True)
    shutil.copy(source, tmp_path / "in" / "good.mp4")
    bad = tmp_path / "in" / "deep" / "bad, very.mp4"
    bad.write_text("no video")
    out = tmp_path / "out"
    done = run("-m", folder, tmp_path / "in", out, "--format", "npz")
    assert done.returncode == 1
    assert "bad, very.mp4" in done.stderr
    (row,) = csv.DictReader((out / "failed.csv").open())
    assert row["name"] == "deep/bad, very.mp4"
    assert row["reason"]
    assert np.load(out / "features.npz")["names"].tolist() == ["good.mp4"]

    shutil.copy(source, bad)
    done = run("-m", folder, tmp_path / "in", out, "--format", "npz")
    assert done.returncode == 0
    assert "1 were there already" in done.stdout
    assert not (out / "failed.csv").exists()
    assert np.load(out / "features.npz")["names"].tolist() == ["deep/bad, very.mp4", "good.mp4"]


def test_a_full_disk_is_one_line_and_leaves_whole_files(folder, videos, tmp_path):
    """A disk of 400 KiB, in a name space of its own."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("needs unshare, to mount a small disk")
    (tmp_path / "out").mkdir()
    script = (
        'mount -t tmpfs -o size=400k none "$1" && shift && "$@"; code=$?; '
        f'find {tmp_path}/out -type f -size -100c; find {tmp_path}/out -name ".*"; exit $code'
    )
    # 240 files of a page each fill it, with the index
    done = subprocess.run(
        [
            "unshare",
            "-rm",
            "sh",
            "-c",
            script,
            "sh",
            tmp_path / "out",
            *command("-m", folder, videos, tmp_path / "out"),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert f"{tmp_path}/out/" in done.stderr
    assert ".npy: cannot be written: No space left on device" in done.stderr
    assert done.stdout == "", "empty or unfinished files"


# ---- one file -------------------------------------------------------------------------------------------------------


def test_the_last_shard_writes_the_set(folder, motion_set, tmp_path):
    names = [line.rsplit(" ", 1)[0] for line in (motion_set / "test.txt").read_text().splitlines()]
    common = ["-m", folder, motion_set / "test.txt", "--format", "npz"]
    first = run(*common, tmp_path / "out", "--shard", "2/2")
    assert first.returncode == 0
    assert "4 are left to other shards" in first.stdout
    assert not (tmp_path / "out" / "features.npz").exists()
    assert run(*common, tmp_path / "out", "--shard", "1/2").returncode == 0
    written = np.load(tmp_path / "out" / "features.npz")
    assert written["names"].tolist() == names
    assert written["features"].shape == (7, 1, D)
    for name, features in zip(names, written["features"], strict=True):
        np.testing.assert_array_equal(features, np.load(tmp_path / "out" / name.replace(".mp4", ".npy")))
    assert run(*common, tmp_path / "alone").returncode == 0
    assert contents(tmp_path / "alone") == contents(tmp_path / "out")


def test_parquet_has_a_row_a_clip(folder, motion_set, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    arguments = ["-m", folder, motion_set / "test.txt", tmp_path / "out", "--num_clips", 2, "--format", "parquet"]
    assert run(*arguments).returncode == 0
    names = [line.rsplit(" ", 1)[0] for line in (motion_set / "test.txt").read_text().splitlines()]
    table = parquet.read_table(tmp_path / "out" / "features.parquet").to_pydict()
    assert table["name"] == [name for name in names for _ in range(2)]
    assert table["clip"] == [0, 1] * 7
    arrays = [np.load(tmp_path / "out" / name.replace(".mp4", ".npy")) for name in names]
    np.testing.assert_array_equal(np.array(table["features"], np.float32), np.concatenate(arrays))


def test_parquet_without_pyarrow_is_refused_before_anything_is_computed(monkeypatch):
    from paddlevid.deploy.features.joined import check_set_format

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match="pip install pyarrow"):
        check_set_format("parquet")


# ---- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (["a/b/x.mp4", "x.mp4"], ["a/b/x.npy", "x.npy"]),
        (["x.mp4", "x.avi", "y.mp4"], ["x.mp4.npy", "x.avi.npy", "y.npy"]),
        (["x.mp4", "x.avi", "x.avi.mp4"], ["x.mp4.npy", "x.avi.npy", "x.avi.mp4.npy"]),
        (["x.mp4", "x"], ["x.mp4.npy", "x.npy"]),
        (["/data/x.mp4", "../../y.mp4", "a/../../z.mp4"], ["data/x.npy", "y.npy", "z.npy"]),
        (["v1.5", "clip.MP4"], ["v1.5.npy", "clip.npy"]),
        (["x.mp4", "./x.mp4", "x.mp4"], ["x.npy"]),
    ],
)
def test_names_of_a_list(names, files, tmp_path):
    records = [Record(path=os.path.join("/data", name), name=name) for name in names]
    assert [item.file for item in plan_files(records, tmp_path / "list.txt")] == files


def test_two_videos_never_share_a_file():
    records = [Record(path=path, name=path) for path in ("/a/x.mp4", "a/x.mp4")]
    with pytest.raises(DataError, match=r"/a/x\.mp4 and a/x\.mp4"):
        plan_files(records, "list.txt")


def test_names_of_a_folder_and_of_a_video(tiny_recipe, motion_set):
    data = load_config(tiny_recipe("tsn")).data
    items = plan_files(find_records(motion_set / "test", data), motion_set / "test")
    assert {item.file for item in items} == {
        str(path.relative_to(motion_set / "test").with_suffix(".npy")) for path in (motion_set / "test").rglob("*.mp4")
    }
    (item,) = plan_files(find_records(items[0].record.path, data), items[0].record.path)
    assert item.file == Path(items[0].file).name


def test_looking_for_100000_files_takes_seconds(tmp_path):
    records = [Record(path=f"{i % 1000}/{i}.mp4", name=f"{i % 1000}/{i}.mp4") for i in range(100_000)]
    started = time.perf_counter()
    items = plan_files(records, "list.txt")
    for item in items[::50]:
        path = tmp_path / item.file
        path.parent.mkdir(exist_ok=True)
        write_features(path, np.zeros((1, D), np.float32))
    assert len(find_done(tmp_path, items, items)) == 2000
    assert time.perf_counter() - started < 20


def test_features_are_written_whole_or_not_at_all(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/x\.npy: cannot be written"):
        write_features(tmp_path / "file" / "x.npy", np.zeros((1, 3), np.float32))
