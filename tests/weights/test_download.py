from __future__ import annotations

import dataclasses
import hashlib
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from file_server import BODY

from paddlevid.errors import WeightsError
from paddlevid.weights import download, transfer
from paddlevid.weights.download import fetch, locate
from paddlevid.weights.zoo import PublicWeights, list_weights

pytestmark = pytest.mark.usefixtures("cache")
ROOT = Path(__file__).resolve().parents[2]
SHA256 = hashlib.sha256(BODY).hexdigest()


def start_fetch(url: str) -> subprocess.Popen:
    code = "import sys; from paddlevid.weights.download import fetch; print(fetch(sys.argv[1]).read_bytes() != b'')"
    return subprocess.Popen(
        [sys.executable, "-c", code, url], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(condition) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_file_comes_once_and_then_needs_no_server(server, cache, capsys):
    url, _ = server.serve("/some%20model.pth?dl=1")
    path = fetch(url)
    assert path.read_bytes() == BODY
    assert path.parent == cache
    assert re.fullmatch(r"[0-9a-f]{8}-some_model\.pth", path.name)
    assert sorted(file.suffix for file in cache.iterdir()) == [".lock", ".pth"]
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == f"downloading {url} to {path}\n"  # and no bar where stderr is no terminal
    server.close()
    assert fetch(url) == path
    assert locate(url) == path
    assert len(server.requests) == 1


def test_addresses_that_end_alike_are_kept_apart(server):
    paths = [fetch(server.serve(f"/{folder}/w.pth", body=folder.encode())[0]) for folder in ("a", "b")]
    assert [path.read_bytes() for path in paths] == [b"a", b"b"]


@pytest.mark.parametrize(
    "checks",
    [{"sha256": "0" * 64}, {"sha256": "0" * 8}, {"md5": "0" * 32}, {"fragment": f"#sha256={'0' * 64}"}],
    ids=["sha256", "prefix", "md5", "fragment"],
)
def test_a_wrong_checksum_leaves_nothing(server, cache, checks):
    url, _ = server.serve()
    fragment = checks.pop("fragment", "")
    for tries in (1, 2):
        actual = hashlib.md5(BODY).hexdigest() if "md5" in checks else SHA256
        with pytest.raises(WeightsError, match=f"{re.escape(url)}: its .* is {actual}, expected 00000000"):
            fetch(url + fragment, **checks)
        assert len(server.requests) == tries
        assert [path.suffix for path in cache.iterdir()] == [".lock"]


def test_right_checksums_pass(server):
    url, _ = server.serve()
    path = fetch(url, sha256=SHA256[:8].upper())
    assert fetch(f"{url}#sha256={SHA256}", md5=hashlib.md5(BODY).hexdigest()) == path
    assert len(server.requests) == 1


def test_a_cached_file_with_a_wrong_checksum_comes_again(server):
    url, _ = server.serve()
    path = fetch(url)
    path.write_bytes(b"spoilt")
    assert fetch(url, sha256=SHA256).read_bytes() == BODY


@pytest.mark.parametrize("digits", ["1234567", "xyzxyzxyz", "0" * 65, ""])
def test_what_is_no_checksum_is_refused(server, digits):
    url, _ = server.serve()
    with pytest.raises(WeightsError, match="is not 8 to 64 hexadecimal digits"):
        fetch(url, sha256=digits)


def test_checksums_in_the_names_of_two_hosts_are_known():
    checksums = download._checksums("https://download.pytorch.org/models/resnet50-0676ba61.pth", "", None, None)
    assert checksums == [("sha256", "0676ba61")]
    assert download._checksums("https://example.org/models/resnet50-0676ba61.pth", "", None, None) == []


@pytest.mark.parametrize("url", ["http://", "http:///w.pth", "http://host:port/w.pth", "http://[1/w.pth"])
def test_what_is_no_address_is_refused(url):
    with pytest.raises(WeightsError, match="is not an address"):
        fetch(url)


def test_processes_at_once_download_once(server):
    url, served = server.serve(stop_after=100_000)
    first = start_fetch(url)
    wait_for(lambda: server.requests and server.requests[0].sent == 100_000)
    second = start_fetch(url)
    line = second.stderr.readline()
    assert line == f"waiting for another process that downloads {url}\n"
    served.go_on.set()
    for process in (first, second):
        assert process.communicate(timeout=20)[0] == "True\n"
    assert len(server.requests) == 1


def test_a_killed_download_goes_on(server, cache):
    url, served = server.serve(stop_after=200_000)
    process = start_fetch(url)
    part = cache / f"{download._file_name(url)}.part"
    # whole chunks only: the last one is on its way
    wait_for(lambda: part.exists() and part.stat().st_size == 200_000 // transfer.CHUNK_BYTES * transfer.CHUNK_BYTES)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=20)
    kept = part.stat().st_size
    served.go_on.set()
    served.stop_after = None
    assert fetch(url).read_bytes() == BODY
    assert server.requests[1].headers["Range"] == f"bytes={kept}-"
    assert server.requests[1].sent == len(BODY) - kept


def test_a_download_killed_after_its_last_byte_is_checked_and_kept(server, cache):
    url, _ = server.serve()
    path = fetch(url)
    partial = transfer.Partial(path)
    partial.restart(transfer.Record('"one"', len(BODY)))
    path.replace(partial.path)
    assert fetch(url, sha256=SHA256).read_bytes() == BODY
    assert len(server.requests) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_full_disk_is_named(server, cache):
    url, _ = server.serve()
    cache.mkdir(parents=True)
    (cache / f"{download._file_name(url)}.part").symlink_to("/dev/full")
    with pytest.raises(WeightsError, match=rf"{re.escape(url)} .*{re.escape(str(cache))}: No space .*PADDLEVID_CACHE"):
        fetch(url)


def test_a_cache_that_cannot_be_made_is_named(server, cache):
    url, _ = server.serve()
    cache.parent.write_text("a file where the folder should be")
    with pytest.raises(
        WeightsError, match=rf"{re.escape(url)} cannot be kept in {re.escape(str(cache))}: .*name the file"
    ):
        fetch(url)
    assert server.requests == []


def test_places_of_the_cache(monkeypatch, tmp_path):
    assert download.weights_folder() == tmp_path / "cache" / "weights"
    monkeypatch.delenv("PADDLEVID_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert download.weights_folder() == tmp_path / "xdg" / "paddlevid" / "weights"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert download.weights_folder() == tmp_path / "home" / ".cache" / "paddlevid" / "weights"


def test_files_and_folders_are_themselves(tmp_path, monkeypatch):
    file = tmp_path / "w.pdparams"
    file.write_bytes(b"w")
    assert locate(file) == file
    assert locate(str(tmp_path)) == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locate("~/w.pdparams") == file


def test_names_of_public_weights_are_fetched(server, monkeypatch):
    url, _ = server.serve()
    known = dataclasses.replace(list_weights()[0], name="known", url=url, md5=hashlib.md5(BODY).hexdigest())
    wrong: PublicWeights = dataclasses.replace(known, name="wrong", url=f"{url}?2", md5="0" * 32)
    server.serve("/w.pth?2")
    monkeypatch.setattr(download, "list_weights", lambda: (known, wrong))
    assert locate("known").read_bytes() == BODY
    with pytest.raises(WeightsError, match="its md5 is"):
        locate("wrong")


def test_what_is_nothing_is_said_to_be_so():
    with pytest.raises(WeightsError, match=r"^output/best\.pdparams does not exist$"):
        locate("output/best.pdparams")
    with pytest.raises(WeightsError, match=r"^best\.pth does not exist$"):
        locate(Path("best.pth"))
    with pytest.raises(WeightsError, match=r"^timesformer_k40 is neither .* timesformer_k400, and tools/list_weights"):
        locate("timesformer_k40")
    with pytest.raises(WeightsError, match=r"^qqq is neither .* public weights; tools/list_weights\.py lists"):
        locate("qqq")
    with pytest.raises(WeightsError, match="only addresses of http"):
        locate("s3://bucket/w.pth")
    with pytest.raises(WeightsError, match=r"^'' is neither"):
        locate("")
