from fractions import Fraction
from math import exp

import numpy as np
import pytest

from paddlevid.metrics import (
    average_precision,
    average_views,
    class_probabilities,
    mean_average_precision,
    mean_class_accuracy,
    score_probabilities,
    top_k_accuracy,
)

SCORES = np.array([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
LABELS = np.array([1, 1, 0, 0])


def test_top_k_by_hand():
    assert top_k_accuracy(SCORES, LABELS, 1) == 0.5
    assert top_k_accuracy(SCORES, LABELS, 2) == 0.75


def test_k_is_cut_to_the_number_of_classes():
    assert top_k_accuracy(SCORES, LABELS, 5) == 1.0


def test_ties_go_to_the_lower_class():
    assert top_k_accuracy(np.zeros((1, 4)), np.array([0]), 1) == 1.0
    assert top_k_accuracy(np.zeros((1, 4)), np.array([3]), 3) == 0.0


def test_mean_class_accuracy_leaves_out_absent_classes():
    labels = np.array([0, 0, 0, 2])  # class 1 has no video
    scores = np.eye(3)[[0, 0, 1, 2]]
    assert mean_class_accuracy(scores, labels) == pytest.approx((2 / 3 + 1) / 2)


def test_nothing_to_score_is_not_a_number():
    empty = np.zeros((0, 3))
    assert np.isnan(top_k_accuracy(empty, np.zeros(0, int), 1))
    assert np.isnan(mean_class_accuracy(empty, np.zeros(0, int)))


def precision_of_one_class(scores, targets):
    return average_precision(np.array(scores)[:, None], np.array(targets, bool)[:, None])[0]


def test_average_precision_by_hand():
    # the positives stand at 1 and 3: precisions 1/1 and 2/3
    assert precision_of_one_class([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0]) == pytest.approx((1 + 2 / 3) / 2)
    # at 2 and 5 of 5, in another order of the videos: 1/2 and 2/5
    assert precision_of_one_class([-3.0, 2.0, 0.0, 1.0, -1.0], [1, 0, 0, 1, 0]) == pytest.approx((1 / 2 + 2 / 5) / 2)
    assert precision_of_one_class([3, 2, 1], [1, 1, 0]) == 1
    assert precision_of_one_class([3, 2, 1], [1, 1, 1]) == 1


def test_equal_scores_count_together():
    # thresholds 0.9 (0 of 1 right), 0.5 (1 of 3), 0.1 (2 of 4)
    expected = 1 / 2 * 1 / 3 + 1 / 2 * 2 / 4
    for second, third in ((1, 0), (0, 1)):  # in whatever order they stand
        assert precision_of_one_class([0.9, 0.5, 0.5, 0.1], [0, second, third, 1]) == pytest.approx(expected)
    assert precision_of_one_class([1.0] * 8, [1, 0, 0, 0, 1, 0, 0, 0]) == pytest.approx(2 / 8)


def test_a_class_without_positives_does_not_count():
    scores = np.array([[0.9, 0.1, 0.5], [0.2, 0.8, 0.4], [0.5, 0.3, 0.3]])
    targets = np.array([[1, 0, 0], [0, 0, 1], [1, 0, 0]], bool)
    precisions = average_precision(scores, targets)
    assert np.isnan(precisions[1])
    assert precisions[[0, 2]].tolist() == [1, 0.5]
    assert mean_average_precision(precisions) == pytest.approx(0.75)
    assert np.isnan(mean_average_precision(average_precision(scores, np.zeros_like(targets))))
    assert np.isnan(mean_average_precision(average_precision(np.zeros((0, 3)), np.zeros((0, 3), bool))))


def test_scores_that_are_no_numbers_are_the_lowest():
    nan = float("nan")
    for scores in ([nan, nan, 1.0, 0.0], [0.0, nan, 1.0, nan]):
        targets = np.isnan(scores)
        assert precision_of_one_class(scores, targets) == pytest.approx(2 / 4)
    assert precision_of_one_class([nan] * 4, [0, 0, 1, 0]) == pytest.approx(1 / 4)


def random_lists(num_lists):
    """Scores with and without ties, and targets, of some videos and classes."""
    for seed in range(num_lists):
        rng = np.random.default_rng(seed)
        num_videos, num_classes = rng.integers(1, 40), rng.integers(1, 6)
        scores = rng.standard_normal((num_videos, num_classes))
        if seed % 2:
            scores = scores.round(0)
        yield scores.astype(np.float32), rng.random((num_videos, num_classes)) < rng.random()


def by_definition(scores, targets):
    """Each threshold by itself, in whole numbers."""
    total = Fraction(0)
    recall_before = Fraction(0)
    for threshold in sorted(set(scores.tolist()), reverse=True):
        chosen = targets[scores >= threshold]
        hits, num_positives = int(chosen.sum()), int(targets.sum())
        recall = Fraction(hits, num_positives)
        total += (recall - recall_before) * Fraction(hits, len(chosen))
        recall_before = recall
    return float(total)


def test_average_precision_as_defined():
    for scores, targets in random_lists(40):
        found = average_precision(scores, targets)
        for label in range(targets.shape[1]):
            if targets[:, label].any():
                assert found[label] == pytest.approx(by_definition(scores[:, label], targets[:, label]), abs=1e-12)
            else:
                assert np.isnan(found[label])


def test_average_precision_as_in_scikit_learn():
    average_precision_score = pytest.importorskip("sklearn.metrics").average_precision_score
    for scores, targets in random_lists(40):
        present = targets.any(axis=0)
        expected = [average_precision_score(targets[:, k], scores[:, k]) for k in np.flatnonzero(present)]
        found = average_precision(scores, targets)
        np.testing.assert_allclose(found[present], expected, atol=1e-12)
        if present.any():
            assert mean_average_precision(found) == pytest.approx(np.mean(expected), abs=1e-12)


def test_probabilities_by_hand():
    logits = np.array([[0.0, 2.0, -1.0]], np.float32)
    total = 1 + exp(2) + exp(-1)
    one = class_probabilities(logits, multi_label=False)
    np.testing.assert_allclose(one, [[1 / total, exp(2) / total, exp(-1) / total]], rtol=1e-6)
    several = class_probabilities(logits, multi_label=True)
    np.testing.assert_allclose(several, [[0.5, 1 / (1 + exp(-2)), 1 / (1 + exp(1))]], rtol=1e-6)
    assert one.dtype == several.dtype == np.float32


@pytest.mark.filterwarnings("error")
def test_large_logits_have_probabilities():
    logits = np.array([-1000, -80, -30, 30, 1000], np.float32)
    several = class_probabilities(logits, multi_label=True)
    np.testing.assert_allclose(several, [0, exp(-80), exp(-30), 1, 1], rtol=1e-5)
    np.testing.assert_array_equal(class_probabilities(logits, multi_label=False), [0, 0, 0, 0, 1])


@pytest.mark.parametrize(("multi_label", "of_zero", "of_large"), [(False, 0.5, [0, 1]), (True, 0.5, [0.5, 1])])
def test_views_are_averaged_as_logits_or_as_probabilities(multi_label, of_zero, of_large):
    views = np.array([[[0, 0], [0, 40]]], np.float32)  # [N, V, K]
    scores = average_views(views, average="logits", multi_label=multi_label)
    assert scores.tolist() == [[0, 20]]
    found = score_probabilities(scores, average="logits", multi_label=multi_label)
    np.testing.assert_allclose(found, [of_large], atol=1e-6)
    scores = average_views(views, average="probabilities", multi_label=multi_label)
    np.testing.assert_allclose(scores, [[(of_zero + of_large[0]) / 2, (of_zero + of_large[1]) / 2]], atol=1e-6)
    assert score_probabilities(scores, average="probabilities", multi_label=multi_label) is scores
