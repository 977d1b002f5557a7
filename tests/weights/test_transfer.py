"""Downloads over connections that break, from servers that misbehave."""

from __future__ import annotations

import re
import socket
from base64 import b64encode
from pathlib import Path

import pytest
from file_server import BODY

from paddlevid.errors import WeightsError
from paddlevid.weights import transfer
from paddlevid.weights.download import fetch


def others(cache: Path) -> list[str]:
    """What lies in the cache besides whole files and locks."""
    return sorted(path.name for path in cache.iterdir() if path.suffix not in {".pth", ".lock"})


@pytest.mark.parametrize("headers", [{"ETag": '"one"'}, {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}])
def test_a_cut_connection_is_continued(server, cache, headers):
    url, _ = server.serve(cuts=[150_000], headers=headers)
    assert fetch(url).read_bytes() == BODY
    assert [request.headers.get("Range") for request in server.requests] == [None, "bytes=150000-"]
    assert server.requests[1].headers["If-Range"] == next(iter(headers.values()))
    assert [request.sent for request in server.requests] == [150_000, 150_000]
    assert others(cache) == []


def test_progress_restores_the_tries(server):
    url, _ = server.serve(cuts=[30_000] * 8)  # more cuts than pauses
    assert fetch(url).read_bytes() == BODY
    assert sum(request.sent for request in server.requests) == len(BODY)


def test_without_progress_the_tries_end_and_what_came_is_kept(server, cache):
    url, served = server.serve(cuts=[100_000, 0, 0, 0])
    with pytest.raises(WeightsError, match=rf"{re.escape(url)}: .* 100000 of 300000 bytes; 100000 bytes are kept"):
        fetch(url)
    assert len(server.requests) == 4  # the progress of the first gives it three more
    assert len(others(cache)) == 2
    served.cuts.clear()
    assert fetch(url).read_bytes() == BODY
    assert server.requests[-1].sent == 200_000


@pytest.mark.parametrize("options", [{"ranges": False}, {"headers": {}}, {"headers": {"ETag": 'W/"weak"'}}])
def test_a_server_that_cannot_continue_starts_anew(server, options):
    url, _ = server.serve(cuts=[150_000], **options)
    assert fetch(url).read_bytes() == BODY
    assert [request.sent for request in server.requests] == [150_000, 300_000]


def test_a_file_that_changed_meanwhile_starts_anew(server):
    url, served = server.serve(cuts=[200_000, 0, 0, 0])
    with pytest.raises(WeightsError, match="200000 bytes are kept"):
        fetch(url)
    served.body, served.headers = BODY[::-1], {"ETag": '"two"'}
    served.cuts.clear()
    assert fetch(url).read_bytes() == BODY[::-1]


def test_a_server_that_goes_on_with_another_file_is_noticed(server):
    url, served = server.serve(cuts=[200_000, 0, 0, 0])
    with pytest.raises(WeightsError, match="200000 bytes are kept"):
        fetch(url)
    served.body = BODY[::-1] + b"longer"
    served.cuts.clear()
    assert fetch(url).read_bytes() == BODY[::-1] + b"longer"
    assert [request.headers.get("Range") for request in server.requests[-2:]] == ["bytes=200000-", None]


def test_busy_servers_are_asked_again_and_others_not(server):
    url, _ = server.serve(statuses=[503, 429, 500])
    assert fetch(url).read_bytes() == BODY
    for status in (403, 404, 410):
        url, _ = server.serve(f"/{status}.pth", statuses=[status] * 9)
        before = len(server.requests)
        with pytest.raises(
            WeightsError, match=rf"{re.escape(url)}: the server answers {status} .*name the file"
        ) as caught:
            fetch(url)
        assert "\n" not in str(caught.value)
        assert len(server.requests) == before + 1


def test_a_server_that_falls_silent_is_asked_again(server, monkeypatch):
    monkeypatch.setattr(transfer, "TIMEOUT_SEC", 0.2)
    url, served = server.serve(stop_after=200_000)
    monkeypatch.setattr(transfer.time, "sleep", lambda _: setattr(served, "stop_after", None))
    assert fetch(url).read_bytes() == BODY
    assert server.requests[1].headers["Range"].startswith("bytes=1")  # the bytes of a last chunk came in vain


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"Content-Type": "text/html; charset=utf-8"}},
        {"body": b"\n<!DOCTYPE html><title>Sign in</title>", "headers": {}},
    ],
)
def test_web_pages_are_no_weights(server, cache, options):
    url, _ = server.serve(**options)
    with pytest.raises(WeightsError, match=rf"{re.escape(url)}: the server answers with a web page"):
        fetch(url)
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


