"""What the backbones give to TSN and TSM: shifts, features and maps."""

import numpy as np
import paddle
import pytest
from paddle import nn

from paddlevid.errors import ConfigError
from paddlevid.models import TSM, TSN, create_model, forward_maps
from paddlevid.models.backbones import FEATURE_DIMS, _adaptive_average
from paddlevid.models.batch_norm import batch_norms
from paddlevid.models.bn_inception import UNITS, BNInception
from paddlevid.models.tsm import layers_after_shift, temporal_shift

K = 4


def unfilled(name, **options):
    """A model whose parameters have no values yet: enough to ask for names and shapes, in no time and no memory."""
    with paddle.LazyGuard():
        return create_model(name, num_classes=K, **options)


# ---- shifts ---------------------------------------------------------------------------------------------------------


def test_a_bn_inception_is_shifted_before_each_unit_but_the_first_convolution():
    model = unfilled("tsm", backbone="bn_inception", shift_place="block")
    units = ["3a", "3b", "3c", "4a", "4b", "4c", "4d", "4e", "5a", "5b"]
    expected = ["conv2_3x3_reduce", *(f"inputs_of_units.inception_{unit}" for unit in units)]
    names = {id(layer): name for name, layer in model.backbone.named_sublayers()}
    assert [names[id(layer)] for layer in layers_after_shift(model.backbone, "block")] == expected
    assert model.shifted_layers == tuple(f"backbone.{name}" for name in expected)


@paddle.no_grad()
def test_a_shifted_bn_inception_is_the_plain_one_with_shifts_between_its_units():
    paddle.seed(0)
    model = filled(TSM(K, num_segments=3, backbone="bn_inception", shift_place="block"))
    plain = BNInception()
    plain.set_state_dict(model.backbone.state_dict())
    plain.eval()
    video = paddle.randn([2, 3, 3, 64, 64])
    x = plain.halve(plain._conv("conv1_7x7_s2", video.reshape([6, 3, 64, 64])))
    x = plain._conv("conv2_3x3", plain._conv("conv2_3x3_reduce", temporal_shift(x, 3, 8)))
    x = plain.halve(x)
    for unit in UNITS:
        x = plain._unit(unit, temporal_shift(x, 3, 8))
    expected = x.mean(axis=[2, 3]).reshape([2, 3, 1024]).mean(axis=1).numpy()
    found = model.forward_features(video).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    tsn = TSN(K, backbone="bn_inception")
    tsn.set_state_dict(model.state_dict())
    tsn.eval()
    assert np.abs(tsn.forward_features(video).numpy() - expected).max() > 1e-2 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"backbone": "vgg16"}, ["vgg16", "resnet50", "bn_inception"]),
        ({"backbone": "inception_v3"}, ["inception_v3", "mobilenet_v2"]),
        ({"backbone": "bn_inception"}, ["bn_inception", "shift_place", "'block'", "'blockres'"]),
        ({"backbone": "mobilenet_v2", "shift_place": "block"}, ["mobilenet_v2", "'blockres'"]),
    ],
)
def test_a_tsm_has_places_to_shift(options, words):
    with pytest.raises(ConfigError) as error:
        create_model("tsm", num_classes=K, **options)
    assert [word for word in words if word not in str(error.value)] == []


# ---- forward passes -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bn_inception():
    paddle.seed(5)
    return filled(TSN(K, backbone="bn_inception", modality="rgb_diff", snippet_length=1, keep_rgb=True))


@pytest.fixture(scope="module")
def inception_v3():
    paddle.seed(5)
    return filled(TSN(K, backbone="inception_v3", modality="flow", snippet_length=2))


def filled(model):
    """With statistics and a head as of one that has learned."""
    for name, value in model.state_dict().items():
        if name.endswith(("_mean", "head.weight", "head.bias")):
            value.set_value(0.1 * paddle.randn(value.shape))
        elif name.endswith("_variance"):
            value.set_value(paddle.rand(value.shape) + 1.0)
    model.eval()
    return model


