from __future__ import annotations

from pathlib import Path

import pytest
from dataset_trees import command, lines, plant, records, write

from paddlevid.config import load_config
from paddlevid.data.class_names import read_class_names
from paddlevid.prepare.kinetics import draft_kinetics
from paddlevid.prepare.scan import scan_tree

HEAD = "label,youtube_id,time_start,time_end,split,is_cc"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def kinetics(tmp_path):
    """The folder and the CSV files; names as yt-dlp, the authors' crawler and CVDF's archives leave them."""
    videos = plant(
        tmp_path / "k 400: #1",
        "train/air_drumming/-0abc_DEF12_000010_000020.mp4",
        "train/air drumming/__wsytoYy3Q.mkv",
        "train/punching_person_boxing/punchPUNCH1_000055_000065.MP4",
        "train/abseiling/broken_Vide_000001_000011.mp4",
        "replacement/replacement_for_corrupted_k400/broken_Vide_000001_000011.mp4",
        "val/flat_ID_000_000100_000110.webm",
        "val/flat_ID_000_000200_000210.webm",
        "test/secretSECRE_000000_000010.avi",
        "test/._secretSECRE_000000_000010.avi",
        "test/unknownUNKN_000000_000010.mp4",
        "test/half.mp4.part",
    )
    train = write(
        tmp_path / "train.csv",
        HEAD,
        "air drumming,-0abc_DEF12,10,20,train,0",
        "punching person (boxing),punchPUNCH1,55,65,train,1",
        '"air drumming",__wsytoYy3Q,7.0,17.0,train,0',
        "abseiling,broken_Vide,1,11,train,0",
        "abseiling,gone_gone_g,3,13,train,0",
    )
    valid = write(
        tmp_path / "validate.csv",
        HEAD.removesuffix(",is_cc"),
        "abseiling,flat_ID_000,200,210,validate",
        "air drumming,FLAT_ID_000,100,110,validate",
    )
    test = write(tmp_path / "test.csv", "youtube_id,time_start,time_end,split", "secretSECRE,0,10,test")
    return videos, train, valid, test


def test_lists_of_all_forms_of_names(kinetics, run_tool, tmp_path):
    videos, *csvs = kinetics
    output = tmp_path / "lists"
    code, out, err = run_tool("prepare_kinetics", *csvs, "--videos", videos, "--output", output, "--check", "none")
    assert (code, err) == (0, "")
    assert records(output / "train.txt", videos) == [
        ("train/air_drumming/-0abc_DEF12_000010_000020.mp4", 1),
        ("train/punching_person_boxing/punchPUNCH1_000055_000065.MP4", 2),
        ("train/air drumming/__wsytoYy3Q.mkv", 1),
        ("replacement/replacement_for_corrupted_k400/broken_Vide_000001_000011.mp4", 0),
    ]
    assert records(output / "valid.txt", videos) == [("val/flat_ID_000_000200_000210.webm", 0)]
    assert records(output / "test.txt", videos, labelled=False) == [("test/secretSECRE_000000_000010.avi", None)]
    assert lines(output / "test.txt") == ["test/secretSECRE_000000_000010.avi"]
    assert lines(output / "class_names.txt") == ["abseiling", "air drumming", "punching person (boxing)"]
    assert lines(output / "missing.txt") == ["gone_gone_g_000003_000013", "FLAT_ID_000_000100_000110"]
    assert not (output / "bad_videos.txt").exists()
    assert "train.txt       4 videos, 3 classes, 1 missing, 0 broken" in out
    assert "1 video(s) there more than once" in out
    assert "2 video(s) in no annotation, such as test/unknownUNKN_000000_000010.mp4" in out

    words, overrides = command(out)
    assert " ".join(words) == "python main.py -c configs/timesformer_k400.yaml --validate -w vit_b16_imagenet_timm"
    cfg = load_config(ROOT / words[3], overrides)
    assert (cfg.data.root, cfg.data.num_classes, cfg.data.class_names) == (str(videos), 3, None)
    lists = (cfg.train.list, cfg.valid.list, cfg.test.list)
    assert lists == tuple(str(output / name) for name in ("train.txt", "valid.txt", "valid.txt"))  # test has no labels
    assert read_class_names(None, 3, list_path=cfg.train.list)[2] == "punching person (boxing)"


def test_the_classes_of_kinetics_400_have_the_numbers_of_everyone(tmp_path):
    names = read_class_names("kinetics400", 400)
    rows = [f'"{name}",{label:011d},0,10,train' for label, name in enumerate(names)]
    csv = write(tmp_path / "train.csv", HEAD, *(f"{row},0" for row in reversed(rows)))
    videos = plant(tmp_path / "videos", *(f"{label:011d}.mp4" for label in range(400)))
    draft = draft_kinetics(scan_tree(videos), [csv])
    assert draft.class_names == names
    assert all(int(entry.name[:11]) == entry.label for entry in draft.splits["train"])
    assert len(draft.splits["train"]) == 400


