"""The networks of Hugging Face's transformers, the real ones, under the names of their files.

Since version 5 transformers calls the layers of a ViT otherwise than its files do, which keep the old names.
"""

from __future__ import annotations

import re

from torch import Tensor, nn
from transformers import TimesformerConfig, TimesformerForVideoClassification, ViTConfig, ViTForImageClassification

# What the files say -> what a ViT of transformers 5 says
NEW_NAMES = [
    (r"encoder\.layer\.", "layers."),
    (r"attention\.attention\.query", "attention.q_proj"),
    (r"attention\.attention\.key", "attention.k_proj"),
    (r"attention\.attention\.value", "attention.v_proj"),
    (r"attention\.output\.dense", "attention.o_proj"),
    (r"intermediate\.dense", "mlp.fc1"),
    (r"(?<!attention\.)output\.dense", "mlp.fc2"),
]


def file_names(module: nn.Module) -> dict[str, str]:
    """Name in a file -> name in the module."""
    names = {}
    for own in module.state_dict():
        name = own
        if ".q_proj" in own or re.search(r"^vit\.layers\.", own):
            for old, new in NEW_NAMES:
                name = name.replace(new, old.replace("\\", "").replace("(?<!attention.)", ""))
        names[name] = own
    return names


def timesformer(
    attention: str,
    num_classes: int,
    num_frames: int,
    image_size: int,
    patch_size: int,
    embed_dim: int,
    depth: int,
    num_heads: int,
) -> TimesformerForVideoClassification:
    return TimesformerForVideoClassification(
        TimesformerConfig(
            attention_type=attention,
            num_labels=num_classes,
            num_frames=num_frames,
            image_size=image_size,
            patch_size=patch_size,
            hidden_size=embed_dim,
            num_hidden_layers=depth,
            num_attention_heads=num_heads,
            intermediate_size=4 * embed_dim,
        )
    )


def vit(
    num_classes: int, image_size: int, patch_size: int, embed_dim: int, depth: int, num_heads: int
) -> ViTForImageClassification:
    """With epsilon 1e-6 in its norms: its default of 1e-12 is a slip, timm's, its source, and ours are 1e-6."""
    return ViTForImageClassification(
        ViTConfig(
            num_labels=num_classes,
            image_size=image_size,
            patch_size=patch_size,
            hidden_size=embed_dim,
            num_hidden_layers=depth,
            num_attention_heads=num_heads,
            intermediate_size=4 * embed_dim,
            layer_norm_eps=1e-6,
        )
    )


class Logits(nn.Module):
    """A network that answers with a tensor: logits of a video, or the normed class token of an image."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        network = self.network
        if isinstance(network, ViTForImageClassification):
            return network.vit(pixels).last_hidden_state[:, 0]
        if network.config.attention_type != "space_only":
            return network(pixels).logits
        # transformers forgets the mean over frames of space_only and answers for each frame; the authors take it here
        base, frames = network.timesformer, pixels.shape[1]
        tokens = base.encoder(base.embeddings(pixels)).last_hidden_state  # [B*T, 1+N, D]
        return network.classifier(base.layernorm(tokens.unflatten(0, (-1, frames)).mean(dim=1))[:, 0])
