"""The report of a test: its numbers against hand-worked cases, its page as a parser and a browser read it."""

from __future__ import annotations

import base64
import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import paddle
import pytest
from conftest import ROOT

from paddlevid import build
from paddlevid.checkpoint import save_weights
from paddlevid.config import load_config
from paddlevid.data.annotations import read_list
from paddlevid.data.dataset import FrameSource, ViewDataset, Views
from paddlevid.data.records import Record
from paddlevid.data.sampling import SegmentSampling
from paddlevid.evaluate import Evaluation
from paddlevid.report import summarize, write_report, write_scores
from paddlevid.report.figures import heat_picture
from paddlevid.report.numbers import (
    Confusion,
    Mistake,
    accuracy_interval,
    calibrate,
    confusion_matrix,
    find_mistakes,
    find_multi_label_mistakes,
    worst_confusions,
)
from paddlevid.schema import EvalConfig

VOID = {"meta", "img", "br", "input", "rect", "image", "line"}
SPLIT = EvalConfig(list="test.txt", short_side=40)


class Page(HTMLParser):
    """Tags with their attributes, texts by the tag around them, and whether all tags are closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return " ".join(data for tag, data in self.texts if tag not in {"script", "style"})

    def assert_alone(self) -> None:
        """Nothing is fetched, and nothing runs but our own script."""
        for _, attributes in self.tags:
            assert not any(name.startswith("on") for name in attributes)
            for name in ("src", "href", "action", "data"):
                assert (attributes.get(name) or "data:image/").startswith("data:image/")
        assert [tag.get("type") for tag in self.all("script")] in ([None], ["application/json", None])
        assert not {"link", "iframe", "object", "embed", "form", "base"} & {tag for tag, _ in self.tags}


def make_dataset(records, num_clips=1, crop="center", num_frames=4, size=32) -> ViewDataset:
    sampling = SegmentSampling(num_frames=num_frames)
    views = Views(FrameSource("pyav"), sampling, num_frames, num_clips, size + 8, crop, size)
    return ViewDataset(records, views)


@pytest.fixture
def dataset(motion_set) -> ViewDataset:
    return make_dataset(read_list(motion_set / "test.txt", format="video", root=str(motion_set)))


def make_result(dataset, predicted, num_classes=8, confidence=4.0, failures=(), labels=None, targets=None):
    """Scores by which each video is `predicted` as told, with logit `confidence` against 0."""
    scores = np.zeros((len(predicted), num_classes), np.float32)
    scores[np.arange(len(predicted)), predicted] = confidence
    records = dataset.records[: len(predicted)]
    if labels is None:
        labels = np.array([record.label for record in records], np.int64)
    return Evaluation(
        names=[record.name for record in records],
        labels=labels,
        scores=scores,
        failures=list(failures),
        targets=targets,
    )


NAMES = [f"class {letter}" for letter in "abcdefgh"]


def report(result, dataset, tmp_path, names=NAMES, **facts) -> Page:
    path = write_report(result, dataset, names, tmp_path, title="TSM on test.txt", facts=facts, recipe="a: 1\n")
    page = Page(path.read_text(encoding="utf-8"))
    page.assert_alone()
    return page


def untrained(recipe: Path) -> Path:
    """Weights of a recipe's model as it starts."""
    paddle.seed(0)
    path = recipe.with_name("start.pdparams")
    save_weights(build.build_model(load_config(recipe, [])), path)
    return path


def test_a_test_run_writes_a_report_of_itself(tiny_recipe, run_main, tmp_path, capsys):
    recipe, output = tiny_recipe("tsn"), tmp_path / "output"
    assert run_main("--test", "-c", recipe, "-w", untrained(recipe)) == 0
    assert f"report: {output / 'report.html'}" in capsys.readouterr().out
    page = Page((output / "report.html").read_text(encoding="utf-8"))
    page.assert_alone()
    saved = np.load(output / "test_scores.npz")
    right = float((saved["scores"].argmax(axis=1) == saved["labels"]).mean())
    assert f"{100 * right:.1f} %" in page.text
    assert "1 clip(s) x 3 crop(s), mean of logits" in page.text
    assert "start.pdparams (sha256 " in page.text
    assert "short_side: 40" in page.text, "the whole configuration"
    wrong = int((saved["scores"].argmax(axis=1) != saved["labels"]).sum())
    frames = [tag["src"] for tag in page.all("img")]
    assert len(frames) == 4 * wrong
    rows = list(csv.DictReader((output / "test_predictions.csv").open()))
    for row, scores in zip(rows, saved["scores"].astype(np.float64), strict=True):
        expected = 1 / np.exp(scores - scores.max()).sum()  # softmax at the largest
        assert float(row["score"]) == pytest.approx(expected, abs=1e-6)


