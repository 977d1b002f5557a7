from __future__ import annotations

import os
import re
import shlex
from collections import Counter
from pathlib import Path

import pytest
from dataset_trees import command, lines, plant, records

from paddlevid.config import load_config
from paddlevid.data.annotations import read_list
from paddlevid.errors import ConfigError
from paddlevid.prepare.command import MIRRORED, TIMESFORMER_UNMIRRORED
from paddlevid.prepare.stratify import Shares, draw_split

ROOT = Path(__file__).parents[2]


def class_of(sizes: dict[str, int]) -> dict[str, list[str]]:
    return {name: [f"{name}/{number:03d}.mp4" for number in range(size)] for name, size in sizes.items()}


def count(classes: dict[str, list[str]], drawn: dict[str, str]) -> dict[str, Counter[str]]:
    return {name: Counter(drawn[video] for video in videos) for name, videos in classes.items()}


def test_each_class_gets_its_share_in_each_list():
    classes = class_of({"a": 100, "b": 24, "c": 3, "d": 2, "e": 1})
    drawn, notes = draw_split(classes, Shares(0.1, 0.2))
    assert count(classes, drawn) == {
        "a": {"train": 70, "valid": 10, "test": 20},
        "b": {"train": 17, "valid": 2, "test": 5},  # 2.4 and 4.8
        "c": {"train": 1, "valid": 1, "test": 1},
        "d": {"train": 1, "valid": 1},
        "e": {"train": 1},
    }
    assert notes == [
        "2 class(es) with too few videos for test, such as d",
        "1 class(es) with too few videos for valid, such as e",
    ]


def test_a_draw_depends_on_the_seed_and_on_the_class_alone():
    classes = class_of({"a": 40, "b": 40})
    drawn, _ = draw_split(classes, Shares(0.25))
    again, _ = draw_split({"b": classes["b"], "new": ["new/1.mp4", "new/2.mp4"], "a": classes["a"]}, Shares(0.25))
    assert all(again[name] == split for name, split in drawn.items())
    other, _ = draw_split(classes, Shares(0.25, seed=1))
    assert other != drawn
    chosen = [{name[2:] for name in classes[key] if drawn[name] == "valid"} for key in "ab"]
    assert chosen[0] != chosen[1]  # not the same places of each class


def test_groups_stay_together_across_classes():
    classes = {
        key: [f"{key}/v_{key}_g{group:02d}_c{clip:02d}.avi" for group in range(10) for clip in range(5)]
        for key in "abc"
    }
    drawn, notes = draw_split(classes, Shares(0.2, 0.1), r"_g\d+")
    assert notes == []
    assert count(classes, drawn) == {key: {"train": 35, "valid": 10, "test": 5} for key in "abc"}
    of_group = {name.split("_")[2]: set() for name in drawn}
    for name, split in drawn.items():
        of_group[name.split("_")[2]].add(split)
    assert all(len(splits) == 1 for splits in of_group.values())


def test_groups_by_parts_of_the_match_and_names_without_one():
    names = ["a/x_day1_take1.mp4", "a/x_day2_take1.mp4", "a/y_day1_take1.mp4", "a/y_day2_take9.mp4", "a/z.mp4"]
    for seed in range(20):
        drawn, notes = draw_split({"a": names}, Shares(0.4, seed=seed), r"(\w+)_day\d+_(take)")
        assert drawn[names[0]] == drawn[names[1]]
        assert drawn[names[2]] == drawn[names[3]]
        assert notes[0].startswith("1 video(s) in whose names --group")
    with pytest.raises(ConfigError, match="found in no name"):
        draw_split({"a": names}, Shares(0.4), "nope")
    with pytest.raises(ConfigError, match="not a regular expression"):
        draw_split({"a": names}, Shares(0.4), "(")
    for shares in (Shares(0.5, 0.5), Shares(-0.1), Shares(float("nan"))):
        with pytest.raises(ConfigError, match="less than 1"):
            draw_split({"a": names}, shares)


