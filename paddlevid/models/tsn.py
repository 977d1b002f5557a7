"""TSN: each snippet through a 2D network, the snippets averaged (Wang et al., 2016, arXiv:1608.00859)."""

from typing import Literal

import paddle
from paddle import nn
from paddle.nn.initializer import Constant, Normal

from paddlevid.errors import ConfigError
from paddlevid.models.backbones import FEATURE_DIMS, BackboneName, build_backbone, frame_features
from paddlevid.models.snippets import Modality, Snippets


class TSN(nn.Layer):
    """Temporal segment network: video float32 [B, T, C, H, W] -> logits [B, K].

    The frames are S snippets, T = S * `snippets.frames_per_snippet`. `num_segments` is the S it is trained with; any
    other number runs as well. `consensus="identity"` leaves the logits of each snippet, [B, S, K]. `modality`,
    `snippet_length` and `keep_rgb` are those of `Snippets`. Raises ConfigError for options that cannot be used.
    """

    def __init__(
        self,
        num_classes: int,
        num_segments: int = 3,
        backbone: BackboneName = "resnet50",
        consensus: Literal["avg", "identity"] = "avg",
        dropout: float = 0.4,
        modality: Modality = "rgb",
        snippet_length: int = 1,
        keep_rgb: bool = False,
    ) -> None:
        super().__init__()
        check_segment_options(num_classes, num_segments, backbone, dropout)
        if consensus not in ("avg", "identity"):
            raise ConfigError(f"consensus must be 'avg' or 'identity', not {consensus!r}")
        self.num_segments = num_segments
        self.consensus = consensus
        self.feature_dim = FEATURE_DIMS[backbone]
        self.snippets = Snippets(modality, snippet_length, keep_rgb)
        self.backbone = build_backbone(backbone, self.snippets.in_channels)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(self.feature_dim, num_classes, weight_attr=Normal(std=0.01), bias_attr=Constant(0.0))

    def forward(self, video: paddle.Tensor) -> paddle.Tensor:
        return self.forward_head(self.forward_features(video))

    def forward_features(self, video: paddle.Tensor) -> paddle.Tensor:
        """[B, T, C, H, W] -> [B, D]; with the identity consensus [B, S, D]."""
        feats = frame_features(self.backbone, self.snippets.stack(video), self.feature_dim)  # [B, S, D]
        return feats.mean(axis=1) if self.consensus == "avg" else feats

    def forward_head(self, feats: paddle.Tensor) -> paddle.Tensor:
        """[..., D] -> [..., K]. The layer is linear, so the mean of features gives the mean of logits."""
        return self.head(self.dropout(feats))


def check_segment_options(num_classes: int, num_segments: int, backbone: str, dropout: float) -> None:
    """Refuse what TSN and TSM cannot be built from."""
    if num_classes < 1 or num_segments < 1:
        raise ConfigError(f"num_classes and num_segments must be 1 or more, not {num_classes} and {num_segments}")
    if backbone not in FEATURE_DIMS:
        raise ConfigError(f"backbone must be one of {', '.join(FEATURE_DIMS)}, not {backbone!r}")
    if not 0 <= dropout < 1:
        raise ConfigError(f"dropout must be 0 or more and below 1, not {dropout}")
