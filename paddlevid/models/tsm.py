"""TSM: a 2D network whose features are shifted along time (Lin et al., 2019, arXiv:1811.08383)."""

from typing import Literal

import paddle
from paddle import nn
from paddle.nn.initializer import Constant, Normal
from paddle.vision.models import MobileNetV2

from paddlevid.errors import ConfigError
from paddlevid.models.backbones import FEATURE_DIMS, BackboneName, build_backbone, frame_features
from paddlevid.models.bn_inception import BNInception
from paddlevid.models.snippets import Modality, Snippets
from paddlevid.models.tsn import check_segment_options

# The branches of residual blocks, or all that enters a block or unit
SHIFT_PLACES: dict[str, tuple[str, ...]] = {
    "resnet18": ("blockres", "block"),
    "resnet34": ("blockres", "block"),
    "resnet50": ("blockres", "block"),
    "resnet101": ("blockres", "block"),
    "mobilenet_v2": ("blockres",),
    "bn_inception": ("block",),
}


class TSM(nn.Layer):
    """Temporal shift module: video float32 [B, T, C, H, W] -> logits [B, K].

    The frames are S = num_segments snippets, T = S * `snippets.frames_per_snippet`; `modality`, `snippet_length` and
    `keep_rgb` are those of `Snippets`, which is one frame of RGB where nothing else is said.

    1/shift_div of the channels comes from the next frame and as much from the frame before; with `online` it comes from
    the frame before alone, so that no frame waits for a later one: `OnlineTSM` runs such a model on a stream.
    `shifted_layers` names the layers whose input is shifted. Raises ConfigError for options that cannot be used.
    """

    def __init__(
        self,
        num_classes: int,
        num_segments: int = 8,
        backbone: BackboneName = "resnet50",
        shift_div: int = 8,
        shift_place: Literal["blockres", "block"] = "blockres",
        dropout: float = 0.5,
        modality: Modality = "rgb",
        snippet_length: int = 1,
        keep_rgb: bool = False,
        online: bool = False,
    ) -> None:
        super().__init__()
        check_segment_options(num_classes, num_segments, backbone, dropout)
        if num_segments < 2:
            raise ConfigError(f"a TSM shifts between frames: num_segments must be 2 or more, not {num_segments}")
        # Two folds and a rest in each shifted layer, the narrowest of which has 24 channels
        if not 3 <= shift_div <= 24:
            raise ConfigError(f"shift_div must be 3 to 24, not {shift_div}")
        _check_shift_place(backbone, shift_place)
        if online and modality != "rgb":
            raise ConfigError(f"an online TSM takes one RGB frame after the other; its modality cannot be {modality!r}")
        self.num_segments = num_segments
        self.shift_div = shift_div
        self.shift_place = shift_place
        self.online = online
        self._stream: _Stream | None = None
        self.feature_dim = FEATURE_DIMS[backbone]
        self.snippets = Snippets(modality, snippet_length, keep_rgb)
        self.backbone = build_backbone(backbone, self.snippets.in_channels)
        shifted = layers_after_shift(self.backbone, shift_place)
        for layer in shifted:
            layer.register_forward_pre_hook(self._shift_input)
        ids = {id(layer) for layer in shifted}
        self.shifted_layers = tuple(name for name, layer in self.named_sublayers() if id(layer) in ids)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(self.feature_dim, num_classes, weight_attr=Normal(std=0.001), bias_attr=Constant(0.0))

    def forward(self, video: paddle.Tensor) -> paddle.Tensor:
        return self.forward_head(self.forward_features(video))

    def forward_features(self, video: paddle.Tensor) -> paddle.Tensor:
        """[B, T, C, H, W] -> [B, D]. Dropout acts on each snippet, before the mean over snippets.

        The classifier is linear, so the mean may as well be taken before it.
        """
        num_frames = self.num_segments * self.snippets.frames_per_snippet
        if video.shape[1] != num_frames:
            raise ValueError(f"video has {video.shape[1]} frames; this TSM shifts over {num_frames}")
        feats = frame_features(self.backbone, self.snippets.stack(video), self.feature_dim)  # [B, S, D]
        return self.dropout(feats).mean(axis=1)  # [B, D]

    def forward_head(self, feats: paddle.Tensor) -> paddle.Tensor:
        """[B, D] -> [B, K]"""
        return self.head(feats)

    def _shift_input(self, _layer: nn.Layer, inputs: tuple[paddle.Tensor]) -> paddle.Tensor:
        if self._stream is not None:
            return self._stream.shift(inputs[0])
        shift = online_shift if self.online else temporal_shift
        return shift(inputs[0], self.num_segments, self.shift_div)