def test_a_class_that_is_one_big_source_stays_in_training():
    classes = {"a": [f"a/s1_{n}.mp4" for n in range(9)], "b": ["b/s2_1.mp4", *(f"b/s3_{n}.mp4" for n in range(9))]}
    drawn, notes = draw_split(classes, Shares(0.5), r"s\d")
    assert count(classes, drawn) == {"a": {"train": 9}, "b": {"train": 9, "valid": 1}}
    assert notes == ["1 class(es) with too few videos for valid, such as a"]


ODD = [
    "to jump, high/a 1.mp4",
    "to jump, high/b,2.MP4",
    "to jump, high/ü/日本 3.webm",
    "zu Fuß/c 5 6.avi",
    "zu Fuß/d.mkv",
]


def test_lists_of_odd_names(tmp_path, run_tool):
    root = plant(
        tmp_path / "my set", *ODD, "zu Fuß/notes.txt", "zu Fuß/cover.jpg", "loose.mp4", ".hidden/x.mp4", "read.me"
    )
    code, out, err = run_tool("prepare_folder", root, "--check", "none", "--valid_share", "0.3")
    assert (code, err) == (0, "")
    train, valid = (records(root / f"{split}.txt", root) for split in ("train", "valid"))
    assert sorted(train + valid) == [(name, int(name.startswith("zu"))) for name in sorted(ODD)]
    assert Counter(label for _, label in valid) == {0: 1, 1: 1}
    assert lines(root / "class_names.txt") == ["to jump, high", "zu Fuß"]
    assert "note: 2 file(s) left out that are no videos (.jpg 1, .txt 1)" in out
    assert "note: 1 video(s) left out that lie outside of class folders" in out
    words, overrides = command(out)
    cfg = load_config(ROOT / words[3], overrides)
    assert (cfg.data.root, cfg.data.num_classes) == (str(root), 2)
    assert (cfg.train.list, cfg.valid.list) == (str(root / "train.txt"), str(root / "valid.txt"))
    assert cfg.output_dir == "output/my set"


def test_lists_do_not_depend_on_the_order_of_the_file_system(tmp_path, run_tool):
    names = [f"{key}/{number}.mp4" for key in "ab" for number in range(30)]
    texts = []
    for folder, order in (("one", names), ("two", names[::-1])):
        root = plant(tmp_path / folder, *order)
        assert run_tool("prepare_folder", root, "--check", "none", "--test_share", "0.1")[0] == 0
        texts.append([(root / f"{split}.txt").read_text() for split in ("train", "valid", "test")])
    assert texts[0] == texts[1]
    assert [text.count("\n") for text in texts[0]] == [48, 6, 6]
    assert texts[0][0] == "".join(sorted(texts[0][0].splitlines(keepends=True)))


def test_folders_of_a_split_are_taken_as_it(tmp_path, run_tool):
    root = plant(tmp_path, "Train/b/1.mp4", "Train/a/2.mp4", "val/a/3.mp4", "testing/b/4.mp4", "testing/a/x/5.mp4")
    code, out, _ = run_tool("prepare_folder", root, "--check", "none")
    assert code == 0
    assert records(root / "train.txt", root) == [("Train/a/2.mp4", 0), ("Train/b/1.mp4", 1)]
    assert records(root / "valid.txt", root) == [("val/a/3.mp4", 0)]
    assert records(root / "test.txt", root) == [("testing/a/x/5.mp4", 0), ("testing/b/4.mp4", 1)]
    assert "1 class(es) without a video in valid, such as b" in out
    assert "2 classes: a 3, b 2" in out
    told = "note: the split is that of the folders, whatever shares and --group say"
    assert told not in out
    for option in (("--valid_share", "0.1"), ("--group", "x")):
        assert told in run_tool("prepare_folder", root, "--check", "none", *option)[1]
    plant(root, "val/c/6.mp4")
    assert "class 'c' has videos for valid, and none for training" in run_tool("prepare_folder", root)[2]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no videos in it that lie in folders"),
        (["a.mp4"], "no videos in it that lie in folders"),
        (["a/1.mp4", "a/2.mp4"], "one class only; if the class folders lie further down, give"),
        (["a/1.mp4", "b/1.txt", "c/1.mp4"], "b: a class without videos (1 of 3 folders have none)"),
        (["train/a/1.mp4", "training/a/1.mp4"], "train, training: two of these folders are of the same split"),
        (["val/a/1.mp4", "test/a/1.mp4"], "no folder train beside these"),
        (
            ["train/1.mp4", "train/2.mp4", "test/3.mp4"],
            "test, train are named like splits, not classes, and test/3.mp4 lies in no class folder; expected "
            "test/CLASS/VIDEO",
        ),
    ],
)
def test_folders_that_make_no_lists(names, message, tmp_path, run_tool):
    code, _, err = run_tool("prepare_folder", plant(tmp_path, *names))
    assert (code, err.count("\n")) == (2, 1)
    assert message in err
    assert "no such folder" in run_tool("prepare_folder", tmp_path / "nope")[2]


