"""Every runtime gives the answers of the model, and `auto` takes the fastest of those that do."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import paddle
import pytest
from conftest import ROOT

from paddlevid import build
from paddlevid.data.records import Record
from paddlevid.deploy import runtimes
from paddlevid.deploy.graphs import check_precisions
from paddlevid.deploy.manifest import ModelFiles, read_manifest, write_manifest
from paddlevid.deploy.predictor import Predictor
from paddlevid.deploy.runtimes import ENGINES, choices, open_files, open_runtime
from paddlevid.deploy.runtimes.open_vino import has_bf16
from paddlevid.deploy.runtimes.trial import fastest
from paddlevid.errors import ConfigError, DataError, ExportError
from paddlevid.models.tsm import OnlineTSM

NAMES = ["tsm", "tsn", "timesformer"]
RUNTIMES = ["paddle", "onnxruntime", "openvino"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Nothing is known of which runtime is the fastest."""
    monkeypatch.setenv("PADDLEVID_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def clips(motion_set):
    """Views of a real video, uint8 [5, T, H, W, 3]."""

    def read(exported):
        video = next((motion_set / "test").rglob("*.mp4"))
        views = build.build_views(exported.cfg.data, exported.cfg.test)(Record(path=str(video), name="video"))
        return np.concatenate([views, views[:2, ::-1]])

    return read


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_runtime_gives_logits_and_features_of_the_model(every_format, clips, name, runtime):
    exported = every_format(name)
    run = open_runtime(exported.folder, read_manifest(exported.folder), name=runtime, precision="fp32")
    assert run.name == runtime
    for batch in (1, 5):
        frames = clips(exported)[:batch]
        for actual, expected in zip(run(frames), exported.answers(frames), strict=True):
            assert actual.dtype == np.float32
            np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", NAMES)
def test_an_onnx_file_runs_under_openvino_too(every_format, clips, name):
    exported = every_format(name)
    files = next(m for m in read_manifest(exported.folder).models if (m.graph, m.format) == ("classify", "onnx"))
    frames = clips(exported)
    actual = open_files(exported.folder, files, "openvino")(frames)
    for one, expected in zip(actual, exported.answers(frames), strict=True):
        np.testing.assert_allclose(one, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_online_graph_steps_like_the_model(every_format, clips, runtime):
    exported = every_format("tsm")
    manifest = read_manifest(exported.folder)
    run = open_runtime(exported.folder, manifest, graph="online", name=runtime)
    step = OnlineTSM(exported.model, manifest.data.image_size)
    normalize = build.build_normalize(exported.cfg)
    frames = clips(exported)[:1]
    state, expected_state = np.zeros((1, manifest.state_size), np.float32), paddle.zeros([1, step.state_size])
    for number in range(frames.shape[1]):
        frame = frames[:, number : number + 1]
        logits, _, state = run(frame, state)
        with paddle.no_grad():
            expected, _, expected_state = step(normalize(paddle.to_tensor(frame)).squeeze(1), expected_state)
        np.testing.assert_allclose(logits, expected.numpy(), atol=1e-4 * float(expected.abs().max()))
        np.testing.assert_allclose(state, expected_state.numpy(), atol=1e-4 * float(expected_state.abs().max()))


@pytest.mark.parametrize("name", NAMES)
def test_lower_precisions_are_near(every_format, clips, name):
    exported = every_format(name)
    manifest = read_manifest(exported.folder)
    frames = clips(exported)
    expected, _ = exported.answers(frames)
    lower = [m for m in manifest.models if m.graph == "classify" and m.precision != "fp32"]
    assert {(m.format, m.precision) for m in lower} >= {("onnx", "fp16"), ("openvino", "fp16")}
    for files in lower:
        run = open_files(exported.folder, files, "onnxruntime" if files.format == "onnx" else "openvino")
        largest = np.abs(run(frames)[0] - expected).max() / np.abs(expected).max()
        assert 1e-7 < largest < 0.03, files
        assert files.difference is not None
        assert files.videos == 5
        assert files.same_top1 is not None


def test_an_onnx_file_tells_what_it_is(every_format):
    onnx = pytest.importorskip("onnx")
    exported = every_format("timesformer")
    path = exported.folder / "Net.onnx"
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(path)

    def shape(value):
        return [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]

    assert {value.name: shape(value) for value in model.graph.input} == {"frames": ["batch", 4, 32, 32, 3]}
    assert {value.name: shape(value) for value in model.graph.output} == {
        "logits": ["batch", 8],
        "features": ["batch", 32],
    }
    told = {entry.key: entry.value for entry in model.metadata_props}
    manifest = read_manifest(exported.folder)
    assert told["classes"].split("\n") == list(manifest.class_names)
    assert told["paddlevid_version"] == manifest.paddlevid_version
    assert told["weights_sha256"] == manifest.weights_sha256
    assert (told["num_frames"], told["image_size"]) == ("4", "32")
    assert not {"Identity", "Constant"} & {node.op_type for node in model.graph.node}


@pytest.mark.parametrize("present", [["onnxruntime"], ["openvino"], ["onnxruntime", "openvino"]])
def test_no_paddle_is_needed(every_format, motion_set, present):
    exported = every_format("tsn")
    video = next((motion_set / "test").rglob("*.mp4"))
    expected = Predictor(exported.folder, "paddle").scores(video)
    away = {"paddle", "paddle2onnx", "onnx", "visualdl", "torch", "nncf", "onnxruntime", "openvino"} - set(present)
    script = f"""
import sys
for name in {sorted(away)}:
    sys.modules[name] = None
import paddlevid
predict = paddlevid.Predictor({str(exported.folder)!r}, precision="fp32")
assert predict.runtime.name in {present}
print([float(score) for score in predict.scores({str(video)!r})])
assert predict.features({str(video)!r}).shape == (1, 512)
"""
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    np.testing.assert_allclose(eval(run.stdout), expected, atol=1e-4 * np.abs(expected).max())


def test_the_fastest_is_measured_once_and_remembered():
    runs = {"slow": lambda: time.sleep(0.05), "fast": lambda: time.sleep(0.001)}
    assert fastest(runs, packages=["numpy"], model="m", num_threads=2) == "fast"

    def never():
        raise AssertionError("known already")

    known = {"slow": never, "fast": never}
    assert fastest(known, packages=["numpy"], model="m", num_threads=2) == "fast"
    with pytest.raises(AssertionError, match="known already"):
        fastest(known, packages=["numpy"], model="another", num_threads=2)
    with pytest.raises(AssertionError, match="known already"):
        fastest(known, packages=["numpy"], model="m", num_threads=1)


def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("PADDLEVID_CACHE", str(tmp_path / "file" / "cache"))
    assert fastest({"only": lambda: None}, packages=[], model="m", num_threads=None) == "only"


def described(folder, *models):
    return read_manifest(folder).model_copy(update={"models": models})


def files(form, precision="fp32", same_top1=None, videos=20):
    names = ("x",) if form == "onnx" else ("x", "y")
    return ModelFiles(format=form, precision=precision, files=names, same_top1=same_top1, videos=videos)


def test_auto_takes_only_what_gives_the_best_classes_of_fp32(every_format, monkeypatch):
    folder = every_format("tsn").folder
    monkeypatch.setattr(runtimes, "has_bf16", lambda: True)

    def best(*models):
        manifest = described(folder, *models)
        return choices(manifest, graph="classify", name="auto", precision=None, use_gpu=False)[0].files

    unsure, sure = files("openvino", "bf16", 0.98), files("openvino", "bf16", 0.99)
    assert best(files("onnx"), unsure) == files("onnx")
    assert best(files("onnx"), files("openvino", "bf16")) == files("onnx")
    assert best(files("onnx"), files("openvino", "bf16", 1.0, videos=19)) == files("onnx")
    assert best(files("openvino", "int8", 1.0), files("onnx")) == files("onnx")
    assert best(files("openvino", "int8", 1.0), sure) == sure
    monkeypatch.setattr(runtimes, "has_bf16", lambda: False)
    assert best(files("paddle"), sure) == files("paddle")


def test_auto_opens_what_the_trial_finds(every_format, monkeypatch):
    exported = every_format("tsm")
    models = [m.model_copy(update={"same_top1": 1.0, "videos": 20}) for m in read_manifest(exported.folder).models]
    manifest = described(exported.folder, *models)
    for wanted in ("paddle fp32", "onnxruntime fp32", "openvino fp32", *(["openvino bf16"] if has_bf16() else [])):

        def choose(runs, wanted=wanted, **_):
            assert wanted in runs
            assert set(runs) - {"openvino bf16"} == {"paddle fp32", "onnxruntime fp32", "openvino fp32"}
            runs["paddle fp32"]()
            return wanted

        monkeypatch.setattr(runtimes, "fastest", choose)
        run = open_runtime(exported.folder, manifest)
        assert f"{run.name} {run.precision}" == wanted


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"graph": "online"}, "no online graph; export it with model.online: true"),
        ({"precision": "int8"}, "of which nothing runs here as int8"),
        ({"name": "tensorflow"}, "runtime 'tensorflow' is not one of auto, openvino, onnxruntime, paddle"),
        ({"name": "openvino", "use_gpu": True}, "as openvino on a GPU"),
    ],
)
def test_what_cannot_run_is_told_in_one_line(every_format, asked, message):
    exported = every_format("tsn")
    with pytest.raises(ConfigError, match=message) as caught:
        open_runtime(exported.folder, read_manifest(exported.folder), **asked)
    assert "\n" not in str(caught.value)


