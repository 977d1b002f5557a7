"""What was measured as a table, a picture, and advice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paddlevid.data.dataset import FrameSource
from paddlevid.data.speed.measure import SKIPPED_BATCHES_A_WORKER, Throughput, Times
from paddlevid.data.speed.timed import STAGES
from paddlevid.runtime import atomic_write

WAITS = 0.25  # of the time is spent neither computing nor in line for a core where the disk is what takes long
CROWDED = 0.1  # of the time at least is spent in line for a core where numbers are not to be trusted
CLOSE_TO_FLOOR = 1.25
SCALES = 0.75  # of what as many processes could do
COLORS = {"open": "#94a3b8", "decode": "#2563eb", "transform": "#16a34a", "hand-over": "#f59e0b", "floor": "#64748b"}
# By what is read: data.format, or the flow that is computed, and maybe kept
COMPUTED, CACHED = "computed flow", "cached flow"
_FASTER = "put the files on a faster disk, or take more workers than cores"
NEARER = {
    "video": "put the files on a faster disk, pack them with tools/make_shards.py, or take more workers than cores",
    "frames": _FASTER,
    "flow": _FASTER,
    COMPUTED: _FASTER,
    CACHED: _FASTER,
    "shards": "put the shards on a faster disk, or take more workers than cores",
}
LESS_TO_DECODE = {
    "video": "re-encode the videos small and with more key frames (tools/make_clips.py), or extract their frames "
    "(tools/extract_frames.py)",
    "frames": "extract smaller frames (tools/extract_frames.py)",
    "flow": "extract smaller flow (tools/extract_flow.py --short_side N)",
    "shards": "re-encode the videos small and with more key frames (tools/make_clips.py) and pack them anew",
    COMPUTED: "extract the flow once (tools/extract_flow.py), or have what is computed kept (data.flow.cache=FOLDER)",
    CACHED: "extract the flow (tools/extract_flow.py), or measure again when more of it is in data.flow.cache",
}
SHRINK = {
    "video": "shrink the videos with tools/make_clips.py",
    "frames": "extract smaller frames (tools/extract_frames.py)",
    "flow": "extract smaller flow (tools/extract_flow.py --short_side N)",
    "shards": "shrink the videos with tools/make_clips.py and pack them anew",
    COMPUTED: "compute smaller flow (data.flow.short_side=N)",
    CACHED: "compute smaller flow (data.flow.short_side=N)",
}
DOES = {
    "open": "open the file and learn where its frames are",
    "decode": "read, decode and convert the frames",
    "transform": "resize, crop, augment",
    "hand-over": "mix, stack, copy to a tensor",
}
COMPUTES = {  # in the stage decode
    COMPUTED: "read and decode the frames, compute their flow",
    CACHED: "read the flow that is kept, decode the frames of the other and compute it",
}


def what_is_read(format: str, source: FrameSource) -> str:
    """The key of the tables above, of a `data.format`."""
    if source.flow is None or source.stored_flow:
        return format
    return COMPUTED if source.flow_cache is None else CACHED


def table(times: Times, throughputs: Sequence[Throughput], unit: str, source: str) -> list[str]:
    """Where the time of a clip goes, then clips a second by number of workers; `source` is `what_is_read`."""
    total = times.total_sec
    lines = [
        f"one process, one thread, mean of {times.clips} {unit}s behind the first batch:",
        f"  {'':10}{f'ms a {unit}':>12}{'share':>8}",
    ]
    for stage in STAGES:
        seconds = times.seconds[stage]
        does = COMPUTES.get(source, DOES[stage]) if stage == "decode" else DOES[stage]
        lines.append(f"  {stage:10}{1e3 * seconds:12.2f}{seconds / total:8.1%}  {does}")
    lines.append(f"  {'all':10}{1e3 * total:12.2f}{'':8}  {1 / total:.2f} {unit}s/s")
    if times.floor_sec:
        ratio = f"all is {total / times.floor_sec:.2f} times this"
        lines.append(f"  {'floor':10}{1e3 * times.floor_sec:12.2f}{'':8}  the bare decoder, same frames; {ratio}")
    else:
        why = "flow is computed, which no decoder does" if source in COMPUTES else "PyAV alone cannot read these videos"
        lines.append(f"  floor: unknown, {why}")
    lines += ["", f"  {'workers':>7}{f'{unit}s/s':>10}{'speed-up':>10}{'first batch s':>15}{f'timed {unit}s':>15}"]
    workers = [speed for speed in throughputs if speed.num_workers] or throughputs
    for speed in throughputs:
        number, rate, first_batch_sec, clips, _ = speed
        gain = rate / workers[0].clips_per_second
        lines.append(f"  {number:7}{rate:10.2f}{gain:10.2f}{first_batch_sec:15.2f}{clips:15}")
    if any(speed.num_workers == 0 for speed in throughputs):
        lines.append("  (with 0, the process that trains reads, and computes nothing meanwhile)")
    return [*lines, f"  (the first {SKIPPED_BATCHES_A_WORKER} batches of each worker are not timed)"]


def advice(
    times: Times,
    throughputs: Sequence[Throughput],
    *,
    unit: str,
    source: str,
    cores: int,
    model_clips_per_second: float | None,
) -> list[str]:
    """What takes the time and what would help; how many workers a model needs. `source` is `what_is_read`."""
    unreadable = len(frozenset[int]().union(*(speed.unreadable for speed in throughputs)))
    videos = "1 video" if unreadable == 1 else f"{unreadable} videos"
    sentences = [f"{videos} could not be read: see tools/check_videos.py."] if unreadable else []
    sentences += [
        _bottleneck(times, unit, source),
        _workers(times, throughputs, unit, cores, model_clips_per_second),
        *_scaling(throughputs, cores),
    ]
    if times.crowded_share >= CROWDED:
        sentences.append(
            f"Other work held the cores in {times.crowded_share:.0%} of the time: measure again when this machine is "
            "quiet."
        )
    return sentences


def _bottleneck(times: Times, unit: str, source: str) -> str:
    stage = max(STAGES, key=lambda name: times.seconds[name])
    share = times.seconds[stage] / times.total_sec
    what = f"The bottleneck is {stage}, {share:.0%} of a {unit}'s time"
    waits = 1 - times.cpu_share - times.crowded_share
    if waits >= WAITS and stage in {"open", "decode"}:
        return f"{what}; {waits:.0%} of the time is waiting for the disk: {NEARER[source]}."
    if stage == "decode":
        near = times.floor_sec and times.total_sec <= CLOSE_TO_FLOOR * times.floor_sec
        about = ", no more than the decoder itself needs" if near else ""
        if source == COMPUTED:
            about = ", most of it for flow, which is computed"
        return f"{what}{about}: where that is too slow, {LESS_TO_DECODE[source]}."
    if stage == "open":
        return f"{what}: {NEARER[source]}."
    if stage == "transform":
        return f"{what}: leave out transforms that do not pay, or {SHRINK[source]}."
    return f"{what}: batches are mostly copied; smaller clips (data.image_size, data.num_frames) are what helps."


def _workers(
    times: Times, throughputs: Sequence[Throughput], unit: str, cores: int, model_clips_per_second: float | None
) -> str:
    alone = [speed.clips_per_second / speed.num_workers for speed in throughputs if speed.num_workers == 1]
    one = alone[0] if alone else 1 / times.total_sec
    best = max((speed.clips_per_second for speed in throughputs), default=one)
    most = max(best, one * cores)
    if model_clips_per_second is None:
        return (
            f"A worker gives {one:.1f} {unit}s/s: a model that takes N {unit}s/s needs N / {one:.1f} of them, and this "
            f"machine, with {cores} cores, feeds one of at most about {most:.0f}. (--clips_per_second N works it out; "
            "the log of a training run tells N.)"
        )
    needed = math.ceil(model_clips_per_second / one)
    demand = f"A model that takes {model_clips_per_second:g} {unit}s/s needs {needed} workers of {one:.1f} {unit}s/s"
    if model_clips_per_second <= most:
        return f"{demand}; this machine has {cores} cores. Set num_workers to {needed}, or one more to be safe."
    waits = 1 - most / model_clips_per_second
    return (
        f"{demand}; this machine, with {cores} cores, gives at most about {most:.0f} {unit}s/s, and the model would "
        f"wait {waits:.0%} of the time."
    )


def _scaling(throughputs: Sequence[Throughput], cores: int) -> list[str]:
    """A sentence where more workers give too little."""
    within = [speed for speed in throughputs if 1 <= speed.num_workers <= cores]
    if len(within) < 2:
        return []
    few, many = within[0], within[-1]
    ideal = many.num_workers / few.num_workers
    gain = many.clips_per_second / few.clips_per_second
    if gain >= SCALES * ideal:
        return []
    return [
        f"{many.num_workers} workers give only {gain:.2f} times what {few.num_workers} does: the cores are busy with "
        "something else, or the disk or the memory is what all of them wait for."
    ]


def plot(times: Times, throughputs: Sequence[Throughput], unit: str, png_path: str | Path, title: str) -> None:
    """The stages of a clip beside the floor, and clips a second by number of workers, as bars in a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    stages, speeds = figure.subplots(1, 2, width_ratios=[3, 2])
    _draw_stages(stages, times, unit)
    places = range(len(throughputs))
    bars = speeds.bar(places, [speed.clips_per_second for speed in throughputs], color=COLORS["decode"], width=0.6)
    speeds.set_xticks(places, [str(speed.num_workers) for speed in throughputs])
    speeds.bar_label(bars, fmt="%.1f", padding=2)
    speeds.margins(y=0.12)
    speeds.set_xlabel("workers")
    speeds.set_ylabel(f"{unit}s a second")
    for axes in (stages, speeds):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=11)
    atomic_write(png_path, lambda path: figure.savefig(path, dpi=100))


def _draw_stages(axes: Any, times: Times, unit: str) -> None:
    left = 0.0
    for stage in STAGES:
        milliseconds = 1e3 * times.seconds[stage]
        label = f"{stage}: {milliseconds:.1f} ms"
        axes.barh(0, milliseconds, left=left, color=COLORS[stage], label=label, height=0.5)
        left += milliseconds
    if times.floor_sec:
        floor = 1e3 * times.floor_sec
        axes.barh(1, floor, color=COLORS["floor"], label=f"floor: {floor:.1f} ms", height=0.5)
    axes.set_yticks(*([0, 1], ["through the loader", "bare decoder"]) if times.floor_sec else ([0], ["loader"]))
    axes.invert_yaxis()
    axes.set_xlabel(f"ms a {unit}, one process")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, frameon=False)
