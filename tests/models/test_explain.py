"""Maps of where a model looks, against what they are by definition."""

from math import erf, sqrt

import numpy as np
import paddle
import pytest

from paddlevid.models import TSM, TSN, Normalize, RawFrameExplainer, TimeSformer, forward_maps
from paddlevid.models.explain import _attention_weights, rollout

B, T, SIDE, PATCH, D, HEADS, DEPTH, K = 2, 3, 24, 8, 12, 3, 3, 5
GRID = SIDE // PATCH
N = GRID**2
KINDS = ["divided_space_time", "joint_space_time", "space_only"]
SEGMENT_MODELS = [
    (TSN, {"backbone": "resnet18"}),
    (TSN, {"backbone": "mobilenet_v2", "consensus": "identity"}),
    (TSM, {"backbone": "resnet50"}),
    (TSM, {"backbone": "mobilenet_v2"}),
    (TSM, {"backbone": "resnet18", "online": True}),
]


def build_timesformer(attention):
    """A small model with random numbers in each of its parameters."""
    rng = np.random.default_rng(3)
    model = TimeSformer(
        K,
        num_frames=T,
        image_size=SIDE,
        patch_size=PATCH,
        embed_dim=D,
        depth=DEPTH,
        num_heads=HEADS,
        attention=attention,
    )
    for parameter in model.parameters():
        parameter.set_value(rng.normal(0, 0.4, parameter.shape).astype("float32"))
    model.eval()
    return model


def build_segment_model(constructor, options):
    paddle.seed(5)
    model = constructor(K, num_segments=T, **options)
    for name, value in model.state_dict().items():
        if name.endswith(("_mean", "head.weight", "head.bias")):
            value.set_value(0.1 * paddle.randn(value.shape))
        elif name.endswith("_variance"):
            value.set_value(paddle.rand(value.shape) + 1.0)
    model.eval()
    return model


def clip(side=SIDE, seed=5):
    return np.random.default_rng(seed).standard_normal((B, T, 3, side, side)).astype("float32")


def dense_rollout(model, sample):  # noqa: PLR0915
    """The row of the class token in the product of all (1+T*N)^2 matrices, in float64: [1+T*N].

    sample [T, C, H, W]. The network is computed anew; token 0 is the class token, 1 + t*N + n is patch n of frame t. In
    the space-only model each frame has a class token; there the tokens are T*(1+N), and the row is their mean.
    """
    params = {name: value.numpy().astype("float64") for name, value in model.state_dict().items()}

    def layer_norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
        return scaled * params[f"{name}.weight"] + params[f"{name}.bias"]

    def linear(x, name):
        return x @ params[f"{name}.weight"] + params[f"{name}.bias"]

    def attention(tokens, name):
        """[L, D] -> [L, D] and the mean over heads of the weights [L, L]"""
        q, k, v = (x.reshape(len(tokens), HEADS, -1) for x in np.split(linear(tokens, f"{name}.qkv"), 3, axis=1))
        scores = np.einsum("ihd,jhd->hij", q, k) / sqrt(D / HEADS)
        weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        out = np.einsum("hij,jhd->ihd", weights, v).reshape(len(tokens), D)
        return linear(out, f"{name}.proj"), weights.mean(0)

    def mlp(x, name):
        hidden = linear(layer_norm(x, f"{name}.norm2"), f"{name}.mlp.fc1")
        return linear(hidden * 0.5 * (1 + np.vectorize(erf)(hidden / sqrt(2))), f"{name}.mlp.fc2")

    squares = sample.astype("float64").reshape(T, 3, GRID, PATCH, GRID, PATCH)
    patches = np.einsum("tcypxq,dcpq->tyxd", squares, params["patch_embed.proj.weight"]).reshape(T, N, D)
    patches = patches + params["patch_embed.proj.bias"] + params["pos_embed"][0, 1:]
    cls = params["cls_token"][0, 0] + params["pos_embed"][0, 0]
    blocks = [f"blocks.{i}" for i in range(DEPTH)]
    if model.attention == "space_only":
        rows = []
        for t in range(T):
            tokens, product = np.concatenate([cls[None], patches[t]]), np.eye(1 + N)
            for name in blocks:
                update, weights = attention(layer_norm(tokens, f"{name}.norm1"), f"{name}.attn")
                tokens = tokens + update
                tokens = tokens + mlp(tokens, name)
                product = (np.eye(1 + N) + weights) / 2 @ product
            rows.append(product[0] / T)
        return np.concatenate([[sum(row[0] for row in rows)], *(row[1:] for row in rows)])

    tokens = np.concatenate([cls[None], (patches + params["time_embed"][0][:, None]).reshape(T * N, D)])
    total = 1 + T * N
    product = np.eye(total)
    for name in blocks:
        if model.attention == "joint_space_time":
            update, weights = attention(layer_norm(tokens, f"{name}.norm1"), f"{name}.attn")
            tokens = tokens + update
            product = (np.eye(total) + weights) / 2 @ product
        else:
            matrix, update = np.zeros((total, total)), np.zeros_like(tokens)
            matrix[0, 0] = 1  # the class token takes no part in the attention over time
            for n in range(N):
                places = 1 + n + N * np.arange(T)
                out, matrix[np.ix_(places, places)] = attention(
                    layer_norm(tokens[places], f"{name}.temporal_norm1"), f"{name}.temporal_attn"
                )
                update[places] = linear(out, f"{name}.temporal_fc")
            tokens = tokens + update
            product = (np.eye(total) + matrix) / 2 @ product
            matrix, update = np.zeros((total, total)), np.zeros_like(tokens)
            for t in range(T):
                places = np.concatenate([[0], 1 + t * N + np.arange(N)])
                out, weights = attention(layer_norm(tokens[places], f"{name}.norm1"), f"{name}.attn")
                update[places[1:]] = out[1:]
                update[0] += out[0] / T
                matrix[places[1:, None], places] = weights[1:]
                matrix[0, places] += weights[0] / T
            tokens = tokens + update
            product = (np.eye(total) + matrix) / 2 @ product
        tokens = tokens + mlp(tokens, name)
    return product[0]


