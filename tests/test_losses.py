from __future__ import annotations

import math

import numpy as np
import paddle
import pytest

from paddlevid import build
from paddlevid.config import load_config
from paddlevid.losses import ClipLoss, balanced_class_weights

LN2, LN3, LN4 = math.log(2), math.log(3), math.log(4)


def losses(loss, logits, targets):
    return loss(paddle.to_tensor(logits, dtype="float32"), paddle.to_tensor(targets, dtype="float32")).numpy()


def test_cross_entropy_by_hand():
    # softmax of [0, ln 3] is [1/4, 3/4]
    logits, targets = [[0, LN3]] * 3, [[1, 0], [0, 1], [0.5, 0.5]]
    expected = [LN4, LN4 - LN3, LN4 - LN3 / 2]
    np.testing.assert_allclose(losses(ClipLoss(2), logits, targets), expected, rtol=1e-6)
    weighted = [3 * LN4, LN4 - LN3, (3 * LN4 + LN4 - LN3) / 2]
    np.testing.assert_allclose(losses(ClipLoss(2, class_weights=(3, 1)), logits, targets), weighted, rtol=1e-6)
    # smoothed by 0.2, [1, 0] is [0.9, 0.1]
    smoothed = losses(ClipLoss(2, label_smoothing=0.2), logits[:1], targets[:1])
    np.testing.assert_allclose(smoothed, [0.9 * LN4 + 0.1 * (LN4 - LN3)], rtol=1e-6)


def test_binary_cross_entropy_by_hand():
    # sigmoid of 0 is 1/2, of ln 3 it is 3/4
    logits, targets = [[0, LN3], [0, LN3], [0, LN3]], [[1, 0], [1, 1], [0, 0]]
    expected = [(LN2 + LN4) / 2, (LN2 + LN4 - LN3) / 2, (LN2 + LN4) / 2]
    np.testing.assert_allclose(losses(ClipLoss(2, multi_label=True), logits, targets), expected, rtol=1e-6)
    weighted = losses(ClipLoss(2, multi_label=True, class_weights=(3, 1)), logits, targets)
    np.testing.assert_allclose(weighted, np.array(expected) + LN2, rtol=1e-6)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"class_weights": [0.3, 2.0, 1.0, 0.7, 4.0]}])
def test_losses_and_gradients_are_those_of_pytorch(multi_label, options):
    torch = pytest.importorskip("torch")
    if multi_label and "label_smoothing" in options:
        pytest.skip("label smoothing is for one label")
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (7, 5)).astype(np.float32)
    logits[0] = [200, -200, 0, 0, 0]  # beyond what exp can hold, and where a head of zeros starts
    targets = rng.random((7, 5)).astype(np.float32)
    targets[:3] = np.eye(5)[[1, 0, 3]]
    weight = torch.tensor(options["class_weights"]) if "class_weights" in options else None
    theirs = torch.tensor(logits, requires_grad=True)
    if multi_label:
        criterion = torch.nn.BCEWithLogitsLoss(weight=weight, reduction="none")
        expected = criterion(theirs, torch.tensor(targets)).mean(dim=1)
    else:
        targets /= targets.sum(axis=1, keepdims=True)
        smoothing = options.get("label_smoothing", 0.0)
        criterion = torch.nn.CrossEntropyLoss(weight=weight, label_smoothing=smoothing, reduction="none")
        expected = criterion(theirs, torch.tensor(targets))
    expected.sum().backward()
    ours = paddle.to_tensor(logits, stop_gradient=False)
    found = ClipLoss(5, multi_label=multi_label, **options)(ours, paddle.to_tensor(targets))
    found.sum().backward()
    np.testing.assert_allclose(found.numpy(), expected.detach().numpy(), rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("multi_label", [False, True])
def test_logits_of_frames_give_the_mean_of_the_frames_losses(multi_label):
    rng = np.random.default_rng(1)
    logits, targets = rng.normal(0, 2, (4, 3, 5)), np.eye(5)[[0, 4, 2, 2]]  # [B, T, K], [B, K]
    loss = ClipLoss(5, multi_label=multi_label, class_weights=[1, 2, 3, 4, 5])
    each = np.stack([losses(loss, logits[:, frame], targets) for frame in range(3)])  # [T, B]
    np.testing.assert_allclose(losses(loss, logits, targets), each.mean(axis=0), rtol=1e-5)


def test_balanced_weights_are_inverse_to_the_counts_with_mean_1():
    labels = [0] * 6 + [1] * 3 + [2]
    weights = balanced_class_weights(labels, 4)
    assert weights == pytest.approx([10 / 18, 10 / 9, 10 / 3, 1])
    assert np.mean([weights[label] for label in labels]) == pytest.approx(1)


def test_the_loss_of_a_recipe(tiny_recipe, motion_set, tmp_path):
    lines = (motion_set / "train.txt").read_text().splitlines()
    clips = [line.rsplit(" ", 1)[0] for line in lines[:4]]
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"{clip} {label}\n" for clip, label in zip(clips, (3, 3, 3, 5), strict=True)))

    def loss_of(*overrides):
        cfg = load_config(tiny_recipe(), [f"train.list={listed}", *overrides])
        return build.build_loss(cfg, build.build_train_dataset(cfg))

    logits, targets = np.zeros((2, 8)), np.eye(8)[[3, 5]]
    log8 = math.log(8)
    assert losses(loss_of(), logits, targets) == pytest.approx([log8, log8], rel=1e-6)
    balanced = losses(loss_of("train.class_weights=balanced"), logits, targets)
    assert balanced == pytest.approx([4 / 6 * log8, 4 / 2 * log8], rel=1e-6)
    given = losses(loss_of("train.class_weights=[1, 1, 1, 2, 1, 3, 1, 1]"), logits, targets)
    assert given == pytest.approx([2 * log8, 3 * log8], rel=1e-6)
    assert losses(loss_of("data.multi_label=true"), logits, targets) == pytest.approx([LN2, LN2], rel=1e-6)


def test_what_does_not_fit_is_told():
    with pytest.raises(ValueError, match="2 numbers for num_classes 3"):
        ClipLoss(3, class_weights=[1, 2])
    with pytest.raises(ValueError, match="one label"):
        ClipLoss(3, multi_label=True, label_smoothing=0.1)
    with pytest.raises(ValueError, match=r"logits \[2, 4\] and targets \[2, 3\]"):
        losses(ClipLoss(3), np.zeros((2, 4)), np.zeros((2, 3)))
