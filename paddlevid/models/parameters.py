"""What each parameter of a model is for, and how far from the classifier it stands: read from the layers themselves."""

from dataclasses import dataclass
from typing import Literal

import paddle
from paddle import nn
from paddle.vision.models import MobileNetV2, ResNet

from paddlevid.models.backbones import VGG16, InceptionV3
from paddlevid.models.batch_norm import BATCH_NORMS
from paddlevid.models.bn_inception import UNITS, BNInception
from paddlevid.models.timesformer import TimeSformer
from paddlevid.models.tsm import TSM
from paddlevid.models.tsn import TSN

Role = Literal["first_conv", "bias", "norm", "embedding", "head"]

CONVOLUTIONS = (nn.Conv1D, nn.Conv2D, nn.Conv3D)
NORMS = (*BATCH_NORMS, nn.LayerNorm, nn.GroupNorm)


@dataclass(frozen=True)
class ParameterInfo:
    """A parameter, its dotted name, and its roles; a bias of the head has both roles, a plain weight has none."""

    name: str
    parameter: paddle.Tensor
    roles: frozenset[Role]


def describe_parameters(model: nn.Layer) -> list[ParameterInfo]:
    """Each parameter once, in the model's order.

    `norm` are the weight and bias of batch and layer norms; `bias` those of all other layers; `embedding` is what
    belongs to none of them, such as class tokens and positions; `head` is the layer of that name, `first_conv` the
    first convolution.
    """
    first_conv = next((layer for layer in model.sublayers() if isinstance(layer, CONVOLUTIONS)), None)
    head = getattr(model, "head", None)
    in_head = set() if head is None else {id(parameter) for parameter in head.parameters()}
    seen: set[int] = set()
    result = []
    for prefix, layer in model.named_sublayers(include_self=True):
        for own_name, parameter in layer.named_parameters(include_sublayers=False):
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            roles: set[Role] = set()
            if isinstance(layer, NORMS):
                roles.add("norm")
            elif own_name == "bias":
                roles.add("bias")
            elif not isinstance(layer, (*CONVOLUTIONS, nn.Linear)):
                roles.add("embedding")
            if layer is first_conv:
                roles.add("first_conv")
            if id(parameter) in in_head:
                roles.add("head")
            name = f"{prefix}.{own_name}" if prefix else own_name
            result.append(ParameterInfo(name, parameter, frozenset(roles)))
    return result


def layer_distances(model: nn.Layer) -> dict[int, int]:
    """How many layers each parameter stands before the head's, by its id; for the decay of learning rates by layers.

    A layer is what stands before the blocks (stem and embeddings), each block, and in the end the last norm with the
    head: as in BEiT (Bao et al., 2021, arXiv:2106.08254). Blocks are those of the transformer, the residual blocks of a
    ResNet, the entries of a MobileNetV2 after its stem, the units of a BNInception or Inception v3, and each further
    convolution or linear layer of a VGG-16.
    """
    blocks, last = _blocks(model)
    distances = {id(parameter): len(blocks) + 1 for parameter in model.parameters()}
    for i, block in enumerate(blocks):
        distances.update((id(parameter), len(blocks) - i) for layer in block for parameter in layer.parameters())
    distances.update((id(parameter), 0) for layer in last for parameter in layer.parameters())
    return distances


def _blocks(model: nn.Layer) -> tuple[list[list[nn.Layer]], list[nn.Layer]]:
    """The blocks in the order in which they run, each as its layers, and the layers after them."""
    if isinstance(model, TimeSformer):
        return [[block] for block in model.blocks], [model.norm, model.head]
    if isinstance(model, TSN | TSM):
        return _blocks_of_backbone(model.backbone), [model.head]
    raise TypeError(f"the order of the layers of a {type(model).__name__} is not known")


def _blocks_of_backbone(backbone: nn.Layer) -> list[list[nn.Layer]]:
    if isinstance(backbone, BNInception):
        return [backbone.layers_of(unit.name) for unit in UNITS]
    if isinstance(backbone, VGG16):
        layers = [*backbone.features, *backbone.classifier]
        return [[layer] for layer in layers if layer.parameters()][1:]
    if isinstance(backbone, InceptionV3):
        return [[block] for block in backbone.inception_block_list]
    if isinstance(backbone, MobileNetV2):
        return [[block] for block in list(backbone.features)[1:]]
    if isinstance(backbone, ResNet):
        stages = [backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4]
        return [[block] for stage in stages for block in stage]
    raise TypeError(f"the order of the layers of a {type(backbone).__name__} is not known")
