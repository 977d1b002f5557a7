"""The frames of a mistake: small pictures of the very clip that the model saw."""

from __future__ import annotations

import numpy as np

from paddlevid.data.dataset import ViewDataset
from paddlevid.data.records import Record
from paddlevid.data.transforms import VIEW_CROPS
from paddlevid.errors import DataError
from paddlevid.pictures import as_rgb, data_url, encode_jpeg, resize_height, spread

MAX_FRAMES = 8  # of a clip
HEIGHT = 128
QUALITIES = (78, 55, 35)  # the next where a frame takes more than its share
FRAME_BYTES = 6_000
CENTRE_CROPS = {"center": 0, "three": 1, "ten": 8}  # of the views of one clip


def frames_of(dataset: ViewDataset, record: Record) -> tuple[list[str], str]:
    """Addresses of pictures for a page, or none and why: the video may be gone since the model saw it."""
    try:
        views = dataset.views(record)  # [V, T, H, W, C]
    except (DataError, OSError) as error:
        return [], f"frames cannot be read any more: {error}"
    clip = as_rgb(views[central_view(dataset)])
    return [data_url(_small_jpeg(clip[number]), "jpeg") for number in spread(len(clip), MAX_FRAMES)], ""


def central_view(dataset: ViewDataset) -> int:
    """Which of the views is the centre crop of the clip in the middle."""
    views = dataset.views
    return views.num_clips // 2 * VIEW_CROPS[views.crop].num_crops + CENTRE_CROPS[views.crop]


def describe_strip(dataset: ViewDataset) -> str:
    """What the pictures show."""
    views = dataset.views
    shown = min(views.num_frames, MAX_FRAMES)
    which = f"{shown} of {views.num_frames} frames" if shown < views.num_frames else f"all {shown} frames"
    clip = "" if views.num_clips == 1 else f" of clip {views.num_clips // 2 + 1} of {views.num_clips}"
    crop = "" if views.crop == "center" else ", centre crop"
    return f"{which}{clip}{crop}, in rows from left to right"


def _small_jpeg(frame_hwc: np.ndarray) -> bytes:
    small = resize_height(frame_hwc, HEIGHT)
    data = b""
    for quality in QUALITIES:
        data = encode_jpeg(small, quality)
        if len(data) <= FRAME_BYTES:
            break
    return data
