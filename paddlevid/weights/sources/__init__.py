"""The families of files that are known: one small file each, with a key map to our names."""

from dataclasses import replace

from paddlevid.weights.source import Renamed, Source, rename_keys
from paddlevid.weights.sources import (
    huggingface,
    inception,
    mmaction2,
    networks,
    paddlevideo,
    timesformer,
    transformers,
    tsm,
)
from paddlevid.weights.tensor import State


def _take_all(state: State) -> bool:
    return True


def _as_it_is(state: State) -> Renamed:
    return replace(rename_keys(state, ()), names_tell_shift=False)


OWN = Source("paddlevid", _take_all, _as_it_is)

# The first that recognises a file is taken; the last takes everything, under the names that it has
SOURCES: tuple[Source, ...] = (
    mmaction2.TIMESFORMER,
    mmaction2.NETWORK,
    paddlevideo.NETWORK,
    paddlevideo.TIMESFORMER,
    tsm.OFFICIAL,
    huggingface.HUGGINGFACE_TIMESFORMER,
    huggingface.HUGGINGFACE_VIT,
    timesformer.OFFICIAL,
    inception.BN_INCEPTION,
    inception.INCEPTION_V3,
    networks.PADDLECLAS,
    networks.IMAGE_NETWORK,
    transformers.IMAGE_TRANSFORMER,
    OWN,
)
