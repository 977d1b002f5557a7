"""A data set that only a model of motion can learn: textured shapes in real video files, classed by how they move.

Every clip draws a path through place, angle and size. Its class says which of them is run through, and in which
direction; the others stand still at one random instant of their own path. So a single frame of any clip has the same
distribution whatever the class, and a clip played backwards is a clip of the opposite class.
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

from paddlevid.errors import DataError

if TYPE_CHECKING:
    import numpy as np

# class -> the coordinate it runs through, and whether backwards (y grows downwards, so a growing angle is clockwise)
MOTIONS = {
    "left": ("x", True),
    "right": ("x", False),
    "up": ("y", True),
    "down": ("y", False),
    "clockwise": ("angle", False),
    "counter-clockwise": ("angle", True),
    "growing": ("log_radius", False),
    "shrinking": ("log_radius", True),
}
SPLITS = ("train", "valid", "test")
CODECS = {"h264": "libx264", "mpeg4": "mpeg4"}

# All point along x before they are turned, and none looks like itself turned.
OUTLINES = {
    "arrow": ((-3, -1), (0, -1), (0, -3), (4, 0), (0, 3), (0, 1), (-3, 1)),
    "wedge": ((-3, -3), (4, 0), (-3, 3), (-1.5, 0)),
    "drop": ((4.5, 0), (1, 1.6), (-1, 2), (-2.5, 1.2), (-3, 0), (-2.5, -1.2), (-1, -2), (1, -1.6)),
    "hammer": ((-4, -1), (1, -1), (1, -3.5), (3, -3.5), (3, 2.5), (1, 2.5), (1, 1), (-4, 1)),
    "flag": ((-4, -0.5), (0, -0.5), (0, -2), (4, -2), (4, 3), (0, 3), (0, 0.5), (-4, 0.5)),
}

# Place and radius are fractions of the frame's side; a shape never leaves the frame: PLACE[0] > RADIUS[1].
PLACE = (0.25, 0.75)
PLACE_TRAVEL = (0.36, 0.47)
RADIUS = (0.12, 0.24)
RADIUS_RATIO = (1.6, 1.9)
# Shapes point more or less upwards; any direction at all would make a turn far harder to learn than the other motions.
ANGLE_DEGREES = (-170.0, -10.0)
TURN_DEGREES = (110.0, 150.0)
# speed over the clip runs from 1 - EASE to 1 + EASE times its mean, or the other way
EASE = 0.35
FRAMES_VARY = 0.2
# a change of what a clip looks like changes this, so that a folder never holds clips of two kinds
RECIPE = 1


class Written(NamedTuple):
    """What `write_motion_set` did: files written now, files kept from an earlier run, and the codec used."""

    new: int
    kept: int
    codec: str


def render_clip(motion: str, rng: np.random.Generator, num_frames: int = 32, size: int = 96) -> np.ndarray:
    """One clip of a textured shape that moves over a textured background that does not.

    With generators in the same state, the clips of two opposite motions are each other's frames in reverse order.

    Returns uint8 `[T, H, W, 3]`, RGB, with `T = num_frames` and `H = W = size`.
    Raises DataError for a motion that is not in `MOTIONS`.
    """
    import cv2
    import numpy as np

    if motion not in MOTIONS:
        raise DataError(f"motion {motion!r} is unknown: choose from {', '.join(MOTIONS)}")
    path = _path(motion, rng, num_frames)
    back_colour, shape_colour = _colours(rng)
    background = back_colour + 0.05 * _noise(rng, size, 4) + 0.04 * _noise(rng, size, 12)  # [H, W, 3]
    sprite = _sprite(rng, shape_colour, side=2 * round(size * RADIUS[1]) + 2)  # [S, S, 4]
    half = sprite.shape[0] / 2

    frames_thwc = np.empty((num_frames, size, size, 3), np.uint8)
    for t, (x, y, angle, log_radius) in enumerate(path):
        scale = np.exp(log_radius) * size / half
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        # pixel centres lie at whole numbers for OpenCV: the sprite's middle is half - 0.5, the place is x * size - 0.5
        shift = np.array([x, y]) * size - 0.5 - turn @ [half - 0.5, half - 0.5]
        placed = cv2.warpAffine(sprite, np.column_stack([turn, shift]), (size, size))  # [H, W, 4]
        frame = background * (1 - placed[..., 3:]) + placed[..., :3]
        frames_thwc[t] = np.clip(frame * 255 + 0.5, 0, 255)
    return frames_thwc


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


def _path(motion: str, rng: np.random.Generator, num_frames: int) -> np.ndarray:
    """Float64 `[T, 4]`: x, y (fractions of the side), angle (radians), log of the radius. Draws do not see `motion`."""
    import numpy as np

    elapsed = np.linspace(0, 1, num_frames)
    progress = elapsed + rng.uniform(-EASE, EASE) * elapsed * (1 - elapsed)  # [T], 0 to 1
    moving, backwards = MOTIONS[motion]
    log_low, log_high = np.log(RADIUS)
    # coordinate -> lowest place, highest place, travel
    ranges = {
        "x": (*PLACE, rng.uniform(*PLACE_TRAVEL)),
        "y": (*PLACE, rng.uniform(*PLACE_TRAVEL)),
        "angle": (*np.deg2rad(ANGLE_DEGREES), np.deg2rad(rng.uniform(*TURN_DEGREES))),
        "log_radius": (log_low, log_high, np.log(rng.uniform(*RADIUS_RATIO))),
    }
    columns = []
    for coordinate, (low, high, travel) in ranges.items():
        places = rng.uniform(low, high - travel) + travel * progress
        still = np.full(num_frames, places[rng.integers(num_frames)])
        columns.append(places if coordinate == moving else still)
    path = np.column_stack(columns)  # [T, 4]
    return path[::-1] if backwards else path


def _colours(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Colours of the background and of the shape, float64 `[3]` in 0 to 1; the shape is the brighter one."""
    import numpy as np

    back = rng.uniform(0.1, 0.3)
    shape = back + rng.uniform(0.45, 0.6)
    tints = rng.uniform(-1, 1, (2, 3)) * np.array([[0.1], [0.2]])
    tints -= tints @ np.array([[0.299], [0.587], [0.114]])
    return back + tints[0], shape + tints[1]


