"""From a video on the disk to an answer: places in the queue, decoding, the model, the classes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TypedDict

import paddlevid
from paddlevid.deploy.predictor import Predictor
from paddlevid.serve.batching import Batcher
from paddlevid.serve.decoders import DecoderPool
from paddlevid.serve.decoding import DecoderSettings
from paddlevid.serve.limits import Limits, unavailable
from paddlevid.serve.metrics import Metrics
from paddlevid.serve.uploads import UploadFolder, Video


class Health(TypedDict):
    status: str
    model: str
    runtime: str
    precision: str
    version: str


class Service:
    """A model that waits for videos. It holds processes, threads and a folder until it is closed.

    Args:
        root: videos below this folder may be named instead of uploaded.
        batch_wait_sec: how long the first view of a run waits for more.
    """

    def __init__(
        self,
        predictor: Predictor,
        limits: Limits,
        *,
        num_decoders: int,
        batch_wait_sec: float,
        root: Path | None = None,
        temp_dir: str | Path | None = None,
    ) -> None:
        self.predictor, self.limits = predictor, limits
        self.root = None if root is None else root.resolve()
        self.num_here = 0
        self.is_ending = False
        self.metrics = Metrics(queue_length=lambda: self.num_here)
        self.uploads = UploadFolder(temp_dir)
        manifest = predictor.manifest
        settings = DecoderSettings(manifest.data, manifest.views, limits.max_video_sec, limits.max_pixels)
        self._decoders = DecoderPool(settings, num_decoders, on_restart=self.metrics.decoder_restarts.inc)
        self._batcher = Batcher(
            lambda views: predictor.run(views).logits,
            batch_size=predictor.batch_size,
            wait_sec=batch_wait_sec,
            on_run=self._note_run,
        )
        # Decoded views are large: no more videos are decoded than the decoders and the next two runs hold.
        num_decoded = num_decoders + 2 * -(-predictor.batch_size // predictor.views.num_views)
        self._room = asyncio.Semaphore(num_decoded)

    def start(self) -> None:
        """Return when the model has run once and the decoders wait for work."""
        self._decoders.start()
        self.predictor.warm_up()

    def close(self) -> None:
        """Stop at once, and leave nothing behind."""
        self.is_ending = True
        self._decoders.close()
        self._batcher.close()
        self.uploads.close()

    @property
    def is_ready(self) -> bool:
        return not self.is_ending and self._decoders.is_ready

    def health(self) -> Health:
        runtime = self.predictor.runtime
        return Health(
            status="ready" if self.is_ready else "not ready",
            model=self.predictor.manifest.model,
            runtime=runtime.name,
            precision=runtime.precision,
            version=paddlevid.__version__,
        )

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place in the queue, as long as a request is here.

        Raises:
            Refused: there is none (503).
        """
        if self.is_ending:
            raise unavailable("the server is shutting down")
        if self.num_here >= self.limits.max_queue:
            raise unavailable(f"{self.num_here} requests are here already; try again later")
        self.num_here += 1
        try:
            yield
        finally:
            self.num_here -= 1

    async def predict(self, video: Video, top_k: int) -> dict[str, object]:
        """What the client gets, but for the total time. Cancelling it leaves no work behind that has not begun.

        Raises:
            Refused: the video cannot be read (422), asks for too much (413), or takes too long to decode (504).
        """
        deadline = time.monotonic() + self.limits.timeout_sec
        async with self._room:
            decoded = await asyncio.wrap_future(self._decoders.submit(video.path, deadline))
            self.metrics.decode_seconds.observe(decoded.decode_sec)
            answer = await asyncio.wrap_future(self._batcher.submit(decoded.views))
        predictions = self.predictor.rank(self.predictor.average(answer.logits), top_k)
        return {
            "predictions": [prediction._asdict() for prediction in predictions],
            "timing": {
                "decode_ms": round(1000 * decoded.decode_sec, 3),
                "model_ms": round(1000 * answer.model_sec, 3),
            },
            "clip": {"name": video.name, **asdict(decoded.clip), "num_views": len(decoded.views)},
        }

    def _note_run(self, num_views: int, seconds: float) -> None:
        self.metrics.batch_views.observe(num_views)
        self.metrics.model_seconds.observe(seconds)
