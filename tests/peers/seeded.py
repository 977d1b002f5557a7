"""Weights and videos that are the same on every machine: functions of a seed and a name."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np

State = dict[str, np.ndarray]

NORMALS = ("weight", "gamma")
VARIANCES = ("running_var", "_variance")
COUNTERS = "num_batches_tracked"
# A convolution behind a ReLU gets half of a variance and would have to double it. It does less: a branch must stay
# small beside the sum that it joins, or the shifts of its normalisation vanish in deep networks. Convolutions of single
# channels stand in MobileNetV2, which has less of such sums.
CONV_GAIN = 1.0
CHANNEL_CONV_GAIN = 2.5
BRANCH_CONV_GAIN = 2.0  # of Inception v3, whose branches are long and join nothing
LINEAR_GAIN = 3.0


def stream(name: str, seed: int) -> np.random.RandomState:
    """Random numbers of one tensor; the streams of RandomState never change between versions of NumPy."""
    return np.random.RandomState([seed, zlib.crc32(name.encode())])


def seeded_tensor(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """One tensor of a state, of a scale that keeps signals alive over a hundred layers; its kind is told by its name.

    Factors and variances of normalisations lie in 0.5 .. 1.5, their shifts and all biases around 0 with std 0.1,
    embeddings around 0 with std 0.5, and the other weights are scaled by what they sum over.
    """
    rng = stream(name, seed)
    kind = name.rsplit(".", 1)[-1]
    if kind == COUNTERS:
        return np.asarray(rng.randint(1, 1000), np.int64).reshape(shape)
    if len(shape) == 1 and (kind in NORMALS or kind in VARIANCES):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if len(shape) == 1:
        std = 0.1
    elif len(shape) == 2:
        std = np.sqrt(2 * LINEAR_GAIN / sum(shape))  # the same for [in, out] and [out, in]
    elif len(shape) == 3:
        std = 0.5
    else:
        gain = CHANNEL_CONV_GAIN if shape[1] == 1 else CONV_GAIN
        gain = BRANCH_CONV_GAIN if name.startswith("Mixed_") else gain
        std = np.sqrt(gain / np.prod(shape[1:]))
    return (rng.uniform(-1, 1, shape) * (np.sqrt(3) * std)).astype(np.float32)


def seeded_state(shapes: Mapping[str, tuple[int, ...]], seed: int) -> State:
    """A whole state: float32 arrays by name, int64 for the counters of PyTorch's batch normalisation."""
    return {name: seeded_tensor(name, tuple(shape), seed) for name, shape in shapes.items()}


def seeded_video(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Float32 of mean 0 and variance 1, [B, T, C, H, W] or [B, C, H, W]."""
    return (stream("video", seed).uniform(-1, 1, shape) * np.sqrt(3)).astype(np.float32)


def seeded_frames(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Whole numbers of 0 to 255 as float32, [B, T, C, H, W]: raw frames, or 8-bit flow."""
    return stream("frames", seed).randint(0, 256, shape).astype(np.float32)


def perturbed(name: str, value: np.ndarray, seed: int) -> np.ndarray:
    """The tensor with each number changed by itself, so that a transpose or a swap moves the logits elsewhere.

    Numbers are multiplied by 0.5 .. 1.5; what may be near zero, all but weights and variances, is also moved by
    up to 0.5.
    """
    rng = stream("perturbed " + name, seed)
    changed = value * rng.uniform(0.5, 1.5, value.shape)
    if value.ndim in (1, 3) and value.min() < 0:
        changed += rng.uniform(-0.5, 0.5, value.shape)
    return changed.astype(value.dtype)
