"""An exported folder -> labels of videos. The folder is enough: `inference.yml` tells the clip and the views."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from paddlevid.build import build_views
from paddlevid.data.annotations import Record
from paddlevid.deploy.manifest import Manifest, read_manifest
from paddlevid.deploy.runtimes import PaddleRuntime, Runtime
from paddlevid.errors import ConfigError, DataError


class Prediction(NamedTuple):
    """A class and its probability."""

    label: int
    name: str
    score: float


class Predictor:
    """Labels videos with an exported model.

    >>> predict = Predictor("inference/TimeSformer")
    >>> predict("x.avi", top_k=5)
    [Prediction(label=5, name='archery', score=0.9997), ...]

    Args:
        folder: what `tools/export_model.py` wrote.
        batch_size: views a run of the model.

    Raises:
        ConfigError: the folder holds no exported model, or one of another clip or other classes than it says.
    """

    def __init__(self, folder: str | Path, *, use_gpu: bool = False, use_tensorrt: bool = False, batch_size: int = 8):
        manifest = read_manifest(folder)
        runtime = PaddleRuntime(
            Path(folder) / manifest.model_file,
            Path(folder) / manifest.params_file,
            use_gpu=use_gpu,
            use_tensorrt=use_tensorrt,
        )
        self._setup(manifest, runtime, batch_size)

    @classmethod
    def from_parts(cls, manifest: Manifest, runtime: Runtime, *, batch_size: int = 8) -> Predictor:
        """A predictor of a graph that already runs, whose clip and views `manifest` describes."""
        self = cls.__new__(cls)
        self._setup(manifest, runtime, batch_size)
        return self

    def _setup(self, manifest: Manifest, runtime: Runtime, batch_size: int) -> None:
        self.manifest, self.runtime, self.batch_size = manifest, runtime, batch_size
        self.views = build_views(manifest.data, manifest.views)

    def __call__(self, video: str | Path | Record, top_k: int = 5) -> list[Prediction]:
        """The `min(top_k, K)` most probable classes of a video, best first.

        Raises:
            DataError: the video cannot be read.
        """
        return self.rank(self.scores(video), top_k)

    def predict_many(
        self, videos: Iterable[str | Path | Record], top_k: int = 5
    ) -> Iterator[tuple[str | Path | Record, list[Prediction] | DataError]]:
        """Each video with its classes, or with the reason why it could not be read."""
        for video in videos:
            try:
                yield video, self(video, top_k)
            except DataError as error:
                yield video, error

    def scores(self, video: str | Path | Record) -> np.ndarray:
        """Mean over the views of a video: logits or probabilities, as `views.average` says; float32 `[K]`."""
        record = video if isinstance(video, Record) else Record(path=str(video), name=str(video))
        frames = self.views(record)  # [V, T, H, W, C]
        logits = np.concatenate(
            [self.runtime(frames[start : start + self.batch_size]) for start in range(0, len(frames), self.batch_size)]
        )  # [V, K]
        if logits.shape[1] != len(self.manifest.class_names):
            raise ConfigError(
                f"the model has {logits.shape[1]} classes, the config describes {len(self.manifest.class_names)}"
            )
        return (_softmax(logits) if self.manifest.views.average == "probabilities" else logits).mean(axis=0)

    def rank(self, scores: np.ndarray, top_k: int) -> list[Prediction]:
        """The best classes of `scores` `[K]` with their probabilities."""
        averaged_probabilities = self.manifest.views.average == "probabilities"
        probabilities = scores if averaged_probabilities else _softmax(scores)
        best = np.argsort(-scores, kind="stable")[:top_k]  # of scores: probabilities may round to equal zeros
        names = self.manifest.class_names
        return [Prediction(int(label), names[label], float(probabilities[label])) for label in best]


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)
