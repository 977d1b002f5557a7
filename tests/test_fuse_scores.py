"""tools/fuse_scores.py: several streams' scores of the same videos, fused; and the search for their weights."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import paddle
import pytest

from paddlevid import build
from paddlevid.checkpoint import save_weights
from paddlevid.config import load_config
from paddlevid.errors import ConfigError, DataError
from paddlevid.evaluate import Evaluation
from paddlevid.fusion import fuse, load_streams, search_weights
from paddlevid.fusion.plot import plot_fusion
from paddlevid.fusion.search import score_points, top1_curve, weight_grid
from paddlevid.report import read_scores, write_scores

# By hand: each stream is right on two of three videos, and their mean on all.
NAMES = ["a/x.avi", "a/y.avi", "b/z.avi"]
LABELS = [0, 0, 1]
RGB = [[2, 0], [0, 1], [0, 3]]
FLOW = [[0, 1], [3, 0], [0, 1]]


def write(path: Path, scores, labels=LABELS, names=NAMES, order=None, **more) -> Path:
    """A file of scores as another program would write it."""
    rows = np.arange(len(names)) if order is None else np.array(order)
    arrays = {key: np.array(value)[rows] for key, value in {"names": names, "labels": labels}.items()}
    more = {key: np.array(value)[rows] if key == "targets" else np.array(value) for key, value in more.items()}
    np.savez(path, **arrays, scores=np.array(scores, np.float32)[rows], **more)
    return path


def stream(scores, labels=LABELS, **more) -> Evaluation:
    names = [f"v{row}" for row in range(len(labels))]
    return Evaluation(names, np.array(labels), np.array(scores, np.float32), [], **more)


def random_streams(seed: int, number: int, *, whole_numbers: bool = False) -> list[Evaluation]:
    rng = np.random.default_rng([seed, 7])
    labels = rng.integers(0, 4, 30)
    scores = rng.normal(0, 2, (number, 30, 4))
    scores[:, np.arange(30), labels] += 1.5
    return [stream(np.round(own) if whole_numbers else own, labels) for own in scores]


@pytest.fixture
def files(tmp_path):
    rgb = write(tmp_path / "rgb.npz", RGB, average="logits", class_names=["sit", "run"])
    bare = ["a/x", "a/y", "b/z"]  # folders of flow
    flow = write(tmp_path / "flow.npz", FLOW, names=bare, order=[2, 0, 1], average="logits", class_names=["sit", "run"])
    return [rgb, flow]


# ---- the tool --------------------------------------------------------------------------------------------------------


def test_two_streams_are_right_where_each_alone_is_not(files, tmp_path, run_tool):
    code, out, err = run_tool("fuse_scores", *files, "-o", tmp_path / "out")
    assert (code, err) == (0, "")
    table = {
        line.split()[0]: line.split()[1:] for line in out.splitlines() if line[:5].strip() in {"rgb", "flow", "fused"}
    }
    assert table["rgb"] == ["1", "0.6667", "1.0000", "0.7500"], "mean of 1 of 2 and 1 of 1"
    assert table["flow"] == ["1", "0.6667", "1.0000", "0.7500"]
    assert table["fused"] == ["1.0000", "1.0000", "1.0000"]
    assert "against rgb, the best stream: 1 video put right, 0 videos put wrong" in out
    assert "at least one stream is right on 3 videos (1.0000)" in out
    saved = np.load(tmp_path / "out" / "fused_scores.npz")
    assert saved["names"].tolist() == NAMES
    assert saved["scores"].tolist() == [[1, 0.5], [1.5, 0.5], [0, 2]]
    assert saved["streams"].tolist() == [str(path) for path in files]
    assert saved["weights"].tolist() == [1, 1]
    rows = list(csv.DictReader((tmp_path / "out" / "fused_predictions.csv").open()))
    assert [row["predicted_name"] for row in rows] == ["sit", "sit", "run"]
    assert float(rows[0]["score"]) == pytest.approx(1 / (1 + np.exp(-0.5)), abs=1e-6)
    picture = cv2.imread(str(tmp_path / "out" / "fused.png"))
    assert picture.shape[1] > picture.shape[0] > 400


def test_the_fused_scores_are_fused_again(files, tmp_path, run_tool):
    assert run_tool("fuse_scores", *files, "--weights", 1, 3, "-o", tmp_path / "two")[0] == 0
    warped = write(tmp_path / "warped.npz", [[0, 4], [4, 0], [4, 0]])  # as older versions write
    again = tmp_path / "two" / "fused_scores.npz"
    code, _, err = run_tool("fuse_scores", again, warped, "--weights", 4, 1, "-o", tmp_path / "three")
    assert (code, err) == (0, "")
    saved = np.load(tmp_path / "three" / "fused_scores.npz")
    expected = (np.array(RGB) + 3 * np.array(FLOW) + np.array([[0, 4], [4, 0], [4, 0]])) / 5
    np.testing.assert_allclose(saved["scores"], expected, rtol=1e-6)
    code, _, err = run_tool("fuse_scores", again, warped, "-o", tmp_path / "two")
    assert code == 2
    assert "is one of the streams" in err


def test_after_the_softmax(files, tmp_path, run_tool):
    assert run_tool("fuse_scores", *files, "--softmax", "--weights", 1, 3, "-o", tmp_path)[0] == 0
    saved = np.load(tmp_path / "fused_scores.npz")

    def sigmoid(lead):  # what a softmax over two classes is
        return 1 / (1 + np.exp(-lead))

    expected = (sigmoid(np.array([2, -1, -3])) + 3 * sigmoid(np.array([-1, 3, -1]))) / 4
    np.testing.assert_allclose(saved["scores"][:, 0], expected, rtol=1e-6)
    assert saved["average"] == "probabilities"


def test_probabilities_need_softmax(files, tmp_path, run_tool):
    halves = write(tmp_path / "p.npz", [[0.25, 0.75], [0.5, 0.5], [1, 0]], average="probabilities")
    code, _, err = run_tool("fuse_scores", files[0], halves, "-o", tmp_path)
    assert (code, err.count("\n")) == (2, 1)
    assert "--softmax" in err
    assert run_tool("fuse_scores", files[0], halves, "--softmax", "--weights", 0, 1, "-o", tmp_path)[0] == 0
    assert np.load(tmp_path / "fused_scores.npz")["scores"].tolist() == [[0.25, 0.75], [0.5, 0.5], [1, 0]]


def test_search_on_a_validation_set(files, tmp_path, run_tool):
    valid = tmp_path / "valid"
    valid.mkdir()
    names = ["a/k.avi", "a/l.avi", "b/m.avi"]
    more = [write(valid / f"{name}.npz", scores, names=names) for name, scores in (("rgb", RGB), ("flow", FLOW))]
    code, out, err = run_tool("fuse_scores", *files, "--search", *more, "-o", tmp_path / "out")
    assert (code, err) == (0, "")
    # By hand: the leads of the right class are 2 - 3s, 4s - 1 and 3 - 2s where s is the share of flow
    shares = np.arange(26, 67) / 100  # all are right between 1/4 and 2/3
    leads = np.stack([2 - 3 * shares, 4 * shares - 1, 3 - 2 * shares])
    best = shares[np.log1p(np.exp(-leads)).mean(axis=0).argmin()]
    assert f"weights searched on 3 videos of the validation: rgb {1 - best:.6g}, flow {best:.6g}\n" in out
    assert "top-1 there: 1.0000; rgb, the best stream, alone: 0.6667\n" in out
    assert "the same top-1 with 0.2500 to 0.6667 of flow" in out
    assert np.load(tmp_path / "out" / "fused_scores.npz")["weights"] == pytest.approx([1 - best, best])
    _, out, err = run_tool("fuse_scores", *files, "--search", *files, "-o", tmp_path / "out")
    assert err.startswith("warning: 3 of the 3 videos are those of --search")
    assert err.count("\n") == 1


@pytest.mark.slow
def test_scores_of_a_validation_list_come_from_a_test_of_it(tiny_recipe, motion_set, run_main, run_tool, tmp_path):
    recipe = tiny_recipe("tsn")
    paddle.seed(0)
    start = tmp_path / "start.pdparams"
    save_weights(build.build_model(load_config(recipe, [])), start)
    valid = tmp_path / "valid"
    lists = ["-o", f"test.list={motion_set / 'valid.txt'}", "-o", f"output_dir={valid}", "-o", "test.crop=center"]
    assert run_main("--test", "-c", recipe, "-w", start, *lists) == 0
    result, class_names = read_scores(valid / "test_scores.npz")
    assert result.names == [line.split()[0] for line in (motion_set / "valid.txt").read_text().splitlines()]
    assert result.average == "logits"
    assert class_names == (motion_set / "classes.txt").read_text().splitlines()
    both = [valid / "test_scores.npz"] * 2
    code, out, _ = run_tool("fuse_scores", *both, "--search", *both, "-o", tmp_path / "out")
    assert code == 0
    assert "test_scores (1) 0.5, test_scores (2) 0.5\n" in out, "nothing is to be gained: the most even weights"
    assert np.load(tmp_path / "out" / "fused_scores.npz")["scores"].tolist() == result.scores.tolist()


# One stream could not read the first video, and the other, by its folders of flow in another order, not the third
READ = {"rgb": ["a/y.avi", "b/z.avi", "b/w.avi"], "flow": ["b/w", "a/x", "a/y"]}


@pytest.fixture
def partly_read(tmp_path):
    """Files of both streams, and of a validation set; two videos of each are in both."""
    rgb = write(tmp_path / "rgb.npz", [[0, 1], [0, 3], [4, 0]], [0, 1, 0], READ["rgb"])
    flow = write(tmp_path / "flow.npz", [[1, 0], [0, 1], [5, 0]], [0, 0, 0], READ["flow"])
    names = {"rgb": ["k.avi", "l.avi"], "flow": ["m", "l", "k"]}
    valid_rgb = write(tmp_path / "valid_rgb.npz", [[3, 0], [0, 1]], [0, 0], names["rgb"])
    valid_flow = write(tmp_path / "valid_flow.npz", [[9, 0], [3, 0], [0, 1]], [1, 0, 0], names["flow"])
    return [rgb, flow], [valid_rgb, valid_flow]


def test_videos_that_a_stream_could_not_read(partly_read, tmp_path, run_tool):
    files, valid = partly_read
    code, _, err = run_tool("fuse_scores", *files, "-o", tmp_path / "out")
    assert code == 2
    assert "1 of 3 in" in err
    assert "--common" in err
    code, out, err = run_tool("fuse_scores", *files, "--common", "--search", *valid, "-o", tmp_path / "out")
    assert (code, err) == (0, "")
    assert "left out of the validation, as not all streams hold them: 0 of 2 of rgb, 1 of 3 of flow (m)\n" in out
    assert "weights searched on 2 videos of the validation: rgb 0.5, flow 0.5\n" in out
    assert "left out, as not all streams hold them: 1 of 3 of rgb, 1 of 3 of flow (b/z.avi, a/x)\n2 videos, " in out
    saved = np.load(tmp_path / "out" / "fused_scores.npz")
    assert saved["names"].tolist() == ["a/y.avi", "b/w.avi"]
    assert saved["scores"].tolist() == [[2.5, 0.5], [2.5, 0]]
    assert saved["labels"].tolist() == [0, 0]
    assert saved["left_out"].tolist() == [1, 1]
    rows = list(csv.DictReader((tmp_path / "out" / "fused_predictions.csv").open()))
    told = [(row["name"], row["predicted"], row["error"]) for row in rows]
    assert told[2:] == [("b/z.avi", "", f"not in {files[1]}"), ("a/x", "", f"not in {files[0]}")]


def test_common_changes_nothing_where_all_are_read(files, tmp_path, run_tool):
    said = []
    for more in ([], ["--common"]):
        code, out, err = run_tool("fuse_scores", *files, *more, "-o", tmp_path / "out")
        assert (code, err) == (0, "")
        said.append(out)
    assert said[0] == said[1]
    assert np.load(tmp_path / "out" / "fused_scores.npz")["left_out"].tolist() == [0, 0]


def test_no_video_in_common(tmp_path):
    names = [["x.avi", "y.avi"], ["y", "z"], ["z", "x"]]  # in pairs they have some
    paths = [str(write(tmp_path / f"{n}.npz", RGB[:2], [0, 0], own)) for n, own in enumerate(names)]
    with pytest.raises(DataError, match=r"no video is in all 3 files \(the first are x.avi in .*lists of the same"):
        load_streams(paths, common=True)
    other = str(write(tmp_path / "moved.npz", RGB[:2], [0, 0], ["a/x.avi", "a/y.avi"]))
    with pytest.raises(DataError, match="the same in other folders"):
        load_streams([paths[0], other], common=True)


def test_names_that_are_no_text(tmp_path):
    result = stream([[1, 2]], [1])
    name = b"\xff.avi".decode("utf-8", "surrogateescape")
    _, csv_path = write_scores(replace(result, names=[name]), ["sit", "run"], tmp_path)
    assert b"\xff.avi,1,1,run," in csv_path.read_bytes()
    assert read_scores(tmp_path / "test_scores.npz")[0].names == [name]


# ---- what must hold of any fusion ------------------------------------------------------------------------------------


def test_a_stream_with_itself_and_without_weight():
    one, other = random_streams(0, 2)
    for weights in ([1, 1], [1, 1.5], [0.3, 0.7], [1e-3, 1e3]):
        assert fuse([one, one], weights).scores.tolist() == one.scores.tolist()
    assert fuse([one, other], [0, 2]).scores.tolist() == other.scores.tolist()
    assert fuse([one, other], [0.1, 0]).scores.tolist() == one.scores.tolist()


def test_only_the_ratio_of_weights_counts():
    streams = random_streams(1, 3)
    for factor in (0.5, 2, 1024):
        scaled = fuse(streams, [factor, 1.5 * factor, 0.5 * factor])
        assert scaled.scores.tolist() == fuse(streams, [1, 1.5, 0.5]).scores.tolist()


def test_the_order_of_the_videos_does_not_matter(tmp_path):
    first, second = random_streams(2, 2)
    order = np.random.default_rng(0).permutation(30)
    names = [f"{number}.mp4" for number in range(30)]
    one = write(tmp_path / "1.npz", first.scores, first.labels, names)
    other = write(tmp_path / "2.npz", second.scores, second.labels, names, order)
    streams = load_streams([str(one), str(other)])
    assert streams.results[0].names == names
    assert fuse(streams.results, [1, 2]).scores.tolist() == fuse([first, second], [1, 2]).scores.tolist()


# ---- names -----------------------------------------------------------------------------------------------------------


def test_suffixes_count_where_two_videos_differ_in_nothing_else(tmp_path):
    names = ["x.avi", "x.mp4", "y.avi", "z.v1"]
    scores, labels = [[1, 2], [3, 4], [5, 6], [7, 8]], [0, 1, 0, 1]
    one = write(tmp_path / "1.npz", scores, labels, names)
    other = write(tmp_path / "2.npz", scores, labels, ["x.avi", "x.mp4", "y", "z.v1"], [3, 1, 2, 0])
    assert load_streams([str(one), str(other)]).results[1].scores.tolist() == scores
    bare = write(tmp_path / "3.npz", scores, labels, ["x", "x.mp4", "y", "z.v1"])
    with pytest.raises(DataError, match=r"1 of 4 in .*1\.npz alone \(x\.avi\), 1 of 4 in .*3\.npz alone \(x\)"):
        load_streams([str(one), str(bare)])


def test_titles_tell_the_files_apart(tmp_path):
    paths = []
    for folder in ("rgb", "flow"):
        (tmp_path / folder).mkdir()
        paths.append(str(write(tmp_path / folder / "test_scores.npz", RGB)))
    assert load_streams(paths).titles == ["rgb", "flow"]
    assert load_streams([paths[0], paths[0]]).titles == ["test_scores (1)", "test_scores (2)"]


BAD = {
    "missing": (
        {"scores": RGB[:2], "labels": LABELS[:2], "names": NAMES[:2]},
        r"1 of 3 in \S+rgb.npz alone \(b/z.avi\); test .* could not read them, add --common",
    ),
    "others": (
        {"scores": RGB * 2, "labels": LABELS * 2, "names": [*NAMES[:1], "1", "2", "3", "4", "5"]},
        r"2 of 3 in \S+rgb.npz alone \(a/y.avi, b/z.avi\), 5 of 6 in \S+ alone \(1, 2, 3 and 2 more\)",
    ),
    "folders": ({"scores": RGB, "names": ["c/x.avi", "c/y.avi", "c/z.avi"]}, "in other folders, write their lists"),
    "labels": ({"scores": RGB, "labels": [0, 1, 1]}, r"other labels for 1 of 3 videos, such as 0 and 1 for a/y\.avi"),
    "classes": ({"scores": np.zeros((3, 5))}, "one has 2 classes and the other 5"),
    "class names": ({"scores": RGB, "class_names": ["sit", "walk"]}, "class 1 is 'run' in one and 'walk' in the other"),
    "twice": ({"scores": RGB, "names": ["a/x.avi", "a/x.avi", "b/z.avi"]}, "a/x.avi stands there more than once"),
    "nan": ({"scores": [[1, 2], [np.nan, 1], [0, 1]]}, r"scores of 1 of 3 videos, such as a/y\.avi, are not finite"),
    "out of range": ({"scores": RGB, "labels": [0, 0, 2]}, "label 2 must be 0 to 1 for 2 classes"),
    "unlabelled": ({"scores": RGB, "labels": [-1, -1, -1]}, "label -1 must be 0 to 1"),
    "lengths": ({"scores": RGB, "class_names": ["sit"]}, "1 class names for 2 classes"),
    "average": ({"scores": RGB, "average": "max"}, "means of 'max'; expected one of logits, probabilities"),
    "one row": ({"scores": RGB[0:1] * 3, "labels": [[0], [0], [1]]}, r"found names <U7 \[3\], labels int64 \[3, 1\]"),
    "several labels": (
        {"scores": RGB, "labels": [-1, -1, -1], "targets": np.ones((3, 2), bool)},
        "one has a label a video and the other several",
    ),
}


@pytest.mark.parametrize(("arrays", "message"), BAD.values(), ids=BAD)
def test_what_does_not_belong_together_is_refused(arrays, message, files, tmp_path, run_tool):
    bad = write(tmp_path / "bad.npz", **arrays)
    code, out, err = run_tool("fuse_scores", files[0], bad, "-o", tmp_path / "out")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert re.search(message, err), err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"names,labels\n", b"PK\x03\x04 cut off"])
def test_files_that_are_no_scores(content, files, tmp_path, run_tool):
    (tmp_path / "bad.npz").write_bytes(content)
    code, _, err = run_tool("fuse_scores", files[0], tmp_path / "bad.npz")
    assert (code, err.count("\n")) == (2, 1)
    assert "bad.npz: no file of scores" in err


@pytest.mark.parametrize(
    "options",
    [
        ["--weights", "1"],
        ["--weights", "0", "0"],
        ["--weights", "1", "-1"],
        ["--weights", "1", "nan"],
        ["--search", "x"],
    ],
)
def test_weights_that_cannot_be(options, files, run_tool):
    code, _, err = run_tool("fuse_scores", *files, *options)
    assert code == 2
    assert options[0] in err.splitlines()[-1]


# ---- the search ------------------------------------------------------------------------------------------------------


def test_the_curve_of_the_example():
    curve = top1_curve([stream(RGB), stream(FLOW)])
    assert curve.edges == pytest.approx([0, 1 / 4, 2 / 3, 1])
    assert curve.values == pytest.approx([2 / 3, 1, 2 / 3])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("whole_numbers", [False, True])
def test_the_curve_is_that_of_fusing(seed, whole_numbers):
    """Whole numbers make ties between classes, and steps of several videos."""
    results = random_streams(seed, 2, whole_numbers=whole_numbers)
    curve = top1_curve(results)
    assert len(curve.values) > 5
    for low, high, value in zip(curve.edges[:-1], curve.edges[1:], curve.values, strict=True):
        share = (low + high) / 2
        scores = (1 - share) * results[0].scores.astype(float) + share * results[1].scores
        assert (scores.argmax(axis=1) == results[0].labels).mean() == pytest.approx(value)


@pytest.mark.parametrize("number", [2, 3, 4])
def test_points_are_scored_as_fusing_does(number):
    results = random_streams(3, number)
    points = np.random.default_rng(0).dirichlet(np.ones(number), 50)
    expected = [fuse(results, point).top1 for point in points]
    assert score_points(results, points) == pytest.approx(expected)


def test_the_grid():
    grid = weight_grid(3, 4)
    expected = {point for point in product((0, 0.25, 0.5, 0.75, 1), repeat=3) if sum(point) == 1}
    assert {tuple(point) for point in grid[:-1].tolist()} == expected
    assert grid[-1].tolist() == [1 / 3] * 3
    assert len(weight_grid(2)) == 102
    with pytest.raises(ConfigError, match="20 streams are too many"):
        weight_grid(20)


def test_a_step_too_narrow_for_a_grid_is_found():
    # Right up to 0.5037 of the second, and from 0.5033 on
    first, second = stream([[0.5037, 0], [0, 0.5033]], [0, 0]), stream([[0, 0.4963], [0.4967, 0]], [0, 0])
    found = search_weights([first, second])
    assert found.score == 1
    assert 0.5033 < found.weights[1] < 0.5037
    assert sum(found.weights) == 1
    assert found.ranges[1] == pytest.approx((0.5033, 0.5037), abs=1e-6)


@pytest.mark.parametrize("number", [2, 3])
def test_a_stream_that_does_not_help_gets_no_weight(number):
    good = stream([[0.01, 0, 0], [0, 0.01, 0], [0, 0, 0.01]], [0, 1, 2])
    bad = stream([[0, 50, 0], [0, 0, 50], [50, 0, 0]], [0, 1, 2])
    found = search_weights([good] + [bad] * (number - 1))
    assert found.weights == (1, *[0] * (number - 1))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("number", [2, 3])
def test_never_below_the_best_stream_and_even_weights(seed, number):
    results = random_streams(seed, number, whole_numbers=bool(seed % 2))
    found = search_weights(results)
    assert found.score >= max(result.top1 for result in results)
    assert found.score >= fuse(results, [1] * number).top1
    assert fuse(results, found.weights).top1 == pytest.approx(found.score)


# ---- several labels a video ------------------------------------------------------------------------------------------

TARGETS = np.array([[1, 0], [1, 1], [0, 1]], bool)


def test_several_labels_a_video(tmp_path, run_tool):
    more = {"labels": [-1] * 3, "targets": TARGETS}
    one = write(tmp_path / "rgb.npz", [[3, 5], [1, 4], [2, 3]], **more)
    other = write(tmp_path / "flow.npz", [[1, 1], [3, 2], [1, 3]], order=[1, 2, 0], **more)
    code, out, err = run_tool("fuse_scores", one, other, "--weights", 1, 4, "-o", tmp_path)
    assert (code, err) == (0, "")
    # By hand, AP of rgb: class 0 ranks videos 0, 2, 1: (1 + 2/3) / 2; class 1 ranks 0, 1, 2: (1/2 + 2/3) / 2
    expected = ((1 + 2 / 3) / 2 + (1 / 2 + 2 / 3) / 2) / 2
    lines = [line.split() for line in out.splitlines()]
    assert ["stream", "weight", "mAP"] in lines
    assert ["rgb", "1", f"{expected:.4f}"] in lines
    # Of flow: class 0 ranks 1, then 0 and 2 at one threshold: (1 + 2/3) / 2; class 1 is right
    assert ["flow", "4", f"{((1 + 2 / 3) / 2 + 1) / 2:.4f}"] in lines
    assert ["fused", "1.0000"] in lines, "class 0 has 7, 13 and 6 fifths, and class 1 has 9, 12 and 15"
    assert "AP is better in 1 of 2 classes, and worse in 0" in out
    saved = np.load(tmp_path / "fused_scores.npz")
    assert saved["targets"].tolist() == TARGETS.tolist()
    code, _, err = run_tool("fuse_scores", one, other, "--search", one, other, "--softmax", "-o", tmp_path)
    assert code == 0
    assert np.load(tmp_path / "fused_scores.npz")["scores"].max() < 1


# ---- pictures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [3, 5])
def test_pictures_of_more_streams(number, tmp_path):
    results = random_streams(0, number)
    titles = [f"a stream with a long name $ {place} 流" for place in range(number)]
    weights = [1.0] * number
    plot_fusion(tmp_path / "fused.png", titles, results, weights, fuse(results, weights))
    assert cv2.imread(str(tmp_path / "fused.png")).std() > 10
