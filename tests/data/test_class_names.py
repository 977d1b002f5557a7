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
    places = {"weights": weights, "list_path": tmp_path / "lists" / "train.txt"}
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
