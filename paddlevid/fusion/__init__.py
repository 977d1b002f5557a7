"""Fusion: the scores of several models for the same videos -> the scores of all of them together."""

from paddlevid.fusion.fuse import fusable, fuse
from paddlevid.fusion.search import Search, search_weights
from paddlevid.fusion.streams import Streams, check_same_classes, load_streams, shared_videos

__all__ = [
    "Search",
    "Streams",
    "check_same_classes",
    "fusable",
    "fuse",
    "load_streams",
    "search_weights",
    "shared_videos",
]
