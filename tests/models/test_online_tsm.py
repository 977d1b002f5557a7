"""A TSM that looks back alone, over whole clips and one frame at a time."""

import numpy as np
import paddle
import pytest

from paddlevid import build
from paddlevid.config import load_config
from paddlevid.errors import ConfigError
from paddlevid.models import TSM, Normalize, OnlineTSM, RawFrameStep
from paddlevid.models.backbones import frame_features
from paddlevid.models.tsm import online_shift

K, T, SIDE = 4, 4, 32
NETWORKS = [
    ("resnet18", "blockres"),
    ("resnet18", "block"),
    ("resnet50", "blockres"),
    ("resnet50", "block"),
    ("resnet101", "blockres"),
    ("mobilenet_v2", "blockres"),
    ("bn_inception", "block"),
]


def build_tsm(backbone="resnet18", shift_place="blockres", online=True):
    """A network with statistics and a head as of one that has learned."""
    paddle.seed(5)
    model = TSM(K, num_segments=T, backbone=backbone, shift_place=shift_place, online=online)
    for name, value in model.state_dict().items():
        if name.endswith(("_mean", "head.weight")):
            value.set_value(0.1 * paddle.randn(value.shape))
        elif name.endswith("_variance"):
            value.set_value(paddle.rand(value.shape) + 1.0)
    model.eval()
    return model


def clip(batch=2, seed=0):
    rng = np.random.default_rng(seed)
    return paddle.to_tensor(rng.standard_normal((batch, T, 3, SIDE, SIDE)).astype("float32"))


@paddle.no_grad()
def logits_of_frames(model, video):
    """Those of each frame of a whole clip, [B, T, K]."""
    return model.forward_head(frame_features(model.backbone, video, model.feature_dim)).numpy()


def test_the_online_shift_moves_an_impulse_one_frame_on():
    # 8 channels, a fold of 2: an impulse at frame 1 of the first clip in every channel
    x = np.zeros((2, 4, 8, 1, 1), "float32")
    x[0, 1] = 1
    when = online_shift(paddle.to_tensor(x.reshape(8, 8, 1, 1)), num_segments=4, shift_div=4).numpy().reshape(2, 4, 8)
    assert when[0].argmax(0).tolist() == [2, 2, 1, 1, 1, 1, 1, 1]
    assert when[0].sum(0).tolist() == [1] * 8
    assert when[1].sum() == 0


def test_the_online_shift_loses_the_last_frame_and_begins_with_zeros():
    x = paddle.arange(1, 19, dtype="float32").reshape([6, 3, 1, 1])  # two clips of three frames, three channels
    shifted = online_shift(x, num_segments=3, shift_div=3).numpy().reshape(2, 3, 3)
    assert shifted[:, :, 0].tolist() == [[0, 1, 4], [0, 10, 13]]
    assert shifted[:, :, 1].tolist() == [[2, 5, 8], [11, 14, 17]]
    assert shifted[:, :, 2].tolist() == [[3, 6, 9], [12, 15, 18]]


