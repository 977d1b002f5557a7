"""Label a long video or a live stream as time goes on: python tools/predict_long.py -m FOLDER -i VIDEO|CAMERA|URL"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlevid.runtime import run_command

if TYPE_CHECKING:
    from paddlevid.deploy.manifest import Manifest
    from paddlevid.deploy.streaming.online import OnlineClassifier
    from paddlevid.deploy.streaming.streams import Ahead, FrameStream
    from paddlevid.deploy.streaming.timeline import Row, Segment
    from paddlevid.deploy.streaming.windows import Scored, Window

OUTPUTS = ("csv", "json", "png", "video", "segments")
MAX_PRINTED = 1000  # segments kept for the end of a run that may go on for days; --segments keeps all


def boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither True nor False")
    return text.lower() == "true"


def positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} must be greater than 0")
    return value


def pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Label a long video or a live stream as time goes on, in constant memory.",
        epilog="Exit code 1: the stream broke; what was read before and after is written. Ctrl-C keeps what is done.",
    )
    add = parser.add_argument
    add("-m", "--model", required=True, metavar="FOLDER", help="what tools/export_model.py wrote")
    add("-i", "--input", required=True, metavar="VIDEO|CAMERA|URL", help="a file, 0 for the first camera, rtsp://...")
    add("--window_sec", type=positive, help="length of a window (what the model's clips span; 10 for whole videos)")
    add("--stride_sec", type=positive, help="from one window to the next (half a window)")
    add("--crop", choices=("center", "three", "ten"), help="crops of each frame (as the folder says)")
    add("--top_k", type=int, default=5, help="classes a window (5)")
    add("--csv", metavar="FILE", help="a line a window, written as it comes")
    add("--json", metavar="FILE", help="JSON lines, an object a window, written as it comes")
    add("--png", metavar="FILE", help="a picture of the classes over time")
    add("--video", metavar="FILE.mp4", help="the video with its classes drawn in; reads the file a second time")
    add("--segments", metavar="FILE", help="CSV of the segments, written as they end")
    add("--threshold", type=positive, default=0.5, help="probability that a segment must reach (0.5)")
    add("--keep", type=positive, help="probability above which a segment goes on (0.6 of the threshold)")
    add("--smooth", type=int, default=1, help="windows to average before segments are found: 1, 3, 5, ... (1)")
    add("--min_sec", type=float, default=0.0, help="leave out shorter segments (0)")
    add("--online", action="store_true", help="an online TSM, frame by frame")
    add("--online_fps", type=positive, help="frames a second that --online looks at (as in clips of 10 s)")
    add("--duration", type=positive, metavar="SEC", help="stop after so many seconds")
    add("--retries", type=int, default=10, help="how often in a row to open a broken live stream again (10)")
    add("--stream_option", type=pair, action="append", metavar="KEY=VALUE", help="of FFmpeg, e.g. rtsp_transport=udp")
    add("--runtime", default="auto", help="paddle, onnxruntime, openvino or auto")
    add("--precision", choices=("fp32", "bf16", "fp16", "int8"))
    add("--use_gpu", type=boolean, default=False, metavar="True|False")
    add("--threads", type=int, metavar="N", help="CPU threads of the model (all cores)")
    add("--batch_size", type=int, default=8, help="windows a run of the model, for files (8)")
    args = parser.parse_args()
    if min(args.top_k, args.batch_size, args.threads or 1) < 1 or args.retries < 0:
        parser.error("--top_k, --batch_size and --threads must be at least 1, --retries at least 0")
    if args.online and (args.window_sec or args.stride_sec or args.crop or args.precision):
        parser.error("--online has no windows: leave out --window_sec, --stride_sec, --crop and --precision")
    if args.online_fps and not args.online:
        parser.error("--online_fps goes with --online")
    for name, suffix in (("png", ".png"), ("video", ".mp4")):
        if getattr(args, name) and Path(getattr(args, name)).suffix.lower() != suffix:
            parser.error(f"--{name} {getattr(args, name)}: the name must end in {suffix}")
    return args


def main() -> int:
    args = parse_arguments()
    from paddlevid.deploy.streaming.outputs import check_outputs
    from paddlevid.deploy.streaming.streams import Ahead, open_stream
    from paddlevid.errors import DataError

    check_outputs(args.input, {f"--{name}": getattr(args, name) for name in OUTPUTS})
    stream = open_stream(
        args.input, duration_sec=args.duration, retries=args.retries, options=dict(args.stream_option or [])
    )
    if args.video and stream.is_live:
        raise DataError(f"--video needs a file, which can be read twice; {stream.name} is a live stream")
    manifest, windows, score, classifier = load(args, stream)
    size = 1 if stream.is_live else max(1, args.batch_size)
    ahead: Ahead[Window] = Ahead(windows, size, newest=stream.is_live)
    was_interrupted = False
    with ExitStack() as stack:
        report = Report(args, stream, manifest, stack)
        stack.enter_context(ahead)
        stack.callback(stream.stop)  # before the thread is waited for
        try:
            for scored in score(iter(ahead)):
                report.add(scored)
        except KeyboardInterrupt:
            was_interrupted = True
        report.finish()
    conclude(report, stream, ahead, classifier)
    if args.png:
        report.plot(args.png)
    if args.video and not was_interrupted:
        write_video(args.video, args.input, report.rows)
    if stream.damage is not None:
        tell_damage(stream)
        return 1
    if was_interrupted and not stream.is_live:
        raise KeyboardInterrupt
    return 0


def load(
    args: argparse.Namespace, stream: FrameStream
) -> tuple[Manifest, Iterator[Window], Callable[[Iterator[Window]], Iterator[Scored]], OnlineClassifier | None]:
    """The folder's description, the windows of the stream, what scores them, and the online model if it is one."""
    from paddlevid.deploy.predictor import Predictor
    from paddlevid.deploy.streaming.online import OnlineClassifier, plan_frames, score_frames
    from paddlevid.deploy.streaming.windows import frame_crops, plan_windows, score_windows, slide

    if args.online:
        classifier = OnlineClassifier(args.model, args.runtime, use_gpu=args.use_gpu, num_threads=args.threads)
        plan = plan_frames(classifier.manifest, stream, args.online_fps)
        classifier.warm_up()
        windows = slide(stream, plan, frame_crops(classifier.manifest, "center"))
        guess = (
            ""
            if args.online_fps
            else " (as in the model's clips, or of 10 s where they span whole videos: --online_fps)"
        )
        print(f"{plan.stride_sec:.3g} s from frame to frame, mean over {classifier.manifest.num_frames} frames{guess}")
        return classifier.manifest, windows, lambda some: score_frames(classifier, some), classifier
    predictor = Predictor(
        args.model,
        args.runtime,
        precision=args.precision,
        use_gpu=args.use_gpu,
        num_threads=args.threads,
        batch_size=args.batch_size,
    )
    plan = plan_windows(predictor.manifest, stream, args.window_sec, args.stride_sec)
    if stream.is_live:
        predictor.warm_up()
    windows = slide(stream, plan, frame_crops(predictor.manifest, args.crop))
    guess = "" if args.window_sec else " (as the model's clips, or 10 s where they span whole videos: --window_sec)"
    print(f"windows of {plan.window_sec:.3g} s, every {plan.stride_sec:.3g} s{guess}")
    return predictor.manifest, windows, lambda some: score_windows(predictor, some, at_once=stream.is_live), None


