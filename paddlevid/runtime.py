"""Where and how a command runs: its exit, its log, its device, its rank, its seed."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from paddlevid import watch
from paddlevid.errors import ConfigError, Interrupted, UserError
from paddlevid.processes import end_with_parent

logger = logging.getLogger("paddlevid")

# What a disk, the path to it, or a limit on open files can refuse.
DISK_ERRORS = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EEXIST,
    errno.EFBIG,
    errno.EIO,
    errno.EISDIR,
    errno.EMFILE,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}

# Warnings of Paddle that tell a user of this package nothing to act on.
PADDLE_NOTICES = (
    "No ccache found",
    "When training, we now always track global mean and variance",
    "Tensor do not have .place. interface",
)

# Packages that only some of the commands need.
HOW_TO_INSTALL = {
    "paddle": 'pip install -e ".[cpu]", or the wheel of PaddlePaddle for your GPU (see README.md)',
    "visualdl": 'pip install -e ".[train]"',
    "fastapi": 'pip install -e ".[serve]"',
    "uvicorn": 'pip install -e ".[serve]"',
    "gradio": 'pip install -e ".[demo]"',
}


def run_command(main: Callable[[], int | None]) -> None:
    """Run a command line and exit with the code it returns; what a user caused is one line on stderr and code 2."""
    os.environ.setdefault("GLOG_minloglevel", "2")  # Paddle's C++ side: errors only
    if "PADDLE_TRAINER_ENDPOINTS" in os.environ:
        end_with_parent(signal.SIGTERM)  # a launcher that is killed would leave its processes to themselves
    for notice in PADDLE_NOTICES:
        warnings.filterwarnings("ignore", message=notice)
    try:
        code = main()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader of a pipe has left
        sys.exit(0)
    except Interrupted as stop:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # a late one would change the exit code
        watch.leave()
        _tell(str(stop))
        sys.exit(stop.exit_code)
    except KeyboardInterrupt:
        watch.fail(130, "interrupted")
        _tell("interrupted")
        sys.exit(130)
    except Exception as error:
        message = _what_a_user_caused(error)
        text, code = (traceback.format_exc(), 1) if message is None else (message, 2)
        failure = watch.fail(code, text, perhaps_a_consequence=message is None)
        if failure is not None:  # that of another process, which is told already
            sys.exit(failure.code)
        if message is None:
            raise
        _tell(f"error: {message}")
        sys.exit(code)
    watch.leave()
    if code:
        sys.exit(code)


def _tell(text: str) -> None:
    """A line on stderr, if anyone is there to read it: the exit code stays what it is."""
    with contextlib.suppress(OSError, AttributeError):
        print(text, file=sys.stderr, flush=True)


def _what_a_user_caused(error: Exception) -> str | None:
    """What to say of an error in one line; None of a bug."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return f"{error.filename or 'output'}: {error.strerror}"
    if isinstance(error, ModuleNotFoundError) and error.name in HOW_TO_INSTALL:
        return f"{error.name} is not installed: {HOW_TO_INSTALL[error.name]}"
    return None


class Ranks(NamedTuple):
    """Which of how many processes this one is."""

    rank: int
    world: int


ALONE = Ranks(0, 1)


def set_device(device: str) -> str:
    """Select `auto`, `cpu` or `gpu` for this process and return Paddle's name of it, such as `gpu:0`.

    Raises:
        ConfigError: a GPU is asked for and this Paddle, or this machine, has none.
    """
    import paddle

    has_gpu = paddle.device.is_compiled_with_cuda() and paddle.device.cuda.device_count() > 0
    if device == "gpu" and not has_gpu:
        reason = "sees no GPU" if paddle.device.is_compiled_with_cuda() else "is the CPU build"
        raise ConfigError(f"device: gpu is asked for, but the installed PaddlePaddle {reason}; use -o device=cpu")
    if device == "cpu" or not has_gpu:
        name = "cpu"
        tune_cpu()
        use_all_cores()
    else:
        name = f"gpu:{paddle.distributed.ParallelEnv().device_id}"
    paddle.set_device(name)
    return name


