"""Mixed precision: what `--amp` turns on, where the device can."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import paddle

from paddlevid.runtime import logger
from paddlevid.schema import AmpConfig


@dataclass(frozen=True)
class Precision:
    """float32, or automatic mixed precision of level O1 or O2 in `float16` or `bfloat16`."""

    enabled: bool = False
    level: str = "O1"
    dtype: str = "float16"

    def autocast(self) -> AbstractContextManager[None]:
        if not self.enabled:
            return nullcontext()
        return paddle.amp.auto_cast(level=self.level, dtype=self.dtype)

    def scaler(self) -> paddle.amp.GradScaler | None:
        """Loss scaling keeps small gradients representable; float16 alone needs it."""
        if not self.enabled or self.dtype != "float16":
            return None
        return paddle.amp.GradScaler(init_loss_scaling=2.0**16)

    def decorate(
        self, model: paddle.nn.Layer, optimizer: paddle.optimizer.Optimizer
    ) -> tuple[paddle.nn.Layer, paddle.optimizer.Optimizer]:
        """At O2 the model itself becomes low precision, with float32 master weights in the optimizer."""
        if not self.enabled or self.level != "O2":
            return model, optimizer
        return paddle.amp.decorate(models=model, optimizers=optimizer, level="O2", dtype=self.dtype)


FULL_PRECISION = Precision()


def choose_precision(amp: AmpConfig, device: str) -> Precision:
    """What was asked for, or float32 with one warning on a CPU, where Paddle ignores mixed precision in silence."""
    if amp.enabled and device == "cpu":
        logger.warning("warning: --amp has no effect on a CPU, where Paddle computes in float32; going on without it")
        return FULL_PRECISION
    return Precision(amp.enabled, amp.level, amp.dtype)
