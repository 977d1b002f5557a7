"""TimeSformer against the description of its mathematics, written out with loops over clips, frames and places."""

from math import erf, sqrt

import numpy as np
import paddle
import pytest

from paddlevid.models import TimeSformer
from paddlevid.models.timesformer import Attention, drop_path

B, T, SIDE, PATCH, D, HEADS, K = 2, 3, 24, 8, 12, 3, 5
N = (SIDE // PATCH) ** 2
KINDS = ["divided_space_time", "joint_space_time", "space_only"]


def build(attention="divided_space_time", **options):
    """A small model with random numbers in each of its parameters, zeros included."""
    paddle.seed(3)
    rng = np.random.default_rng(3)
    options = {"num_frames": T, "depth": 2} | options
    model = TimeSformer(
        K, image_size=SIDE, patch_size=PATCH, embed_dim=D, num_heads=HEADS, attention=attention, **options
    )
    for parameter in model.parameters():
        parameter.set_value(rng.normal(0, 0.4, parameter.shape).astype("float32"))
    return model


def clip(batch=B, seed=5, frames=T):
    return np.random.default_rng(seed).standard_normal((batch, frames, 3, SIDE, SIDE)).astype("float32")


def reference(model, video):  # noqa: PLR0915
    """Logits in float64, one clip at a time, one attention at a time."""
    params = {name: value.numpy().astype("float64") for name, value in model.state_dict().items()}

    def layer_norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
        return scaled * params[f"{name}.weight"] + params[f"{name}.bias"]

    def linear(x, name):
        return x @ params[f"{name}.weight"] + params[f"{name}.bias"]

    def attention(tokens, name):
        """[L, D] -> [L, D]"""
        q, k, v = np.split(linear(tokens, f"{name}.qkv"), 3, axis=1)
        out = np.zeros_like(tokens)
        width = D // HEADS
        for head in range(HEADS):
            part = slice(head * width, (head + 1) * width)
            for i in range(len(tokens)):
                scores = np.array([q[i, part] @ k[j, part] for j in range(len(tokens))]) / sqrt(width)
                weights = np.exp(scores - scores.max())
                out[i, part] = (weights / weights.sum()) @ v[:, part]
        return linear(out, f"{name}.proj")

    def mlp(x, name):
        hidden = linear(x, f"{name}.fc1")
        hidden = hidden * np.vectorize(lambda u: 0.5 * (1 + erf(u / sqrt(2))))(hidden)
        return linear(hidden, f"{name}.fc2")

    def embed(frame):
        """[C, H, W] -> [1+N, D]"""
        kernel = params["patch_embed.proj.weight"]
        patches = [
            np.array([(frame[:, y : y + PATCH, x : x + PATCH] * kernel[d]).sum() for d in range(D)])
            + params["patch_embed.proj.bias"]
            for y in range(0, SIDE, PATCH)
            for x in range(0, SIDE, PATCH)
        ]
        return np.concatenate([params["cls_token"][0], patches]) + params["pos_embed"][0]

    def ordinary_block(tokens, name):
        tokens = tokens + attention(layer_norm(tokens, f"{name}.norm1"), f"{name}.attn")
        return tokens + mlp(layer_norm(tokens, f"{name}.norm2"), f"{name}.mlp")

    def divided_block(cls, patches, name):
        over_time = np.zeros_like(patches)
        for place in range(N):
            row = attention(layer_norm(patches[:, place], f"{name}.temporal_norm1"), f"{name}.temporal_attn")
            over_time[:, place] = linear(row, f"{name}.temporal_fc")
        patches = patches + over_time
        updates = []
        for t in range(len(patches)):
            tokens = np.concatenate([cls[None], patches[t]])
            updates.append(attention(layer_norm(tokens, f"{name}.norm1"), f"{name}.attn"))
        updates = np.stack(updates)
        cls, patches = cls + updates[:, 0].mean(0), patches + updates[:, 1:]
        cls = cls + mlp(layer_norm(cls, f"{name}.norm2"), f"{name}.mlp")
        return cls, patches + mlp(layer_norm(patches, f"{name}.norm2"), f"{name}.mlp")

    logits = []
    for sample in video.astype("float64"):
        frames = np.stack([embed(frame) for frame in sample])  # [T, 1+N, D]
        blocks = [f"blocks.{i}" for i in range(len(model.blocks))]
        if model.attention == "space_only":
            for name in blocks:
                frames = np.stack([ordinary_block(frame, name) for frame in frames])
            cls = frames.mean(0)[0]
        else:
            cls = frames[0, 0]
            patches = frames[:, 1:] + params["time_embed"][0][:, None]
            if model.attention == "divided_space_time":
                for name in blocks:
                    cls, patches = divided_block(cls, patches, name)
            else:
                # Place outside, time inside, as in the authors' code
                tokens = np.concatenate([cls[None], patches.transpose(1, 0, 2).reshape(-1, D)])
                for name in blocks:
                    tokens = ordinary_block(tokens, name)
                cls = tokens[0]
        logits.append(linear(layer_norm(cls, "norm"), "head"))
    return np.stack(logits)


@pytest.mark.parametrize("attention", KINDS)
@pytest.mark.parametrize("frames", [1, T])
def test_logits_are_those_of_the_description(attention, frames):
    model = build(attention, num_frames=frames)
    model.eval()
    video = clip(frames=frames)
    logits = model(paddle.to_tensor(video)).numpy()
    assert np.abs(logits).max() > 0.5
    np.testing.assert_allclose(logits, reference(model, video), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("attention", KINDS)
def test_every_parameter_gets_a_gradient(attention):
    model = build(attention)
    model.train()
    paddle.nn.functional.cross_entropy(model(paddle.to_tensor(clip())), paddle.to_tensor([1, 3])).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or float(p.grad.abs().sum()) == 0]
    assert without == []


@pytest.mark.parametrize("attention", KINDS)
def test_gradients_are_those_of_small_differences(attention):
    model = build(attention, drop_path_rate=0.0)
    model.train()
    video = paddle.to_tensor(clip())

    def loss():
        return model(video).square().mean()

    loss().backward()
    rng = np.random.default_rng(0)
    for name in [
        "cls_token",
        "pos_embed",
        "patch_embed.proj.bias",
        "blocks.0.attn.qkv.bias",
        "blocks.1.mlp.fc1.weight",
    ]:
        parameter = dict(model.named_parameters())[name]
        direction = rng.standard_normal(parameter.shape).astype("float32")
        start, step = parameter.numpy(), 3e-3
        parameter.set_value(start + step * direction)
        above = float(loss())
        parameter.set_value(start - step * direction)
        slope = (above - float(loss())) / (2 * step)
        parameter.set_value(start)
        assert float((parameter.grad.numpy() * direction).sum()) == pytest.approx(slope, rel=0.03, abs=0.02), name


@pytest.mark.parametrize("attention", KINDS)
def test_clips_of_a_batch_do_not_see_each_other(attention):
    model = build(attention)
    model.eval()
    video = paddle.to_tensor(clip(batch=3))
    alone = paddle.concat([model(video[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(model(video).numpy(), alone.numpy(), rtol=1e-4, atol=1e-5)


def test_zero_temporal_fc_starts_without_time():
    paddle.seed(0)
    model = TimeSformer(K, num_frames=T, image_size=SIDE, patch_size=PATCH, embed_dim=D, depth=2, num_heads=HEADS)
    model.eval()
    video = clip()
    forward = model(paddle.to_tensor(video)).numpy()
    backward = model(paddle.to_tensor(video[:, ::-1].copy())).numpy()
    # Attention over space treats each frame alike, so without time their order says nothing
    np.testing.assert_allclose(forward, backward, atol=1e-5)


@pytest.mark.parametrize(("over_time", "first_only"), [(True, False), (False, False), (False, True)])
def test_fused_attention_is_the_same_attention(over_time, first_only):
    paddle.seed(1)
    layer = Attention(D, HEADS, drop_rate=0.0, attn_drop_rate=0.0)
    qkv = paddle.randn([B, T, N, 3, HEADS, D // HEADS])
    plain = layer._attend(qkv, over_time, first_only)
    fused = layer._attend_fused(qkv, over_time, first_only)
    assert plain.shape == fused.shape
    np.testing.assert_allclose(plain.numpy(), fused.numpy(), rtol=1e-4, atol=1e-5)


def test_drop_path_zeroes_whole_rows_and_keeps_the_mean():
    paddle.seed(0)
    dropped = drop_path(paddle.ones([40, 3, 50, 4]), 0.25, axes=[0, 2]).numpy()
    rows = dropped[:, 0, :, 0]
    np.testing.assert_array_equal(dropped, np.broadcast_to(rows[:, None, :, None], dropped.shape))
    assert np.unique(rows).tolist() == [0, pytest.approx(1 / 0.75)]
    assert rows.mean() == pytest.approx(1, abs=0.05)  # five standard errors of 2000 draws are 0.065


def test_drop_path_grows_with_depth_and_rests_in_evaluation():
    model = build(depth=3, drop_path_rate=0.2)
    assert [block.drop_path_rate for block in model.blocks] == pytest.approx([0, 0.1, 0.2])
    video = paddle.to_tensor(clip())
    model.train()
    assert not np.array_equal(model(video).numpy(), model(video).numpy())
    model.eval()
    np.testing.assert_array_equal(model(video).numpy(), model(video).numpy())


def test_base_model_has_the_parameters_of_its_description():
    model = TimeSformer(400, depth=2)  # of 12, to be quick
    # A block has 2 attentions, a temporal_fc, 3 norms and an MLP
    block = 2 * (4 * 768**2 + 4 * 768) + (768**2 + 768) + 3 * 2 * 768 + (8 * 768**2 + 5 * 768)
    around = (768 * 768 + 768) + 768 + 197 * 768 + 8 * 768 + 2 * 768 + 400 * 769
    assert sum(int(np.prod(p.shape)) for p in model.parameters()) == 2 * block + around


def test_initial_values_have_the_spread_that_was_asked_for():
    options = {"image_size": 64, "patch_size": 8, "embed_dim": 128, "depth": 1, "num_heads": 2}
    model = TimeSformer(8, 16, **options, pos_embed_std=0.5, time_embed_std=1.0, linear_std=0.1, temporal_fc_zero=False)
    for parameter, std in (
        (model.pos_embed, 0.5),
        (model.time_embed, 1.0),
        (model.blocks[0].mlp.fc1.weight, 0.1),
        (model.blocks[0].temporal_fc.weight, 0.1),
        (model.head.weight, 0.02),
    ):
        assert parameter.numpy().std() == pytest.approx(std, rel=0.1)
    assert (TimeSformer(8, **options).blocks[0].temporal_fc.weight.numpy() == 0).all()


def test_a_clip_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="this TimeSformer takes"):
        build()(paddle.to_tensor(clip(frames=T + 1)))
