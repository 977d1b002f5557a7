from __future__ import annotations

import json
from pathlib import Path

import pytest

from paddlevid.data.class_names import read_class_names
from paddlevid.errors import DataError


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_source_is_a_shipped_list_or_a_file(tmp_path):
    assert read_class_names("kinetics400", 400)[5] == "archery"
    file = write(tmp_path / "names.txt", "\ufeffto jump\n\nsauter à la corde\n")
    assert read_class_names(str(file), 2) == ["to jump", "sauter à la corde"]
    with pytest.raises(DataError, match=r"400 names for data\.num_classes 2"):
        read_class_names("kinetics400", 2)
    with pytest.raises(DataError, match="no_such_list"):
        read_class_names("no_such_list", 2)


def test_names_lie_beside_the_weights_then_in_the_checkpoint_then_beside_the_list(tmp_path):
    weights = write(tmp_path / "step_1" / "model.pdparams", "")
    places = {"weights": weights, "train_list": tmp_path / "lists" / "train.txt"}
    assert read_class_names(None, 2, **places) == ["0", "1"]
    write(tmp_path / "lists" / "class_names.txt", "of\nlist\n")
    assert read_class_names(None, 2, **places) == ["of", "list"]
    write(tmp_path / "step_1" / "state.json", json.dumps({"step": 1}))  # an older checkpoint
    assert read_class_names(None, 2, **places) == ["of", "list"]
    write(tmp_path / "step_1" / "state.json", json.dumps({"class_names": ["of", "checkpoint"]}))
    assert read_class_names(None, 2, **places) == ["of", "checkpoint"]
    write(tmp_path / "step_1" / "class_names.txt", "of\nweights\n")
    assert read_class_names(None, 2, **places) == ["of", "weights"]
    assert read_class_names(None, 2, **{**places, "weights": weights.parent}) == ["of", "weights"]
    assert read_class_names(None, 2, **{**places, "weights": "timesformer_k400"}) == ["of", "list"]
    assert read_class_names("ucf101", 101, **places)[0] == "ApplyEyeMakeup"


def test_a_list_of_other_names_is_an_error(tmp_path):
    learned, scored = tmp_path / "a" / "train.txt", tmp_path / "b" / "valid.txt"
    write(learned.with_name("class_names.txt"), "run\nwalk\n")
    assert read_class_names(None, 2, train_list=learned, list_path=scored) == ["run", "walk"]
    beside = write(scored.with_name("class_names.txt"), "run\n\nwalk\n")
    assert read_class_names(None, 2, train_list=learned, list_path=scored) == ["run", "walk"]
    beside.write_text("walk\nrun\n")
    assert read_class_names(None, 2, list_path=scored) == ["walk", "run"]
    what = r"a/class_names\.txt and .*b/class_names\.txt number the classes differently \(class 0 is 'run' and 'walk'\)"
    with pytest.raises(DataError, match=rf"{what}: .*data\.class_names"):
        read_class_names(None, 2, train_list=learned, list_path=scored)
    assert read_class_names(str(beside), 2, train_list=learned, list_path=scored) == ["walk", "run"]
    beside.write_text("run\nwalk\nfly\n")
    with pytest.raises(DataError, match=r"differently \(2 and 3 names\)"):
        read_class_names(None, 2, train_list=learned, list_path=scored)
    # What is tested tells, not the list of the recipe
    state = write(tmp_path / "step_1" / "state.json", json.dumps({"class_names": ["run", "walk", "fly"]}))
    assert read_class_names(None, 3, weights=state.parent, train_list=learned, list_path=scored)[2] == "fly"
    state.write_text(json.dumps({"class_names": ["fly", "walk", "run"]}))
    with pytest.raises(DataError, match=r"state\.json and .*b/class_names\.txt number .* 'fly' and 'run'"):
        read_class_names(None, 3, weights=state.parent, train_list=learned, list_path=scored)


def test_names_of_a_folder_of_shards_lie_in_it(tmp_path):
    write(tmp_path / "shards" / "class_names.txt", "run\nwalk\n")
    assert read_class_names(None, 2, list_path=tmp_path / "shards") == ["run", "walk"]


def test_a_name_of_several_classes_is_an_error(tmp_path):
    twice = write(tmp_path / "class_names.txt", "run\nwalk\nrun\n")
    for options in ({"list_path": tmp_path / "train.txt"}, {"weights": tmp_path}):
        with pytest.raises(DataError, match=rf"{twice}: 2 classes are named 'run'"):
            read_class_names(None, 3, **options)
    with pytest.raises(DataError, match="2 classes are named 'run'"):
        read_class_names(str(twice), 3)


def test_a_found_file_with_another_number_of_names_is_an_error(tmp_path):
    found = write(tmp_path / "class_names.txt", "one\ntwo\nthree\n")
    with pytest.raises(DataError, match=rf"{found}: 3 class names for data\.num_classes 2; .* data\.num_classes=3"):
        read_class_names(None, 2, list_path=tmp_path / "train.txt")
    found.write_text("\n")
    with pytest.raises(DataError, match="holds no class names"):
        read_class_names(None, 2, list_path=tmp_path / "train.txt")
    found.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="cannot read these class names"):
        read_class_names(None, 2, list_path=tmp_path / "train.txt")