def test_the_frames_are_those_of_the_central_view(motion_set, tmp_path):
    records = read_list(motion_set / "test.txt", format="video", root=str(motion_set))
    for crop, num_clips, view in (("center", 1, 0), ("three", 1, 1), ("three", 3, 4), ("ten", 1, 8)):
        dataset = make_dataset(records, num_clips, crop)
        page = report(make_result(dataset, [1]), dataset, tmp_path)
        assert dataset.records[0].label == 0, "so it is a mistake"
        shown = [base64.b64decode(tag["src"].split(",")[1]) for tag in page.all("img")]
        pictures = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1] for data in shown]
        small = np.stack([cv2.resize(picture, (32, 32), interpolation=cv2.INTER_AREA) for picture in pictures])
        differences = abs(dataset.views(records[0]).astype(int) - small).mean(axis=(1, 2, 3, 4))  # [V]
        assert differences.argmin() == view, (crop, num_clips)
        assert differences[view] < 6


def test_names_that_are_html_stay_text(motion_set, tmp_path):
    evil = ["<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "</title></script><b>", "'&amp;' ${x} 动作"]
    path = sorted((motion_set / "test").iterdir())[0]
    records = [
        Record(str(path), label, name=f"{name}/{number}.mp4")
        for number, (label, name) in enumerate(zip([0, 1, 2, 3], evil, strict=True))
    ]
    dataset = make_dataset(records)
    failures = [("<script>gone</script>.mp4", "<b onclick=x>reason</b>")]
    for num_classes in (4, 40):
        names = evil + [f"<i>{number}" for number in range(num_classes - 4)]
        result = make_result(dataset, [1, 2, 3, 0], num_classes, failures=failures)
        page = report(result, dataset, tmp_path, names, Weights=evil[0])
        for text in (*evil, failures[0][0], failures[0][1], "</title></script><b>/2.mp4"):
            assert text in page.text
        assert not [tag for tag in page.all("img") if tag["src"] == "x"]
        assert not page.all("b") or all(not tag for tag in page.all("b"))
    data = json.loads("".join(text for tag, text in page.texts if tag == "script" and text.startswith("{")))
    assert data["names"] == names
    assert data["cells"] == [[0, 1, 1], [1, 2, 1], [2, 3, 1], [3, 0, 1]]


def test_names_that_are_no_text(motion_set, tmp_path):
    path = sorted((motion_set / "test").iterdir())[0]
    dataset = make_dataset([Record(str(path), 0, name="caf\udce9.mp4")])
    assert "caf?.mp4" in report(make_result(dataset, [1]), dataset, tmp_path).text


def test_four_hundred_classes_stay_under_three_megabytes(tmp_path):
    rng = np.random.default_rng(0)
    records = []
    for number in range(30):  # folders of noise, which compresses worst
        folder = tmp_path / f"frames{number}"
        folder.mkdir()
        for frame in range(1, 9):
            noise = rng.integers(0, 256, (136, 136, 3), np.uint8)
            cv2.imwrite(str(folder / f"img_{frame:05d}.jpg"), noise, [cv2.IMWRITE_JPEG_QUALITY, 100])
        records.append(Record(str(folder), number, 8, name=f"frames{number}"))
    labels = rng.integers(0, 400, 20_000)
    records += [Record("none.mp4", int(label), name=f"videos/{number}.mp4") for number, label in enumerate(labels)]
    dataset = make_dataset(records, num_frames=8, size=128)
    result = make_result(dataset, rng.integers(0, 400, len(records)), 400)
    result.scores[:30] *= 3
    result.failures.extend((f"broken/{number}.mp4", "reason " * 20) for number in range(2000))
    page = report(result, dataset, tmp_path, [f"a class with quite a long name, number {n}" for n in range(400)])
    size = (tmp_path / "report.html").stat().st_size
    assert size < 3_000_000
    assert len(page.all("img")) == 24 * 8
    assert "and 1,800 more" in page.text
    assert len([tag for tag in page.all("tr") if not tag]) == 401


def test_no_mistakes_at_all(dataset, tmp_path):
    page = report(make_result(dataset, [record.label for record in dataset.records]), dataset, tmp_path)
    assert "100.0 %" in page.text
    assert "there is nothing to show" in page.text
    assert "taken for" not in page.text.replace("most taken for", "")
    assert not page.all("img")


def test_a_class_without_videos(dataset, tmp_path):
    assert 7 not in [record.label for record in dataset.records]
    page = report(make_result(dataset, [7] * 7), dataset, tmp_path)
    assert "1 of 8 classes have no video in this list." in page.text
    cells = [text for tag, text in page.texts if tag == "td"]
    assert cells[-3:] == ["class h", "0", "0"], "it stands last"
    assert "0.0 %" in page.text


def test_unreadable_videos_only(tmp_path, dataset):
    result = Evaluation([], np.zeros(0, np.int64), np.zeros((0, 1), np.float32), [("a.mp4", "a.mp4: is empty")])
    page = report(result, dataset, tmp_path)
    assert "a.mp4: is empty" in page.text
    assert "0 videos scored" in re.sub(r"\s+", " ", page.text)
    assert "nan" not in page.text


def test_a_test_of_unreadable_videos_only_ends_with_a_report(tiny_recipe, run_main, tmp_path, motion_set, capsys):
    recipe, output = tiny_recipe("tsn"), tmp_path / "output"
    (tmp_path / "text.mp4").write_text("this is no video")
    (tmp_path / "test.txt").write_text(f"{tmp_path / 'text.mp4'} 1\n")
    options = ("-o", f"test.list={tmp_path / 'test.txt'}")
    assert run_main("--test", "-c", recipe, "-w", untrained(recipe), *options) == 2
    assert "1 of 1 videos could not be read" in capsys.readouterr().err
    assert "text.mp4" in Page((output / "report.html").read_text(encoding="utf-8")).text


def test_a_video_that_vanished_since(motion_set, tmp_path):
    dataset = make_dataset([Record(str(tmp_path / "gone.mp4"), 0, name="gone.mp4")])
    page = report(make_result(dataset, [1]), dataset, tmp_path)
    assert "frames cannot be read any more" in page.text
    assert "No such file" in page.text


def test_a_model_that_has_diverged(dataset, tmp_path):
    result = make_result(dataset, [1] * 7)
    result.scores[:] = np.nan
    page = report(result, dataset, tmp_path)
    assert "Calibration" not in page.text


def multi_label_result(dataset):
    targets = np.zeros((4, 3), bool)
    targets[[0, 0, 1, 3], [0, 1, 1, 0]] = True  # the third has none, and no video has the last class
    scores = np.array([[2, 1, -5], [3, -1, -5], [-2, -3, -4], [4, -6, -7]], np.float32)
    labels = np.full(4, -1)
    return Evaluation([r.name for r in dataset.records[:4]], labels, scores, [], targets=targets)


def test_videos_with_several_labels(dataset, tmp_path):
    result = multi_label_result(dataset)
    page = report(result, dataset, tmp_path, NAMES[:3])
    # By hand: class a ranks videos 3, 1, 0, 2 and has 3 and 0: (1/1 + 2/3) / 2; class b ranks 0, 1: 1
    assert "91.7 %" in page.text
    assert "83.3 %" in page.text
    assert "Confusion" not in page.text
    assert "1 video with a wrong class" in page.text, "a for the second, which has b alone"
    assert "95.3 %" in page.text, "sigmoid(3)"
    assert f"sigmoid(3) = {1 / (1 + np.exp(-3)):.3f}" == "sigmoid(3) = 0.953"
    assert summarize(result, SPLIT).splitlines()[-1] == "mAP:                 0.9167"
    _, csv_path = write_scores(result, NAMES[:3], tmp_path)
    rows = list(csv.DictReader(csv_path.open()))
    assert [row["label"] for row in rows] == ["0,1", "1", "", "0"]
    assert float(rows[1]["score"]) == pytest.approx(0.952574)
    assert np.load(tmp_path / "test_scores.npz")["targets"].tolist() == result.targets.tolist()


def test_scores_that_are_probabilities_already(dataset, tmp_path):
    scores = np.array([[0.25, 0.75], [0.6, 0.4]], np.float32)
    names = [record.name for record in dataset.records[:2]]
    result = Evaluation(names, np.array([0, 0]), scores, [], average="probabilities")
    _, csv_path = write_scores(result, ["a", "b"], tmp_path)
    assert [row["score"] for row in csv.DictReader(csv_path.open())] == ["0.750000", "0.600000"]
    assert "75.0 %" in report(result, dataset, tmp_path, ["a", "b"]).text


def test_confusions_by_hand():
    labels, predicted = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2]), np.array([0, 1, 1, 1, 0, 0, 0, 1, 2])
    matrix = confusion_matrix(labels, predicted, 4)
    assert matrix.tolist() == [[1, 2, 0, 0], [1, 1, 0, 0], [2, 1, 1, 0], [0, 0, 0, 0]]
    assert worst_confusions(matrix, 3) == [Confusion(0, 1, 2, 3), Confusion(2, 0, 2, 4), Confusion(1, 0, 1, 2)]


