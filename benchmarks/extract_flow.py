"""Flows a second of tools/extract_flow.py, with one process and one a core, next to a plain script with OpenCV.

    python benchmarks/extract_flow.py [VIDEO ...] [--algorithm dis] [--rounds 3] [--copies 8] [--profile]

The script is what people write: one process that decodes each video with cv2.VideoCapture, makes frames grey, computes
the flow between each two, and writes two JPEG files with cv2.imwrite; it neither flushes files to the disk nor notices
damaged videos. It runs with one thread, and with as many as OpenCV takes by itself. All contenders read the same files
and take turns, so that a machine that gets slower for a while is unfair to none of them; times are of whole runs, with
the start of Python, and medians over the rounds. What they write is compared: "off by" is the mean over pixels, in grey
levels, between the pictures of the script and those of the tool.

--profile tells where a process of the tool spends its time instead.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlevid.data.flow.method import FlowMethod
from paddlevid.data.rgb import RgbConverter
from paddlevid.data.video import FrameFolder
from paddlevid.deploy.measure.sample_video import write_video
from paddlevid.prepare.decoding import survey
from paddlevid.prepare.flow import FlowPictures, encode_flow
from paddlevid.prepare.frames import flush
from paddlevid.runtime import num_cores

TOOL = Path(__file__).resolve().parent.parent / "tools" / "extract_flow.py"
BOUND = 20.0
QUALITY = 95


# ---- the plain script, which shares nothing with the tool but the parameters of the algorithm ------------------------


def plain_flow(algorithm: str, parameters: dict[str, Any]) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    cv2: Any = importlib.import_module("cv2")
    if algorithm == "farneback":
        return lambda first, second: cv2.calcOpticalFlowFarneback(first, second, None, **parameters)
    if algorithm == "tvl1":
        tvl1 = cv2.optflow.DualTVL1OpticalFlow_create(*parameters.values())
        return lambda first, second: tvl1.calc(first, second, None)
    presets = {"medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM}
    dis = cv2.DISOpticalFlow_create(presets[parameters["preset"]])
    for name, value in parameters.items():
        if name[0].isupper():  # OpenCV's own
            getattr(dis, f"set{name}")(value)
    return lambda first, second: dis.calc(first, second, None)


def plain_script(
    videos: list[str], output: str, algorithm: str, parameters: dict[str, Any], num_threads: int | None
) -> None:
    import cv2

    if num_threads is not None:
        cv2.setNumThreads(num_threads)
    flow_between = plain_flow(algorithm, parameters)
    for video in videos:
        folder = Path(output, Path(video).stem)
        folder.mkdir(parents=True)
        options = [] if num_threads is None else [cv2.CAP_PROP_N_THREADS, num_threads]
        capture = cv2.VideoCapture(video, cv2.CAP_FFMPEG, options)
        before: np.ndarray | None = None
        number = 0
        while True:
            is_read, frame = capture.read()
            if not is_read:
                break
            grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
            if before is not None:
                number += 1
                flow = flow_between(before, grey)
                levels = np.round((np.clip(flow, -BOUND, BOUND) + BOUND) * (255 / (2 * BOUND))).astype(np.uint8)
                for index, axis in enumerate("xy"):
                    name = str(folder / f"flow_{axis}_{number:05d}.jpg")
                    cv2.imwrite(name, levels[..., index], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
            before = grey


def run_script(videos: list[str], output: Path, algorithm: str, num_threads: int | None) -> None:
    parameters = FlowMethod(algorithm, BOUND).settings()["parameters"]
    process = multiprocessing.get_context("spawn").Process(
        target=plain_script, args=(videos, str(output), algorithm, parameters, num_threads)
    )
    process.start()
    process.join()
    if process.exitcode != 0:
        sys.exit("the plain script failed")


def run_tool(folder: Path, output: Path, algorithm: str, num_workers: int) -> None:
    command = [sys.executable, str(TOOL), str(folder), "-o", str(output)]
    command += ["--algorithm", algorithm, "--workers", str(num_workers), "--preview", str(output / "flow.png")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


# ---- measuring -------------------------------------------------------------------------------------------------------


class Cost(NamedTuple):
    """Of a whole run: seconds on the clock, and of the processor in all its processes."""

    wall_sec: float
    cpu_sec: float


def cost(run: Callable[[], None]) -> Cost:
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    run()
    wall_sec = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(wall_sec, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def difference(script: Path, tool: Path, names: list[str]) -> float:
    """The mean over all pixels of what two folders differ by, in grey levels."""
    sums = count = 0
    for name in names:
        pictures = sorted(path.name for path in (tool / name).iterdir())
        if pictures != sorted(path.name for path in (script / name).iterdir()):
            sys.exit(f"{name}: the script and the tool wrote different files")
        num_flows = len(pictures) // 2
        template = "flow_{axis}_{:05d}.jpg"
        one, other = (
            FrameFolder(folder / name, num_flows, template, is_flow=True).read(np.arange(num_flows)).astype(np.int16)
            for folder in (script, tool)
        )
        sums, count = sums + np.abs(one - other).sum(), count + one.size
    return float(sums / count)


def compare(videos: list[Path], algorithm: str, rounds: int, copies: int, place: Path) -> None:
    """Print a row for each contender."""
    folder = place / "videos"
    folder.mkdir()
    paths = []
    for number in range(copies):
        for video in videos:
            paths.append(folder / f"{video.stem}_{number}{video.suffix}")
            shutil.copyfile(video, paths[-1])
    num_flows = copies * sum(len(survey(str(video)).times_sec) - 1 for video in videos)
    names, cores = [str(path) for path in paths], num_cores()
    contenders: dict[str, Callable[[Path], None]] = {
        "script, 1 thread": lambda output: run_script(names, output, algorithm, 1),
        "script, OpenCV's threads": lambda output: run_script(names, output, algorithm, None),
        "tool, 1 worker": lambda output: run_tool(folder, output, algorithm, 1),
        f"tool, {cores} workers": lambda output: run_tool(folder, output, algorithm, cores),
    }
    costs: dict[str, list[Cost]] = {name: [] for name in contenders}
    outputs = {name: place / f"output_{number}" for number, name in enumerate(contenders)}
    for _ in range(rounds):
        for name, run in contenders.items():
            shutil.rmtree(outputs[name], ignore_errors=True)
            os.sync()  # what one has written is not for the next to wait for
            costs[name].append(cost(partial(run, outputs[name])))
    _, script, one_worker, _ = outputs.values()
    off_by = difference(script, one_worker, [path.stem for path in paths])
    walls = {name: median(cost.wall_sec for cost in row) for name, row in costs.items()}
    print(f"\n{algorithm}: {len(paths)} videos, {num_flows} flows, {cores} cores, {rounds} rounds; off by {off_by:.3f}")
    columns = f"{'':<26} {'seconds':>8} {'CPU':>8} {'flows/s':>8}"
    print(columns + "".join(f"  x {name:<24}" for name in list(contenders)[:3]).rstrip())
    for name, row in costs.items():
        cells = f"{name:<26} {walls[name]:8.2f} {median(cost.cpu_sec for cost in row):8.2f}"
        ratios = "".join(f"  {walls[other] / walls[name]:<26.2f}" for other in list(contenders)[:3])
        print(f"{cells} {num_flows / walls[name]:8.1f}{ratios.rstrip()}")


def profile(video: Path, algorithm: str, place: Path) -> None:
    """Print the milliseconds a flow of each step of one process, as the clock has them and as the processor does."""
    import cv2

    cv2.setNumThreads(1)
    pictures = FlowPictures(FlowMethod(algorithm, BOUND))
    spent: dict[str, list[float]] = {}

    def timed(step: str, call: Callable[..., Any], *arguments: Any) -> Any:
        wall, processor = time.perf_counter(), time.process_time()
        result = call(*arguments)
        row = spent.setdefault(step, [0.0, 0.0])
        row[0] += time.perf_counter() - wall
        row[1] += time.process_time() - processor
        return result

    footage = timed("open and index", survey, str(video))
    frames, to_rgb = footage.frames(lambda: None), RgbConverter()
    written: list[Path] = []
    before: np.ndarray | None = None
    for number in range(len(footage.times_sec)):
        decoded = timed("decode", next, frames)
        frame = timed("scale", pictures.method.scale, timed("convert to RGB", to_rgb, decoded))
        if before is not None:
            flow = timed("flow", pictures.method.picture, before, frame)
            for name, content in timed("encode", lambda *flow: list(encode_flow(*flow)), flow, pictures, number):
                written.append(place / name)
                timed("write", written[-1].write_bytes, content)
        before = frame
    timed("flush to the disk", flush, written)
    num_flows = len(footage.times_sec) - 1
    print(f"\n{video.name}, {algorithm}: {num_flows} flows of {frame.shape[1]}x{frame.shape[0]}")
    print(f"{'step':<20} {'ms a flow':>10} {'of CPU':>10}")
    total = (sum(row[0] for row in spent.values()), sum(row[1] for row in spent.values()))
    for step, row in [*spent.items(), ("all", total)]:
        print(f"{step:<20} {1e3 * row[0] / num_flows:10.3f} {1e3 * row[1] / num_flows:10.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="*", type=Path, metavar="VIDEO", help="by default one of 10 s, made for this")
    parser.add_argument("--algorithm", choices=("dis", "farneback", "tvl1"), default="dis")
    parser.add_argument("--rounds", type=int, default=3, help="times each runs (default: %(default)s)")
    parser.add_argument("--copies", type=int, default=8, help="of each video that a run reads (default: %(default)s)")
    parser.add_argument("--profile", action="store_true", help="tell where the time goes instead")
    args = parser.parse_args()
    if min(args.rounds, args.copies) < 1:
        parser.error("--rounds and --copies must be at least 1")
    with tempfile.TemporaryDirectory() as place:
        videos = args.videos or [write_video(Path(place) / "made_340x256.mp4")]
        if not args.profile:
            compare(videos, args.algorithm, args.rounds, args.copies, Path(place))
            return
        for number, video in enumerate(videos):
            folder = Path(place, str(number))
            folder.mkdir()
            profile(video, args.algorithm, folder)


if __name__ == "__main__":
    main()