@pytest.mark.parametrize("attention", KINDS)
def test_rollout_is_the_row_of_the_product_of_all_matrices(attention):
    model = build_timesformer(attention)
    video = clip()
    with paddle.no_grad():
        _, weights = _attention_weights(model, paddle.to_tensor(video))
        cls, patches = (share.numpy() for share in rollout(weights, attention, T))
        logits, maps = forward_maps(model, paddle.to_tensor(video))
        expected_logits = model(paddle.to_tensor(video)).numpy()
    expected = np.stack([dense_rollout(model, sample) for sample in video])
    assert expected.sum(axis=1) == pytest.approx([1.0] * B)
    np.testing.assert_allclose(cls, expected[:, :1], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(patches.reshape(B, -1), expected[:, 1:], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(cls[:, 0] + patches.sum(axis=(1, 2)), np.ones(B), rtol=1e-5)
    assert maps.shape == [B, T, GRID, GRID, 1]
    np.testing.assert_array_equal(maps.numpy().reshape(B, T, N), patches)
    np.testing.assert_array_equal(logits.numpy(), expected_logits)


def test_rollout_of_a_hand_worked_divided_model():
    """One block, one frame of two patches: the class token looks at itself 0.2, at patch 0 0.5, at patch 1 0.3."""
    over_time = paddle.ones([1, 2, 1, 1])
    over_space = paddle.to_tensor([[[[0.2, 0.5, 0.3]]]])
    cls, patches = rollout([over_time, over_space], "divided_space_time", 1)
    assert cls.numpy().ravel() == pytest.approx([0.6])
    assert patches.numpy().ravel() == pytest.approx([0.25, 0.15])


def test_attention_over_time_moves_shares_between_frames_of_a_place():
    """Frame 1 of place 0 looks at frame 0 alone; of its share of 1/8 half goes there."""
    over_time = np.tile(np.eye(2, dtype="float32"), (1, 2, 1, 1))  # [B, N, T, T]
    over_time[0, 0, 1] = [1, 0]
    over_space = np.full((1, 2, 1, 3), 0.25, "float32")
    over_space[..., 0] = 0.5
    _, patches = rollout([paddle.to_tensor(over_time), paddle.to_tensor(over_space)], "divided_space_time", 2)
    expected = [[1 / 16 + 1 / 32, 1 / 16], [1 / 32, 1 / 16]]  # [T, N]
    np.testing.assert_allclose(patches.numpy()[0], expected, rtol=1e-6)


def test_seeing_leaves_no_trace_on_the_model():
    model = build_timesformer("divided_space_time")
    forward_maps(model, paddle.to_tensor(clip()))
    assert all(not layer._forward_post_hooks for layer in model.sublayers())


@pytest.mark.parametrize(("constructor", "options"), SEGMENT_MODELS)
@paddle.no_grad()
def test_the_mean_of_class_activation_maps_is_the_logits(constructor, options):
    model = build_segment_model(constructor, options)
    video = paddle.to_tensor(clip(side=96))
    logits, maps = forward_maps(model, video)
    expected = model(video)
    expected = expected.mean(axis=1) if expected.ndim == 3 else expected
    assert maps.shape == [B, T, 3, 3, K]
    tolerance = 1e-5 * float(maps.abs().max())
    np.testing.assert_allclose(maps.mean(axis=[1, 2, 3]).numpy(), expected.numpy(), rtol=0, atol=tolerance)
    np.testing.assert_allclose(logits.numpy(), expected.numpy(), rtol=0, atol=tolerance)
    assert float(maps.std(axis=[2, 3]).min()) > 1e-4, "places differ"


@paddle.no_grad()
def test_a_map_is_high_where_the_network_sees_the_class():
    """A network whose only feature is brightness, and a head that wants it: the map follows a bright square."""
    model = TSN(2, num_segments=T, backbone="resnet18")
    model.eval()

    class Brightness(paddle.nn.Layer):
        def forward(self, frames):
            return paddle.nn.functional.avg_pool2d(frames[:, :1], 8)

    for name in ("bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"):
        setattr(model.backbone, name, paddle.nn.Identity())
    model.backbone.conv1 = Brightness()
    model.head = paddle.nn.Linear(1, 2)
    model.head.weight.set_value(paddle.to_tensor([[2.0, -1.0]]))
    model.head.bias.set_value(paddle.to_tensor([0.5, 0.0]))
    video = np.zeros((1, T, 3, SIDE, SIDE), "float32")
    video[0, 1, :, 8:16, 16:24] = 1  # the square in row 1, column 2 of frame 1
    _, maps = forward_maps(model, paddle.to_tensor(video))
    expected = np.tile([0.5, 0.0], (T, 3, 3, 1))
    expected[1, 1, 2] = [2.5, -1.0]
    np.testing.assert_allclose(maps[0].numpy(), expected, atol=1e-6)


def test_another_network_is_refused():
    with pytest.raises(TypeError, match="Linear"):
        forward_maps(paddle.nn.Linear(2, 2), paddle.zeros([1, 2]))


EXPORTED = {
    **{kind: (lambda kind=kind: build_timesformer(kind), SIDE) for kind in KINDS},
    "tsn": (lambda: build_segment_model(TSN, {"backbone": "resnet18", "consensus": "identity"}), 64),
    "tsm": (lambda: build_segment_model(TSM, {"backbone": "mobilenet_v2"}), 64),
}


@pytest.mark.parametrize("name", EXPORTED)
def test_exported_graphs_give_the_logits_and_maps_of_the_model(name, tmp_path):
    paddle2onnx = pytest.importorskip("paddle2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    make, side = EXPORTED[name]
    model, normalize = make(), Normalize((0.45, 0.4, 0.5), (0.225, 0.2, 0.25))
    raw = RawFrameExplainer(normalize, model)
    raw.eval()
    path, file = tmp_path / "explain", tmp_path / "explain.onnx"
    spec = paddle.static.InputSpec([-1, T, side, side, 3], "uint8", "frames")
    paddle.jit.save(paddle.jit.to_static(raw, input_spec=[spec], full_graph=True), str(path))
    paddle2onnx.export(f"{path}.json", f"{path}.pdiparams", str(file), opset_version=17, optimize_tool="none")
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    predictor = paddle_inference(path)
    for batch in (1, 3):
        frames = np.random.default_rng(batch).integers(0, 256, (batch, T, side, side, 3), dtype=np.uint8)
        with paddle.no_grad():
            expected = [output.numpy() for output in forward_maps(model, normalize(paddle.to_tensor(frames)))]
        predictor.get_input_handle("frames").copy_from_cpu(frames)
        predictor.run()
        by_paddle = [predictor.get_output_handle(name).copy_to_cpu() for name in predictor.get_output_names()]
        for outputs in (session.run(None, {"frames": frames}), by_paddle):
            for output, reference in zip(outputs, expected, strict=True):
                np.testing.assert_allclose(output, reference, rtol=0, atol=1e-4 * np.abs(reference).max())


def paddle_inference(path):
    config = paddle.inference.Config(f"{path}.json", f"{path}.pdiparams")
    config.disable_gpu()
    config.disable_glog_info()
    config.enable_mkldnn()
    return paddle.inference.create_predictor(config)