class OnlineTSM(nn.Layer):
    """One step of an online TSM along a stream; no two threads may call it, or its `model`, at once.

    frame float32 [B, C, H, W], normalised, H = W = image_size, and state float32 [B, S], S = `state_size` -> logits
    [B, K] and features [B, D] of this frame, and the state for the next one. A state of zeros begins a clip; the mean
    of the logits over the frames of a clip is the answer of the model to it. Raises ConfigError for a model that is
    not online.
    """

    def __init__(self, model: TSM, image_size: int) -> None:
        super().__init__()
        if not model.online:
            raise ConfigError("this TSM looks at the next frame: only one trained with online: true runs on a stream")
        self.model = model
        self.fold_sizes = _fold_sizes(model, image_size)
        self.state_size = sum(self.fold_sizes)

    def forward(self, frame: paddle.Tensor, state: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
        stream = _Stream(state.split(self.fold_sizes, axis=1), self.model.shift_div)
        self.model._stream = stream
        try:
            feats = self.model.backbone(frame).reshape([-1, self.model.feature_dim])  # [B, D]
        finally:
            self.model._stream = None
        return self.model.forward_head(feats), feats, paddle.concat(stream.next_folds, axis=1)


class _Stream:
    """What the shifted layers, in the order in which they run, keep of a frame for the next one: [B, fold*h*w] each."""

    def __init__(self, folds: list[paddle.Tensor], shift_div: int) -> None:
        self.folds = folds  # of the frame before
        self.next_folds: list[paddle.Tensor] = []  # of this frame
        self.shift_div = shift_div

    def shift(self, x: paddle.Tensor) -> paddle.Tensor:
        """[B, C, h, w] -> [B, C, h, w]"""
        channels, height, width = x.shape[1:]
        fold = channels // self.shift_div
        behind = self.folds[len(self.next_folds)].reshape([-1, fold, height, width])
        ahead, rest = x.split([fold, channels - fold], axis=1)
        self.next_folds.append(ahead.reshape([-1, fold * height * width]))
        return paddle.concat([behind, rest], axis=1)


@paddle.no_grad()
def _fold_sizes(model: TSM, image_size: int) -> list[int]:
    """fold*h*w of each shifted layer in the order in which they run, found by running them."""
    sizes: list[int] = []

    def note(_layer: nn.Layer, inputs: tuple[paddle.Tensor]) -> None:
        channels, height, width = inputs[0].shape[1:]
        sizes.append(channels // model.shift_div * height * width)

    layers = dict(model.named_sublayers())
    hooks = [layers[name].register_forward_pre_hook(note) for name in model.shifted_layers]
    was_training = model.training
    model.eval()
    model.backbone(paddle.zeros([model.num_segments, 3, image_size, image_size]))
    if was_training:
        model.train()
    for hook in hooks:
        hook.remove()
    return sizes


def online_shift(x: paddle.Tensor, num_segments: int, shift_div: int) -> paddle.Tensor:
    """Shift the first C//shift_div channels one frame on, [B*T, C, H, W] -> [B*T, C, H, W]; zeros enter.

    Source: Lin et al., 2019, section 4.2, and the authors' online demo, which keeps these channels of a frame for the
    next one.
    """
    channels, height, width = x.shape[1:]
    fold = channels // shift_div
    behind, rest = x.split([fold, channels - fold], axis=1)
    frame = fold * height * width
    earlier, last = behind.reshape([-1, num_segments * frame]).split([(num_segments - 1) * frame, frame], axis=1)
    behind = paddle.concat([paddle.full_like(last, 0.0), earlier], axis=1).reshape([-1, fold, height, width])
    return paddle.concat([behind, rest], axis=1)  # [B*T, C, H, W]


def temporal_shift(x: paddle.Tensor, num_segments: int, shift_div: int) -> paddle.Tensor:
    """Shift channels along time, [B*T, C, H, W] -> [B*T, C, H, W]; what leaves the clip is lost, zeros enter.

    The first C//shift_div channels come from the next frame and as many from the frame before, as in the authors'
    code. paddle.nn.functional.temporal_shift goes the other way, and on CPU it takes 8 times as long, in training and
    in Paddle Inference.
    """
    channels, height, width = x.shape[1:]
    fold = channels // shift_div
    ahead, behind, rest = x.split([fold, fold, channels - 2 * fold], axis=1)
    frame = fold * height * width
    first, later = ahead.reshape([-1, num_segments * frame]).split([frame, (num_segments - 1) * frame], axis=1)
    earlier, last = behind.reshape([-1, num_segments * frame]).split([(num_segments - 1) * frame, frame], axis=1)
    ahead = paddle.concat([later, paddle.full_like(first, 0.0)], axis=1).reshape([-1, fold, height, width])
    behind = paddle.concat([paddle.full_like(last, 0.0), earlier], axis=1).reshape([-1, fold, height, width])
    return paddle.concat([ahead, behind, rest], axis=1)  # [B*T, C, H, W]


def _check_shift_place(backbone: str, shift_place: str) -> None:
    if backbone not in SHIFT_PLACES:
        raise ConfigError(f"a TSM has no place to shift in {backbone}; its backbones are {', '.join(SHIFT_PLACES)}")
    places = SHIFT_PLACES[backbone]
    if shift_place not in places:
        takes = " or ".join(map(repr, places))
        raise ConfigError(f"with {backbone}, shift_place must be {takes}, not {shift_place!r}")


def layers_after_shift(backbone: nn.Layer, shift_place: str) -> list[nn.Layer]:
    """The layers whose input is shifted, in the order in which they run, as in the authors' code.

    Of a ResNet the blocks or their first convolutions, of a MobileNetV2 the expansions of the inverted residuals with a
    shortcut, of a BNInception all units but the first convolution, which sees the video itself.
    """
    if isinstance(backbone, BNInception):
        return [backbone.conv2_3x3_reduce, *backbone.inputs_of_units.values()]
    if isinstance(backbone, MobileNetV2):
        # Blocks without expansion have three entries, with expansion four
        residuals = [block for block in backbone.features if getattr(block, "use_res_connect", False)]
        return [block.conv[0] for block in residuals if len(block.conv) == 4]
    stages = [backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4]
    if shift_place == "block":
        return [block for stage in stages for block in stage]
    # The branches of deep networks are shifted in every second block
    step = 2 if len(backbone.layer3) >= 23 else 1
    return [block.conv1 for stage in stages for block in list(stage)[::step]]
