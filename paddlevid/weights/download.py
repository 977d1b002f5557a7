"""Weights by file, by address or by the name of public weights -> a file on this disk.

What is fetched stays in a cache, so that a second run needs no network.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from paddlevid.errors import WeightsError
from paddlevid.runtime import cache_folder
from paddlevid.weights.transfer import BY_HAND, Partial, receive, say, shown
from paddlevid.weights.zoo import list_weights, sha256_in_name


def locate(source: str | Path) -> Path:
    """The file or folder that `source` names: a path, an http(s) address, or a name of `tools/list_weights.py`.

    Raises WeightsError when it is none of them, or cannot be fetched.
    """
    text = str(source)
    if re.match(r"https?://", text, re.IGNORECASE):
        return fetch(text)
    if "://" in text:
        raise WeightsError(f"{shown(text)}: only addresses of http:// and https:// can be fetched")
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:  # the home of a user that there is not
        raise WeightsError(f"{text}: {error}") from error
    if text and path.exists():  # an empty text would be the folder of the run
        return path
    public = {weights.name: weights for weights in list_weights()}
    if text in public:
        return fetch(public[text].url, md5=public[text].md5)
    if any(mark in text for mark in ("/", os.sep, ".")):
        hub = f"https://huggingface.co/{text}/resolve/main/model.safetensors"
        is_repository = re.fullmatch(r"[\w-]+/[\w.-]+", text) and not path.suffix
        hint = f"; weights of Hugging Face have an address, {hub}" if is_repository else ""
        raise WeightsError(f"{text} does not exist{hint}")
    nearest = difflib.get_close_matches(text, public, n=1)
    hint = f"the nearest is {nearest[0]}, and " if nearest else ""
    what = f"{text or repr(text)} is neither a file nor a name of public weights"
    raise WeightsError(f"{what}; {hint}tools/list_weights.py lists the names")


def fetch(url: str, *, sha256: str | None = None, md5: str | None = None, progress: bool = True) -> Path:
    """Download a file into the cache, unless it is there, and return its path.

    The file must have the checksums that are given here, by a fragment `#sha256=...` or `#md5=...` of the address, or
    by its name where the host writes them there; the first 8 or more hexadecimal digits are enough. Its length is
    checked where the server gives one. Processes that fetch the same file wait for each other. Raises WeightsError
    with the address when the file cannot be had or is not the right one.
    """
    address, _, fragment = url.partition("#")
    path = weights_folder() / _file_name(address)
    checksums = _checksums(address, fragment, sha256, md5)
    try:
        if _is_cached(path, checksums):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with _lock(path.with_name(f"{path.name}.lock"), address):
            if not _is_cached(path, checksums):  # another process may have fetched it meanwhile
                _download(address, path, checksums, progress)
    except OSError as error:
        raise WeightsError(
            f"{shown(address)} cannot be kept in {path.parent}: {error.strerror or error}; set PADDLEVID_CACHE to a "
            f"folder that has room and can be written, {BY_HAND}"
        ) from error
    return path


def weights_folder() -> Path:
    """Where what is fetched is kept."""
    return cache_folder() / "weights"


def _file_name(address: str) -> str:
    """Readable, with the suffix that tells the format, and another one for each address."""
    try:
        parts = urlsplit(address)
        has_host = bool(parts.hostname) and parts.port != 0  # reading a wrong port raises ValueError
    except ValueError:
        has_host = False
    if not has_host:
        raise WeightsError(f"{shown(address)} is not an address: it names no host, or a wrong one")
    last = re.sub(r"[^\w.-]", "_", unquote(parts.path.rstrip("/").rpartition("/")[2]), flags=re.ASCII)
    return f"{hashlib.sha256(address.encode()).hexdigest()[:8]}-{last[-100:] or 'weights'}"


class _Checksum(NamedTuple):
    kind: str
    digits: str


def _checksums(address: str, fragment: str, sha256: str | None, md5: str | None) -> list[_Checksum]:
    found = [("sha256", sha256), ("md5", md5), ("sha256", sha256_in_name(address))]
    for part in filter(None, fragment.split("&")):
        kind, _, digits = part.partition("=")
        if kind not in ("sha256", "md5"):
            raise WeightsError(f"{shown(address)}: #{part} is no checksum; use #sha256=... or #md5=...")
        found.append((kind, digits))
    checksums = [_Checksum(kind, digits.lower()) for kind, digits in found if digits is not None]
    for kind, digits in checksums:
        longest = _new_hash(kind).digest_size * 2
        if not re.fullmatch(f"[0-9a-f]{{8,{longest}}}", digits):
            raise WeightsError(f"{shown(address)}: {kind} {digits!r} is not 8 to {longest} hexadecimal digits")
    return checksums


def _new_hash(kind: str) -> hashlib._Hash:
    return hashlib.new(kind, usedforsecurity=False)  # a system may forbid md5 otherwise


def _mismatch(path: Path, checksums: list[_Checksum]) -> str:
    """Which checksum of a file is not the expected one, in words; empty when all are right."""
    hashes = {kind: _new_hash(kind) for kind, _ in checksums}
    if hashes:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                for each in hashes.values():
                    each.update(chunk)
    for kind, digits in checksums:
        actual = hashes[kind].hexdigest()
        if not actual.startswith(digits):
            return f"its {kind} is {actual}, expected {digits}"
    return ""


def _is_cached(path: Path, checksums: list[_Checksum]) -> bool:
    if not path.is_file():
        return False
    wrong = _mismatch(path, checksums)
    if wrong:
        say(f"{path}: {wrong}; downloading it again")
    return not wrong


@contextmanager
def _lock(path: Path, address: str) -> Iterator[None]:
    """Let in one process at a time. The system frees the lock of a process that dies, so the file may stay."""
    with path.open("ab") as file:
        if sys.platform == "win32":
            import msvcrt

            while True:
                try:
                    msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
                    break
                except OSError:
                    time.sleep(0.5)
        else:
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"waiting for another process that downloads {shown(address)}")
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _download(address: str, path: Path, checksums: list[_Checksum], progress: bool) -> None:
    from tqdm import tqdm

    partial = Partial(path)
    say(f"downloading {shown(address)} to {path}")
    hidden = not (progress and sys.stderr.isatty())
    with tqdm(unit="B", unit_scale=True, unit_divisor=1024, disable=hidden, leave=False) as bar:
        receive(address, partial, bar)
    wrong = _mismatch(partial.path, checksums)
    if wrong:
        partial.discard()
        raise WeightsError(f"{shown(address)}: {wrong}; the download is deleted: try again, {BY_HAND}")
    partial.finish(path)
