"""An exponential moving average of the weights, which often scores better than the weights themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import paddle


class EMA:
    """Shadow weights: `shadow = d * shadow + (1 - d) * weights` after each update of the model.

    `d` rises from 0.1 to `decay` as min(decay, (1 + updates) / (10 + updates)), so that the random start is soon
    forgotten. What is not a parameter, such as the statistics of batch norms, is taken over as it is.
    """

    def __init__(self, model: paddle.nn.Layer, decay: float) -> None:
        self.decay = decay
        self.shadow = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @paddle.no_grad()
    def update(self, model: paddle.nn.Layer, updates: int) -> None:
        """Take in the weights after the update with this number, counted from 0."""
        decay = min(self.decay, (1 + updates) / (10 + updates))
        learned = {name for name, parameter in model.named_parameters() if not parameter.stop_gradient}
        for name, tensor in model.state_dict().items():
            shadow = self.shadow[name]
            if name in learned:
                shadow.scale_(decay)
                shadow.add_(tensor.detach().astype(shadow.dtype) * (1 - decay))
            else:
                shadow.set_value(tensor)

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over shadow weights by name, those of a checkpoint."""
        for name, shadow in self.shadow.items():
            shadow.set_value(paddle.to_tensor(arrays[name]).astype(shadow.dtype))

    def keep(self, model: paddle.nn.Layer) -> None:
        """Take over all of the model's tensors, after something was done to it inside `applied`."""
        for name, tensor in model.state_dict().items():
            self.shadow[name].set_value(tensor)

    @contextmanager
    def applied(self, model: paddle.nn.Layer) -> Iterator[None]:
        """Give the model the shadow weights for the length of a `with` block."""
        own = model.state_dict()
        before = {name: tensor.detach().clone() for name, tensor in own.items()}
        for name, tensor in own.items():
            tensor.set_value(self.shadow[name])
        try:
            yield
        finally:
            for name, tensor in own.items():
                tensor.set_value(before[name])
