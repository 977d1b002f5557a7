"""One run at a time in an output folder: two that write the same checkpoints spoil each other."""

from __future__ import annotations

import errno
import os
import socket
import time
from pathlib import Path
from typing import TextIO

from paddlevid.errors import ConfigError

FILE_NAME = ".lock"
# A run that was told to stop, or killed, needs a moment to be gone; whoever starts the next one should not mind
PATIENCE_SEC = 20.0


class FolderLock:
    """Belongs to this process from `take` to the end of its `with` block, or of the process however it ends.

    Where a file system knows no locks, such as some network disks, it does nothing.
    """

    def __init__(self) -> None:
        self._file: TextIO | None = None

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def take(self, folder: Path) -> None:
        """Wait a while for another run to be gone. Raises ConfigError where it stays."""
        try:
            import fcntl
        except ImportError:  # not on this system
            return
        file = (folder / FILE_NAME).open("a+", encoding="utf-8")
        deadline = time.monotonic() + PATIENCE_SEC
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    file.close()
                    return
                if time.monotonic() > deadline:
                    file.seek(0)
                    owner = file.read().strip() or "another process"
                    file.close()
                    raise ConfigError(
                        f"output_dir {folder} belongs to a run that goes on ({owner}); wait for its end, or choose "
                        "another folder"
                    ) from None
                time.sleep(0.2)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        self._file = file