@pytest.mark.parametrize(("backbone", "shift_place"), NETWORKS)
@paddle.no_grad()
def test_frame_by_frame_gives_the_clip(backbone, shift_place):
    model = build_tsm(backbone, shift_place)
    step = OnlineTSM(model, SIDE)
    video = clip()
    state = paddle.zeros([2, step.state_size])
    logits, feats = [], []
    for t in range(T):
        frame_logits, frame_feats, state = step(video[:, t], state)
        logits.append(frame_logits.numpy())
        feats.append(frame_feats.numpy())
    expected = model(video).numpy()
    np.testing.assert_allclose(np.mean(logits, axis=0), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    expected = model.forward_features(video).numpy()
    np.testing.assert_allclose(np.mean(feats, axis=0), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    each = logits_of_frames(model, video)
    np.testing.assert_allclose(np.stack(logits, axis=1), each, rtol=0, atol=1e-5 * np.abs(each).max())


def test_the_state_is_as_large_as_the_folds():
    # ResNet-18 at 32 pixels: the first stage has 64 channels of 8x8; the first block of a stage sees the stage before
    shapes = [(64, 8), (64, 8), (64, 8), (128, 4), (128, 4), (256, 2), (256, 2), (512, 1)]
    assert OnlineTSM(build_tsm(), SIDE).state_size == sum(channels // 8 * side**2 for channels, side in shapes)


@pytest.mark.parametrize(("online", "early_frames_see"), [(True, False), (False, True)])
def test_only_an_online_tsm_does_not_look_ahead(online, early_frames_see):
    model = build_tsm(online=online)
    video = clip()
    changed = video.clone()
    changed[:, -1] = clip(seed=1)[:, -1]
    differences = np.abs(logits_of_frames(model, video) - logits_of_frames(model, changed)).max(axis=(0, 2))  # [T]
    assert (differences[:-1] > 1e-3).any() == early_frames_see
    assert differences[-1] > 1e-3
    if online:
        assert differences[:-1].max() <= 1e-6


def test_the_past_matters():
    model = build_tsm()
    video = clip()
    changed = video.clone()
    changed[:, 0] = clip(seed=1)[:, 0]
    differences = np.abs(logits_of_frames(model, video) - logits_of_frames(model, changed)).max(axis=(0, 2))
    assert (differences > 1e-3).all()


def test_every_trained_parameter_gets_a_gradient():
    model = build_tsm()
    model.train()
    paddle.nn.functional.cross_entropy(model(clip()), paddle.to_tensor([0, 3])).backward()
    trained = [(name, p) for name, p in model.named_parameters() if not p.stop_gradient]
    assert [name for name, p in trained if p.grad is None or float(p.grad.abs().sum()) == 0] == []


def test_making_a_step_of_a_model_leaves_it_as_it_is():
    model = build_tsm()
    model.train()
    before = {name: value.numpy() for name, value in model.state_dict().items()}
    OnlineTSM(model, SIDE)
    assert all(layer.training for layer in model.sublayers(include_self=True))
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name], err_msg=name)


def test_a_tsm_that_looks_ahead_is_refused():
    with pytest.raises(ConfigError, match="only one trained with online: true"):
        OnlineTSM(build_tsm(online=False), SIDE)


def test_the_recipe_says_whether_a_model_is_online(tiny_recipe):
    assert not build.build_model(load_config(tiny_recipe("tsm"))).online
    assert build.build_model(load_config(tiny_recipe("tsm"), ["model.online=true"])).online


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v2"])
@pytest.mark.parametrize("batch", [1, -1])
def test_onnx_runtime_steps_like_the_model(backbone, batch, tmp_path):
    paddle2onnx = pytest.importorskip("paddle2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    normalize = Normalize((0.45, 0.4, 0.5), (0.225, 0.2, 0.25))
    model = build_tsm(backbone)
    step = OnlineTSM(model, SIDE)
    raw = RawFrameStep(normalize, step)
    raw.eval()
    specs = [
        paddle.static.InputSpec([batch, 1, SIDE, SIDE, 3], "uint8", "frame"),
        paddle.static.InputSpec([batch, step.state_size], "float32", "state"),
    ]
    path = tmp_path / "step"
    paddle.jit.save(paddle.jit.to_static(raw, input_spec=specs, full_graph=True), str(path))
    file = tmp_path / "step.onnx"
    paddle2onnx.export(f"{path}.json", f"{path}.pdiparams", str(file), opset_version=17, optimize_tool="none")
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    frames = np.random.default_rng(2).integers(0, 256, (abs(batch) + (batch < 0), T, SIDE, SIDE, 3), dtype=np.uint8)
    state = np.zeros((len(frames), step.state_size), "float32")
    logits = []
    for t in range(T):
        frame_logits, _, state = session.run(None, {"frame": frames[:, t : t + 1], "state": state})
        logits.append(frame_logits)
    with paddle.no_grad():
        expected = logits_of_frames(model, normalize(paddle.to_tensor(frames)))
    np.testing.assert_allclose(np.stack(logits, axis=1), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