def test_a_page_in_between_does_not_cost_what_came(server):
    url, served = server.serve(cuts=[200_000, 0, 0, 0])
    with pytest.raises(WeightsError, match="200000 bytes are kept"):
        fetch(url)
    served.ranges, served.headers = False, {"Content-Type": "text/html"}
    with pytest.raises(WeightsError, match="web page"):
        fetch(url)
    served.ranges, served.headers = True, {"ETag": '"one"'}
    served.cuts.clear()
    assert fetch(url).read_bytes() == BODY
    assert server.requests[-1].sent == 100_000


@pytest.mark.parametrize(
    ("length", "reason"), [(300_001, "300000 of 300001 bytes"), (299_999, "more than the 299999 bytes"), (0, "more")]
)
def test_a_body_of_another_length_than_announced_is_not_taken(server, cache, length, reason):
    url, _ = server.serve(length=length, ranges=False)
    with pytest.raises(WeightsError, match=reason):
        fetch(url)
    assert [path for path in cache.iterdir() if path.suffix == ".pth"] == []


def test_an_unknown_length_is_taken(server):
    assert fetch(server.serve(length=-1)[0]).read_bytes() == BODY


def test_an_empty_file_is_not_taken(server):
    with pytest.raises(WeightsError, match="the file there is empty"):
        fetch(server.serve(body=b"")[0])


def test_a_compressed_answer_is_not_taken(server):
    with pytest.raises(WeightsError, match="compressed"):
        fetch(server.serve(headers={"Content-Encoding": "gzip"})[0])


def test_redirects_are_followed_and_keep_the_range(server):
    target, _ = server.serve("/there.pth", cuts=[100_000])
    url, _ = server.serve("/here.pth", statuses=[302, 302], headers={"Location": target})
    path = fetch(url.replace("://", "://me:secret@"))
    assert path.read_bytes() == BODY
    assert path.name.endswith("-here.pth")
    assert server.requests[-1].headers["Range"] == "bytes=100000-"
    # a password is for the host of the address alone
    assert ["Authorization" in request.headers for request in server.requests] == [True, False, True, False]


def test_passwords_are_sent_and_not_printed(server, capsys):
    url, served = server.serve("/w.pth?token=hidden", statuses=[503])
    fetch(url.replace("://", "://me:se%20cret@"))
    assert server.requests[-1].headers["Authorization"] == f"Basic {b64encode(b'me:se cret').decode()}"
    served.statuses.append(403)
    with pytest.raises(WeightsError) as caught:
        fetch(url.replace("://", "://me:se%20cret2@"))
    for text in (capsys.readouterr().err, str(caught.value)):
        assert "127.0.0.1" in text
        assert "token=..." in text
        assert not re.search("secret|se%20cret|hidden|me:", text)


def test_refused_unknown_and_unsafe_servers(server, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/w.pth"
    with pytest.raises(WeightsError, match=rf"{url}: no connection to 127.0.0.1: Connection refused; .*name the file"):
        fetch(url)
    url, _ = server.serve()
    with pytest.raises(WeightsError, match=r"no safe connection \(TLS\): .*name the file"):
        fetch(url.replace("http:", "https:"))
    with pytest.raises(WeightsError, match=r"http://a\.\.b/w\.pth cannot be fetched: .*empty"):
        fetch("http://a..b/w.pth")

    def unknown(*_, **__):  # to ask for a real name would be a question to the network
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(
        WeightsError, match=r"https://nowhere/w\.pth: no connection to nowhere: Name or service not known"
    ):
        fetch("https://nowhere/w.pth")


def test_an_interrupted_download_goes_on(server, monkeypatch):
    url, _ = server.serve(cuts=[150_000])

    def interrupt(_) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(transfer.time, "sleep", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetch(url)
    assert fetch(url).read_bytes() == BODY
    assert server.requests[1].headers["Range"] == "bytes=150000-"


def test_a_spoilt_record_starts_anew(server, cache):
    url, _ = server.serve(cuts=[100_000, 0, 0, 0])
    with pytest.raises(WeightsError):
        fetch(url)
    next(cache.glob("*.part.json")).write_text('{"validator": ')
    assert fetch(url).read_bytes() == BODY
    assert server.requests[-1].headers.get("Range") is None
