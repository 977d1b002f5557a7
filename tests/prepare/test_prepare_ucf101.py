from __future__ import annotations

from pathlib import Path

import pytest
from dataset_trees import command, lines, plant, records, write

from paddlevid.config import load_config

ROOT = Path(__file__).parents[2]


@pytest.fixture
def ucf101(tmp_path):
    """As the two archives unpack: one flat class, and the class whose videos are written in another way."""
    root = plant(
        tmp_path / "ucf",
        "UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi",
        "UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi",
        "UCF-101/HandstandPushups/v_HandStandPushups_g01_c02.avi",
        "UCF-101/HandstandPushups/v_HandstandPushups_g08_c02.AVI",
        "UCF-101/v_Archery_g01_c01.mp4",
        "UCF-101/v_Archery_g09_c01.mp4",
    )
    lists = root / "ucfTrainTestlist"
    write(lists / "classInd.txt", "1 ApplyEyeMakeup\r", "2 Archery\r", "3 HandstandPushups\r", "")
    write(
        lists / "trainlist01.txt",
        "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1",
        "Archery/v_Archery_g09_c01.avi 2",
        "HandstandPushups/v_HandStandPushups_g08_c02.avi 3",
        "Archery/v_Archery_g25_c01.avi 2",
    )
    write(
        lists / "testlist01.txt",
        "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi",
        "Archery/v_Archery_g01_c01.avi",
        "HandstandPushups/v_HandStandPushups_g01_c02.avi",
    )
    write(lists / "trainlist02.txt", "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi 1", "Archery/v_Archery_g01_c01.avi 2")
    write(lists / "testlist02.txt", "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi")
    return root


def test_lists_of_the_splits(ucf101, run_tool):
    code, out, err = run_tool("prepare_ucf101", ucf101, "--check", "none")
    assert (code, err) == (0, "")
    assert records(ucf101 / "train_split1.txt", ucf101) == [
        ("UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi", 0),
        ("UCF-101/v_Archery_g09_c01.mp4", 1),
        ("UCF-101/HandstandPushups/v_HandstandPushups_g08_c02.AVI", 2),
    ]
    assert records(ucf101 / "test_split1.txt", ucf101) == [
        ("UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi", 0),
        ("UCF-101/v_Archery_g01_c01.mp4", 1),
        ("UCF-101/HandstandPushups/v_HandStandPushups_g01_c02.avi", 2),
    ]
    assert records(ucf101 / "train_split2.txt", ucf101) == [
        ("UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi", 0),
        ("UCF-101/v_Archery_g01_c01.mp4", 1),
    ]
    assert records(ucf101 / "test_split2.txt", ucf101) == [("UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi", 0)]
    assert lines(ucf101 / "class_names.txt") == ["ApplyEyeMakeup", "Archery", "HandstandPushups"]
    assert lines(ucf101 / "missing.txt") == ["Archery/v_Archery_g25_c01.avi"]
    assert "1 of 3 classes without a video in train_split2, such as HandstandPushups" in out
    words, overrides = command(out)
    cfg = load_config(ROOT / words[3], overrides)
    assert (Path(cfg.train.list).name, Path(cfg.valid.list).name) == ("train_split1.txt", "test_split1.txt")
    assert (cfg.test.list, cfg.data.num_classes) == (cfg.valid.list, 3)
    assert run_tool("prepare_ucf101", ucf101, "--check", "none")[0] == 0  # and again


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("classInd.txt", "0 ApplyEyeMakeup\n1 Archery", "its 2 classes are not numbered from 1 on"),
        ("classInd.txt", "ApplyEyeMakeup", "classInd.txt:1: expected `number class`"),
        ("trainlist01.txt", "Archery/v_Archery_g09_c01.avi 3", "Archery has number 2 in classInd.txt, and 3 here"),
        ("testlist01.txt", "Skiing/v_Skiing_g09_c01.avi", "testlist01.txt:1: expected `class/video.avi`"),
    ],
)
def test_annotations_that_do_not_fit(file, text, message, ucf101, run_tool):
    write(ucf101 / "ucfTrainTestlist" / file, *text.splitlines())
    code, _, err = run_tool("prepare_ucf101", ucf101)
    assert (code, err.count("\n")) == (2, 1)
    assert message in err


def test_annotations_elsewhere(ucf101, run_tool, tmp_path):
    (ucf101 / "ucfTrainTestlist").rename(tmp_path / "lists")
    assert "no classInd.txt in it; unpack" in run_tool("prepare_ucf101", ucf101)[2]
    options = ("--annotations", tmp_path / "lists", "--check", "none")
    assert run_tool("prepare_ucf101", ucf101 / "UCF-101", *options)[0] == 0
    names = [name for name, _ in records(ucf101 / "UCF-101" / "test_split2.txt", ucf101 / "UCF-101")]
    assert names == ["ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi"]


def test_a_file_in_the_folder_of_another_class_is_not_taken(ucf101, run_tool):
    folder = ucf101 / "UCF-101" / "Archery"
    plant(folder, "v_Archery_g25_c01.avi")
    (ucf101 / "UCF-101" / "ApplyEyeMakeup" / "v_ApplyEyeMakeup_g08_c01.avi").rename(
        folder / "v_ApplyEyeMakeup_g08_c01.avi"
    )
    code, out, _ = run_tool("prepare_ucf101", ucf101, "--check", "none")
    assert code == 0
    assert lines(ucf101 / "missing.txt") == ["ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi"]
    assert "in the folder of another class, such as UCF-101/Archery/v_ApplyEyeMakeup_g08_c01.avi for Apply" in out
    assert "note: no list for validation: the command validates on test_split1.txt, and best.pdparams" in out
    assert "3 classes: ApplyEyeMakeup 1, Archery 3, HandstandPushups 2" in out  # each once, whatever the splits
