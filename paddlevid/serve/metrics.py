"""What the service counts, for Prometheus. Each service has its own registry, so that several fit in a process."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
DISCONNECTED = 499  # the client left before it had an answer


class Metrics:
    def __init__(self, queue_length: Callable[[], float]) -> None:
        self._registry = here = CollectorRegistry()
        by_route = ["route"]
        self.requests = Counter(
            "paddlevid_requests", "Requests by route and status", [*by_route, "status"], registry=here
        )
        self.request_seconds = Histogram(
            "paddlevid_request_seconds", "From a request to its answer", by_route, buckets=SECONDS, registry=here
        )
        self.decode_seconds = Histogram(
            "paddlevid_decode_seconds", "Decoding of a video", buckets=SECONDS, registry=here
        )
        self.model_seconds = Histogram("paddlevid_model_seconds", "A run of the model", buckets=SECONDS, registry=here)
        self.batch_views = Histogram("paddlevid_batch_views", "Views in a run", buckets=BATCH_SIZES, registry=here)
        self.upload_bytes = Counter("paddlevid_upload_bytes", "Bytes of bodies received", registry=here)
        self.decoder_restarts = Counter(
            "paddlevid_decoder_restarts", "Decoding processes that crashed or were stopped", registry=here
        )
        queue = Gauge("paddlevid_queue_length", "Requests for a prediction that are here", registry=here)
        queue.set_function(queue_length)

    def text(self) -> bytes:
        return generate_latest(self._registry)
