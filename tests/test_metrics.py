import numpy as np
import pytest

from paddlevid.metrics import mean_class_accuracy, top_k_accuracy

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
