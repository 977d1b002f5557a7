"""A data set that only a model of motion can learn: textured shapes in real video files, classed by how they move.

`python -m paddlevid.data.motion OUT` writes it; `paddlevid.data.moving_shapes` says what is in it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from paddlevid.data.moving_shapes import MOTIONS, RECIPE, render_clip
from paddlevid.errors import DataError

if TYPE_CHECKING:
    import numpy as np

SPLITS = ("train", "valid", "test")
CODECS = {"h264": "libx264", "mpeg4": "mpeg4"}
FRAMES_VARY = 0.2


class Written(NamedTuple):
    """What `write_motion_set` did: files written now, files kept from an earlier run, and the codec used."""

    new: int
    kept: int
    codec: str


def write_motion_set(
    folder: str | Path,
    *,
    train: int = 2400,
    valid: int = 200,
    test: int = 400,
    size: int = 96,
    frames: int = 32,
    fps: int = 16,
    codec: str = "h264",
    seed: int = 0,
    classes: Sequence[str] = tuple(MOTIONS),
    workers: int = 1,
    progress: bool = False,
) -> Written:
    """Write `SPLIT/INDEX_CLASS.mp4` files, the lists `SPLIT.txt` (`relative/path label`) and `classes.txt`.

    A file depends on seed, split and index alone, not on the counts or on `workers`, so a run that was stopped goes
    on where it was and a set can be made longer later. Clip lengths vary by a fifth around `frames`; `size` is the
    side of the frames in pixels, even. `classes` are names from `MOTIONS`, label 0 first, and take turns by index.
    Where PyAV has no libx264, `codec="h264"` falls back to MPEG-4. More than one of `workers` are processes.

    Raises DataError for values that cannot be used, for a folder that cannot be written, and for a folder that holds
    a set made with other parameters.
    """
    folder = Path(folder)
    counts = dict(zip(SPLITS, (train, valid, test), strict=True))
    _check_values(
        counts=counts,
        size=size,
        frames=frames,
        fps=fps,
        codec=codec,
        seed=seed,
        classes=classes,
        workers=workers,
    )
    codec = _available_codec(codec)
    parameters = {
        "recipe": RECIPE,
        "size": size,
        "frames": frames,
        "fps": fps,
        "codec": codec,
        "seed": seed,
        "classes": list(classes),
    }
    try:
        _claim_folder(folder, parameters, [split for split in SPLITS if counts[split]])
        names = {split: [_file_name(split, i, classes) for i in range(counts[split])] for split in SPLITS}
        jobs = [(folder, parameters, split, i) for split in SPLITS for i in range(counts[split])]
        todo = [job for job in jobs if not (folder / names[job[2]][job[3]]).exists()]
        _run_jobs(todo, workers, progress)
        for split in SPLITS:
            lines = [f"{name} {i % len(classes)}\n" for i, name in enumerate(names[split])]
            _replace_text(folder / f"{split}.txt", "".join(lines))
        _replace_text(folder / "classes.txt", "".join(f"{name}\n" for name in classes))
    except OSError as error:
        raise DataError(f"{folder}: cannot write the motion set: {error.strerror or error}") from error
    return Written(new=len(todo), kept=len(jobs) - len(todo), codec=codec)


def _check_values(
    *,
    counts: dict[str, int],
    size: int,
    frames: int,
    fps: int,
    codec: str,
    seed: int,
    classes: Sequence[str],
    workers: int,
) -> None:
    for split, count in counts.items():
        if count < 0:
            raise DataError(f"{split} is {count}: the number of videos must be 0 or more")
    if not any(counts.values()):
        raise DataError("train, valid and test are all 0: ask for at least one video")
    if size % 2 or not 32 <= size <= 2048:
        raise DataError(f"size is {size}: the side of the frames must be even and from 32 to 2048 pixels")
    if frames < 8:
        raise DataError(f"frames is {frames}: a clip needs at least 8 frames")
    if not 1 <= fps <= 240:
        raise DataError(f"fps is {fps}: must be from 1 to 240 frames a second")
    if codec not in CODECS:
        raise DataError(f"codec {codec!r} is unknown: choose from {', '.join(CODECS)}")
    if seed < 0:
        raise DataError(f"seed is {seed}: must be 0 or more")
    if workers < 1:
        raise DataError(f"workers is {workers}: must be 1 or more")
    unknown = [name for name in classes if name not in MOTIONS]
    if unknown:
        raise DataError(f"class {unknown[0]!r} is unknown: choose from {', '.join(MOTIONS)}")
    if not classes or len(set(classes)) < len(classes):
        raise DataError(f"classes are {' '.join(classes) or 'empty'}: name each class once, and at least one")


def _available_codec(codec: str) -> str:
    import av

    return codec if CODECS[codec] in av.codecs_available else "mpeg4"


def _file_name(split: str, index: int, classes: Sequence[str]) -> str:
    return f"{split}/{index:05d}_{classes[index % len(classes)]}.mp4"


def _claim_folder(folder: Path, parameters: dict[str, Any], splits: Sequence[str]) -> None:
    """Make the folders and leave the parameters in motion.json, or find the same parameters there."""
    note = folder / "motion.json"
    if note.exists():
        try:
            found = json.loads(note.read_text(encoding="utf-8"))
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise DataError(f"{note} is not a note of a motion set: choose another folder")
        for key, value in parameters.items():
            if found.get(key) != value:
                raise DataError(
                    f"{folder} holds a motion set made with {key} {found.get(key)}, not {value}: "
                    "choose another folder, or delete this one"
                )
    else:
        ours = ["classes.txt", *(f"{split}.txt" for split in SPLITS), *SPLITS]
        foreign = [name for name in ours if (folder / name).exists()]
        if foreign:
            raise DataError(f"{folder} has {foreign[0]} but no motion.json: choose a folder without other data")
    for split in splits:
        (folder / split).mkdir(parents=True, exist_ok=True)
    if not note.exists():
        _replace_text(note, json.dumps(parameters, indent=1) + "\n")


def _replace_text(path: Path, text: str) -> None:
    """Whole or not at all: under another name first."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _run_jobs(jobs: Sequence[tuple[Path, dict[str, Any], str, int]], workers: int, progress: bool) -> None:
    from tqdm import tqdm

    workers = min(workers, len(jobs))
    # on a pipe (disable=None) the bar stays silent
    with tqdm(total=len(jobs), unit="video", disable=None if progress else True) as bar:
        for _ in _finished(jobs, workers):
            bar.update()


