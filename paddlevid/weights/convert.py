"""Files of other packages -> files of this one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paddle
from paddle import nn

from paddlevid.errors import WeightsError
from paddlevid.models import create_model
from paddlevid.weights.infer import infer_model
from paddlevid.weights.load import plan_load, recognise
from paddlevid.weights.opening import open_source
from paddlevid.weights.report import LoadReport
from paddlevid.weights.sources import huggingface
from paddlevid.weights.tensor import LazyTensor
from paddlevid.weights.write import check_destination, write_weights


@dataclass(frozen=True)
class Conversion:
    """`options` are the arguments of `create_model` that the weights tell, None where the model was given."""

    report: LoadReport
    options: dict[str, Any] | None


def convert_weights(
    source: str | Path, destination: str | Path, *, model: nn.Layer | None = None, name: str | None = None
) -> Conversion:
    """Write the weights of `source`, anything that `load_weights` takes, under our names.

    `destination` ends with .pdparams or .safetensors; all is float32 in it. Without a `model` the shapes of the weights
    tell which it is; `name`, "tsn" or "tsm", is needed for files of PaddleVideo and of paddlevid, where both have the
    same names. Weights of image networks need a model, whose other parameters are then written as it has them.

    Raises WeightsError when the weights are not those of the model, or of no model that is known.
    """
    check_destination(destination)
    options = None
    if model is None:
        options = infer_options(source, name)
        with paddle.LazyGuard():  # names and shapes, no memory: each parameter gets its values from the file
            model = create_model(**options)
    plan = plan_load(model, source)
    if options is not None and plan.report.start_only:
        raise WeightsError(
            f"{plan.report.source}: {plan.report.start_only}: say with -c which recipe's model they are to start"
        )
    own = model.state_dict()
    state = {name: LazyTensor.of(value) for name, value in plan.made.items()} | plan.values
    state |= {name: LazyTensor.of(own[name].numpy()) for name in plan.report.new if name not in state}
    write_weights({name: state[name].as_float32() for name in own}, destination)
    return Conversion(plan.report, options)


def infer_options(source: str | Path, name: str | None = None) -> dict[str, Any]:
    """The arguments of `create_model`, `name` among them, that the weights of `source` tell.

    Raises WeightsError where they are of no model that is known.
    """
    opened = open_source(source)
    kind = recognise(opened.state)
    try:
        renamed = kind.rename(opened.state)
        if opened.public is not None and not renamed.names_tell_shift:
            name = name or opened.public.family
        options = infer_model(renamed, kind, name)
    except WeightsError as error:
        raise WeightsError(f"{opened.where} ({kind.name}): {error}") from error
    if kind is huggingface.HUGGINGFACE_TIMESFORMER and "num_attention_heads" in opened.config:
        options["num_heads"] = opened.config["num_attention_heads"]
    return options
