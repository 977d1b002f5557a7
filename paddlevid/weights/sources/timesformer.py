"""The authors' TimeSformer: github.com/facebookresearch/TimeSformer, `.pyth`.

Our parameters have the same names, less `model.`.
"""

import re

from paddlevid.weights.source import DATA_PARALLEL, KeyMap, Renamed, Source, has_key, of_rgb, rename_keys
from paddlevid.weights.sources.transformers import is_torch_order
from paddlevid.weights.tensor import State

KEY_MAP: KeyMap = (DATA_PARALLEL, (r"^model\.", ""))


def recognise(state: State) -> bool:
    plain = {re.sub(r"^(module\.)?model\.", "", key) for key in state}
    prefixed = has_key(state, r"^(module\.)?model\.(blocks\.\d|patch_embed\.)")
    over_time = any(name == "time_embed" or ".temporal_" in name for name in plain)
    return prefixed or (has_key(state, r"^(module\.)?blocks\.\d") and over_time and is_torch_order(state))


def rename(state: State) -> Renamed:
    return rename_keys(state, KEY_MAP, transpose=is_torch_order(state))


OFFICIAL = Source(
    "TimeSformer of its authors",
    recognise,
    rename,
    resize_pos="nearest",
    resize_time="nearest",
    image_norm=of_rgb(((0.45,) * 3, (0.225,) * 3)),
)