def test_rows_of_one_video_and_repeated_rows_are_told(tmp_path):
    rows = ["a,sameSAMEsam,0,10,train,0", "b,sameSAMEsam,20,30,train,0", "a,sameSAMEsam,0,10,train,0"]
    csv = write(tmp_path / "train.csv", HEAD, *rows)
    draft = draft_kinetics(scan_tree(plant(tmp_path / "videos", "sameSAMEsam.mp4")), [csv])
    assert draft.splits["train"] == [("sameSAMEsam.mp4", 0)]
    assert draft.notes[:2] == [
        "1 row(s) repeated in the CSV files",
        "1 row(s) left out: their video is that of an earlier row",
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("train.csv", "path,label\na.mp4,0", "no column youtube_id, time_start, time_end"),
        ("train.csv", "", "found nothing"),
        ("train.csv", f"{HEAD}\na,b,ten,20,train,0", "train.csv:2: 'ten' is no whole number"),
        ("train.csv", f"{HEAD}\na,b,10,20,trian,0", "train.csv:2: split 'trian' is not one of train"),
        ("train.csv", f"{HEAD}\na,b,10", "train.csv:2: 3 fields, the head has 6"),
        ("train.csv", f"{HEAD}\na,b,1,2,train,0\n,c,1,2,train,0", "train.csv:3: no label, and other rows"),
        ("mine.csv", "label,youtube_id,time_start,time_end\na,b,1,2", "mine.csv:2: no split"),
        ("test.csv", "youtube_id,time_start,time_end\nb,1,2", "no row has a label"),
        ("train.csv", f"{HEAD}\na,b,1,2,train,0", "of 1 video in the annotations none is there, such as b_0000"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(name, text, message, tmp_path, run_tool):
    csv = write(tmp_path / name, *text.splitlines())
    videos = plant(tmp_path / "videos", "other.mp4")
    code, _, err = run_tool("prepare_kinetics", csv, "--videos", videos)
    assert (code, err.count("\n")) == (2, 1)
    assert message in err
    assert sorted(path.name for path in videos.iterdir()) == ["other.mp4"]


def test_a_file_in_the_folder_of_another_class_is_not_taken(tmp_path):
    rows = [
        "abseiling,ID1,0,10,train,0",
        "zumba,ID1,30,40,train,0",
        "zumba,ID2,0,10,train,0",
        "abseiling,ID3,0,10,train,0",
    ]
    csv = write(tmp_path / "train.csv", HEAD, *rows)
    videos = plant(tmp_path / "videos", "zumba/ID1.mp4", "train/part_1/ID2.mp4", "Abseiling/part_1/ID3.mp4")
    draft = draft_kinetics(scan_tree(videos), [csv])
    assert draft.class_names == ["abseiling", "zumba"]
    assert sorted(draft.splits["train"]) == [
        ("Abseiling/part_1/ID3.mp4", 0),
        ("train/part_1/ID2.mp4", 1),
        ("zumba/ID1.mp4", 1),
    ]
    assert draft.missing == {"train": ["ID1_000000_000010"]}
    assert draft.notes == [
        "1 video(s) count as missing: what bears the name lies in the folder of another class, such as zumba/ID1.mp4 "
        "for abseiling"
    ]


def test_lists_of_other_annotations_do_not_stay(kinetics, run_tool, tmp_path):
    videos, train, valid, test = kinetics
    options = ("--videos", videos, "--output", tmp_path / "lists", "--check", "none")
    assert run_tool("prepare_kinetics", train, valid, test, *options)[0] == 0
    (tmp_path / "lists" / "mine.txt").touch()
    assert run_tool("prepare_kinetics", train, *options)[0] == 0
    left = ["checked_videos.jsonl", "class_names.txt", "mine.txt", "missing.txt", "train.txt"]
    assert sorted(path.name for path in (tmp_path / "lists").iterdir()) == left
    (tmp_path / "lists" / "test.txt").write_text("of somebody else\n")  # we have removed ours
    assert run_tool("prepare_kinetics", train, *options)[0] == 0
    assert (tmp_path / "lists" / "test.txt").read_text() == "of somebody else\n"


def test_videos_missing_from_two_lists_are_one_video(tmp_path, run_tool):
    rows = ["a,ID1,0,10,train,0", "a,ID2,0,10,train,0", "a,ID1,0,10,val,0"]
    csv = write(tmp_path / "train.csv", HEAD, *rows)
    err = run_tool("prepare_kinetics", csv, "--videos", plant(tmp_path / "videos", "other.mp4"))[2]
    assert "of 2 videos in the annotations none is there" in err
    err = run_tool("prepare_kinetics", csv, "--videos", csv)[2]
    assert err == f"error: {csv}: is a file; give the folder\n"
