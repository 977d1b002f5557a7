import paddle
import pytest

from paddlevid.errors import ConfigError
from paddlevid.models import create_model
from paddlevid.models.freeze import freeze_parameters

TINY = {"num_classes": 3, "num_frames": 2, "image_size": 32, "embed_dim": 16, "depth": 2, "num_heads": 2}


def learning(model: paddle.nn.Layer) -> set[str]:
    return {name for name, parameter in model.named_parameters() if not parameter.stop_gradient}


def test_a_linear_probe() -> None:
    model = create_model("timesformer", **TINY)
    count = len(learning(model))
    assert freeze_parameters(model, [r"^(?!head\.)"]) == count - 2
    assert learning(model) == {"head.weight", "head.bias"}
    model(paddle.randn([1, 2, 3, 32, 32])).sum().backward()
    assert {name for name, p in model.named_parameters() if p.grad is not None} == {"head.weight", "head.bias"}


def test_patterns_may_overlap_and_count_once() -> None:
    model = create_model("timesformer", **TINY)
    assert freeze_parameters(model, [r"^blocks\.0\.mlp", r"mlp\.fc1"]) == 4 + 2
    assert {"blocks.1.mlp.fc2.weight", "blocks.1.mlp.fc2.bias"} == {name for name in learning(model) if "mlp" in name}


def test_statistics_of_batch_norms_do_not_count() -> None:
    model = create_model("tsn", num_classes=3, backbone="resnet18")
    assert freeze_parameters(model, [r"backbone\.bn1\."]) == 2
    with pytest.raises(ConfigError):
        freeze_parameters(model, ["_mean"])


def test_a_pattern_that_finds_nothing_names_the_nearest() -> None:
    model = create_model("timesformer", **TINY)
    with pytest.raises(ConfigError, match=r"train\.freeze: pattern '\^block\\\\.0' .*blocks\.0\."):
        freeze_parameters(model, ["head", r"^block\.0"])
    assert "head.weight" in learning(model), "nothing is frozen by halves"
