"""An exported folder -> labels of videos. The folder is enough: `inference.yml` tells the clip and the views."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from paddlevid.build import build_views
from paddlevid.data.flow.method import choose_algorithm
from paddlevid.data.records import Record
from paddlevid.deploy.manifest import Manifest, Precision, read_manifest
from paddlevid.deploy.runtimes import Runtime, open_runtime
from paddlevid.errors import ConfigError, DataError
from paddlevid.metrics import average_views, score_probabilities

MAX_READERS = 8


class Prediction(NamedTuple):
    """A class and its probability."""

    label: int
    name: str
    score: float


class Outputs(NamedTuple):
    """What a model says of views: `logits` float32 `[V, K]` and `features` float32 `[V, D]`."""

    logits: np.ndarray
    features: np.ndarray


Video = str | Path | Record
AnyVideo = TypeVar("AnyVideo", bound=Video)


class Predictor:
    """Labels videos with an exported model.

    >>> predict = Predictor("inference/TimeSformer")
    >>> predict("x.avi", top_k=5)
    [Prediction(label=5, name='archery', score=0.9997), ...]

    Args:
        folder: what `tools/export_model.py` wrote.
        runtime: `paddle`, `onnxruntime`, `openvino`, or `auto`: the fastest one that is installed.
        precision: fp32, bf16, fp16 or int8, where the folder was exported for it; see `open_runtime`.
        num_threads: CPU threads of the model; all cores by default.
        batch_size: views a run of the model.
        num_readers: threads that read videos ahead of the model in `predict_many`; one a core by default, 8 at most.

    Raises:
        ConfigError: the folder holds no exported model, or none that runs here.
    """

    def __init__(
        self,
        folder: str | Path,
        runtime: str = "auto",
        *,
        precision: Precision | None = None,
        use_gpu: bool = False,
        use_tensorrt: bool = False,
        num_threads: int | None = None,
        batch_size: int = 8,
        num_readers: int | None = None,
    ):
        manifest = read_manifest(folder)
        opened = open_runtime(
            folder,
            manifest,
            name=runtime,
            precision=precision,
            use_gpu=use_gpu,
            use_tensorrt=use_tensorrt,
            num_threads=num_threads,
        )
        self._setup(manifest, opened, batch_size, num_readers)

    @classmethod
    def from_parts(
        cls, manifest: Manifest, runtime: Runtime, *, batch_size: int = 8, num_readers: int | None = None
    ) -> Predictor:
        """A predictor of a graph that already runs, whose clip and views `manifest` describes."""
        self = cls.__new__(cls)
        self._setup(manifest, runtime, batch_size, num_readers)
        return self

    def _setup(self, manifest: Manifest, runtime: Runtime, batch_size: int, num_readers: int | None) -> None:
        for name, value in (("batch_size", batch_size), ("num_readers", num_readers)):
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be 1 or more, not {value}")
        self.manifest, self.runtime, self.batch_size = manifest, runtime, batch_size
        self.num_readers = num_readers or min(os.cpu_count() or 1, MAX_READERS)
        self.views = build_views(manifest.data, manifest.views)

    def __call__(self, video: Video, top_k: int = 5) -> list[Prediction]:
        """The `min(top_k, K)` most probable classes of a video, best first.

        Raises:
            DataError: the video cannot be read.
        """
        return self.rank(self.scores(video), top_k)

    def predict_many(
        self, videos: Iterable[AnyVideo], top_k: int = 5
    ) -> Iterator[tuple[AnyVideo, list[Prediction] | DataError]]:
        """Each video, in order, with its classes or with the reason why it could not be read.

        The next videos are read while the model runs, and views of several videos share a run.
        """
        for group in self._groups(self.read_ahead(videos)):
            read = [views for _, views in group if not isinstance(views, DataError)]
            logits = iter(self._split(read))
            for video, views in group:
                if isinstance(views, DataError):
                    yield video, views
                else:
                    yield video, self.rank(self.average(next(logits)), top_k)

    def read_ahead(self, videos: Iterable[AnyVideo]) -> Iterator[tuple[AnyVideo, np.ndarray | DataError]]:
        """Each video, in order, with its views uint8 `[V, T, H, W, C]`, read in other threads while the caller works.

        What lies read and waiting is one run of the model and a video a reader.
        """
        num_ahead = self.num_readers + max(1, self.batch_size // self.views.num_views)
        waiting: deque[tuple[AnyVideo, Future[np.ndarray | DataError]]] = deque()
        remaining = iter(videos)
        pool = ThreadPoolExecutor(self.num_readers, thread_name_prefix="reader")
        try:
            while True:
                for video in islice(remaining, num_ahead - len(waiting)):
                    waiting.append((video, pool.submit(self._read_or_error, video)))
                if not waiting:
                    return
                video, future = waiting.popleft()
                yield video, future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def read(self, video: Video) -> np.ndarray:
        """The views of a video, uint8 `[V, T, H, W, C]`.

        Raises:
            DataError: the video cannot be read.
        """
        return self.views(video if isinstance(video, Record) else Record(path=str(video), name=str(video)))

    def _read_or_error(self, video: Video) -> np.ndarray | DataError:
        try:
            return self.read(video)
        except DataError as error:
            return error

    def _groups(
        self, videos: Iterable[tuple[AnyVideo, np.ndarray | DataError]]
    ) -> Iterator[list[tuple[AnyVideo, np.ndarray | DataError]]]:
        """Videos whose views fill a run of the model together; one that fills several runs stays alone."""
        group: list[tuple[AnyVideo, np.ndarray | DataError]] = []
        num_views = 0
        for video, views in videos:
            count = 0 if isinstance(views, DataError) else len(views)
            if group and num_views + count > self.batch_size:
                yield group
                group, num_views = [], 0
            group.append((video, views))
            num_views += count
        if group:
            yield group

    def _split(self, views_of_videos: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Logits `[V, K]` of each video."""
        if not views_of_videos:
            return []
        logits = self.run(np.concatenate(views_of_videos)).logits
        ends = np.cumsum([len(views) for views in views_of_videos])
        return np.split(logits, ends[:-1])

    def scores(self, video: Video) -> np.ndarray:
        """Mean over the views of a video: logits or probabilities, as `views.average` says; float32 `[K]`."""
        return self.average(self.run(self.read(video)).logits)

    def features(self, video: Video) -> np.ndarray:
        """What the classifier sees of each clip of a video, the mean over its crops: float32 `[clips, D]`."""
        feats = self.run(self.read(video)).features  # [clips*crops, D]
        return feats.reshape(self.views.num_clips, -1, feats.shape[-1]).mean(axis=1)

    def run(self, views: np.ndarray) -> Outputs:
        """Raw frames uint8 `[V, T, H, W, C]` through the model, `batch_size` views at a time.

        Raises:
            ConfigError: the graph is of another clip or other classes than its description.
        """
        pieces = [
            self.runtime(views[start : start + self.batch_size]) for start in range(0, len(views), self.batch_size)
        ]
        outputs = Outputs(*(np.concatenate(parts) for parts in zip(*pieces, strict=True)))
        if outputs.logits.shape[1] != len(self.manifest.class_names):
            raise ConfigError(
                f"the model has {outputs.logits.shape[1]} classes, the config describes "
                f"{len(self.manifest.class_names)}"
            )
        return outputs

    def warm_up(self) -> None:
        """Run the model once on blank frames of a whole batch and of one video, so that no user waits for it."""
        size, channels = self.manifest.data.image_size, self.manifest.data.channels
        for num_views in sorted({min(self.views.num_views, self.batch_size), self.batch_size}):
            self.run(np.zeros((num_views, self.manifest.num_frames, size, size, channels), np.uint8))

    def check_flow(self) -> None:
        """See that the flow of plain videos can be computed here, where the model takes flow.

        Raises:
            ConfigError: the algorithm of its training is not installed.
        """
        if self.views.source.flow is not None:
            choose_algorithm(self.views.source.flow.algorithm)

    def average(self, logits: np.ndarray) -> np.ndarray:
        """Logits of views `[V, K]` -> scores of the video `[K]`."""
        manifest = self.manifest
        return average_views(logits, average=manifest.views.average, multi_label=manifest.data.multi_label)

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """Scores `[K]` -> probabilities `[K]`, which sum to 1 unless the model gives a video several labels."""
        manifest = self.manifest
        return score_probabilities(scores, average=manifest.views.average, multi_label=manifest.data.multi_label)

    def rank(self, scores: np.ndarray, top_k: int) -> list[Prediction]:
        """The best classes of `scores` `[K]` with their probabilities."""
        if top_k < 1:
            raise ConfigError(f"top_k must be 1 or more, not {top_k}")
        probabilities = self.probabilities(scores)
        best = np.argsort(-scores, kind="stable")[:top_k]  # of scores: probabilities may round to equal zeros
        names = self.manifest.class_names
        return [Prediction(int(label), names[label], float(probabilities[label])) for label in best]
