"""What is seen when in a long video, as a picture."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from paddlevid.data.records import Record
from paddlevid.deploy.predictor import Predictor
from paddlevid.deploy.streaming.streams import Damage, open_stream
from paddlevid.deploy.streaming.timeline import ScoreHistory, Segment, SegmentFinder
from paddlevid.deploy.streaming.timeline_plot import plot_timeline
from paddlevid.deploy.streaming.windows import frame_crops, plan_windows, score_windows, slide

MIN_WINDOWS = 2.0  # windows one after the other in a video that has a timeline
MAX_SEC = 600.0  # of a video are looked at


class Progress(NamedTuple):
    """How far into the video the model has looked."""

    done_sec: float
    whole_sec: float


class Timeline(NamedTuple):
    """A PNG of the scores of windows over time; `damage` where the video could not be read in places."""

    png: bytes
    window_sec: float
    end_sec: float
    is_whole: bool
    damage: Damage | None


def make_timeline(predictor: Predictor, record: Record) -> Iterator[Progress | Timeline]:
    """Slide the model's window over a video: how far it is, again and again, and the timeline at last.

    Nothing comes of a video that is not much longer than a window.

    Raises:
        DataError: the video cannot be read.
    """
    if record.num_frames is not None:  # a folder of pictures tells no times
        return
    stream = open_stream(record.path, duration_sec=MAX_SEC)
    plan = plan_windows(predictor.manifest, stream)
    if stream.duration_sec is None or stream.duration_sec <= MIN_WINDOWS * plan.window_sec:
        return
    history, finder = ScoreHistory(), SegmentFinder()
    segments: list[Segment] = []
    yield Progress(0.0, stream.duration_sec)
    for scored in score_windows(predictor, slide(stream, plan, frame_crops(predictor.manifest, "center"))):
        history.push(scored)
        segments += finder.push(scored)
        yield Progress(scored.end_sec, stream.duration_sec)
    segments += finder.finish()
    with tempfile.TemporaryDirectory(prefix="paddlevid-timeline-") as folder:
        picture = Path(folder) / "timeline.png"
        plot_timeline(picture, history, segments, predictor.manifest.class_names)
        png = picture.read_bytes()
    yield Timeline(png, plan.window_sec, stream.end_sec, stream.end_sec < MAX_SEC, stream.damage)
