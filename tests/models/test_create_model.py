import pytest

from paddlevid.errors import ConfigError
from paddlevid.models import TSM, create_model

TINY = {"num_classes": 2, "num_frames": 2, "image_size": 16, "embed_dim": 8, "depth": 1, "num_heads": 2}


def test_options_reach_the_constructor():
    model = create_model("tsm", num_classes=3, num_segments=4, backbone="resnet18", dropout=0)
    assert isinstance(model, TSM)
    assert model.num_segments == 4
    assert model.head.weight.shape == [512, 3]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("timesfomer", TINY, ["timesfomer", "'timesformer'"]),
        ("resnet", TINY, ["resnet", "timesformer"]),
        ("timesformer", TINY | {"embed_dims": 8}, ["embed_dims", "'embed_dim'"]),
        ("timesformer", TINY | {"attention": "divided_space"}, ["divided_space", "'divided_space_time'"]),
        ("timesformer", TINY | {"depth": "two"}, ["depth", "whole number", "'two'"]),
        ("timesformer", TINY | {"depth": True}, ["depth", "whole number", "True"]),
        ("timesformer", TINY | {"depth": 0}, ["depth", "0"]),
        ("timesformer", TINY | {"num_heads": 3}, ["embed_dim", "num_heads", "8", "3"]),
        ("timesformer", TINY | {"image_size": 20}, ["image_size", "patch_size", "20", "16"]),
        ("timesformer", TINY | {"drop_path_rate": 1.0}, ["drop_path_rate", "1.0"]),
        ("timesformer", TINY | {"drop_rate": float("nan")}, ["drop_rate", "nan"]),
        ("timesformer", {}, ["num_classes"]),
        ("tsn", {"num_classes": 2, "backbone": "resnet5"}, ["resnet5", "'resnet50'"]),
        ("tsn", {"num_classes": 2, "backbone": "bninception"}, ["bninception", "'bn_inception'"]),
        ("tsn", {"num_classes": 2, "modality": "optical_flow"}, ["optical_flow", "'flow'"]),
        ("tsn", {"num_classes": 2, "snippet_length": 5}, ["snippet_length", "5"]),
        ("tsm", {"num_classes": 2, "shift_div": 2}, ["shift_div", "2"]),
        ("tsm", {"num_classes": 2, "num_segments": 1}, ["num_segments", "1"]),
        ("tsm", {"num_classes": 2, "backbone": "mobilenet_v2", "shift_place": "block"}, ["shift_place", "blockres"]),
    ],
)
def test_what_cannot_be_built_is_named_in_one_line(name, options, words):
    with pytest.raises(ConfigError) as error:
        create_model(name, **options)
    message = str(error.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == []
