from __future__ import annotations

from pathlib import Path

import pytest
from file_server import Server

from paddlevid.runtime import logger
from paddlevid.weights import transfer


@pytest.fixture
def server(cache):
    server = Server()
    yield server
    for served in server.files.values():
        served.go_on.set()
    server.close()


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """The folder of downloads, empty, with tries that follow each other at once."""
    monkeypatch.setenv("PADDLEVID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(transfer, "RETRY_PAUSES_SEC", (0.0, 0.01, 0.01))
    # What another test's run has set up: without, a download says what it does on stderr
    monkeypatch.setattr(logger, "handlers", [])
    return tmp_path / "cache" / "weights"