class Report:
    """Writes, prints and gathers what is seen."""

    def __init__(self, args: argparse.Namespace, stream: FrameStream, manifest: Manifest, stack: ExitStack) -> None:
        from collections import deque

        from paddlevid.deploy.streaming.timeline import (
            CsvSegments,
            CsvTimeline,
            JsonTimeline,
            ScoreHistory,
            SegmentFinder,
        )

        self.rows: list[Row] = []
        self.num_windows, self.num_segments = 0, 0
        self.class_names = manifest.class_names
        self.segments: deque[Segment] = deque(maxlen=MAX_PRINTED)
        self._finder = SegmentFinder(args.threshold, keep=args.keep, smooth=args.smooth, min_sec=args.min_sec)
        self._history = ScoreHistory() if args.png else None
        self._top_k = min(args.top_k, len(manifest.class_names))
        self._stream, self._keeps_rows = stream, bool(args.video)
        self._row_files: list[Any] = []
        if args.csv:
            self._row_files.append(stack.enter_context(CsvTimeline(args.csv, self._top_k)))
        if args.json:
            self._row_files.append(stack.enter_context(JsonTimeline(args.json)))
        names = manifest.class_names
        self._segment_file = stack.enter_context(CsvSegments(args.segments, names)) if args.segments else None
        self._bar = stack.enter_context(Bar(stream.duration_sec, is_shown=not stream.is_live))
        self.begun = time.perf_counter()
        self.spent_sec = self.end_sec = 0.0

    def add(self, scored: Scored) -> None:
        from paddlevid.deploy.streaming.annotate import NUM_SHOWN
        from paddlevid.deploy.streaming.timeline import best_of

        row = best_of(scored, self.class_names, self._top_k)
        self.num_windows += 1
        self.end_sec = row.end_sec
        for file in self._row_files:
            file.write(row)
        if self._keeps_rows:
            self.rows.append(best_of(scored, self.class_names, NUM_SHOWN))
        if self._history is not None:
            self._history.push(scored)
        self._take(self._finder.push(scored))
        self._bar.move_to(row.end_sec)
        if self._stream.is_live:
            print(describe(row), flush=True)

    def finish(self) -> None:
        self._take(self._finder.finish())
        self.spent_sec = time.perf_counter() - self.begun

    def _take(self, segments: list[Segment]) -> None:
        self.segments.extend(segments)
        self.num_segments += len(segments)
        if self._segment_file is not None:
            for segment in segments:
                self._segment_file.write(segment)

    def plot(self, path: str) -> None:
        from paddlevid.deploy.streaming.timeline_plot import plot_timeline

        assert self._history is not None
        plot_timeline(path, self._history, list(self.segments), self.class_names, title=Path(self._stream.name).name)


