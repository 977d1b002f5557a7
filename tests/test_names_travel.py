"""Class names go with the lists into the run, its weights and checkpoints, and from there into what is exported."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from pathlib import Path

import pytest

from paddlevid.data.annotations import read_list
from paddlevid.deploy.manifest import read_manifest
from paddlevid.runtime import logger
from paddlevid.training.resume import names_to_go_on_with

NAMES = [f"turning {label}, slowly" for label in range(8)]


@pytest.fixture
def class_folders(motion_set, tmp_path):
    """The motion set as people have their own videos: a folder for each class."""
    root = tmp_path / "my clips"
    for split in ("train", "valid"):
        for record in read_list(motion_set / f"{split}.txt", format="video", root=motion_set):
            target = root / NAMES[record.label] / f"{split} {Path(record.name).name}"
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(record.path, target)
    return root


def test_names_travel_from_folders_to_the_exported_model(class_folders, tiny_recipe, tmp_path, run_main, run_tool):
    code, out, _ = run_tool("prepare_folder", class_folders, "--valid_share", "0.3", "--output", tmp_path / "lists")
    assert code == 0
    words = shlex.split(out.splitlines()[-1])
    assert words[2:4] == ["-c", "configs/timesformer_ucf101.yaml"]
    places = [place for place, word in enumerate(words) if word == "-o"]
    options = [word for place in places for word in words[place : place + 2] if "output_dir" not in words[place + 1]]
    train = ["-c", tiny_recipe(), *options, "-o", f"output_dir={tmp_path / 'run'}"]
    assert run_main(*train, "--validate", "--max_iters", 1) == 0
    assert (tmp_path / "run" / "class_names.txt").read_text().splitlines() == NAMES
    (state,) = (tmp_path / "run" / "checkpoints").glob("*/state.json")
    assert json.loads(state.read_text())["class_names"] == NAMES

    # A run that goes on where there are no names any more keeps those that it had
    (tmp_path / "lists" / "class_names.txt").unlink()
    (tmp_path / "run" / "class_names.txt").unlink()
    assert run_main(*train, "--validate", "--resume", "--max_iters", 2) == 0
    assert (tmp_path / "run" / "class_names.txt").read_text().splitlines() == NAMES

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("best.pdparams", "class_names.txt"):
        shutil.copy(tmp_path / "run" / name, elsewhere)
    config = tmp_path / "run" / "config.yaml"
    assert (
        run_tool("export_model", "-c", config, "-p", elsewhere / "best.pdparams", "-o", tmp_path / "exported")[0] == 0
    )
    assert list(read_manifest(tmp_path / "exported").class_names) == NAMES
    checkpoint = max((tmp_path / "run" / "checkpoints").glob("step_*"))
    assert run_main("--test", *train, "-w", checkpoint / "model.pdparams") == 0
    rows = (tmp_path / "run" / "test_predictions.csv").read_text().splitlines()
    assert sum(any(name in row for name in NAMES) for row in rows) == len(rows) - 1 > 7

    (elsewhere / "class_names.txt").write_text("\n".join(NAMES[:7]))
    export = ("-c", config, "-p", elsewhere / "best.pdparams", "-o", tmp_path / "exported")
    code, _, err = run_tool("export_model", *export)
    assert (code, err.count("\n")) == (2, 1)
    assert f"{elsewhere / 'class_names.txt'}: 7 class names for data.num_classes 8" in err


def test_a_resumed_run_tells_of_classes_that_have_got_other_names(caplog, monkeypatch):
    monkeypatch.setattr(logger, "propagate", True)
    assert names_to_go_on_with(["a", "b"], ["a", "b"]) == ["a", "b"]
    assert names_to_go_on_with(["a", "b"], ["0", "1"]) == ["a", "b"]
    assert names_to_go_on_with([], ["a", "b"]) == ["a", "b"]  # of a checkpoint from before there were names
    assert caplog.messages == []
    assert names_to_go_on_with(["a", "b"], ["a", "c"]) == ["a", "c"]
    assert caplog.messages[0].startswith("warning: class 1 is named 'c', in the run to resume 'b'")
