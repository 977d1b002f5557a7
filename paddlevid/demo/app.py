"""The page itself: its parts, and what happens when a video is uploaded or an example is picked."""

# No `from __future__ import annotations` here: Gradio reads the types of handlers, which are imported late.
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paddlevid.data.containers import open_container
from paddlevid.data.records import Record
from paddlevid.demo import page
from paddlevid.demo.analysis import Analyst
from paddlevid.demo.preview import make_playable
from paddlevid.demo.timeline import Progress, make_timeline
from paddlevid.errors import DataError

KEEP_UPLOADS_SEC = 900
SWEEP_EVERY_SEC = 60


@dataclass(frozen=True)
class Example:
    """A video offered on the page, with a picture of it: uint8 `[S, S, 3]`."""

    record: Record
    thumbnail: np.ndarray


def build_page(analyst: Analyst, examples: Sequence[Example]) -> Any:
    """The page as Gradio's `Blocks`; uploaded files are removed some minutes later."""
    import gradio as gr

    with gr.Blocks(
        title="paddlevid", analytics_enabled=False, delete_cache=(SWEEP_EVERY_SEC, KEEP_UPLOADS_SEC)
    ) as blocks:
        gr.HTML(page.title(analyst.manifest))
        with gr.Row(equal_height=False):
            with gr.Column(scale=3, min_width=300):
                upload = gr.File(label="Upload a video", file_count="single", type="filepath", height=128)
                gallery = _gallery(examples) if examples else None
                gr.HTML(page.model_facts(analyst))
            with gr.Column(scale=8, min_width=560):
                message = gr.HTML(page.empty(), elem_id="message")
                with gr.Row(equal_height=False, visible=False) as results:
                    with gr.Column(scale=3, min_width=200):
                        player = gr.Video(
                            label="Video", interactive=False, autoplay=True, loop=True, height=230, buttons=[]
                        )
                    with gr.Column(scale=5, min_width=300):
                        bars = gr.HTML(elem_id="bars")
                        facts = gr.HTML(elem_id="facts")
                strip = gr.HTML(elem_id="strip")
        timeline = gr.HTML(elem_id="timeline")
        _connect(analyst, examples, upload, gallery, [message, results, player, bars, facts, strip, timeline])
    return blocks


def check_upload(path: str, folder: str) -> None:
    """Let pass what was uploaded to `folder`, whatever path a client names, and is a video of one file.

    Raises:
        DataError: it is something else.
    """
    if not Path(path).resolve().is_relative_to(Path(folder).resolve()):
        raise DataError(f"{path}: cannot read this video: it was not uploaded")
    open_container(path).close()


def _connect(
    analyst: Analyst, examples: Sequence[Example], upload: Any, gallery: Any | None, parts: Sequence[Any]
) -> None:
    """What happens on the page: labels first, and then, for a long video, the timeline, the last of `parts`."""
    import gradio as gr

    def show_upload(path: str) -> Iterator[list[Any]]:
        record = Record(path=path, name=Path(path).name)
        try:
            check_upload(path, upload.GRADIO_CACHE)
        except DataError as problem:
            yield [*_refuse(record, problem), None, None]  # nor does the timeline open it
            return
        for values in _show(analyst, record):
            yield [*values, record, None]  # the place for the next upload is free again

    def show_example(event: gr.SelectData) -> Iterator[list[Any]]:
        record = examples[event.index].record
        for values in _show(analyst, record):
            yield [*values, record]

    def show_timeline(record: Record | None) -> Iterator[str]:
        if record is not None:
            yield from _show_timeline(analyst, record)

    shown = gr.State()
    busy = [parts[0], parts[-2]]  # where a visitor sees that something is going on
    options: dict[str, Any] = {"api_visibility": "private", "show_progress_on": busy}
    starts = [upload.upload(show_upload, inputs=[upload], outputs=[*parts, shown, upload], **options)]
    if gallery is not None:
        starts.append(gallery.select(show_example, outputs=[*parts, shown], **options))
    # A long video must not keep others waiting for their labels, nor its own visitor for the next video
    follow_ups = [
        start.success(
            show_timeline,
            inputs=[shown],
            outputs=[parts[-1]],
            show_progress="hidden",
            concurrency_id="timeline",
            concurrency_limit=1,
            api_visibility="private",
        )
        for start in starts
    ]
    upload.upload(None, cancels=follow_ups, api_visibility="private")
    if gallery is not None:
        gallery.select(None, cancels=follow_ups, api_visibility="private")


def _gallery(examples: Sequence[Example]) -> Any:
    import gradio as gr

    gr.HTML(page.head("Or pick an example"), padding=False, elem_id="examples-head")
    pictures = [(example.thumbnail, Path(example.record.name).stem) for example in examples]
    return gr.Gallery(
        pictures,
        show_label=False,
        columns=3,
        height=224 if len(examples) > 3 else 112,
        object_fit="cover",
        allow_preview=False,
        interactive=False,
        buttons=[],
        format="jpeg",
        elem_id="examples",
    )


def _show(analyst: Analyst, record: Record) -> Iterator[list[Any]]:
    """Values of the parts of the page, for a video or for the reason why it cannot be read."""
    import gradio as gr

    try:
        analysis = analyst(record)
    except DataError as problem:
        yield _refuse(record, problem)
        return
    with tempfile.TemporaryDirectory(prefix="paddlevid-preview-") as folder:
        playable = make_playable(record, Path(folder))
        yield [
            gr.HTML(visible=False),
            gr.Row(visible=True),
            None if playable is None else str(playable),
            page.bars(analysis.predictions),
            page.video_facts(Path(record.name).name, analysis),
            page.strip(analysis) + page.look_note(analysis),
            "",
        ]


def _refuse(record: Record, problem: DataError) -> list[Any]:
    """Values of the parts of the page that tell why there is nothing to see."""
    import gradio as gr

    # Where uploads lie on the server says nothing to who uploaded one
    text = str(problem).replace(record.path, Path(record.name).name)
    return [gr.HTML(page.error(text), visible=True), gr.Row(visible=False), None, "", "", "", ""]


def _show_timeline(analyst: Analyst, record: Record) -> Iterator[str]:
    try:
        steps = make_timeline(analyst.predictor, record)
        while (found := next(steps, None)) is not None:
            yield page.progress(found) if isinstance(found, Progress) else page.timeline(found)
    except DataError:
        yield ""  # told already, where the labels are