def test_a_missing_package_is_named(every_format, monkeypatch):
    folder = every_format("tsn").folder
    for name in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match="pip install openvino or pip install onnxruntime"):
        open_runtime(folder, described(folder, files("onnx")))
    with pytest.raises(ConfigError, match="nothing runs here as int8"):
        open_runtime(folder, described(folder, files("onnx")), precision="int8")
    with pytest.raises(ConfigError, match=r"\(onnx fp32\): pip install onnxruntime; or export"):
        open_runtime(folder, described(folder, files("onnx")), name="onnxruntime")


@pytest.mark.parametrize(("runtime", "suffix"), [("paddle", "json"), ("onnxruntime", "onnx"), ("openvino", "xml")])
@pytest.mark.parametrize("damage", ["missing", "empty", "text", "cut"])
def test_damaged_files_are_one_line(every_format, tmp_path, runtime, suffix, damage):
    folder = tmp_path / "Net"
    shutil.copytree(every_format("tsn").folder, folder)
    graph = folder / f"Net.{suffix}"
    whole = graph.read_bytes()
    graph.unlink()
    if damage != "missing":
        graph.write_bytes({"empty": b"", "text": b"no graph", "cut": whole[: len(whole) // 2]}[damage])
    with pytest.raises(ConfigError, match="Net") as caught:
        Predictor(folder, runtime, precision="fp32")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_frames_of_another_size_are_one_line(every_format, runtime):
    exported = every_format("timesformer")
    run = open_runtime(exported.folder, read_manifest(exported.folder), name=runtime, precision="fp32")
    with pytest.raises(ConfigError, match=r"inputs of \[B\] \+ \[5, 32, 32, 3\]"):
        run(np.zeros((1, 5, 32, 32, 3), np.uint8))


def test_precisions_that_no_format_has_are_refused():
    with pytest.raises(ExportError, match="--precision bf16 needs --format openvino, not paddle onnx"):
        check_precisions(("paddle", "onnx"), ("fp32", "bf16"))
    check_precisions(("paddle", "openvino"), ("fp32", "bf16"))


def test_a_second_export_leaves_nothing_of_the_first(every_format, tmp_path):
    from paddlevid.deploy.export import ExportOptions, export_model

    exported = every_format("tsn")
    folder = tmp_path / "Net"
    shutil.copytree(exported.folder, folder)
    (folder / "notes.txt").write_text("the user's own")
    weights = exported.folder.parent.parent / "weights.pdparams"
    export_model(exported.cfg, weights, folder, ExportOptions(formats=("onnx",)))
    assert {path.name for path in folder.iterdir()} == {"Net.onnx", "inference.yml", "notes.txt"}


def test_videos_are_read_ahead_in_order_and_a_broken_one_is_named(every_format, motion_set, tmp_path):
    exported = every_format("tsn")
    videos = sorted((motion_set / "test").rglob("*.mp4"))
    many = [videos[number % len(videos)] for number in range(64)]
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(videos[0].read_bytes()[:300])
    many[40] = broken
    predict = Predictor(exported.folder, "onnxruntime", batch_size=8, num_readers=3)
    results = list(predict.predict_many(iter(many), top_k=2))
    assert [video for video, _ in results] == many
    assert [number for number, (_, found) in enumerate(results) if isinstance(found, DataError)] == [40]
    assert "broken.mp4" in str(results[40][1])
    alone = {video: predict(video, top_k=2) for video in videos}
    for video, found in results:
        if video != broken:
            assert [p.label for p in found] == [p.label for p in alone[video]]
            assert [p.score for p in found] == pytest.approx([p.score for p in alone[video]], rel=1e-4)


def test_reading_ahead_is_bounded_and_ends_with_its_caller(every_format, motion_set):
    predict = Predictor(every_format("tsn").folder, "onnxruntime", batch_size=3, num_readers=2)
    video = next((motion_set / "test").rglob("*.mp4"))
    asked = []

    def videos():
        for number in range(100):
            asked.append(number)
            yield video

    ahead = predict.read_ahead(videos())
    next(ahead)
    assert len(asked) == 3  # two readers and one run of three views
    ahead.close()
    assert len(asked) == 3


def test_engines_and_names_agree():
    assert {name: engine.open.name for name, engine in ENGINES.items()} == {name: name for name in ENGINES}


def test_a_manifest_survives_the_disk(every_format, tmp_path):
    manifest = read_manifest(every_format("tsm").folder)
    write_manifest(manifest, tmp_path)
    assert read_manifest(tmp_path) == manifest
    assert manifest.state_size > 0
    assert manifest.has("online")
    assert manifest.has("explain")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_two_graphs_run_from_threads_that_come_and_go(every_format, clips, runtime):
    exported = every_format("timesformer")
    manifest = read_manifest(exported.folder)
    graphs = ("classify", "explain")
    opened = [open_runtime(exported.folder, manifest, graph=graph, name=runtime, precision="fp32") for graph in graphs]
    frames = clips(exported)[:2]
    expected, _ = exported.answers(frames)
    wrong = []

    def run():
        for one in opened:
            try:
                np.testing.assert_allclose(one(frames)[0], expected, atol=1e-4 * np.abs(expected).max())
            except Exception as error:
                wrong.append(error)

    for _ in range(40):
        threads = [threading.Thread(target=run) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_openvino_runs_the_weights_that_it_is_given(every_format, clips, tmp_path):
    exported = every_format("tsn")
    weights = (exported.folder / "Net.bin").read_bytes()
    head = exported.model.head.weight.numpy().tobytes()
    assert weights.count(head) == 1
    (tmp_path / "other.bin").write_bytes(weights.replace(head, bytes(len(head))))
    run = ENGINES["openvino"].open(exported.folder / "Net.xml", tmp_path / "other.bin")
    logits, _ = run(clips(exported)[:1])
    np.testing.assert_allclose(logits[0], exported.model.head.bias.numpy(), atol=1e-6)


@pytest.mark.parametrize("known", [["x"], {"a": 1}, 7, None])
def test_a_cache_of_garbage_is_measured_anew(tmp_path, known):
    import json

    runs = {"one": lambda: None}
    assert fastest(runs, packages=[], model="m", num_threads=None) == "one"
    path = tmp_path / "cache" / "runtimes.json"
    (key,) = json.loads(path.read_text())
    for text in (json.dumps({key: known}), "[" * 100_000, "no json"):
        path.write_text(text)
        assert fastest(runs, packages=[], model="m", num_threads=None) == "one"


@pytest.mark.parametrize(
    "options", [{"batch_size": 0}, {"num_readers": -1}, {"num_threads": 0}, {"num_threads": 10**6}]
)
def test_numbers_out_of_range_are_refused(every_format, options):
    with pytest.raises(ConfigError):
        Predictor(every_format("tsn").folder, "onnxruntime", **options)
