"""Exported models against the way PaddleVideo's users deploy, in one run and in turns: python benchmarks/runtimes.py

TimeSformer-B (8 frames of 224 pixels, 3 views) and TSM-ResNet-50 (8 frames, 1 view) with random weights, in every
format and precision. Against them PaddleVideo's networks (tests/peers, written anew from its facts) as its tools run
them: normalised float frames in, saved by paddle.jit.save, under Paddle Inference without oneDNN, one video after the
other; unlike its tools, with all cores. Timed are the model alone, on the views of one video, and whole videos from
files to labels: 10 s of h264, 340x256. Takes an hour on 2 cores; --small shows in minutes that all of it works.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from itertools import cycle, islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlevid.deploy.measure.benchmark import Worker
from paddlevid.deploy.measure.machine import describe_machine
from paddlevid.deploy.measure.sample_video import write_video
from paddlevid.deploy.measure.timing import Plan, Way, answer, prepare_process, time_runs
from paddlevid.errors import ExportError
from paddlevid.runtime import num_cores, run_command

ROOT = Path(__file__).resolve().parent.parent
PEER = "PaddleVideo"
BATCH = 8  # views a run from files to labels, as Predictor has it


class Case(NamedTuple):
    """A recipe, what makes it small, PaddleVideo's network, and how many times as fast ours must be."""

    config: str
    small: tuple[str, ...]
    peer: str
    best: float
    fp32: float
    end_to_end: float


CASES = {
    "timesformer": Case(
        "timesformer_k400",
        ("model.embed_dim=64", "model.depth=2", "model.num_heads=2", "data.image_size=64", "test.short_side=64"),
        "TimeSformerRecognizer",
        best=5.0,
        fp32=1.5,
        end_to_end=4.5,
    ),
    "tsm": Case(
        "tsm_k400",
        ("model.backbone=resnet18", "data.image_size=64", "test.short_side=72"),
        "SegmentRecognizer",
        best=5.0,
        fp32=1.8,
        end_to_end=3.0,
    ),
}


# ---- ours -----------------------------------------------------------------------------------------------------------


def export(case: Case, folder: Path, videos: Path, small: bool, int8: bool) -> Any:
    """Write a model with random weights in all formats and precisions that can be made here -> its recipe."""
    import paddle

    from paddlevid import build
    from paddlevid.checkpoint import save_weights
    from paddlevid.config import load_config
    from paddlevid.deploy.export import ExportOptions, export_model
    from paddlevid.deploy.runtimes.open_vino import has_bf16

    overrides = ["data.class_names=null", f"data.root={videos}"]
    overrides += [f"{split}.list={videos}/list.txt" for split in ("train", "valid", "test")]
    cfg = load_config(ROOT / "configs" / f"{case.config}.yaml", overrides + list(case.small if small else ()))
    paddle.seed(0)
    weights = folder.with_suffix(".pdparams")
    save_weights(build.build_model(cfg), weights)
    precisions = ["fp32", *(["bf16"] if has_bf16() else []), "fp16", *(["int8"] if int8 else [])]
    options = ExportOptions(
        formats=("paddle", "onnx", "openvino"),
        precisions=tuple(precisions),
        calibration_videos=4,
        check_videos=1,
    )
    export_model(cfg, weights, folder, options)
    return cfg


# ---- PaddleVideo's --------------------------------------------------------------------------------------------------


def export_peer(case: Case, cfg: Any, prefix: Path, num_views: int) -> None:
    """Save PaddleVideo's network for the views of one video: a fixed batch, which is what its graphs take."""
    import paddle
    from peers import paddlevideo

    data, model = cfg.data, cfg.model
    if case.peer == "TimeSformerRecognizer":
        names = ("embed_dim", "depth", "num_heads", "attention", "patch_size")
        sizes = {name: getattr(model, name) for name in names}
        network = paddlevideo.TimeSformerRecognizer(
            data.num_classes, num_frames=data.num_frames, image_size=data.image_size, **sizes
        )
        shape = [num_views, 3, data.num_frames, data.image_size, data.image_size]
    else:
        depth = int(model.backbone.removeprefix("resnet"))
        network = paddlevideo.SegmentRecognizer(depth, data.num_classes, data.num_frames, shifts=True)
        shape = [num_views * data.num_frames, 3, data.image_size, data.image_size]
    network.eval()
    spec = paddle.static.InputSpec(shape, "float32", "frames")
    paddle.jit.save(paddle.jit.to_static(network, input_spec=[spec], full_graph=True), str(prefix))