def _noise(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """Smooth noise with about `cells` bumps to a side: float32 `[size, size, 3]`, mostly within -1 to 1."""
    import cv2
    import numpy as np

    coarse = rng.uniform(-1, 1, (cells, cells, 3)).astype(np.float32)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def _sprite(rng: np.random.Generator, colour: np.ndarray, side: int) -> np.ndarray:
    """A textured shape of radius side / 2 around its centroid: float32 `[S, S, 4]`, RGB times alpha, and alpha."""
    import cv2
    import numpy as np

    names = list(OUTLINES)
    points = np.array(OUTLINES[names[rng.integers(len(names))]], np.float64)  # [P, 2]
    points[:, 1] *= rng.choice([-1, 1])
    moments = cv2.moments(points.astype(np.float32).reshape(-1, 1, 2))  # [P, 1, 2]
    points -= np.array([moments["m10"], moments["m01"]]) / moments["m00"]
    points /= np.linalg.norm(points, axis=1).max()

    texture = np.clip(colour + 0.15 * _noise(rng, side, 3) + 0.08 * _noise(rng, side, 8), 0, 1)
    alpha = np.zeros((side, side), np.float32)
    # one pixel of border keeps the edge soft; OpenCV takes corners in fixed point, here with 4 binary places
    corners = np.round((points * (side / 2 - 1) + side / 2 - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(alpha, [corners], (1.0,), shift=4)
    alpha = cv2.GaussianBlur(alpha, (3, 3), 0)[..., None]  # [S, S, 1]
    return np.concatenate([texture * alpha, alpha], axis=2).astype(np.float32)


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
    quality = {"h264": {"preset": "veryfast", "crf": "20"}, "mpeg4": {"qmin": "3", "qmax": "5"}}[codec]
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
