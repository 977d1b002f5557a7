"""Several frames that stand where one would: L flows, or the L differences of L + 1 RGB frames, as channels."""

from dataclasses import dataclass
from typing import Literal, get_args

import paddle

from paddlevid.errors import ConfigError

Modality = Literal["rgb", "rgb_diff", "flow", "warped_flow"]


@dataclass(frozen=True)
class Snippets:
    """What a 2D network sees at each of S segments, after Wang et al., 2016, arXiv:1608.00859.

    `rgb` is one frame; `flow` and `warped_flow` are `snippet_length` flows of two channels, x and y; `rgb_diff` is as
    many differences between neighbours of one RGB frame more, after the first of these frames with `keep_rgb`. Raises
    ConfigError for what does not go together.
    """

    modality: Modality = "rgb"
    snippet_length: int = 1
    keep_rgb: bool = False

    def __post_init__(self) -> None:
        if self.modality not in get_args(Modality):
            raise ConfigError(f"modality must be one of {', '.join(get_args(Modality))}, not {self.modality!r}")
        if self.modality == "rgb" and self.snippet_length != 1:
            raise ConfigError(f"snippet_length is 1 for modality 'rgb', not {self.snippet_length}")
        if self.snippet_length < 1:
            raise ConfigError(f"snippet_length must be 1 or more, not {self.snippet_length}")
        if self.keep_rgb and self.modality != "rgb_diff":
            raise ConfigError(f"keep_rgb is for modality 'rgb_diff', not {self.modality!r}")

    @property
    def frames_per_snippet(self) -> int:
        return self.snippet_length + (self.modality == "rgb_diff")

    @property
    def frame_channels(self) -> int:
        """Channels of a frame of the video."""
        return 2 if self.modality in ("flow", "warped_flow") else 3

    @property
    def in_channels(self) -> int:
        """Channels of a stacked snippet, which the 2D network takes."""
        return self.frame_channels * (self.snippet_length + self.keep_rgb)

    def stack(self, video: paddle.Tensor) -> paddle.Tensor:
        """[B, T, C, H, W] -> [B, S, in_channels, H, W], T = S * frames_per_snippet.

        Channels lie frame by frame: x1 y1 x2 y2 ..., or r g b of the first difference, r g b of the second. Raises
        ValueError for other numbers of frames or channels.
        """
        num_frames, channels, height, width = video.shape[1:]
        per_snippet = self.frames_per_snippet
        if channels != self.frame_channels:
            raise ValueError(f"video has {channels} channels; modality {self.modality!r} has {self.frame_channels}")
        if num_frames % per_snippet:
            raise ValueError(f"video has {num_frames} frames; a snippet of {self.modality!r} takes {per_snippet}")
        if per_snippet == 1:
            return video
        num_segments = num_frames // per_snippet
        snippets = video.reshape([-1, num_segments, per_snippet * channels, height, width])
        if self.modality != "rgb_diff":
            return snippets  # [B, S, L*2, H, W]
        first, later = snippets.split([channels, self.snippet_length * channels], axis=2)
        earlier, _ = snippets.split([self.snippet_length * channels, channels], axis=2)
        differences = later - earlier  # [B, S, L*3, H, W]
        return paddle.concat([first, differences], axis=2) if self.keep_rgb else differences
