"""From the body of a request to a video on the disk, which is removed whatever happens."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import stat
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path, PurePath
from typing import IO, TYPE_CHECKING, NamedTuple

from paddlevid.deploy.inputs import VIDEO_SUFFIXES
from paddlevid.errors import ConfigError
from paddlevid.serve.forms import FilePart
from paddlevid.serve.limits import Limits, Refused

if TYPE_CHECKING:
    from starlette.requests import Request

try:
    import fcntl
except ImportError:  # Windows: nothing tells whether the server that made a folder still runs
    fcntl = None  # type: ignore[assignment]

MAX_JSON_BYTES = 64 << 10
MAX_NAME = 200


class Video(NamedTuple):
    """A file to decode, and what the client calls it."""

    path: str
    name: str


class UploadFolder:
    """A folder of this server's uploads, below one for all servers of this user.

    The folder is locked as long as its server lives; a new server removes those that nobody holds, which a killed
    server has left.

    Raises:
        ConfigError: the folder for all belongs to somebody else.
    """

    def __init__(self, parent: str | Path | None = None) -> None:
        owner = os.getuid() if hasattr(os, "getuid") else "user"
        shared = Path(parent or tempfile.gettempdir()) / f"paddlevid-serve-{owner}"
        shared.mkdir(mode=0o700, exist_ok=True)
        _check_owner(shared)
        with _locked(shared):
            for left in shared.iterdir():
                _remove_if_abandoned(left)
            self.path = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=shared))
            self._lock = _lock(self.path)

    @contextmanager
    def file(self, suffix: str = "") -> Iterator[tuple[Path, IO[bytes]]]:
        """A new file, open for writing, that is gone when the block ends."""
        descriptor, name = tempfile.mkstemp(suffix=suffix, prefix="upload-", dir=self.path)
        try:
            with open(descriptor, "wb") as file:
                yield Path(name), file
        finally:
            with suppress(OSError):  # Windows keeps files that a decoder still has open: they go with the folder
                os.unlink(name)

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _check_owner(folder: Path) -> None:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or (hasattr(os, "getuid") and found.st_uid != os.getuid()):
        raise ConfigError(f"{folder}: is not a folder of this user; remove it, or set TMPDIR to another place")


def _lock(folder: Path, *, block: bool = True) -> int | None:
    """A descriptor that holds the lock of a folder until it is closed.

    Raises:
        BlockingIOError: somebody else has it, and `block` is False.
    """
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if block else fcntl.LOCK_NB))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = _lock(folder)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _remove_if_abandoned(folder: Path) -> None:
    if fcntl is None or not folder.is_dir():
        return
    try:
        descriptor = _lock(folder, block=False)
    except OSError:
        return
    shutil.rmtree(folder, ignore_errors=True)
    if descriptor is not None:
        os.close(descriptor)


@asynccontextmanager
async def video_of(
    request: Request, folder: UploadFolder, root: Path | None, limits: Limits, on_bytes: Callable[[int], None]
) -> AsyncIterator[Video]:
    """The video that a request sends or names; what was uploaded lies on the disk until the block ends.

    Raises:
        Refused: the body is too large (413), too slow (408), malformed (400) or of another kind (415), or it names a
            file that is not there (404) or not below `root` (403).
    """
    content_type = request.headers.get("content-type", "")
    kind = content_type.split(";")[0].strip().lower()
    if kind == "application/json":
        body = bytearray()
        await _receive(request, body.extend, MAX_JSON_BYTES, limits.upload_timeout_sec, on_bytes)
        yield named_video(_read_path(bytes(body)), root)
    elif kind == "multipart/form-data":
        with folder.file() as (path, file):
            part = FilePart(content_type, file)
            await _receive(request, part.feed, limits.max_upload_bytes, limits.upload_timeout_sec, on_bytes)
            name = part.finish()
            file.close()
            with _with_suffix(path, name) as renamed:
                yield Video(str(renamed), name)
    elif kind.startswith("video/") or kind == "application/octet-stream":
        with folder.file() as (path, file):
            await _receive(request, file.write, limits.max_upload_bytes, limits.upload_timeout_sec, on_bytes)
            if not file.tell():
                raise Refused(422, "the body is empty; send a video")
            file.close()
            yield Video(str(path), "")
    else:
        raise Refused(
            415,
            f"content type {kind[:MAX_NAME]!r} is none of multipart/form-data with a field `file`, video/*, "
            'application/octet-stream, or application/json such as {"path": "x.mp4"}',
        )


async def _receive(
    request: Request,
    write: Callable[[bytes], object],
    max_bytes: int,
    timeout_sec: float,
    on_bytes: Callable[[int], None],
) -> None:
    """Hand each piece of the body to `write`, which is quick: 64 KiB to the page cache, or to memory."""
    too_large = Refused(413, f"the body is larger than {max_bytes} bytes")
    if int(request.headers.get("content-length", "0")) > max_bytes:  # HTTP itself has checked that it is a number
        raise too_large

    async def receive() -> None:
        num_bytes = 0
        async for piece in request.stream():
            num_bytes += len(piece)
            on_bytes(len(piece))
            if num_bytes > max_bytes:
                raise too_large
            write(piece)

    try:
        await asyncio.wait_for(receive(), timeout_sec)
    except asyncio.TimeoutError:
        raise Refused(408, f"the body did not arrive within {timeout_sec:g} s") from None


@contextmanager
def _with_suffix(path: Path, name: str) -> Iterator[Path]:
    """The file under a name that ends as the client's does: FFmpeg looks at it where contents leave a doubt."""
    suffix = PurePath(name).suffix.lower()
    if suffix not in VIDEO_SUFFIXES:
        yield path
        return
    renamed = path.rename(path.with_name(path.name + suffix))
    try:
        yield renamed
    finally:
        with suppress(OSError):
            renamed.unlink()


def _read_path(body: bytes) -> str:
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(400, "the body is not JSON") from None
    if not isinstance(parsed, dict) or set(parsed) != {"path"} or not isinstance(parsed["path"], str):
        raise Refused(422, 'the body must be an object with a path and nothing else: {"path": "x.mp4"}')
    return parsed["path"]


def named_video(name: str, root: Path | None) -> Video:
    """The file `name` below `root`, which is resolved already.

    Raises:
        Refused: there is no root or the file lies elsewhere (403), or there is no such file (404).
    """
    if root is None:
        raise Refused(403, "this server reads no files of its own; it was started without --root")
    shown = name[:MAX_NAME]
    try:
        if ".." in PurePath(name).parts:
            raise Refused(403, f"path {shown!r} is not below the root of this server")
        path = (root / name).resolve()
        if not path.is_relative_to(root):
            raise Refused(403, f"path {shown!r} is not below the root of this server")
        is_file = path.is_file()
    except (
        OSError,
        ValueError,
        RuntimeError,
    ):  # a name too long, a zero byte or half a surrogate in it, links in a ring
        is_file = False
    if not is_file:
        raise Refused(404, f"no such video: {shown!r}")
    return Video(str(path), name)
