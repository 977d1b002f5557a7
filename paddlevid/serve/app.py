"""The routes, and one form of answer for everything that goes wrong."""

from __future__ import annotations

import asyncio
import errno
import time
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import paddlevid
from paddlevid.serve.limits import Refused, unavailable
from paddlevid.serve.metrics import CONTENT_TYPE, DISCONNECTED, Metrics
from paddlevid.serve.service import Service
from paddlevid.serve.uploads import video_of

ROUTES = ("/predict", "/health", "/metrics", "/openapi.json")
BODIES = {
    "multipart/form-data": {
        "schema": {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}}
    },
    "video/*": {"schema": {"type": "string", "format": "binary"}},
    "application/json": {"schema": {"type": "object", "properties": {"path": {"type": "string"}}}},
}
DISK_IS_FULL = {errno.ENOSPC, errno.EDQUOT}


def create_app(service: Service) -> FastAPI:
    """The application of a service that was started; whoever made the service closes it."""
    app = FastAPI(title="paddlevid", version=paddlevid.__version__, docs_url=None, redoc_url=None)

    @app.post("/predict", openapi_extra={"requestBody": {"content": BODIES, "required": True}})
    async def predict(request: Request, top_k: Annotated[int, Query(ge=1)] = 5) -> JSONResponse:
        """Label a video that is uploaded, or named by its path below the root of the server."""
        started = time.perf_counter()
        received = service.metrics.upload_bytes.inc
        with service.place():
            async with video_of(request, service.uploads, service.root, service.limits, received) as video:
                answer = await _while_connected(request, service.predict(video, top_k), service.limits.timeout_sec)
        answer["timing"]["total_ms"] = round(1000 * (time.perf_counter() - started), 3)
        return JSONResponse(answer)

    @app.get("/health")
    async def health() -> JSONResponse:
        """200 when requests are welcome, 503 otherwise; which model answers them."""
        return JSONResponse(service.health(), status_code=200 if service.is_ready else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        """Counters in the text format of Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)

    _answer_errors(app)
    app.add_middleware(Counting, metrics=service.metrics)
    return app


async def _while_connected(request: Request, work: Any, timeout_sec: float) -> dict[str, Any]:
    """The result of `work`, which is cancelled when the client leaves, or after `timeout_sec`.

    Raises:
        Refused: it took too long (504).
        ClientDisconnect: nobody waits for it any more.
    """
    job = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_until_disconnected(request))
    try:
        await asyncio.wait({job, gone}, timeout=timeout_sec, return_when=asyncio.FIRST_COMPLETED)
        if job.done():
            return job.result()
        if gone.done():
            raise ClientDisconnect
        raise Refused(504, f"there was no answer within {timeout_sec:g} s")
    finally:
        for task in (job, gone):
            task.cancel()
        await asyncio.gather(job, gone, return_exceptions=True)


async def _until_disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": message}, status_code=status, headers=headers)


def _answer_errors(app: FastAPI) -> None:
    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> JSONResponse:
        return _error(error.status, error.message, error.headers)

    @app.exception_handler(HTTPException)
    async def of_routing(request: Request, error: HTTPException) -> JSONResponse:
        what = {404: f"no route {request.url.path[:200]!r}; there are {', '.join(ROUTES)}"}
        headers = None if error.headers is None else dict(error.headers)
        return _error(error.status_code, what.get(error.status_code, str(error.detail)), headers)

    @app.exception_handler(RequestValidationError)
    async def of_arguments(request: Request, error: RequestValidationError) -> JSONResponse:
        places = [f"{'.'.join(map(str, found['loc']))}: {found['msg']}" for found in error.errors()]
        return _error(422, "; ".join(places))

    @app.exception_handler(ClientDisconnect)
    async def nobody_there(request: Request, error: ClientDisconnect) -> JSONResponse:
        return _error(DISCONNECTED, "the client left")

    @app.exception_handler(OSError)
    async def of_disk(request: Request, error: OSError) -> JSONResponse:
        if error.errno not in DISK_IS_FULL:
            raise error
        full = unavailable("the server has no room for this upload")
        return _error(full.status, full.message, full.headers)

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> JSONResponse:
        return _error(500, "internal error; the log of the server tells more")


class Counting:
    """Counts and times all answers, and answers requests that a shutdown does not wait for any longer."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note_status)
        except asyncio.CancelledError:
            if not status:
                await _error(503, "the server is shutting down")(scope, receive, note_status)
        except Exception:
            status = status or 500
            raise
        finally:
            route = scope["path"] if scope["path"] in ROUTES else "other"
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.request_seconds.labels(route).observe(time.perf_counter() - started)