def test_links_are_followed_and_do_not_lead_in_circles(tmp_path, run_tool):
    plant(tmp_path / "elsewhere", "1.mp4", "2.mp4")
    root = plant(tmp_path / "set", "a/1.mp4", "a/2.mp4")
    os.symlink(tmp_path / "elsewhere", root / "b")
    os.symlink(root, root / "a" / "back")
    assert run_tool("prepare_folder", root, "--check", "none", "--valid_share", "0")[0] == 0
    assert records(root / "train.txt", root) == [("a/1.mp4", 0), ("a/2.mp4", 0), ("b/1.mp4", 1), ("b/2.mp4", 1)]
    assert not (root / "valid.txt").exists()


def test_lists_of_an_earlier_split_do_not_stay(tmp_path, run_tool):
    root = plant(tmp_path, *(f"{key}/{number}.mp4" for key in "ab" for number in range(4)))
    for share, left in (("0.25", ["test.txt", "train.txt", "valid.txt"]), ("0", ["train.txt"])):
        options = ("--check", "none", "--valid_share", share, "--test_share", share)
        assert run_tool("prepare_folder", root, *options)[0] == 0
        assert sorted(path.name for path in root.glob("t*.txt")) + [p.name for p in root.glob("v*.txt")] == left


def test_folders_named_by_numbers_have_these_as_labels(tmp_path, run_tool):
    root = plant(tmp_path / "whole", *(f"{number}/1.mp4" for number in range(12)))
    options = ("--check", "none", "--valid_share", "0")
    code, out, _ = run_tool("prepare_folder", root, *options)
    assert code == 0
    assert records(root / "train.txt", root) == [(f"{number}/1.mp4", number) for number in range(12)]
    assert "12 classes: 0 1, 1 1, 2 1, 3 1, 4 1, 5 1, 6 1, 7 1, 8 1, 9 1, and 2 more" in out
    assert "is not the label" not in out
    (root / "1" / "1.mp4").unlink()
    (root / "1").rmdir()
    out = run_tool("prepare_folder", root, *options)[1]
    assert "note: 10 class(es) named by a number that is not the label, such as 2, which has label 1" in out


def test_classes_may_lie_a_level_deeper(tmp_path, run_tool):
    root = plant(tmp_path / "high", *(f"{top}/{key}/1.mp4" for top in ("setA", "setB") for key in "012"))
    out = run_tool("prepare_folder", root, "--check", "none")[1]
    assert (
        "note: 2 of 2 class folders hold videos in further folders, such as setA/0/1.mp4: they are of class setA; if "
        f"the folders below are the classes, give {root / 'setA'}\n" in out
    )
    plant(root, "setC/1.mp4", "setC/2.mp4")
    out = run_tool("prepare_folder", root, "--check", "none")[1]
    assert (
        "note: 2 of 3 class folders hold videos in further folders, such as setA/0/1.mp4: they are of class setA\n"
        in out
    )
    assert "3 classes: setA 3, setB 3, setC 2\n" in out


