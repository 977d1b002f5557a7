import numpy as np
import paddle
import pytest

from paddlevid.models import TSM, TSN
from paddlevid.models.tsm import layers_after_shift, temporal_shift

K = 4


def clip(batch=2, frames=4, side=32, seed=0):
    rng = np.random.default_rng(seed)
    return paddle.to_tensor(rng.standard_normal((batch, frames, 3, side, side)).astype("float32"))


def test_shift_moves_an_impulse_as_the_authors_do():
    # 8 channels, a fold of 2: an impulse at frame 1 of the first clip in every channel
    x = np.zeros((2, 4, 8, 1, 1), "float32")
    x[0, 1] = 1
    shifted = temporal_shift(paddle.to_tensor(x.reshape(8, 8, 1, 1)), num_segments=4, shift_div=4)
    when = shifted.numpy().reshape(2, 4, 8)
    assert when[0].argmax(0).tolist() == [0, 0, 2, 2, 1, 1, 1, 1]
    assert when[0].sum(0).tolist() == [1] * 8
    assert when[1].sum() == 0


def test_shift_loses_what_leaves_the_clip():
    x = paddle.arange(1, 19, dtype="float32").reshape([6, 3, 1, 1])  # two clips of three frames, three channels
    shifted = temporal_shift(x, num_segments=3, shift_div=3).numpy().reshape(2, 3, 3)
    assert shifted[:, :, 0].tolist() == [[4, 7, 0], [13, 16, 0]]
    assert shifted[:, :, 1].tolist() == [[0, 2, 5], [0, 11, 14]]
    assert shifted[:, :, 2].tolist() == [[3, 6, 9], [12, 15, 18]]


@pytest.mark.parametrize(
    ("backbone", "expected"),
    [
        ("resnet18", [f"layer{s}.{b}.conv1" for s, n in ((1, 2), (2, 2), (3, 2), (4, 2)) for b in range(n)]),
        ("resnet50", [f"layer{s}.{b}.conv1" for s, n in ((1, 3), (2, 4), (3, 6), (4, 3)) for b in range(n)]),
        ("resnet101", [f"layer{s}.{b}.conv1" for s, n in ((1, 3), (2, 4), (3, 23), (4, 3)) for b in range(0, n, 2)]),
        ("mobilenet_v2", [f"features.{k}.conv.0" for k in (3, 5, 6, 8, 9, 10, 12, 13, 15, 16)]),
    ],
)
def test_the_shifted_layers_are_those_of_the_authors(backbone, expected):
    network = TSM(K, backbone=backbone).backbone
    names = {id(layer): name for name, layer in network.named_sublayers()}
    assert [names[id(layer)] for layer in layers_after_shift(network, "blockres")] == expected


def test_blockres_shifts_the_residual_branch_and_block_all_of_it():
    paddle.seed(0)
    x = paddle.randn([4, 64, 8, 8])
    shifted = temporal_shift(x, 4, 8)
    for place in ("blockres", "block"):
        model = TSM(K, num_segments=4, backbone="resnet18", shift_place=place)
        model.eval()
        block = model.backbone.layer1[0]
        branch = block.bn2(
            block.conv2(block.relu(block.bn1(paddle.nn.functional.conv2d(shifted, block.conv1.weight, padding=1))))
        )
        expected = block.relu(branch + (x if place == "blockres" else shifted))
        np.testing.assert_allclose(block(x).numpy(), expected.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v2"])
def test_tsm_of_equal_frames_differs_from_tsn_by_its_borders_only(backbone):
    """Far from the ends of the clip a shift of equal frames changes nothing: the middle frame is that of TSN."""
    paddle.seed(0)
    frames = 9
    tsm, tsn = TSM(K, num_segments=frames, backbone=backbone, shift_div=8), TSN(K, backbone=backbone)
    tsn.set_state_dict(tsm.state_dict())
    video = clip(batch=1, frames=1).expand([1, frames, 3, 32, 32])
    # Only the first stages, so that the zeros from the ends have not yet come to the middle
    stem = (lambda m: m.backbone.features[:7]) if backbone == "mobilenet_v2" else (lambda m: _stem(m.backbone))
    tsm.eval(), tsn.eval()
    flat = video.reshape([-1, 3, 32, 32])
    shifted, plain = stem(tsm)(flat).numpy(), stem(tsn)(flat).numpy()
    np.testing.assert_allclose(shifted[4], plain[4], rtol=1e-4, atol=1e-5)
    assert np.abs(shifted[0] - plain[0]).max() > 1e-4


def _stem(resnet):
    return paddle.nn.Sequential(resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool, resnet.layer1)


@pytest.mark.parametrize("frames", [1, 3, 5])
def test_tsn_takes_any_number_of_frames_and_averages_them(frames):
    paddle.seed(0)
    model = TSN(K, num_segments=3, backbone="resnet18")
    model.eval()
    video = clip(frames=frames)
    single = [model(video[:, t : t + 1]).numpy() for t in range(frames)]
    np.testing.assert_allclose(model(video).numpy(), np.mean(single, axis=0), rtol=1e-3, atol=1e-5)


def test_identity_consensus_leaves_the_logits_of_each_frame():
    paddle.seed(0)
    average, identity = TSN(K, backbone="resnet18"), TSN(K, backbone="resnet18", consensus="identity")
    identity.set_state_dict(average.state_dict())
    average.eval(), identity.eval()
    video = clip()
    assert identity(video).shape == [2, 4, K]
    np.testing.assert_allclose(identity(video).mean(axis=1).numpy(), average(video).numpy(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("model_class", [TSN, TSM])
@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v2"])
def test_every_trained_parameter_gets_a_gradient(model_class, backbone):
    paddle.seed(0)
    model = model_class(K, num_segments=4, backbone=backbone)
    paddle.nn.functional.cross_entropy(model(clip()), paddle.to_tensor([0, 3])).backward()
    trained = [(name, p) for name, p in model.named_parameters() if not p.stop_gradient]
    assert [name for name, p in trained if p.grad is None or float(p.grad.abs().sum()) == 0] == []


@pytest.mark.parametrize("model_class", [TSN, TSM])
def test_features_and_head_make_the_logits(model_class):
    paddle.seed(0)
    model = model_class(K, num_segments=4, backbone="resnet18")
    model.eval()
    feats = model.forward_features(clip())
    assert feats.shape == [2, 512]
    np.testing.assert_allclose(model.forward_head(feats).numpy(), model(clip()).numpy(), rtol=1e-6)


def test_tsm_refuses_another_number_of_frames():
    with pytest.raises(ValueError, match="video has 3 frames; this TSM shifts over 4"):
        TSM(K, num_segments=4, backbone="resnet18")(clip(frames=3))