def test_the_interval_of_an_accuracy():
    assert accuracy_interval(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert accuracy_interval(1.0, 20) == pytest.approx((0.8389, 1.0), abs=1e-4)  # n / (n + z^2)


def test_calibration_by_hand():
    confidence = np.array([0.95, 0.95, 1.0, 0.65, 0.65, np.nan])
    found = calibrate(confidence, np.array([True, True, False, True, False, True]))
    assert [(b.low, b.predictions) for b in found.bins] == [(0.6, 2), (0.9, 3)]
    assert [b.accuracy for b in found.bins] == pytest.approx([1 / 2, 2 / 3])
    # Gaps 0.15 of 2 and 2.9/3 - 2/3 = 0.3 of 3 predictions
    assert found.error == pytest.approx((2 * 0.15 + 3 * 0.3) / 5)
    assert calibrate(np.array([np.nan]), np.array([True])) is None


def test_mistakes_the_most_confident_first():
    predicted, confidence = np.array([0, 1, 0, 1, 0]), np.array([0.6, 0.9, 0.8, 0.7, np.nan])
    found = find_mistakes(predicted, confidence, np.array([1, 1, 1, 0, 1]))
    assert found == [Mistake(2, 0, 0.8), Mistake(3, 1, 0.7), Mistake(0, 0, 0.6), Mistake(4, 0, 0.0)]


def test_mistakes_among_several_labels():
    chances = np.array([[0.9, 0.2, 0.1], [0.3, 0.2, 0.1], [0.1, 0.3, 0.2], [0.6, 0.1, 0.1], [0.4, 0.1, 0.1], [1, 1, 1]])
    targets = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0], [1, 1, 1]], bool)
    assert find_multi_label_mistakes(chances, targets) == [Mistake(3, 0, 0.6), Mistake(2, 1, 0.3)]