@pytest.mark.parametrize(("name", "side", "grid"), [("bn_inception", 64, 2), ("inception_v3", 112, 2)])
@paddle.no_grad()
def test_maps_of_the_inceptions(name, side, grid, request):
    """One map for each snippet and class; their mean is the logits."""
    model = request.getfixturevalue(name)
    video = paddle.randn([2, 6, model.snippets.frame_channels, side, side])
    logits, maps = forward_maps(model, video)
    expected = model(video).numpy()
    assert maps.shape == [2, 3, grid, grid, K]
    tolerance = 1e-5 * float(maps.abs().max())
    np.testing.assert_allclose(maps.mean(axis=[1, 2, 3]).numpy(), expected, rtol=0, atol=tolerance)
    np.testing.assert_allclose(logits.numpy(), expected, rtol=0, atol=tolerance)
    assert float(maps.std(axis=[2, 3]).min()) > 1e-4, "places differ"
    assert model.forward_features(video).shape == [2, FEATURE_DIMS[name]]


def test_inception_v3_has_the_epsilon_of_its_weights(inception_v3):
    """Of torchvision's network; 299 pixels give it a grid of 8, as in its paper."""
    assert {layer._epsilon for layer in batch_norms(inception_v3)} == {1e-3}
    norm = inception_v3.backbone.inception_stem.conv_1a_3x3[1]
    x = paddle.randn([1, 32, 2, 2])
    centred = x - norm._mean.reshape([1, -1, 1, 1])
    expected = centred / (norm._variance + 1e-3).sqrt().reshape([1, -1, 1, 1])
    np.testing.assert_allclose(norm(x).numpy(), expected.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("side", [75, 74])
def test_inception_v3_refuses_pictures_below_75_pixels(inception_v3, side):
    frames = paddle.zeros([1, 4, 90, side])
    if side == 75:
        assert inception_v3.backbone.features(frames).shape == [1, 2048, 1, 1]
    else:
        with pytest.raises(ValueError, match="frames are 74x90; inception_v3 needs 75 pixels or more"):
            inception_v3.backbone(frames)


@pytest.mark.parametrize(("height", "width"), [(7, 7), (2, 3), (9, 20)])
def test_averages_of_uneven_parts(height, width):
    x = paddle.randn([2, 3, height, width])
    expected = nn.AdaptiveAvgPool2D(7)(x)
    np.testing.assert_allclose(_adaptive_average(x, 7).numpy(), expected.numpy(), rtol=1e-5, atol=1e-6)


def test_vgg16_has_no_maps_to_show():
    with pytest.raises(ConfigError, match="vgg16 has no class activation maps"):
        forward_maps(unfilled("tsn", backbone="vgg16"), paddle.zeros([1, 3, 3, 32, 32]))


@pytest.mark.slow
@paddle.no_grad()
def test_vgg16_ends_with_the_second_linear_layer():
    paddle.seed(0)
    model = TSN(K, backbone="vgg16", modality="flow", snippet_length=2)
    model.eval()
    video = paddle.randn([1, 4, 2, 96, 64])
    network = model.backbone
    grid = nn.functional.adaptive_avg_pool2d(network.features(video.reshape([2, 4, 96, 64])), 7)
    relu, state = nn.functional.relu, model.state_dict()
    feats = grid.flatten(1)
    for name in ("classifier.0", "classifier.3"):
        feats = relu(feats @ state[f"backbone.{name}.weight"] + state[f"backbone.{name}.bias"])
    assert feats.shape == [2, 4096]
    found = model.forward_features(video).numpy()
    np.testing.assert_allclose(found[0], feats.mean(axis=0).numpy(), rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="frames are 31x40; vgg16 needs 32 pixels or more"):
        network(paddle.zeros([1, 4, 40, 31]))


# ---- learning from scratch ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "backbone",
    ["bn_inception", *(pytest.param(name, marks=pytest.mark.slow) for name in ("resnet18", "inception_v3", "vgg16"))],
)
def test_a_network_from_scratch_gets_signals_and_gradients_everywhere(backbone):
    """He et al.'s initialisation keeps signals and gradients of one order through the depth of a network."""
    paddle.seed(2)
    model = TSN(K, backbone=backbone, dropout=0.0)
    model.train()
    loss = nn.functional.cross_entropy(model(paddle.randn([4, 1, 3, 80, 80])), paddle.to_tensor([0, 1, 2, 3]))
    loss.backward()
    assert float(loss) < 3 * np.log(K)
    learning = [(name, p) for name, p in model.named_parameters() if not p.stop_gradient]
    assert [name for name, p in learning if p.grad is None or float(p.grad.abs().max()) == 0] == []
