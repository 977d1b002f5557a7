"""paddlevid-demo FOLDER: a page in the browser that labels videos with an exported model."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddlevid.errors import ConfigError, DataError
from paddlevid.runtime import run_command

if TYPE_CHECKING:
    import socket

    from paddlevid.demo.analysis import Analyst
    from paddlevid.demo.app import Example

MAX_EXAMPLES = 24


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="paddlevid-demo", description="Show an exported model in the browser: upload a video, see its labels."
    )
    parser.add_argument("folder", metavar="FOLDER", help="what tools/export_model.py wrote")
    parser.add_argument(
        "--examples", nargs="+", default=[], metavar="PATH", help="videos, or folders of videos, to pick from"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1: this machine only)")
    parser.add_argument("--port", type=int, default=7860, help="port to listen on (7860; 0: any that is free)")
    parser.add_argument("--runtime", default="auto", help="auto, paddle, onnxruntime or openvino (auto)")
    parser.add_argument("--max_upload_mb", type=int, default=200, metavar="MB", help="largest upload (200)")
    args = parser.parse_args()
    if not 0 <= args.port <= 65535:
        parser.error(f"--port {args.port}: must be from 0 to 65535")
    if args.max_upload_mb < 1:
        parser.error(f"--max_upload_mb {args.max_upload_mb}: must be at least 1")
    return args


def serve(args: argparse.Namespace) -> None:
    missing = [package for package in ("gradio", "uvicorn") if find_spec(package) is None]
    if missing:
        raise ConfigError(f'{" and ".join(missing)} not installed: pip install -e ".[demo]"')
    forbid_telemetry()
    from paddlevid.demo.analysis import Analyst

    listener = listen(args.host, args.port)
    analyst = Analyst(args.folder, runtime=args.runtime)
    examples = find_examples(analyst, args.examples)
    with tempfile.TemporaryDirectory(prefix="paddlevid-demo-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # all its files are in a folder that goes away at the end
        import uvicorn

        from paddlevid.demo.app import build_page

        app = make_app(build_page(analyst, examples), examples, args.max_upload_mb)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        host, port = listener.getsockname()[:2]
        print(f"paddlevid-demo: http://{f'[{host}]' if ':' in host else host}:{port} (stop with Ctrl-C)", flush=True)
        run_until_stopped(server, listener)


def forbid_telemetry() -> None:
    """Keep libraries from reporting to their makers; to be called before they are imported."""
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}


def run_until_stopped(server: Any, listener: socket.socket) -> None:
    """Serve until Ctrl-C or SIGTERM; both are ways to end well, after which files are removed."""
    import logging
    import signal

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)  # the server ends first, and then gives the signal back
    # Pages that are still open are cut off then, which is no error
    logging.getLogger("uvicorn.error").addFilter(lambda _: not server.should_exit)
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])


def listen(host: str, port: int) -> socket.socket:
    """A socket at the address, taken before the model is loaded: what is in use is told at once."""
    import socket

    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()  # or a second server could take the port while this one loads its model
    except OSError as error:
        raise ConfigError(f"cannot listen on {host} port {port}: {error.strerror}; choose another --port") from None
    return listener


def make_app(blocks: Any, examples: Sequence[Example], max_upload_mb: int) -> Any:
    """The page as an application of its own: without Gradio's launcher, which asks other hosts for this and that.

    Of the files of the server it gives away the `examples` and nothing else.
    """
    import fastapi
    import gradio as gr

    from paddlevid.demo.page import CSS

    # Only with this, which its launcher sets, does Gradio refuse files of the server that a client names
    blocks.has_launched = True
    theme = gr.themes.Default(
        primary_hue="blue",
        neutral_hue="slate",
        font=["system-ui", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"],
        font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"],
    )
    return gr.mount_gradio_app(
        fastapi.FastAPI(openapi_url=None),
        blocks,
        path="/",
        # To be played, wherever they lie; folders of pictures are not
        allowed_paths=[os.path.abspath(e.record.path) for e in examples if os.path.isfile(e.record.path)],
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=f"{max_upload_mb}mb",
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=theme,
        css=CSS,
    )


def find_examples(analyst: Analyst, paths: Sequence[str]) -> list[Example]:
    """Videos to pick from; those that cannot be read are named on stderr and left out.

    Raises:
        DataError: there is nothing at a path, or none of the videos can be read.
    """
    from paddlevid.demo.analysis import read_thumbnail
    from paddlevid.demo.app import Example
    from paddlevid.deploy.inputs import find_records

    records = [record for path in paths for record in find_records(Path(path), analyst.manifest.data)]
    examples = []
    for record in records[:MAX_EXAMPLES]:
        try:
            examples.append(Example(record, read_thumbnail(analyst, record)))
        except DataError as error:
            print(f"left out of the examples: {error}", file=sys.stderr)
    if records and not examples:
        raise DataError(f"--examples {' '.join(paths)}: none of these videos can be read")
    if len(records) > MAX_EXAMPLES:
        print(f"the page offers the first {MAX_EXAMPLES} of {len(records)} examples", file=sys.stderr)
    return examples


def main() -> None:
    run_command(lambda: serve(parse_arguments()))


if __name__ == "__main__":
    main()
