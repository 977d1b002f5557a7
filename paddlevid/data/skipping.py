"""Which decoders may pass over frames that no other frame needs, and leave the others as they are."""

from __future__ import annotations

from typing import Any

# Theirs can be told so from one packet to the next. That of AV1 can for whole videos only, and that of VP9 not at all:
# its frames learn from each other how numbers are coded, also from those that are no references.
_CAN_SKIP = {"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "vp8", "vc1"}


def skips_exactly(context: Any) -> bool:
    """Whether `skip_frame = "NONREF"` is for frames of this stream that none needs."""
    if context.name == "hevc":
        return not has_sub_layers(context.extradata or b"")
    return context.name in _CAN_SKIP


def has_sub_layers(extradata: bytes) -> bool:
    """Whether an HEVC stream may be of several frame rates: what no picture of a layer needs, those above it may need.

    `extradata` is an HEVCDecoderConfigurationRecord (ISO/IEC 14496-15) or has a video parameter set (H.265, 7.3.2.1).
    """
    if extradata[:1] == b"\1":
        return len(extradata) < 22 or extradata[21] >> 3 & 7 != 1  # numTemporalLayers
    at = extradata.find(b"\0\0\1\x40")
    return at < 0 or len(extradata) < at + 7 or extradata[at + 6] >> 1 & 7 != 0  # vps_max_sub_layers_minus1
