"""A list that names videos which are not there: some of them cost these alone, all of them mean another mistake."""

import json

import numpy as np
import paddle
import pytest

from paddlevid import build
from paddlevid.checkpoint import save_weights
from paddlevid.config import load_config


@pytest.fixture
def gappy(motion_set, tmp_path):
    """`gappy("test", 2)` -> a copy of a list of the motion set with so many missing videos in the middle."""

    def write(split, num_missing):
        lines = (motion_set / f"{split}.txt").read_text().splitlines()
        half = len(lines) // 2
        gone = [f"{split}/gone {number}.mp4 1" for number in range(num_missing)]
        path = tmp_path / f"{split}_{num_missing}.txt"
        path.write_text("\n".join([*lines[:half], *gone, *lines[half:]]))
        return path

    return write


@pytest.fixture
def weights(tiny_recipe, tmp_path):
    paddle.seed(0)
    save_weights(build.build_model(load_config(tiny_recipe())), tmp_path / "some.pdparams")
    return tmp_path / "some.pdparams"


@pytest.mark.parametrize("num_missing", [1, 9])
def test_testing_names_and_counts_them(
    run_main, tiny_recipe, gappy, weights, motion_set, tmp_path, capsys, num_missing
):
    listed = gappy("test", num_missing)
    capsys.readouterr()
    assert run_main("--test", "-c", tiny_recipe(), "-w", weights, "-o", f"test.list={listed}") == 2
    captured = capsys.readouterr()
    assert f"7 scored, {num_missing} unreadable" in captured.out
    assert captured.err.splitlines()[-1] == (
        f"error: {listed}: {num_missing} of {7 + num_missing} videos could not be read"
    )
    for number in range(num_missing):
        assert f"unreadable: {motion_set / 'test' / f'gone {number}.mp4'}" in captured.err
        assert f"test/gone {number}.mp4" in (tmp_path / "output" / "test_predictions.csv").read_text()
    names = np.load(tmp_path / "output" / "test_scores.npz")["names"].tolist()
    assert names == [line.rsplit(" ", 1)[0] for line in (motion_set / "test.txt").read_text().splitlines()]


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_a_wrong_root_ends_at_the_door(run_main, tiny_recipe, weights, motion_set, tmp_path, capsys, split):
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"elsewhere/{line}\n" for line in (motion_set / f"{split}.txt").read_text().splitlines()))
    arguments = ("--test", "-w", weights) if split == "test" else ("--validate", "-o", "train.max_bad_share=1.0")
    capsys.readouterr()
    assert run_main("-c", tiny_recipe(), "-o", f"{split}.list={listed}", *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    first = motion_set / "elsewhere" / (motion_set / f"{split}.txt").read_text().split(" ", 1)[0]
    total = 16 if split == "train" else 7
    assert line == (
        f"error: {first}: no such file or folder; {total} of the {total} in the list are missing (is the root folder "
        "right?)"
    )
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize(("num_missing", "share"), [(1, 0.0), (2, 0.1)])
def test_training_ends_at_the_door_above_the_share(run_main, tiny_recipe, gappy, tmp_path, capsys, num_missing, share):
    overrides = ("-o", f"train.list={gappy('train', num_missing)}", "-o", f"train.max_bad_share={share}")
    capsys.readouterr()
    assert run_main("-c", tiny_recipe(), *overrides) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"gone 0.mp4: no such file or folder; {num_missing} of the {16 + num_missing}" in line
    assert not (tmp_path / "output").exists()


def test_training_goes_on_below_the_share(run_main, tiny_recipe, gappy, tmp_path, capsys):
    overrides = ("-o", f"train.list={gappy('train', 1)}", "-o", f"valid.list={gappy('valid', 1)}")
    capsys.readouterr()
    assert run_main("-c", tiny_recipe(), *overrides, "-o", "train.max_bad_share=0.1", "--validate") == 0
    said = capsys.readouterr().err
    for split, total in (("train", 17), ("valid", 8)):
        (line,) = [line for line in said.splitlines() if line.startswith("warning: ") and f"{split}/gone" in line]
        assert line.endswith(f"1 of the {total} in the list are missing and count as unreadable")
    rows = [json.loads(line) for line in (tmp_path / "output" / "metrics.jsonl").read_text().splitlines()]
    assert len([row for row in rows if "top5" in row]) == 2, "validated after each epoch"
    assert "train/gone 0.mp4" in (tmp_path / "output" / "bad_videos.txt").read_text()
