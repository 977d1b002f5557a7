"""Class names go with the lists into the run, its weights and checkpoints, and from there into what is exported."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from pathlib import Path

import pytest

from paddlevid import build
from paddlevid.config import load_config
from paddlevid.data.annotations import read_list
from paddlevid.deploy.manifest import make_manifest, read_manifest
from paddlevid.errors import DataError
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


def test_names_travel_from_folders_to_the_exported_model(
    class_folders, tiny_recipe, tmp_path, run_main, run_tool, capsys
):
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
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(tmp_path / "lists" / "valid.txt", other)
    (other / "class_names.txt").write_text("\n".join(NAMES[::-1]))
    resumed = [*train, "--validate", "--resume", "--max_iters", 2]
    assert run_main(*resumed, "-o", f"valid.list={other / 'valid.txt'}") == 2
    assert "number the classes differently" in capsys.readouterr().err
    assert run_main(*resumed) == 0
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


def test_lists_and_weights_that_number_classes_differently(motion_set, tiny_recipe, tmp_path, run_main, capsys):
    """They are refused, until a file of names is chosen; then labels by name are numbered by it in all lists."""
    for folder, names in (("a", NAMES), ("b", NAMES[::-1])):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "class_names.txt").write_text("\n".join(names))
        for split in ("train", "valid"):
            records = read_list(motion_set / f"{split}.txt", format="video", root=motion_set)
            rows = "".join(f'{record.path},"{NAMES[record.label]}"\n' for record in records)
            (tmp_path / folder / f"{split}.csv").write_text(f"path,label\n{rows}")
    recipe, learned = tiny_recipe(), tmp_path / "a" / "train.csv"

    def options(folder):
        names = ["data.class_names=null", f"train.list={learned}"]
        return names + [f"{split}.list={tmp_path / folder / 'valid.csv'}" for split in ("valid", "test")]

    def refused(overrides, *arguments):
        assert run_main("-c", recipe, *arguments, *(word for text in overrides for word in ("-o", text))) == 2
        return capsys.readouterr().err

    places = [str(tmp_path / folder / "class_names.txt") for folder in "ab"]
    error = refused(options("b"), "--validate")
    assert error.count("\n") == 1
    assert f"{places[0]} and {places[1]} number the classes differently" in error
    assert "data.class_names" in error
    (tmp_path / "weights.pdparams").touch()
    (tmp_path / "class_names.txt").write_text("\n".join(NAMES[::-1]))
    error = refused(options("a"), "--test", "-w", tmp_path / "weights.pdparams")
    assert f"{tmp_path / 'class_names.txt'} and {places[0]} number the classes differently" in error
    with pytest.raises(DataError, match="number the classes differently"):
        make_manifest(load_config(recipe, options("a")), version="", weights=tmp_path / "weights.pdparams")

    labels = [record.label for record in read_list(motion_set / "valid.txt", format="video")]

    def numbered(cfg, **arguments):
        return [record.label for record in build.build_eval_dataset(cfg, cfg.test, **arguments).records]

    assert numbered(load_config(recipe, [*options("b")[1:], f"data.class_names={places[0]}"])) == labels
    Path(places[1]).unlink()
    cfg = load_config(recipe, options("b"))
    assert numbered(cfg) == labels
    assert numbered(cfg, weights=tmp_path / "weights.pdparams") == [7 - label for label in labels]


def test_a_resumed_run_tells_of_classes_that_have_got_other_names(caplog, monkeypatch):
    monkeypatch.setattr(logger, "propagate", True)
    assert names_to_go_on_with(["a", "b"], ["a", "b"]) == ["a", "b"]
    assert names_to_go_on_with(["a", "b"], ["0", "1"]) == ["a", "b"]
    assert names_to_go_on_with([], ["a", "b"]) == ["a", "b"]  # of a checkpoint from before there were names
    assert caplog.messages == []
    assert names_to_go_on_with(["a", "b"], ["a", "c"]) == ["a", "c"]
    assert caplog.messages[0].startswith("warning: class 1 is named 'c', in the run to resume 'b'")