class Bar:
    """A progress bar with the position in the video, and the speed as a multiple of real time."""

    def __init__(self, duration_sec: float | None, *, is_shown: bool) -> None:
        from tqdm import tqdm

        shape = "{percentage:3.0f}%|{bar:30}| {desc}, {remaining} left" if duration_sec else "{desc}"
        is_hidden = not is_shown or not sys.stderr.isatty()
        self._duration_sec = duration_sec
        self._begun = time.perf_counter()
        self._bar = tqdm(total=duration_sec, bar_format=shape, disable=is_hidden, leave=False, delay=0.2)

    def move_to(self, time_sec: float) -> None:
        from paddlevid.deploy.streaming.streams import format_time

        whole = f" / {format_time(self._duration_sec)}" if self._duration_sec else ""
        speed = time_sec / (time.perf_counter() - self._begun)
        self._bar.set_description_str(f"{format_time(time_sec)}{whole}, {speed:.1f} x real time", refresh=False)
        reached = min(time_sec, self._duration_sec or time_sec)
        self._bar.update(max(0.0, reached - self._bar.n))

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()


def describe(row: Row) -> str:
    from paddlevid.deploy.streaming.streams import format_time

    found = "  ".join(f"{p.score:.3f} {p.name} ({p.label})" for p in row.predictions)
    return f"{format_time(row.start_sec, tenths=True)} - {format_time(row.end_sec, tenths=True)}  {found}"


def conclude(report: Report, stream: FrameStream, ahead: Ahead[Window], classifier: OnlineClassifier | None) -> None:
    """Print the segments, the speed, and what was dropped."""
    from paddlevid.deploy.streaming.online import measure
    from paddlevid.deploy.streaming.streams import format_time
    from paddlevid.deploy.streaming.timeline import describe_segment
    from paddlevid.errors import DataError

    if not report.num_windows and stream.damage is None:
        raise DataError(f"{stream.name}: no frame of it could be looked at")
    what = "frames" if classifier else "windows"
    speed = f", {report.end_sec / report.spent_sec:.1f} x real time" if not stream.is_live else ""
    print(f"{report.num_windows} {what} of {format_time(report.end_sec)} in {report.spent_sec:.1f} s{speed}")
    if stream.is_live:
        print(f"dropped because the model was busy: {ahead.num_dropped} {what}")
    latency = measure(classifier.latencies_ms) if classifier else None
    if latency is not None:
        print(f"latency of a frame: median {latency.median_ms:.1f} ms, 95 % under {latency.percentile_95_ms:.1f} ms")
    hidden = report.num_segments - len(report.segments)
    print(f"segments: {report.num_segments}{f', of which the first {hidden} are not shown' if hidden else ''}")
    for segment in sorted(report.segments):
        print(describe_segment(segment, report.class_names))


def write_video(path: str, source: str, rows: list[Row]) -> None:
    from paddlevid.deploy.streaming.annotate import annotate_video
    from paddlevid.deploy.streaming.streams import tell

    with Bar(rows[-1].end_sec if rows else None, is_shown=True) as bar:
        written = annotate_video(source, rows, path, progress=bar.move_to)
    print(f"written to {path}: {written.num_frames} frames, sound: {written.audio}")
    if written.reason:
        tell(f"{path}: ends early, because the video broke: {written.reason}")


def tell_damage(stream: FrameStream) -> None:
    from paddlevid.deploy.streaming.streams import format_time, tell

    assert stream.damage is not None
    time_sec, reason, num_places = stream.damage
    more = f", and in {num_places - 1} more places" if num_places > 1 else ""
    tell(f"error: {stream.name}: broke at {format_time(time_sec)} ({time_sec:.2f} s): {reason}{more}; the rest is kept")


if __name__ == "__main__":
    run_command(main)
