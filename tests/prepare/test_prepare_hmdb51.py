from __future__ import annotations

import pytest
from dataset_trees import lines, plant, records, write

from paddlevid.prepare.hmdb51 import draft_hmdb51
from paddlevid.prepare.scan import scan_tree

ODD = "#20_Rhythm_&_[Blues]_(50%)_clap;_u_nm_np1_fr_goo_0.avi"


@pytest.fixture
def hmdb51(tmp_path):
    root = plant(
        tmp_path / "hmdb",
        f"hmdb51_org/clap/{ODD}",
        "hmdb51_org/clap/two words_clap_u_nm_np1_fr_goo_1.avi",
        "hmdb51_org/brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.avi",
        "hmdb51_org/brush_hair/both.avi",
        "hmdb51_org/clap/both.avi",
    )
    splits = root / "testTrainMulti_7030_splits"
    write(
        splits / "clap_test_split1.txt",
        f"{ODD} 1 ",
        "two words_clap_u_nm_np1_fr_goo_1.avi 2 ",
        "both.avi 0 ",
        "gone.avi 1 ",
    )
    write(splits / "brush_hair_test_split1.txt", "April_09_brush_hair_u_nm_np1_ba_goo_0.avi 1 ", "both.avi 2 ")
    write(splits / "clap_test_split3.txt", f"{ODD} 0", "both.avi 1")
    write(splits / "brush_hair_test_split3.txt", "April_09_brush_hair_u_nm_np1_ba_goo_0.avi 2", "both.avi 1")
    return root


def test_lists_of_the_splits(hmdb51, run_tool):
    code, out, err = run_tool("prepare_hmdb51", hmdb51, "--check", "none")
    assert (code, err) == (0, "")
    april = "hmdb51_org/brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.avi"
    assert records(hmdb51 / "train_split1.txt", hmdb51) == [(april, 0), (f"hmdb51_org/clap/{ODD}", 1)]
    assert records(hmdb51 / "test_split1.txt", hmdb51) == [
        ("hmdb51_org/brush_hair/both.avi", 0),
        ("hmdb51_org/clap/two words_clap_u_nm_np1_fr_goo_1.avi", 1),
    ]
    assert records(hmdb51 / "train_split3.txt", hmdb51) == [
        ("hmdb51_org/brush_hair/both.avi", 0),
        ("hmdb51_org/clap/both.avi", 1),
    ]
    assert records(hmdb51 / "test_split3.txt", hmdb51) == [(april, 0)]
    assert lines(hmdb51 / "class_names.txt") == ["brush_hair", "clap"]
    assert lines(hmdb51 / "missing.txt") == ["clap/gone.avi"]
    assert "train_split1.txt       2 videos, 2 classes, 1 missing, 0 broken" in out


def test_annotations_that_do_not_fit(hmdb51, run_tool):
    splits = hmdb51 / "testTrainMulti_7030_splits"
    write(splits / "clap_test_split1.txt", "a.avi 3")
    assert (
        "clap_test_split1.txt:1: expected `video.avi 0|1|2`, found 'a.avi 3'" in run_tool("prepare_hmdb51", hmdb51)[2]
    )
    (splits / "clap_test_split1.txt").unlink()
    assert "clap_test_split1.txt is missing; other classes have split 1" in run_tool("prepare_hmdb51", hmdb51)[2]
    assert "no CLASS_test_split1.txt in it" in run_tool("prepare_hmdb51", hmdb51 / "hmdb51_org")[2]


def test_a_video_has_one_class(tmp_path):
    root = plant(tmp_path, "wave/x_1.avi", "loose.avi")
    for class_name in ("clap", "wave"):
        write(root / f"{class_name}_test_split1.txt", "x_1.avi 1", "loose.avi 2")
    draft = draft_hmdb51(scan_tree(root))
    assert draft.splits == {"train_split1": [("wave/x_1.avi", 1)], "test_split1": [("loose.avi", 0)]}
    assert draft.missing == {"train_split1": ["clap/x_1.avi"], "test_split1": ["wave/loose.avi"]}
    assert draft.notes == [
        "1 video(s) count as missing: what bears the name lies in the folder of another class, such as wave/x_1.avi "
        "for clap",
        "1 video(s) in no class folder that several classes list, such as loose.avi: taken for clap, missing for the "
        "others",
    ]
