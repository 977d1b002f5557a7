"""What the page shows, as HTML: labels as bars, frames as a strip, facts as a table. No file of another host."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

import numpy as np

from paddlevid.demo.analysis import Analysis, Analyst
from paddlevid.demo.timeline import Progress, Timeline
from paddlevid.deploy.manifest import Manifest
from paddlevid.deploy.predictor import Prediction
from paddlevid.deploy.streaming.streams import format_time
from paddlevid.modality import describe_clip

MODEL_NAMES = {"tsn": "TSN", "tsm": "TSM", "timesformer": "TimeSformer"}

CSS = """
.gradio-container { max-width: 1240px !important; margin: 0 auto !important; padding-top: 14px !important; }
.pv-title { display: flex; align-items: baseline; gap: 14px; flex-wrap: wrap; }
.pv-title h1 { font-size: 26px; font-weight: 700; margin: 0; letter-spacing: -0.02em; }
.pv-title span { color: var(--body-text-color-subdued); font-size: 15px; }
.pv-head { font-size: 12px; font-weight: 600; letter-spacing: 0.06em; text-transform: uppercase;
  color: var(--body-text-color-subdued); margin: 0 0 8px; }
.pv-note { color: var(--body-text-color-subdued); font-size: 13.5px; margin: 6px 0 0; line-height: 1.45; }
.pv-note code { font-size: 12.5px; }
.pv-error { border: 1px solid #e5484d; border-left-width: 5px; border-radius: 8px; padding: 12px 14px; font-size: 15px;
  background: color-mix(in srgb, #e5484d 9%, transparent); overflow-wrap: anywhere; }
.pv-empty { border: 1px dashed var(--border-color-primary); border-radius: 10px; padding: 64px 20px; text-align: center;
  color: var(--body-text-color-subdued); font-size: 15px; }
.pv-bar { display: grid; grid-template-columns: minmax(96px, 32%) 1fr 62px; gap: 12px; align-items: center;
  font-size: 15px; padding: 5px 0; }
.pv-bar .name { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; text-align: right; }
.pv-bar .track { height: 20px; border-radius: 5px; background: var(--background-fill-secondary); overflow: hidden; }
.pv-bar .fill { display: block; height: 100%; min-width: 2px; border-radius: 5px; background: #94a3b8; }
.pv-bar .share { font-variant-numeric: tabular-nums; }
.pv-bar:first-of-type .name, .pv-bar:first-of-type .share { font-weight: 700; }
.pv-bar:first-of-type .fill { background: #2563eb; }
.pv-strip { display: grid; gap: 8px; max-height: 560px; overflow-y: auto; }
.pv-strip figure { margin: 0; }
.pv-strip img { display: block; width: 100%; aspect-ratio: 1; border-radius: 6px; margin: 0 0 4px; }
.pv-strip figcaption { text-align: center; font-size: 12px; color: var(--body-text-color-subdued);
  font-variant-numeric: tabular-nums; }
.pv-facts { display: grid; grid-template-columns: 70px 1fr; gap: 5px 10px; font-size: 13.5px; margin: 0; }
.pv-facts dt { color: var(--body-text-color-subdued); }
.pv-facts dd { margin: 0; overflow-wrap: anywhere; }
#examples .grid-container { grid-template-columns: repeat(3, 1fr); padding: 0 1px; gap: 6px; }
#examples .grid-wrap { padding: 0; overflow-x: hidden; }
#examples .thumbnail-item { min-width: 0; width: 100%; }
#examples .caption-label { inset: auto 0 0 0; max-width: none; margin: 0; padding: 1px 5px; font-size: 11px;
  border: none; border-radius: 0; text-align: center; }
.pv-timeline { width: 100%; border-radius: 8px; background: white; }
#facts { margin-top: 6px; }
#examples-head { margin: 2px 0 -14px; }
"""


def title(manifest: Manifest) -> str:
    model = MODEL_NAMES.get(manifest.model, manifest.model)
    line = f"video classification with {model}, {len(manifest.class_names)} classes"
    return f'<div class="pv-title"><h1>paddlevid</h1><span>{escape(line)}</span></div>'


def head(text: str) -> str:
    return f'<p class="pv-head">{escape(text)}</p>'


def empty() -> str:
    return '<div class="pv-empty">Upload a video, or pick an example: its labels appear here.</div>'


def error(message: str) -> str:
    return f'<div class="pv-error" role="alert"><b>This cannot be read.</b> {escape(message)}</div>'


def bars(predictions: Sequence[Prediction]) -> str:
    rows = [
        f'<div class="pv-bar" data-label="{p.label}" data-score="{p.score:.6f}">'
        f'<span class="name" title="{escape(p.name)}">{escape(p.name)}</span>'
        f'<span class="track"><span class="fill" style="width:{100 * p.score:.2f}%"></span></span>'
        f'<span class="share">{escape(_percent(p.score))}</span></div>'
        for p in predictions
    ]
    return head(f"Top {len(predictions)} classes") + "".join(rows)


def strip(analysis: Analysis) -> str:
    """The frames that the model saw, each with its time and, below it, with what the model looked at."""
    num_frames = len(analysis.frames_thwc)
    figures = []
    for number, (time_sec, frame) in enumerate(zip(analysis.times_sec, analysis.frames_thwc, strict=True)):
        images = f'<img src="{_jpeg(frame)}" alt="frame at {time_sec:.2f} s">'
        if analysis.overlays_thwc is not None:
            images += (
                f'<img src="{_jpeg(analysis.overlays_thwc[number])}" alt="where the model looks at {time_sec:.2f} s">'
            )
        figures.append(f"<figure>{images}<figcaption>{time_sec:.2f} s</figcaption></figure>")
    columns = min(num_frames, 8)
    which = f", clip {analysis.clip + 1} of {analysis.num_clips}" if analysis.num_clips > 1 else ""
    title_line = head(f"What the model saw: {_count(num_frames, 'frame')}, centre crop{which}")
    style = f"grid-template-columns:repeat({columns},1fr)"
    return f'{title_line}<div class="pv-strip" style="{style}">{"".join(figures)}</div>'


def look_note(analysis: Analysis) -> str:
    """What the lower row of the strip means, or how to get one."""
    if analysis.overlays_thwc is None:
        return (
            '<p class="pv-note">Where the model looks is not shown: export the model with '
            "<code>tools/export_model.py --explain</code>.</p>"
        )
    name = escape(analysis.predictions[0].name)
    what = f"what speaks for <b>{name}</b>" if analysis.overlays_of_class else "where the model looks"
    return f'<p class="pv-note">Lower row: {what}; the redder, the more.</p>'


def progress(found: Progress) -> str:
    span = f"{format_time(found.done_sec)} of {format_time(found.whole_sec)}"
    return head("Timeline") + f'<p class="pv-note">Looking through the whole video: {span}</p>'


def timeline(found: Timeline) -> str:
    url = "data:image/png;base64," + base64.b64encode(found.png).decode()
    notes = [f"windows of {found.window_sec:g} s, half overlapping"]
    if not found.is_whole:
        notes.append(f"the first {format_time(found.end_sec)} of the video")
    if found.damage is not None:
        notes.append(f"damaged at {format_time(found.damage.time_sec)}")
    return head("Timeline: " + "; ".join(notes)) + f'<img class="pv-timeline" src="{url}" alt="classes over time">'


def model_facts(analyst: Analyst) -> str:
    manifest, runtime = analyst.manifest, analyst.predictor.runtime
    data, views = manifest.data, analyst.predictor.views
    crops = views.num_views // views.num_clips
    rows = {
        "Model": f"{MODEL_NAMES.get(manifest.model, manifest.model)}, {len(manifest.class_names)} classes",
        "Clip": describe_clip(data, manifest.num_snippets),
        "Views": f"{_count(views.num_clips, 'clip')} x {_count(crops, 'crop')}, mean of {manifest.views.average}",
        "Runtime": f"{runtime.name}, {runtime.precision}",
    }
    return head("Model") + _table(rows)


def video_facts(name: str, analysis: Analysis) -> str:
    rows = {
        "Video": name,
        "Format": f"{analysis.duration_sec:.1f} s, {analysis.width} x {analysis.height}, {analysis.fps:.4g} fps",
        "Time": f"{1000 * analysis.decode_sec:.0f} ms to decode, {1000 * analysis.model_sec:.0f} ms in the model",
    }
    return _table(rows)


def _percent(score: float) -> str:
    return f"{100 * score:.1f} %" if score >= 0.0005 else "< 0.1 %"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("s" if number != 1 else "")


def _table(rows: dict[str, str]) -> str:
    cells = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in rows.items())
    return f'<dl class="pv-facts">{cells}</dl>'


def _jpeg(frame_hwc: np.ndarray) -> str:
    """uint8 RGB `[H, W, 3]` -> a data URL, so that the page needs no file beside it."""
    import cv2

    _, data = cv2.imencode(".jpg", cv2.cvtColor(frame_hwc, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