def test_the_heat_of_a_confusion_matrix():
    picture = heat_picture(np.array([[3, 1], [0, 0]]))
    assert picture[..., 3].tolist() == [[round(255 * (0.25 + 0.75 * 0.75**0.5)), round(255 * 0.625)], [0, 0]]
    assert picture[0, 0, 2] > picture[0, 0, 0], "right is blue"
    assert picture[0, 1, 0] > picture[0, 1, 2], "wrong is red"


@pytest.mark.slow
def test_the_page_in_a_browser(motion_set, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "demo"))
    from chromium import open_chromium, requested_urls

    videos = sorted((motion_set / "test").iterdir())
    records = [Record(str(videos[n % 7]), n % 40, name=f"{n}.mp4") for n in range(80)]
    dataset = make_dataset(records)
    predicted = [record.label if n < 44 else (record.label + 1) % 40 for n, record in enumerate(records)]
    result = make_result(dataset, predicted, 40)
    names = ["<img src=x onerror=document.title='run'>", *(f"class {n}" for n in range(1, 40))]
    path = write_report(result, dataset, names, tmp_path, title="TSM on test.txt", facts={})
    with open_chromium(tmp_path / "profile", width=390) as page:
        page.get(Path(path).as_uri())
        assert page.title == "TSM on test.txt"
        assert page.execute_script("return document.documentElement.scrollWidth") <= 390
        assert all(page.execute_script("return [...document.images].map(i => i.naturalWidth > 0)"))
        first = "return document.querySelector('#classes tbody tr').cells[{}].dataset.v"
        assert page.execute_script(first.format(4)) == "0.500000", "the worst class first"
        for wanted in ("1.000000", "0.500000"):  # up is where it starts
            page.execute_script("document.querySelectorAll('#classes th button')[4].click()")
            assert page.execute_script(first.format(4)) == wanted
        page.execute_script("document.querySelectorAll('#classes th button')[0].click()")
        assert page.execute_script(first.format(0)) == "0"
        visible = "return [...document.querySelectorAll('#classes tbody tr')].filter(r => !r.hidden).length"
        page.execute_script("""
            const field = document.querySelector("input[type=search]");
            field.value = "CLASS 39"; field.dispatchEvent(new Event("input"));""")
        assert page.execute_script(visible) == 1
        page.execute_script("""
            const box = document.querySelector(".heat image").getBoundingClientRect();
            const [x, y] = [box.left + 8.5 / 40 * box.width, box.top + 7.5 / 40 * box.height];
            document.querySelector(".heat").dispatchEvent(
                new PointerEvent("pointermove", { clientX: x, clientY: y, bubbles: true }));""")
        read = page.execute_script("return document.getElementById('read').textContent")
        assert read == "class 7 taken for class 8: 1 of 2"
        assert requested_urls(page) == []
