"""`paddlevid-serve FOLDER`: an exported model behind HTTP."""

from __future__ import annotations

import argparse
import asyncio
import errno
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from paddlevid.errors import ConfigError
from paddlevid.runtime import run_command

if TYPE_CHECKING:
    from paddlevid.serve.service import Service

PACKAGES = {"fastapi": "fastapi", "uvicorn": "uvicorn", "python_multipart": "python-multipart"}
PACKAGES["prometheus_client"] = "prometheus-client"
MAX_DEFAULT_DECODERS = 8
MIN_CONNECTIONS = 256


def number(kind: Callable[[str], float], at_least: float) -> Callable[[str], float]:
    """A type of argument: a number of `kind` that is `at_least` so large."""

    def parse(text: str) -> float:
        value = kind(text)
        if not at_least <= value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} must be at least {at_least:g}")
        return value

    parse.__name__ = kind.__name__  # argparse names it where the text is no number
    return parse


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="paddlevid-serve",
        description="Serve an exported model over HTTP: POST /predict, GET /health, GET /metrics.",
    )
    count, seconds = number(int, 1), number(float, 0.001)
    add = parser.add_argument
    add("folder", metavar="FOLDER", help="what tools/export_model.py wrote")
    add("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for all (127.0.0.1)")
    add("--port", type=number(int, 0), default=8000, help="0 for any that is free (8000)")
    add("--runtime", default="auto", choices=["auto", "paddle", "onnxruntime", "openvino"], help="(auto)")
    add("--precision", choices=["fp32", "bf16", "fp16", "int8"], help="of those that the folder holds")
    add("--use_gpu", action="store_true", help="run the model on a GPU")
    add("--threads", type=count, metavar="N", help="CPU threads of the model (all cores)")
    add("--decoders", type=count, metavar="N", help="processes that decode (one a core, 8 at most)")
    add("--batch_size", type=count, default=8, metavar="N", help="views a run of the model, of all requests (8)")
    add("--batch_wait_ms", type=number(float, 0), default=5, metavar="MS", help="how long a view waits for others (5)")
    add("--queue", type=count, default=64, metavar="N", help="requests at a time; others get 503 (64)")
    add("--root", type=Path, metavar="DIR", help='videos below this folder may be named: {"path": "x.mp4"}')
    add("--max_upload_mb", type=number(float, 0.001), default=200, metavar="MB", help="of 2**20 bytes (200)")
    add("--max_video_sec", type=seconds, default=600, metavar="S", help="longest video (600)")
    add("--max_pixels", type=count, default=300_000_000, metavar="N", help="width x height x frames read (300000000)")
    add("--timeout_sec", type=seconds, default=30, metavar="S", help="from the end of an upload to its answer (30)")
    add("--upload_timeout_sec", type=seconds, default=60, metavar="S", help="for the body of a request (60)")
    add("--shutdown_sec", type=count, default=8, metavar="S", help="for what runs when the server is told to end (8)")
    args = parser.parse_args()
    if args.port > 65535:
        parser.error(f"--port {args.port}: ports end at 65535")
    return args


def main() -> None:
    run_command(serve)


def serve() -> None:
    args = parse_arguments()
    check_installed()
    if args.root is not None and not args.root.is_dir():
        raise ConfigError(f"--root {args.root}: no such folder")
    to_close: list[Service] = []

    def end(signal_number: int, frame: FrameType | None) -> NoReturn:
        for service in to_close:
            service.close()
        sys.stdout.flush()
        os._exit(0)  # an exception would be lost where it meets the import of an extension module

    # Until the server takes over; it calls them again when it has ended, so that this command ends with code 0.
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, end)
    with listen(args.host, args.port) as listener, closing(build_service(args)) as service:
        to_close.append(service)
        service.start()
        run_server(service, listener, args.shutdown_sec)


def check_installed() -> None:
    missing = [package for module, package in PACKAGES.items() if find_spec(module) is None]
    if missing:
        raise ConfigError(f'paddlevid-serve needs {", ".join(missing)}: pip install "paddlevid[serve]"')


def listen(host: str, port: int) -> socket.socket:
    """A socket that holds the port before anything slow begins.

    Raises:
        ConfigError: somebody else has the port, or this machine has no such address.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(f"port {port} of {host} is in use; choose another one with --port") from None
        reason = (error.strerror or str(error)).split(" (while")[0]
        raise ConfigError(f"cannot listen on {host} port {port}: {reason}") from None


def build_service(args: argparse.Namespace) -> Service:
    from paddlevid.deploy.predictor import Predictor
    from paddlevid.serve.limits import Limits
    from paddlevid.serve.service import Service

    predictor = Predictor(
        args.folder,
        runtime=args.runtime,
        precision=args.precision,
        use_gpu=args.use_gpu,
        num_threads=args.threads,
        batch_size=args.batch_size,
    )
    predictor.check_flow()
    limits = Limits(
        max_upload_bytes=int(args.max_upload_mb * 2**20),
        max_video_sec=args.max_video_sec,
        max_pixels=args.max_pixels,
        timeout_sec=args.timeout_sec,
        upload_timeout_sec=args.upload_timeout_sec,
        max_queue=args.queue,
    )
    return Service(
        predictor,
        limits,
        num_decoders=args.decoders or min(os.cpu_count() or 1, MAX_DEFAULT_DECODERS),
        batch_wait_sec=args.batch_wait_ms / 1000,
        root=args.root,
    )


def run_server(service: Service, listener: socket.socket, shutdown_sec: int) -> None:
    """Serve until a signal comes, and then as long as requests run, up to `shutdown_sec`."""
    import uvicorn

    from paddlevid.serve.app import create_app
    from paddlevid.serve.protocol import BoundedProtocol

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            service.is_ending = True
            super().handle_exit(sig, frame)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            await super().shutdown(sockets)
            if tasks := set(self.server_state.tasks):  # they were cancelled, and now tell their clients
                await asyncio.wait(tasks, timeout=1.0)

    config = uvicorn.Config(
        create_app(service),
        loop="asyncio",
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_level="error",
        server_header=False,
        limit_concurrency=max(MIN_CONNECTIONS, 2 * service.limits.max_queue),
        timeout_graceful_shutdown=shutdown_sec,
    )
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    about = service.health()
    print(f"serving {about['model']} ({about['runtime']} {about['precision']}) at http://{shown}:{port}", flush=True)
    Server(config).run(sockets=[listener])
