from __future__ import annotations

import json
from pathlib import Path

import pytest
from dataset_trees import command, lines, plant, records, write

from paddlevid.config import load_config

ROOT = Path(__file__).parents[2]
LABELS = {"Holding something next to something": "1", "Putting something on a surface": "0", "Doing nothing": "2"}
TRAIN = [
    {"id": "78687", "label": "holding potato next to bottle", "template": "Holding [something] next to [something]"},
    {"id": "42326", "label": "putting a cup on a surface", "template": "Putting [something] on a surface"},
    {"id": "9", "label": "doing nothing", "template": "Doing nothing"},
]


def annotate(folder: Path, prefix: str, **files: object) -> Path:
    for name, content in files.items():
        write(folder / f"{prefix}{name}.json", json.dumps(content))
    return folder


@pytest.mark.parametrize("prefix", ["something-something-v2-", ""])
def test_lists_of_both_forms_of_the_annotations(prefix, tmp_path, run_tool):
    videos = [f"20bn-something-something-v2/{name}" for name in ("78687.webm", "42326.webm", "74225.mp4", "1420.webm")]
    root = plant(tmp_path / "ssv2", *videos)
    valid = [{"id": "74225", "template": "Putting [something] on a surface", "placeholders": ["a cup"]}]
    annotate(root / "labels", prefix, labels=LABELS, train=TRAIN, validation=valid, test=[{"id": "1420"}])
    code, out, err = run_tool("prepare_ssv2", root, "--check", "none")
    assert (code, err) == (0, "")
    assert records(root / "train.txt", root) == [(videos[0], 1), (videos[1], 0)]
    assert records(root / "valid.txt", root) == [(videos[2], 0)]
    assert lines(root / "test.txt") == [videos[3]]
    assert records(root / "test.txt", root, labelled=False) == [(videos[3], None)]
    names = ["Putting something on a surface", "Holding something next to something", "Doing nothing"]
    assert lines(root / "class_names.txt") == names
    assert lines(root / "missing.txt") == ["9"]
    words, overrides = command(out)
    cfg = load_config(ROOT / words[3], overrides)
    assert (cfg.data.format, cfg.data.num_classes, cfg.test.list) == ("video", 3, str(root / "valid.txt"))

    write(root / "labels" / "test-answers.csv", "1420;Holding something next to something")
    assert run_tool("prepare_ssv2", root, "--check", "none")[0] == 0
    assert records(root / "test.txt", root) == [(videos[3], 1)]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train": TRAIN}, "neither something-something-v2-labels.json nor labels.json in it"),
        ({"labels": LABELS}, "no train.json, validation.json or test.json beside labels.json"),
        ({"labels": {"a": "1", "b": "2"}, "train": TRAIN}, "its 2 classes are not numbered from 0 on"),
        ({"labels": [1], "train": TRAIN}, "labels.json: expected a dict with entries"),
        ({"labels": LABELS, "train": [{"id": "1"}]}, "train.json: entry 1: no template"),
        (
            {"labels": LABELS, "train": [*TRAIN, {"id": "1", "template": "Be [x]"}]},
            "entry 4: 'Be [x]' is not in labels",
        ),
        ({"labels": LABELS, "train": [7]}, "entry 1: expected a video with an id, found '7'"),
    ],
)
def test_annotations_that_do_not_fit(files, message, tmp_path, run_tool):
    annotate(plant(tmp_path, "1.webm"), "", **files)
    code, _, err = run_tool("prepare_ssv2", tmp_path)
    assert (code, err.count("\n")) == (2, 1)
    assert message in err
