"""tools/doctor.py: what is wrong is found and told, on broken installations, with wrong lists and with odd videos."""

import argparse
import dataclasses
import importlib
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from paddlevid import build
from paddlevid.config import load_config
from paddlevid.doctor import decoders, environment, lists, videos, weights
from paddlevid.doctor.findings import Finding
from paddlevid.schema.data import FlowConfig

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def cfg(tiny_recipe):
    return load_config(tiny_recipe())


def by_status(findings):
    return {(finding.status, finding.what): finding.found for finding in findings}


def test_a_good_recipe(run_tool, tiny_recipe, motion_set, tmp_path):
    arguments = ["-c", tiny_recipe(), "--duplicates", "--json", tmp_path / "told.json", "-o", "train.num_workers=1"]
    code, out, err = run_tool("doctor", *arguments, "-o", f"data.root={motion_set}")
    told = json.loads((tmp_path / "told.json").read_text())["sections"]
    assert list(told) == ["recipe", "environment", "decoders", "lists", "videos"]
    found = {
        (section, finding["what"]): (finding["status"], finding["found"])
        for section, findings in told.items()
        for finding in reversed(findings)
    }
    assert found["lists", "train"] == ("ok", "16 videos, 8 of 8 classes")
    assert found["lists", "valid files"] == ("ok", "7 files, all there")
    assert found["lists", "overlap"][0] == found["lists", "copies"][0] == "ok"
    assert found["videos", "sizes"] == ("ok", "64 x 64 pixels")
    assert found["videos", "lengths"][0] == "ok"
    assert found["decoders", "pyav"][0] == "ok"
    assert found["environment", "paddle"][0] == "ok"
    assert (code, "\n0 errors, " in out, err) == (0, True, "")


def stub_paddle(folder: Path, content: str, monkeypatch) -> list[Finding]:
    """What is told of a package `paddle` with this content."""
    (folder / "paddle").mkdir(exist_ok=True)
    (folder / "paddle" / "__init__.py").write_text(content)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return list(environment.check_paddle(wants_gpu=False))


def test_paddle_that_is_missing_or_broken(tmp_path, monkeypatch):
    (finding,) = stub_paddle(tmp_path, "raise ModuleNotFoundError(\"No module named 'paddle'\")", monkeypatch)
    assert finding[:3] == ("error", "paddle", "not installed")
    assert "pip install" in finding.advice
    (finding,) = stub_paddle(tmp_path, "raise ImportError('libcudart.so.12: cannot open')", monkeypatch)
    assert finding[:3] == ("error", "paddle", "broken: ImportError: libcudart.so.12: cannot open")
    (finding,) = stub_paddle(tmp_path, "import os; os.kill(os.getpid(), 11)", monkeypatch)
    assert finding[:3] == ("error", "paddle", "broken: its process ended with code -11")


