"""The loss of each clip."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import paddle
import paddle.nn.functional as F


class ClipLoss(paddle.nn.Layer):
    """Logits `[B, K]` or `[B, T, K]` and targets `[B, K]`, all float32 -> the loss of each clip, float32 `[B]`.

    With one label a clip it is the cross entropy of softmax and a target of probabilities, a sum over classes; with
    several, the binary cross entropy of sigmoid, a mean over classes. Both are those of PyTorch's CrossEntropyLoss and
    BCEWithLogitsLoss. Logits of frames give the mean of the frames' losses.

    Args:
        label_smoothing: the share of a target that is spread over all classes; for one label a clip.
        class_weights: a factor for the terms of each class, K numbers above 0. What is made of the losses does not
            divide by them: weights whose mean over the training clips is 1 keep the size of a step.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        multi_label: bool = False,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if multi_label and label_smoothing:
            raise ValueError(f"label_smoothing {label_smoothing} is for one label a clip")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing {label_smoothing} must be at least 0 and below 1")
        if class_weights is not None and len(class_weights) != num_classes:
            raise ValueError(f"class_weights has {len(class_weights)} numbers for num_classes {num_classes}")
        self.num_classes = num_classes
        self.multi_label = multi_label
        self.label_smoothing = label_smoothing
        weights = None if class_weights is None else paddle.to_tensor(class_weights, dtype="float32")
        self.register_buffer("class_weights", weights, persistable=False)

    def forward(self, logits: paddle.Tensor, targets: paddle.Tensor) -> paddle.Tensor:
        frames = logits.unsqueeze(1) if logits.ndim == 2 else logits  # [B, 1 or T, K]
        if frames.shape[-1] != self.num_classes or targets.shape[-1] != self.num_classes:
            raise ValueError(
                f"logits {list(logits.shape)} and targets {list(targets.shape)} do not end in "
                f"num_classes {self.num_classes}"
            )
        if self.multi_label:
            # Not F.binary_cross_entropy_with_logits: in Paddle 3.3 its gradient at a logit of 0, where a head of zeros
            # starts, is too low by 1
            is_there, is_not = F.log_sigmoid(frames).mean(axis=1), F.log_sigmoid(-frames).mean(axis=1)  # [B, K]
            terms = -targets * is_there - (1 - targets) * is_not
        else:
            if self.label_smoothing:
                targets = (1 - self.label_smoothing) * targets + self.label_smoothing / self.num_classes
            # Not F.log_softmax: on CPUs Paddle's ends at -64
            log_probs = frames - paddle.logsumexp(frames, axis=-1, keepdim=True)
            terms = -targets * log_probs.mean(axis=1)  # [B, K]
        if self.class_weights is not None:
            terms = terms * self.class_weights
        return terms.mean(axis=1) if self.multi_label else terms.sum(axis=1)


def balanced_class_weights(labels: Sequence[int], num_classes: int) -> list[float]:
    """Weights in inverse proportion to the number of clips of each class, whose mean over all clips is 1.

    That is N / (P * n_c) for n_c of N clips and P classes that have any. Classes without clips get 1: their terms come
    from label smoothing alone.
    """
    counts = np.bincount(np.asarray(labels, np.int64), minlength=num_classes)  # [K]
    present = counts > 0
    return np.where(present, len(labels) / (present.sum() * np.maximum(counts, 1)), 1.0).tolist()