@pytest.mark.parametrize("output", ["lists/x", "lists"])
def test_the_output_folder_is_no_class(output, tmp_path, run_tool):
    root = plant(tmp_path, "a/1.mp4", "b/1.mp4")
    for _ in range(2):
        assert run_tool("prepare_folder", root, "--check", "none", "--output", root / output)[0] == 0
    assert lines(root / output / "class_names.txt") == ["a", "b"]


def test_a_class_folder_is_a_class_even_with_the_lists_in_it(tmp_path, run_tool):
    root = plant(tmp_path, "a/1.mp4", "b/1.mp4")
    for _ in range(2):
        assert run_tool("prepare_folder", root, "--check", "none", "--output", root / "b")[0] == 0
    assert lines(root / "b" / "class_names.txt") == ["a", "b"]


@pytest.mark.parametrize("names", [["Path, winding", "b"], ["Path, winding", "path, straight"]])
def test_no_list_begins_like_a_table(names, tmp_path, run_tool):
    root = plant(tmp_path, *(f"{name}/1.mp4" for name in names))
    assert run_tool("prepare_folder", root, "--check", "none", "--valid_share", "0")[0] == 0
    # Not below the root of the list, where the reader may tell by the files that are there
    read = read_list(root / "train.txt", format="video", root=tmp_path / "elsewhere")
    assert sorted((record.name.removeprefix("./"), record.label) for record in read) == [
        (f"{name}/1.mp4", label) for label, name in enumerate(names)
    ]


def test_left_and_right_are_told_with_the_recipe_that_keeps_them(tmp_path, run_tool):
    root = plant(tmp_path, "turn_left/1.mp4", "bright/1.mp4", "turn_left/2.mp4", "bright/2.mp4")
    out = run_tool("prepare_folder", root, "--check", "none")[1]
    note = next(line for line in out.splitlines() if "hold left or right, such as 'turn_left'" in line)
    words, overrides = command(out)
    unmirrored = shlex.split(note.partition("add -o ")[2])
    recipe, without = (load_config(ROOT / words[3], overrides + more) for more in ([], unmirrored))
    kept = [transform for transform in recipe.train.transforms if transform.kind != "horizontal_flip"]
    assert len(kept) == len(recipe.train.transforms) - 1
    assert without.train.transforms == tuple(kept)
    assert "note: no list with labels for testing: the command names valid.txt as test.list, too" in out
    (root / "turn_left").rename(root / "copyright")
    assert "left or right" not in run_tool("prepare_folder", root, "--check", "none")[1]


@pytest.mark.parametrize("tool", ["folder", "kinetics", "ucf101", "hmdb51", "ssv2"])
def test_each_tool_knows_whether_its_recipe_mirrors(tool):
    text = (ROOT / "tools" / f"prepare_{tool}.py").read_text()
    config = re.search(r"configs/\w+\.yaml", text)[0]
    transforms = load_config(ROOT / config, []).train.transforms
    kept = [transform for transform in transforms if transform.kind != "horizontal_flip"]
    assert ("TIMESFORMER_UNMIRRORED" in text) == (len(kept) < len(transforms))
    if len(kept) < len(transforms):
        assert load_config(ROOT / config, [TIMESFORMER_UNMIRRORED]).train.transforms == tuple(kept)


@pytest.mark.parametrize("name", ["left", "Swipe Left", "swipeRight", "TURN_RIGHT", "from left to right", "left-2"])
def test_names_that_tell_sides(name):
    assert MIRRORED.search(name)
    assert not any(map(MIRRORED.search, ("bright", "upright", "Copyright", "cleft", "righteous", "Leftover", "FRIGHT")))


def test_the_group_is_shown_as_typed(tmp_path, run_tool):
    root = plant(tmp_path, "a/1.mp4", "b/1.mp4")
    err = run_tool("prepare_folder", root, "--group", r"_x\d+")[2]
    assert err == "error: --group '_x\\d+': found in no name, such as a/1.mp4\n"