def test_the_doctor_needs_no_paddle(tmp_path, tiny_recipe):
    (tmp_path / "stub" / "paddle").mkdir(parents=True)
    (tmp_path / "stub" / "paddle" / "__init__.py").write_text("raise ModuleNotFoundError('none', name='paddle')")
    run = subprocess.run(
        [sys.executable, "tools/doctor.py", "-c", tiny_recipe(), "-w", tmp_path / "w.pdparams", "--videos", "3"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "stub")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (1, "")
    assert "\n  error    paddle            broken: ModuleNotFoundError: none\n" in run.stdout
    assert "3 of 3 videos of a sample can be read" in run.stdout
    assert "\n  error    weights           cannot be looked at: none\n" in run.stdout


def test_gpus_that_a_recipe_asks_for(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert environment._without_gpu(compiled_with_cuda=False, wants_gpu=False).status == "ok"
    assert environment._without_gpu(compiled_with_cuda=False, wants_gpu=True).status == "error"
    assert environment._without_gpu(compiled_with_cuda=True, wants_gpu=False).status == "warning"
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert environment._without_gpu(compiled_with_cuda=False, wants_gpu=False).status == "warning"


def test_limits_of_containers(tmp_path):
    assert environment.cpu_limit(tmp_path) is environment.memory_limit(tmp_path) is None
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "memory.max").write_text("4294967296\n")
    assert (environment.cpu_limit(tmp_path), environment.memory_limit(tmp_path)) == (1.5, 2**32)
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert environment.cpu_limit(tmp_path) is environment.memory_limit(tmp_path) is None
    older = tmp_path / "older"
    (older / "cpu").mkdir(parents=True)
    (older / "cpu" / "cpu.cfs_quota_us").write_text("50000\n")
    (older / "cpu" / "cpu.cfs_period_us").write_text("25000\n")
    assert environment.cpu_limit(older) == 2.0


def test_a_decoder_that_gives_other_frames(monkeypatch):
    monkeypatch.setattr(decoders, "INDICES", decoders.INDICES[::-1])  # not in the process that reads
    found = {finding.what: finding for finding in decoders.check_decoders("decord")}
    assert (found["decord"].status, found["pyav"].status) == ("error", "warning")
    assert "other frames than those of decoding in order" in found["pyav"].found


@pytest.fixture
def write_lists(cfg, tmp_path):
    """`write_lists(train="a.mp4 0\\n...")` -> the recipe with these lists and the folder of them, and the lists."""

    def write(num_classes=8, **contents):
        changes = {}
        for split, content in contents.items():
            (tmp_path / f"{split}.txt").write_text(content)
            changes[split] = getattr(cfg, split).model_copy(update={"list": str(tmp_path / f"{split}.txt")})
        data = cfg.data.model_copy(update={"root": str(tmp_path), "num_classes": num_classes})
        changed = cfg.model_copy(update={"valid": None, "test": None, "data": data, **changes})
        found: lists.Lists = {}
        assert not list(lists.read_lists(changed, found))
        return changed, found

    return write


def test_lists_that_cannot_be_read(cfg, tmp_path):
    broken = cfg.model_copy(update={"train": cfg.train.model_copy(update={"list": str(tmp_path / "none.txt")})})
    found: lists.Lists = {}
    (finding,) = lists.read_lists(broken, found)
    assert finding[:2] == ("error", "train")
    assert "cannot read this list" in finding.found
    assert list(found) == ["valid", "test"]


NAMES = list("abcdefgh")


def test_lists_that_number_classes_differently(cfg, tmp_path):
    """Told once, whether labels are numbers, as in test, or names, as in valid."""
    data = cfg.data.model_copy(update={"class_names": None})
    splits = {}
    contents = {"train": "x.mp4 0\n", "valid": "path,label\ny.mp4,a\n", "test": "z.mp4 0\n"}
    for split, content in contents.items():
        (tmp_path / split).mkdir()
        (tmp_path / split / "list.csv").write_text(content)
        names = NAMES if split == "train" else NAMES[::-1]
        (tmp_path / split / "class_names.txt").write_text("\n".join(names))
        splits[split] = getattr(cfg, split).model_copy(update={"list": str(tmp_path / split / "list.csv")})
    changed, found = cfg.model_copy(update={"data": data, **splits}), {}
    told = list(lists.read_lists(changed, found))
    assert [finding[:2] for finding in told] == [("error", "class names")] * 2
    for finding, split in zip(told, ("valid", "test"), strict=True):
        assert f"{tmp_path}/train/class_names.txt and {tmp_path}/{split}/class_names.txt number" in finding.found
    explicit = data.model_copy(update={"class_names": str(tmp_path / "train" / "class_names.txt")})
    assert list(lists.read_lists(changed.model_copy(update={"data": explicit}), found)) == []
    assert found["valid"][0].label == 0


def test_classes(write_lists):
    learned = "".join(f"{label}_{number}.mp4 {label}\n" for label in (0, 1, 2, 5, 6, 7) for number in range(5))
    cfg, found = write_lists(train=learned + "x.mp4 3\n" + "y.mp4 0\n" * 200, valid="v.mp4 4\nw.mp4 0\n")
    told = by_status(lists.check_classes(cfg, found, NAMES))
    assert set(told) == {("warning", "train"), ("warning", "valid")}  # of several, the last
    texts = [finding.found for finding in lists.check_classes(cfg, found, NAMES)]
    assert texts == [
        "231 videos, 7 of 8 classes; without a video: 4 (e)",
        "classes with fewer than 5 videos, 1: 3 (d)",
        "the largest class has 205 videos, the smallest 1",
        "2 videos, 2 of 8 classes, 1 of them not in the training list: 4 (e)",
    ]


def test_a_list_of_fewer_classes(write_lists):
    cfg, found = write_lists(train="a.mp4 0\nb.mp4 1\n" * 5)
    (finding,) = lists.check_classes(cfg, found, NAMES)
    assert finding == Finding(
        "warning",
        "train",
        "10 videos, 2 of 8 classes: labels end at 1",
        "is it a list of fewer classes? -o data.num_classes=2",
    )


def test_missing_files(write_lists, tmp_path):
    for number in range(10):
        (tmp_path / f"{number}.mp4").touch()
    there = "".join(f"{number}.mp4 0\n" for number in range(10))
    cfg, found = write_lists(train=there + "gone.mp4 0\n", valid=there + "gone.mp4 0\n", test="gone.mp4 1\n")
    told = by_status(lists.check_missing(cfg, found, look_at_all=False))
    assert told == {
        ("warning", "train files"): f"11 files: 1 missing, such as {tmp_path}/gone.mp4",  # one always may be
        ("warning", "valid files"): f"11 files: 1 missing, such as {tmp_path}/gone.mp4",
        ("error", "test files"): f"1 files: 1 missing, such as {tmp_path}/gone.mp4",
    }
    cfg, found = write_lists(train=there + "gone.mp4 0\nlost.mp4 0\n")
    (finding,) = lists.check_missing(cfg, found, look_at_all=False)
    assert finding[:3] == ("error", "train files", f"12 files: 2 missing, such as {tmp_path}/gone.mp4")
    assert "training would end" in finding.advice


def test_long_lists_are_sampled(write_lists, tmp_path, monkeypatch):
    monkeypatch.setattr(lists, "MAX_STATS", 3)
    cfg, found = write_lists(train="gone.mp4 0\n" * 10)
    (sampled,) = lists.check_missing(cfg, found, look_at_all=False)
    (whole,) = lists.check_missing(cfg, found, look_at_all=True)
    assert sampled.found.startswith("3 of 10 files looked for (--all for all): 3 missing")
    assert whole.found.startswith("10 files: 10 missing")


def test_videos_that_come_twice(write_lists):
    cfg, found = write_lists(
        train="a.mp4 0\nb.mp4 1\n./b.mp4 1\nc.mp4 2\nc.mp4 3\n", valid="x.mp4 1\n", test="c.mp4 2\n./a.mp4 0\ny.mp4 1\n"
    )
    told = list(lists.check_repeats(cfg, found))
    root = cfg.data.root
    assert [finding[:3] for finding in told] == [
        ("error", "train", f"1 with several labels: {root}/c.mp4"),
        ("error", "test", f"2 also in the training list: {root}/a.mp4, {root}/c.mp4"),
    ]
    cfg, found = write_lists(train="a.mp4 0\na.mp4 0\n", valid="b.mp4 1\n")
    told = by_status(lists.check_repeats(cfg, found))
    assert told["warning", "train"] == f"1 more than once: {root}/a.mp4"
    assert told["ok", "overlap"] == "no video of the other lists is in the training list"


def test_copies_under_other_names(write_lists, tmp_path):
    contents = {"a": b"x" * 100, "b": b"y" * 100, "c": b"x" * 100, "d": b"x" * 101, "e": b"", "f": b"", "g": b"y" * 100}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    _, found = write_lists(train="a 0\nb 1\nc 0\nd 1\ne 0\nf 0\ngone 1\n", valid="g 1\nd 1\n")
    told = list(lists.check_copies(found))
    assert [finding[:3] for finding in told] == [
        ("warning", "train", f"1 with copies under other names: {tmp_path}/a = {tmp_path}/c"),
        ("error", "valid", f"1 with copies in the training list: {tmp_path}/g = {tmp_path}/b"),
    ]
    _, found = write_lists(train="a 0\nb 1\n", valid="d 1\n")
    (finding,) = lists.check_copies(found)
    assert finding[:3] == ("ok", "copies", "no two of 3 videos have the same content")


def test_names_of_classes(cfg):
    assert "8: a, b, c and 5 more" in lists.check_class_names(cfg, NAMES).found
    assert lists.check_class_names(cfg, [str(label) for label in range(8)]).found.startswith("none: ")


def test_videos_that_are_small_short_or_broken(cfg, motion_set, tmp_path):
    found: lists.Lists = {}
    list(lists.read_lists(cfg, found))
    records = list(found["train"][:3])
    (tmp_path / "text.mp4").write_text("no video" * 100)
    records.insert(1, dataclasses.replace(records[0], path=str(tmp_path / "text.mp4")))
    data = cfg.data.model_copy(update={"image_size": 128, "num_frames": 99})
    changed = cfg.model_copy(update={"data": data, "train": cfg.train.model_copy(update={"num_workers": 999})})
    told = by_status(videos.check_videos(changed, records))
    assert told["warning", "videos"].startswith(f"3 of 4 videos of a sample can be read; {tmp_path}/text.mp4: ")
    assert told["warning", "sizes"] == "64 x 64 pixels; 3 of 3 have a side below data.image_size 128"
    assert "3 of 3 are shorter than the 99 frames of a clip" in told["warning", "lengths"]
    assert told["warning", "workers"].startswith("train.num_workers is 999, for ")
    told = by_status(videos.check_videos(cfg, records[1:2]))
    assert list(told) == [("error", "videos")]


def test_segments_are_of_the_whole_video(cfg, motion_set):
    found: lists.Lists = {}
    list(lists.read_lists(cfg, found))
    told = by_status(videos.check_videos(cfg, found["train"][:1]))
    assert told["ok", "lengths"].endswith("; a clip takes 4 frames of 32 x 32, segment sampling, from all over a video")
    data = type(cfg.data).model_validate({**cfg.data.model_dump(), "sampling": {"kind": "dense", "window": 7}})
    told = by_status(videos.check_videos(cfg.model_copy(update={"data": data}), found["train"][:1]))
    assert told["ok", "lengths"].endswith(" frames; a clip takes 4 frames of 32 x 32, dense sampling, which span 7")


def test_how_long_a_clip_is(cfg):
    sampling = {"kind": "clip", "rate": 32, "target_fps": 30.0}
    data = type(cfg.data).model_validate({**cfg.data.model_dump(), "sampling": sampling, "num_frames": 8})
    assert videos.frames_needed(data, fps=15.0) == 8 * 32 / 2
    dense = type(cfg.data).model_validate({**cfg.data.model_dump(), "sampling": {"kind": "dense", "window": 64}})
    assert videos.frames_needed(dense, fps=15.0) == 64
    assert videos.frames_needed(cfg.data, fps=15.0) == cfg.data.num_frames
    # Segments that begin one frame apart: 0 1 2, 1 2 3, 2 3 4, 3 4 5
    assert videos.frames_needed(cfg.data.model_copy(update=flow_of(3)), fps=15.0) == 6
    assert videos.frames_needed(dense.model_copy(update=flow_of(3)), fps=15.0) == 66


def flow_of(length, **more):
    changes = {"modality": "flow", "snippet_length": length, "mean": (0.5, 0.5), "std": (0.226, 0.226)}
    return {**changes, "flow": FlowConfig(algorithm="dis", bound=4.0), **more}


@pytest.fixture
def flow_set(cfg, tmp_path):
    """A recipe of six folders of forty stored flows, the lists of it, and the folder of all."""
    for number in range(6):
        (tmp_path / f"v{number}").mkdir()
        for axis, flow in itertools.product("xy", range(1, 41)):
            cv2.imwrite(str(tmp_path / f"v{number}" / f"flow_{axis}_{flow:05d}.jpg"), np.full((40, 40), 128, np.uint8))
    note = {"algorithm": "dis", "bound": 4.0, "short_side": None, "warp": False, "template": "flow_{axis}_{:05d}.jpg"}
    (tmp_path / "flow.json").write_text(json.dumps(note))
    (tmp_path / "train.txt").write_text("".join(f"v{number} 40 {number}\n" for number in range(6)))
    data = cfg.data.model_copy(update=flow_of(3, format="flow", root=str(tmp_path), class_names=None))
    train = cfg.train.model_copy(update={"list": str(tmp_path / "train.txt")})
    changed = cfg.model_copy(update={"data": data, "train": train, "valid": None, "test": None})
    found: lists.Lists = {}
    assert not list(lists.read_lists(changed, found))
    return changed, found, tmp_path


def test_stored_flow_that_is_another_one(flow_set, capsys):
    cfg, found, folder = flow_set
    (finding,) = lists.check_flow(cfg, found)
    assert finding[:3] == ("ok", "train flow", f"that of the recipe, as {folder}/flow.json says")
    other = cfg.model_copy(update={"data": cfg.data.model_copy(update={"flow": FlowConfig(bound=9.0)})})
    (finding,) = lists.check_flow(other, {**found, "valid": found["train"]})
    assert finding[:2] == ("error", "train flow")
    assert finding.found.startswith("data.flow.bound is 9.0, but the flow in ")
    (folder / "flow.json").write_text("[]")
    (finding,) = lists.check_flow(cfg, found)
    assert finding[:2] == ("error", "train flow")
    (folder / "flow.json").unlink()
    (finding,) = lists.check_flow(cfg, found)
    assert finding[:2] == ("warning", "train flow")
    assert "no flow.json above " in finding.found
    assert not list(
        lists.check_flow(cfg.model_copy(update={"data": cfg.data.model_copy(update={"format": "frames"})}), found)
    )
    assert capsys.readouterr().err == ""


def test_the_doctor_on_another_flow(flow_set, monkeypatch, capsys):
    cfg, _, _ = flow_set
    other = cfg.model_copy(update={"data": cfg.data.model_copy(update={"flow": FlowConfig(bound=5.0)})})
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    arguments = argparse.Namespace(all=False, duplicates=False, weights=None, videos=1)
    importlib.import_module("doctor").examine_data(arguments, other, {})
    assert "\n  error    train flow        data.flow.bound is 5.0, but " in capsys.readouterr().out


def test_folders_of_flow_with_gaps(flow_set):
    """A picture that is in no sampled clip is missed all the same; more than one folder with gaps ends a training."""
    cfg, found, folder = flow_set
    told = by_status(videos.check_videos(cfg, found["train"]))
    assert told["ok", "videos"] == "6 of 6 videos of a sample can be read"
    clip = "4 snippets of 3 flows (dis) of 32 x 32, segment sampling"
    assert told["ok", "lengths"] == f"1.33 s, 40 flows; a clip takes {clip}, from all over a video"
    assert f" ms for {clip}: about " in told["ok", "decoding"]
    (folder / "v0" / "flow_y_00040.jpg").unlink()
    told = by_status(videos.check_videos(cfg, found["train"]))
    assert told["warning", "videos"].startswith("5 of 6 videos of a sample can be read; ")
    assert "v0/flow_y_00040.jpg: " in told["warning", "videos"]
    for number in range(1, 6):  # six in a row, of which a snippet holds three at most
        (folder / f"v{number}" / f"flow_x_{10 + number:05d}.jpg").unlink()
    told = by_status(videos.check_videos(cfg, found["train"]))
    assert told["error", "videos"].startswith("0 of 6 videos of a sample can be read; ")


def test_many_videos_of_a_sample_that_cannot_be_read_are_an_error(cfg, motion_set, tmp_path):
    """One always may be, and no more than train.max_bad_share."""
    found: lists.Lists = {}
    list(lists.read_lists(cfg, found))
    records = list(found["train"][:4])
    for index in (1, 2):
        records[index] = dataclasses.replace(records[index], path=str(tmp_path / f"gone{index}.mp4"))
    told = by_status(videos.check_videos(cfg, records))
    assert told["error", "videos"].startswith("2 of 4 videos of a sample can be read; ")
    lax = cfg.model_copy(update={"train": cfg.train.model_copy(update={"max_bad_share": 0.5})})
    assert ("warning", "videos") in by_status(videos.check_videos(lax, records))


def test_weights(cfg, tmp_path):
    from paddlevid.checkpoint import save_weights

    model = build.build_model(cfg)
    save_weights(model, tmp_path / "w.pdparams")
    (finding,) = weights.check_weights(cfg, str(tmp_path / "w.pdparams"))
    assert finding.status == "ok"
    assert finding.found == f"{len(model.state_dict())} tensors fit; 0 of the model stay new"
    (tmp_path / "bad.pdparams").write_bytes(b"no weights")
    (finding,) = weights.check_weights(cfg, str(tmp_path / "bad.pdparams"))
    assert finding.status == "error"


def test_recipes_that_cannot_be_read(run_tool, tiny_recipe):
    code, out, _ = run_tool("doctor", tiny_recipe(), "-o", "data.num_clases=3")
    assert code == 1
    assert "error    recipe" in out
    assert "num_classes" in out
    assert "environment" in out, "the rest is looked at all the same"


def test_disk_speed_is_of_the_files(motion_set, cfg):
    found: lists.Lists = {}
    list(lists.read_lists(cfg, found))
    (finding,) = videos.check_disk_speed(found["train"])
    sizes = [os.path.getsize(record.path) for record in found["train"]]
    assert f"(16 files of {np.mean(sizes) / 1e6:.2g} MB)" in finding.found