def _finished(jobs: Sequence[tuple[Path, dict[str, Any], str, int]], workers: int) -> Iterator[None]:
    if workers < 2:
        yield from map(_write_clip, jobs)
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    # spawn: the caller may hold threads (of Paddle, of OpenCV) that a fork would copy in the middle of their work
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread) as pool:
        try:
            yield from pool.map(_write_clip, jobs, chunksize=8)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _one_thread() -> None:
    import cv2

    cv2.setNumThreads(1)


def _write_clip(job: tuple[Path, dict[str, Any], str, int]) -> None:
    import numpy as np

    folder, parameters, split, index = job
    classes = parameters["classes"]
    rng = np.random.default_rng([parameters["seed"], SPLITS.index(split), index])
    frames = parameters["frames"]
    num_frames = int(rng.integers(round(frames * (1 - FRAMES_VARY)), round(frames * (1 + FRAMES_VARY)) + 1))
    frames_thwc = render_clip(classes[index % len(classes)], rng, num_frames, parameters["size"])
    path = folder / _file_name(split, index, classes)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        _encode(part, frames_thwc, parameters["fps"], parameters["codec"])
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _encode(path: Path, frames_thwc: np.ndarray, fps: int, codec: str) -> None:
    import av

    num_frames, height, width, _ = frames_thwc.shape
    # With mbtree the bytes of small videos depend on what lay in x264's memory before, on processors with AVX-512
    quality = {
        "h264": {"preset": "veryfast", "crf": "20", "x264-params": "mbtree=0"},
        "mpeg4": {"qmin": "3", "qmax": "5"},
    }[codec]
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream(CODECS[codec], rate=fps, options=quality)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        # the bytes of x264 depend on its number of threads
        stream.thread_count = 1
        for t in range(num_frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frames_thwc[t], format="rgb24")))
        container.mux(stream.encode())


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m paddlevid.data.motion",
        description="Write a set of small videos of moving shapes, whose class is only how they move.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("folder", metavar="OUT", help="folder of the set: made, or gone on with if begun before")
    parser.add_argument("--train", type=int, default=2400, metavar="N", help="number of training videos")
    parser.add_argument("--valid", type=int, default=200, metavar="N", help="number of validation videos")
    parser.add_argument("--test", type=int, default=400, metavar="N", help="number of test videos")
    parser.add_argument("--size", type=int, default=96, help="side of the square frames, in pixels")
    parser.add_argument("--frames", type=int, default=32, help="frames a video, give or take a fifth")
    parser.add_argument("--fps", type=int, default=16, help="frames a second")
    parser.add_argument("--codec", choices=list(CODECS), default="h264", help="h264 needs a PyAV with libx264")
    parser.add_argument("--seed", type=int, default=0, help="another seed makes other videos")
    parser.add_argument(
        "--classes", nargs="+", default=list(MOTIONS), metavar="NAME", help="motions to write, label 0 first"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that write at once")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = vars(_arguments(argv))
    started = time.monotonic()
    try:
        written = write_motion_set(**options, progress=True)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped: the same command goes on from here", file=sys.stderr)
        return 130
    if written.codec != options["codec"]:
        print(f"note: PyAV has no {CODECS[options['codec']]} here; the videos are {written.codec}", file=sys.stderr)
    kept = f" ({written.kept} more were there)" if written.kept else ""
    print(f"{options['folder']}: wrote {written.new} videos{kept} in {time.monotonic() - started:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