def tune_cpu() -> None:
    """What makes Paddle several times faster on a CPU; see benchmarks/cpu_settings.py. Call before it computes.

    Views with strides save copies on a GPU, but here each use of one is copied slowly. MKL picks its slowest kernels on
    processors that are not Intel's, unless told that they have AVX2.
    """
    import paddle

    paddle.set_flags({"FLAGS_use_stride_kernel": False})
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.is_file():
        words = set(cpu_info.read_text().split())
        if {"AuthenticAMD", "avx2"} <= words:
            os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "5")


def use_all_cores() -> None:
    """Paddle computes with one thread unless told otherwise; a process of a launch takes its share of the cores.

    MKL is told to give the same bits with any number of threads. Call before Paddle computes anything.
    """
    import paddle

    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
    paddle.base.core.set_num_threads(max(1, num_cores() // local_processes()))


def local_processes() -> int:
    """How many processes of the launch run on this host."""
    return int(os.environ.get("PADDLE_LOCAL_SIZE", "1"))


def num_cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def num_physical_cores() -> int:
    """As `num_cores`, but the hyperthreads of a core count once, where the system tells."""
    if not hasattr(os, "sched_getaffinity"):
        return num_cores()
    siblings = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    try:
        return len({Path(siblings.format(cpu)).read_text() for cpu in os.sched_getaffinity(0)})
    except OSError:
        return num_cores()


def init_ranks() -> Ranks:
    """Join the other processes of a `paddle.distributed.launch`; alone, rank 0 of 1. Call after `set_device`."""
    import paddle
    import paddle.distributed as dist

    env = dist.ParallelEnv()
    if env.world_size > 1 and not dist.is_initialized():
        if paddle.get_device() == "cpu":
            os.environ["PADDLE_DISTRI_BACKEND"] = "gloo"  # Paddle's GPU build would take NCCL
        dist.init_parallel_env()
        watch.start(env.rank, env.world_size)
    return Ranks(env.rank, env.world_size)


def setup_logging(output_dir: str | Path | None, rank: int) -> None:
    """Plain lines on stdout and, with `output_dir`, in `train.log`; processes of rank > 0 print warnings only."""
    logger.handlers.clear()
    logger.propagate = False
    logger.setLevel(logging.INFO if rank == 0 else logging.WARNING)
    handlers: list[logging.Handler] = [ConsoleHandler()]
    if output_dir is not None and rank == 0:
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        file_handler = LogFile(Path(output_dir) / "train.log", encoding="utf-8")
        file_handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        handlers.append(file_handler)
    for handler in handlers:
        logger.addHandler(handler)


class LogFile(logging.FileHandler):
    """Drops what a full disk does not take: the console has it, too."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


class ConsoleHandler(logging.Handler):
    """Writes whole lines above a progress bar, instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        if sys.stdout is None:
            return
        try:
            tqdm.write(self.format(record), file=sys.stdout)
            sys.stdout.flush()
        except OSError:  # whoever read it has left, or its terminal is closed: no reason to end the work
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show_progress(rank: int) -> bool:
    """Whether to draw progress bars: on a terminal, by the first process alone."""
    return rank == 0 and sys.stderr.isatty()


def cache_folder() -> Path:
    """$PADDLEVID_CACHE, else `paddlevid` in $XDG_CACHE_HOME, else in ~/.cache.

    Raises:
        ConfigError: this user has no home folder.
    """
    try:
        if os.environ.get("PADDLEVID_CACHE"):
            return Path(os.environ["PADDLEVID_CACHE"]).expanduser()
        home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    except RuntimeError:
        raise ConfigError("there is no home folder for a cache; set PADDLEVID_CACHE to a folder") from None
    return home / "paddlevid"


def atomic_write(path: str | Path, write: Callable[[str], object]) -> None:
    """Let `write(temporary_path)` make a file that replaces `path` only once it lies whole on the disk."""
    path = Path(os.path.realpath(path))  # a link stays, and what it leads to is replaced
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():  # a device, a pipe: nothing that could be replaced
        write(str(path))
        return
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        write(str(temporary))
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        fsync_folder(path.parent)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk does not say what it was full for
        raise
    finally:
        temporary.unlink(missing_ok=True)


def fsync_folder(path: str | Path) -> None:
    """Have a folder's list of names on the disk: without, a renamed file may be gone after a loss of power."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:  # not on this system
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)
