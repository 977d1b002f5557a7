"""Scores over views, of one label a video and of several."""

import numpy as np
import paddle
import pytest
from multi_label_lists import write_multi_label_list

from paddlevid import build
from paddlevid.config import load_config
from paddlevid.evaluate import Evaluation, evaluate


def build_tiny(recipe, *overrides):
    """A recipe with random weights that answer differently to each video -> config, model."""
    cfg = load_config(recipe, overrides)
    paddle.seed(3)
    model = build.build_model(cfg)
    model.head.weight.set_value(paddle.randn(model.head.weight.shape))
    model.eval()
    return cfg, model


def view_logits(cfg, model, dataset):
    """Logits `[N, V, K]`, a video at a time, from the model alone."""
    normalize = build.build_normalize(cfg)
    with paddle.no_grad():
        rows = [model(normalize(paddle.to_tensor(dataset.views(record)))) for record in dataset.records]
    return paddle.stack(rows).numpy()


def run(cfg, model, dataset, average):
    return evaluate(model, build.build_normalize(cfg), dataset, batch_size=4, average=average)


@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_several_labels(tiny_recipe, motion_set, tmp_path, average):
    targets = write_multi_label_list(motion_set / "test.txt", tmp_path / "test.txt")
    overrides = [f"test.list={tmp_path / 'test.txt'}", "data.multi_label=true", "data.class_names=null"]
    cfg, model = build_tiny(tiny_recipe(), *overrides, "data.num_classes=5")
    dataset = build.build_eval_dataset(cfg, cfg.test)
    logits = view_logits(cfg, model, dataset)

    result = run(cfg, model, dataset, average)
    np.testing.assert_array_equal(result.targets, targets)
    assert result.targets.dtype == bool
    assert result.labels.tolist() == [-1] * len(targets)
    sigmoid = paddle.nn.functional.sigmoid
    if average == "logits":
        expected = logits.mean(axis=1)
        probabilities = sigmoid(paddle.to_tensor(expected)).numpy()
    else:
        expected = probabilities = sigmoid(paddle.to_tensor(logits)).numpy().mean(axis=1)
    np.testing.assert_allclose(result.scores, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(result.probabilities(), probabilities, rtol=1e-4, atol=1e-5)
    assert result.scores.dtype == result.probabilities().dtype == np.float32
    assert np.ptp(result.probabilities().sum(axis=1)) > 0.01, "they do not sum to 1"

    precisions = []
    for column, wanted in zip(expected.T, targets.T, strict=True):  # no two scores are equal
        precisions.append(np.mean([wanted[column >= score].mean() for score in column[wanted]]))
    np.testing.assert_allclose(result.average_precision, precisions)
    assert (result.score_name, result.score) == ("mAP", pytest.approx(np.mean(precisions)))
    assert result.scalars() == {"mAP": result.score}


@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_one_label(tiny_recipe, average):
    cfg, model = build_tiny(tiny_recipe())
    dataset = build.build_eval_dataset(cfg, cfg.test)
    logits = view_logits(cfg, model, dataset)
    labels = np.array([record.label for record in dataset.records])

    result = run(cfg, model, dataset, average)
    softmax = paddle.nn.functional.softmax
    if average == "logits":
        expected = logits.mean(axis=1)
        probabilities = softmax(paddle.to_tensor(expected)).numpy()
    else:
        expected = probabilities = softmax(paddle.to_tensor(logits)).numpy().mean(axis=1)
    np.testing.assert_allclose(result.scores, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(result.probabilities(), probabilities, rtol=1e-4, atol=1e-5)
    assert result.targets is None
    assert result.labels.tolist() == labels.tolist()
    assert result.score_name == "top1"
    assert result.score == (expected.argmax(axis=1) == labels).mean()
    assert list(result.scalars()) == ["top1", "top5", "mean_class_accuracy"]


def test_the_score_of_nothing_is_no_number():
    nothing = Evaluation(
        [], np.zeros(0, np.int64), np.zeros((0, 1), np.float32), [("a", "gone")], np.zeros((0, 1), bool)
    )
    assert np.isnan(nothing.score)
    assert nothing.probabilities().shape == (0, 1)


def test_an_unreadable_video_has_neither_scores_nor_targets(tiny_recipe, motion_set, tmp_path):
    targets = write_multi_label_list(motion_set / "test.txt", tmp_path / "good.txt")
    (tmp_path / "broken.mp4").write_bytes(b"")
    good = (tmp_path / "good.txt").read_text().splitlines()
    lines = [*good[:3], f"{tmp_path / 'broken.mp4'} 2,3", *good[3:], "gone.mp4 1"]
    (tmp_path / "test.txt").write_text("\n".join(lines))
    overrides = [f"test.list={tmp_path / 'test.txt'}", "data.multi_label=true", "data.class_names=null"]
    cfg, model = build_tiny(tiny_recipe(), *overrides, "data.num_classes=5")
    result = run(cfg, model, build.build_eval_dataset(cfg, cfg.test), "logits")
    np.testing.assert_array_equal(result.targets, targets)
    assert [name for name, _ in result.failures] == [str(tmp_path / "broken.mp4"), "gone.mp4"]
    assert "gone.mp4" in result.failures[1][1]
