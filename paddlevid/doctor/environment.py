"""The machine and what is installed on it."""

from __future__ import annotations

import importlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paddlevid
from paddlevid.doctor.findings import Finding, error, gigabytes, ok, one_line, warning
from paddlevid.runtime import HOW_TO_INSTALL, num_cores

PYTHONS = ((3, 10), (3, 13))  # the first and the last that paddlevid is for
CODECS = {"h264": ("h264",), "hevc": ("hevc",), "vp9": ("vp9", "libvpx-vp9"), "av1": ("libdav1d", "libaom-av1", "av1")}
CODECS["mpeg4"] = ("mpeg4",)
CGROUP = Path("/sys/fs/cgroup")
_PADDLE_TIMEOUT_SEC = 90

# Runs in a process of its own: a broken installation may crash.
_PADDLE_PROGRAM = """
import json, warnings
warnings.filterwarnings("ignore")
import paddle
cuda = paddle.device.is_compiled_with_cuda()
told = {"version": paddle.__version__, "cuda": cuda, "devices": []}
if cuda:
    told["cuda_version"], told["cudnn_version"] = paddle.version.cuda(), paddle.version.cudnn()
    for number in range(paddle.device.cuda.device_count()):
        properties = paddle.device.cuda.get_device_properties(number)
        told["devices"].append([properties.name, properties.total_memory])
paddle.set_device("gpu:0" if told["devices"] else "cpu")
ones = paddle.ones([64, 64])
assert float((ones @ ones).sum()) == 64**3, "a product of matrices is wrong"
print("TOLD" + json.dumps(told))
"""


def check_environment(output_dir: str | None, wants_gpu: bool, decoder: str) -> Iterator[Finding]:
    """All of it; `output_dir`, whether the recipe wants a GPU, and its decoder are what a recipe adds."""
    version = sys.version_info[:2]
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if PYTHONS[0] <= version <= PYTHONS[1]:
        yield ok("python", found)
    else:
        yield warning("python", found, "paddlevid is tested with Python 3.10 to 3.13")
    yield ok("paddlevid", f"{paddlevid.__version__} in {Path(paddlevid.__file__).parent}")
    yield from check_paddle(wants_gpu)
    yield from check_packages(decoder)
    yield from check_codecs()
    yield check_cores()
    yield from check_memory()
    yield check_shared_memory()
    yield check_disk(output_dir or ".")
    yield from check_limits()


def check_paddle(wants_gpu: bool) -> Iterator[Finding]:
    try:
        run = subprocess.run(
            [sys.executable, "-c", _PADDLE_PROGRAM],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PADDLE_TIMEOUT_SEC,
            check=False,
        )
    except subprocess.TimeoutExpired:
        yield error("paddle", f"gives no answer in {_PADDLE_TIMEOUT_SEC} s", "install it again in a new environment")
        return
    told = [line for line in run.stdout.splitlines() if line.startswith("TOLD")]
    if not told:
        missing = "No module named 'paddle'" in run.stderr
        last = one_line((run.stderr.strip() or f"its process ended with code {run.returncode}").splitlines()[-1])
        found = "not installed" if missing else f"broken: {last}"
        yield error("paddle", found, HOW_TO_INSTALL["paddle"])
        return
    facts: dict[str, Any] = json.loads(told[-1].removeprefix("TOLD"))
    build = f"CUDA {facts['cuda_version']}, cuDNN {facts['cudnn_version']}" if facts["cuda"] else "CPU build"
    if int(facts["version"].split(".")[0]) == 3:
        yield ok("paddle", f"{facts['version']}, {build}; computes")
    else:
        yield error("paddle", f"{facts['version']}, {build}", "paddlevid is for PaddlePaddle 3: upgrade it")
    for number, (name, num_bytes) in enumerate(facts["devices"]):
        yield ok(f"gpu {number}", f"{name}, {gigabytes(num_bytes)}")
    if not facts["devices"]:
        yield _without_gpu(facts["cuda"], wants_gpu)


def _without_gpu(compiled_with_cuda: bool, wants_gpu: bool) -> Finding:
    has_driver = shutil.which("nvidia-smi") is not None
    if compiled_with_cuda:
        advice = "see whether nvidia-smi lists one, and whether the container was started with it (--gpus all)"
        return Finding(
            "error" if wants_gpu else "warning", "gpu", "this Paddle computes on GPUs and finds none", advice
        )
    if has_driver or wants_gpu:
        what = "this machine has one" if has_driver else "the recipe asks for one (device: gpu)"
        advice = f"{HOW_TO_INSTALL['paddle']}; or -o device=cpu"
        return Finding("error" if wants_gpu else "warning", "gpu", f"{what}, and this Paddle is the CPU build", advice)
    return ok("gpu", "none; computes on the CPU")