def read_timesformer(path: str, num_frames: int, size: int, short_side: int) -> np.ndarray:
    """All frames that the clip spans, 32 for each taken; those taken normalised, then resized: [3, C, T, S, S]."""
    import av
    import paddle

    with av.open(path) as container:
        decoded = islice(container.decode(video=0), 32 * num_frames)
        frames = np.stack([frame.to_rgb().to_ndarray() for frame in decoded])
    chosen = frames[np.linspace(0, len(frames) - 1, num_frames).astype(np.int64)]  # [T, H, W, C]
    video = ((chosen.astype(np.float32) / 255.0 - 0.45) / 0.225).transpose(3, 0, 1, 2)  # [C, T, H, W]
    height, width = video.shape[2:]
    scale = short_side / min(height, width)
    sizes = [round(height * scale), round(width * scale)]
    resized = paddle.nn.functional.interpolate(paddle.to_tensor(video), size=sizes, mode="bilinear").numpy()
    places = (resized.shape[3] - size) // 2
    crops = [resized[:, :, :size, left : left + size] for left in (0, places, 2 * places)]
    return np.stack(crops)


def read_tsm(path: str, num_frames: int, size: int, short_side: int) -> np.ndarray:
    """All frames by OpenCV, those chosen through PIL: [T, C, S, S]."""
    import cv2
    from PIL import Image

    capture, frames = cv2.VideoCapture(path), []
    for _ in range(int(capture.get(cv2.CAP_PROP_FRAME_COUNT))):
        is_read, frame = capture.read()
        if is_read:
            frames.append(frame[:, :, ::-1])
    segment = len(frames) // num_frames
    wide, left, top = int(short_side * 4 / 3), round((short_side * 4 / 3 - size) / 2), round((short_side - size) / 2)
    pictures = []
    for i in range(num_frames):
        picture = Image.fromarray(np.ascontiguousarray(frames[i * segment + (segment - 1) // 2]))
        picture = picture.resize((wide, short_side), Image.Resampling.BILINEAR)
        pictures.append(np.array(picture.crop((left, top, left + size, top + size))))
    video = np.stack(pictures).transpose(0, 3, 1, 2).astype(np.float32) / 255.0
    mean, std = (
        np.array(numbers, np.float32).reshape(1, 3, 1, 1) for numbers in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    )
    return (video - mean) / std


def serve_peer(connection: Connection, plan: Plan, way: Way) -> None:
    prepare_process(way)
    answer(connection, partial(peer_measures, plan, way))


def peer_measures(plan: Plan, way: Way) -> dict[str, Callable[[int], list[float]]]:
    """PaddleVideo's network, which lies beside our folder, as its tools/predict.py runs it on CPU."""
    import time

    from paddle import inference

    from paddlevid.deploy.manifest import read_manifest

    manifest = read_manifest(plan.folder)
    prefix = f"{plan.folder}_peer"
    config = inference.Config(f"{prefix}.json", f"{prefix}.pdiparams")
    config.disable_glog_info()
    config.disable_gpu()
    config.disable_mkldnn()
    config.set_cpu_math_library_num_threads(way.num_threads)
    # Its enable_memory_optim is left out: Paddle 3.3 fails with it
    predictor = inference.create_predictor(config)
    feed = predictor.get_input_handle(predictor.get_input_names()[0])
    fetch = predictor.get_output_handle(predictor.get_output_names()[0])
    read = partial(
        read_timesformer if manifest.model == "timesformer" else read_tsm,
        num_frames=manifest.num_frames,
        size=manifest.data.image_size,
        short_side=manifest.views.short_side,
    )

    def run(frames: np.ndarray) -> np.ndarray:
        feed.copy_from_cpu(np.ascontiguousarray(frames))
        predictor.run()
        return fetch.copy_to_cpu()

    def label_videos(_: int) -> list[float]:
        started = time.perf_counter()
        for _, record in zip(range(plan.num_videos), cycle(plan.records)):
            logits = run(read(record.path)).mean(axis=0)
            exponentials = np.exp(logits - logits.max())
            np.argsort(-exponentials / exponentials.sum())[:5]
        return [(time.perf_counter() - started) / plan.num_videos]

    frames = read(plan.records[0].path)
    return {"runs": lambda _: time_runs(partial(run, frames), plan.seconds), "end_to_end": label_videos}


# ---- both -----------------------------------------------------------------------------------------------------------


class Result(NamedTuple):
    """Of one way: median seconds of the model on the views of a video, and of a whole video."""

    model: float
    video: float


def compare(plan: Plan, num_views: int) -> tuple[dict[str, Result], dict[str, str]]:
    """Results by name, and reasons of what could not run."""
    workers = {PEER: Worker(plan, Way("paddle", "fp32", num_cores()), target=serve_peer)}
    try:
        if reason := workers[PEER].reason:
            raise ExportError(f"there is nothing to compare with: {PEER}: {reason}")
        workers |= {f"{way.runtime} {way.precision}": Worker(plan, way) for way in plan.ways}
        for number in range(1, plan.rounds + 1):
            for kind, batch_size in (("runs", num_views), ("end_to_end", BATCH)):
                for name, worker in workers.items():
                    print(f"  round {number} of {plan.rounds}: {kind}, {name}", file=sys.stderr, flush=True)
                    times = getattr(worker.times, kind).setdefault(batch_size, [])
                    times += worker.measure(kind, batch_size)
    finally:
        for worker in workers.values():
            worker.close()
    results = {
        name: Result(statistics.median(w.times.runs[num_views]), statistics.median(w.times.end_to_end[BATCH]))
        for name, w in workers.items()
        if not w.reason
    }
    return results, {name: w.reason for name, w in workers.items() if w.reason}


def report(name: str, case: Case, results: dict[str, Result], reasons: dict[str, str]) -> bool:
    """Print the table, and whether what must hold does."""
    print(f"\n{name}: model alone, on the views of a video, and from file to labels")
    print(f"{'':18}{'ms':>10}{'ratio':>8}{'videos/s':>10}{'ratio':>8}")
    for reason in reasons.items():
        print("not run: {}: {}".format(*reason))
    peer = results[PEER]
    ratios = {way: Result(peer.model / own.model, peer.video / own.video) for way, own in results.items()}
    for way, own in results.items():
        ratio = ratios[way]
        print(f"{way:18}{1e3 * own.model:10.1f}{ratio.model:8.2f}{1 / own.video:10.2f}{ratio.video:8.2f}")
    del ratios[PEER]
    found = {
        "best, model alone": (max(ratio.model for ratio in ratios.values()), case.best),
        "best fp32, model alone": (max(r.model for way, r in ratios.items() if way.endswith("fp32")), case.fp32),
        "best, from file to labels": (max(ratio.video for ratio in ratios.values()), case.end_to_end),
    }
    for what, (ratio, least) in found.items():
        verdict = "holds" if ratio >= least else "DOES NOT HOLD"
        print(f"{what}: {ratio:.2f} times as fast as {PEER}; at least {least:g}: {verdict}")
    return all(ratio >= least for ratio, least in found.values())


def run_case(name: str, folder: Path, videos: Path, names: list[str], args: argparse.Namespace) -> bool:
    """Export both networks, time them, and tell whether what must hold does."""
    from paddlevid.build import build_views
    from paddlevid.data.records import Record
    from paddlevid.deploy.manifest import read_manifest
    from paddlevid.deploy.runtimes import ENGINES

    case = CASES[name]
    cfg = export(case, folder, videos, args.small, int8=not args.no_int8 and find_spec("nncf") is not None)
    manifest = read_manifest(folder)
    num_views = build_views(manifest.data, manifest.views).num_views
    export_peer(case, cfg, folder.with_name(f"{name}_peer"), num_views)
    held = {
        (runtime, files.precision)
        for files in manifest.models
        for runtime, engine in ENGINES.items()
        if files.format == engine.formats[0]
    }
    plan = Plan(
        folder=folder,
        records=tuple(Record(path=str(videos / name), name=name) for name in names),
        ways=tuple(Way(runtime, precision, num_cores()) for runtime, precision in sorted(held)),
        batch_sizes=(num_views, BATCH),
        rounds=args.rounds,
        seconds=args.seconds,
        num_videos=-(-args.videos // args.rounds),
    )
    return report(name, case, *compare(plan, num_views))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="small networks, few videos: does all of it work?")
    parser.add_argument("--models", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--videos", type=int, default=50, help="from file to labels, over all rounds (50)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of the model alone in a turn, at least (10)")
    parser.add_argument("--no_int8", action="store_true", help="leave out int8, which takes minutes to make")
    args = parser.parse_args()
    if args.small:
        args.rounds, args.videos, args.seconds = min(args.rounds, 2), min(args.videos, 6), min(args.seconds, 0.5)
    from paddlevid.runtime import set_device

    set_device("cpu")
    machine = describe_machine()
    print(f"{machine['cpu']}, {machine['cores']} cores, {' '.join(machine['cpu_flags'])}")
    print(", ".join(f"{package} {version}" for package, version in machine["versions"].items()))
    all_hold = True
    with tempfile.TemporaryDirectory() as temporary:
        videos = Path(temporary) / "videos"
        videos.mkdir()
        first = write_video(videos / "video_00.mp4")
        names = [f"video_{i:02}.mp4" for i in range(args.videos)]
        for name in names[1:]:
            shutil.copy(first, videos / name)
        (videos / "list.txt").write_text("".join(f"{name} 0\n" for name in names))
        for name in args.models:
            all_hold &= run_case(name, Path(temporary) / name, videos, names, args)
    return int(not all_hold and not args.small)


if __name__ == "__main__":
    os.environ.setdefault("GLOG_minloglevel", "2")
    run_command(main)