def check_packages(decoder: str) -> Iterator[Finding]:
    """The packages that read and show videos; of those that fail to load, why."""
    found = []
    for name, label in (("numpy", "numpy"), ("av", "PyAV"), ("cv2", "OpenCV"), ("decord", "decord")):
        try:
            module = importlib.import_module(name)  # OpenCV before decord, which brings a zlib of its own
        except (ImportError, OSError) as reason:
            advice = f"pip install {'opencv-python-headless' if name == 'cv2' else name}"
            if name == "decord" and decoder != "decord":
                yield warning(label, "not installed: the decoder decord cannot be chosen", f"{advice}, if you want it")
            else:
                yield error(label, f"cannot be loaded: {one_line(reason)}", advice)
            continue
        found.append(f"{label} {getattr(module, '__version__', '?')}")
    yield ok("packages", ", ".join(found))


def check_codecs() -> Iterator[Finding]:
    """Which codecs the FFmpeg of PyAV decodes."""
    try:
        import av
    except (ImportError, OSError):
        return  # told above
    libraries = av.library_versions
    told = ", ".join(f"{name} {'.'.join(map(str, libraries[name]))}" for name in ("libavcodec", "libavformat"))
    missing = [kind for kind, names in CODECS.items() if not any(_can_decode(name) for name in names)]
    if missing:
        advice = (
            "install PyAV from PyPI (pip install --force-reinstall av): its wheels bring an FFmpeg with all of them"
        )
        yield warning("codecs", f"the FFmpeg of PyAV ({told}) has no decoder for {', '.join(missing)}", advice)
    else:
        yield ok("codecs", f"{', '.join(CODECS)} ({told})")


def _can_decode(name: str) -> bool:
    import av

    try:
        av.codec.Codec(name, "r")
    except ValueError:
        return False
    return True


def check_cores() -> Finding:
    cores, limit = num_cores(), cpu_limit()
    if limit is None or limit >= cores:
        return ok("cores", f"{cores} of {os.cpu_count()}")
    return warning(
        "cores",
        f"{cores}, and this container may use {limit:.3g} of them",
        f"set train.num_workers to {max(1, round(limit))} or less, or give the container more (--cpus)",
    )


def cpu_limit(root: Path = CGROUP) -> float | None:
    """How many cores' time a container may take; None without a limit."""
    try:
        words = (root / "cpu.max").read_text().split()
    except OSError:
        try:
            words = [(root / "cpu" / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period")]
        except OSError:
            return None
    quota, period = words[0], words[1] if len(words) > 1 else "100000"
    return int(quota) / int(period) if quota.isdigit() and int(period) else None


def check_memory() -> Iterator[Finding]:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return  # not on this system
    kilobytes = {name: int(number) for name, number in re.findall(r"^(\w+): +(\d+) kB$", "\n".join(lines), re.M)}
    total, available = (1024 * kilobytes.get(name, 0) for name in ("MemTotal", "MemAvailable"))
    limit = memory_limit()
    found = f"{gigabytes(available)} free of {gigabytes(total)}"
    if limit is not None and limit < total:
        found += f"; this container may use {gigabytes(limit)}"
        available = min(available, limit)
    if available < 2e9:
        yield warning("memory", found, "training takes a few GB, and each worker some hundred MB: end other programs")
    else:
        yield ok("memory", found)


def memory_limit(root: Path = CGROUP) -> int | None:
    """How much memory a container may take, in bytes; None without a limit."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            text = (root / name).read_text().strip()
        except OSError:
            continue
        return int(text) if text.isdigit() and int(text) < 2**60 else None
    return None


def check_shared_memory() -> Finding:
    try:
        usage = shutil.disk_usage("/dev/shm")
    except OSError:
        return ok("/dev/shm", "not on this system")
    found = f"{gigabytes(usage.free)} free of {gigabytes(usage.total)}"
    if usage.free < 1e9:
        return warning(
            "/dev/shm", found, "workers hand batches over through it: start the container with --shm-size 8g"
        )
    return ok("/dev/shm", found)


def check_disk(folder: str) -> Finding:
    """Where checkpoints are to be written; `folder` need not be there yet."""
    place = Path(folder).absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    found = f"{gigabytes(free)} free in {place}"
    if not os.access(place, os.W_OK):
        return error("disk", f"{place} cannot be written to", "set output_dir to a folder of yours")
    if free < 5e9:
        return warning("disk", found, "checkpoints of a TimeSformer take 1.5 GB each, and two are kept: make room")
    return ok("disk", found)


def check_limits() -> Iterator[Finding]:
    try:
        import resource
    except ImportError:  # on Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < 1024:
        yield warning("open files", f"at most {soft}", f"ulimit -n {4096 if hard < 0 else min(4096, hard)}")
    else:
        yield ok("open files", "without limit" if soft < 0 else f"up to {soft}")
    encoding = sys.getfilesystemencoding()
    if encoding.lower() != "utf-8":
        yield warning("file names", f"are read as {encoding}", "export LC_ALL=C.UTF-8, or other scripts in names fail")
