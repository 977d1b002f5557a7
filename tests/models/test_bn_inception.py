"""BNInception against PyTorch, computed anew from the table of its units."""

import numpy as np
import paddle
import pytest

from paddlevid.models.bn_inception import BNInception

# unit: input | 1x1 | 3x3 reduce, out | double reduce, out, out | projection; stride 2 where there is no 1x1
TABLE = """
3a  192 |  64 |  64  64 |  64  96  96 |  32
3b  256 |  64 |  64  96 |  64  96  96 |  64
3c  320 |   0 | 128 160 |  64  96  96 |   0
4a  576 | 224 |  64  96 |  96 128 128 | 128
4b  576 | 192 |  96 128 |  96 128 128 | 128
4c  576 | 160 | 128 160 | 128 160 160 | 128
4d  608 |  96 | 128 192 | 160 192 192 | 128
4e  608 |   0 | 128 192 | 192 256 256 |   0
5a 1056 | 352 | 192 320 | 160 224 224 | 128
5b 1024 | 352 | 192 320 | 192 224 224 | 128
"""


def shapes_of_the_table():
    """The shape of each convolution's weight, by its name."""
    shapes = {"conv1_7x7_s2": [64, 3, 7, 7], "conv2_3x3_reduce": [64, 64, 1, 1], "conv2_3x3": [192, 64, 3, 3]}
    for line in TABLE.strip().splitlines():
        (unit, channels), one, three, double, projection = (part.split() for part in line.split("|"))
        convs = [
            ("1x1", channels, one[0], 1),
            ("3x3_reduce", channels, three[0], 1),
            ("3x3", *three, 3),
            ("double_3x3_reduce", channels, double[0], 1),
            ("double_3x3_1", *double[:2], 3),
            ("double_3x3_2", *double[1:], 3),
            ("pool_proj", channels, projection[0], 1),
        ]
        for name, inputs, outputs, side in convs:
            if outputs != "0":
                shapes[f"inception_{unit}_{name}"] = [int(outputs), int(inputs), side, side]
    return shapes


@pytest.fixture(scope="module")
def network():
    """With random numbers in each parameter and each statistic."""
    paddle.seed(4)
    network = BNInception()
    for name, value in network.state_dict().items():
        if name.endswith("_variance"):
            value.set_value(paddle.rand(value.shape) + 0.5)
        elif value.ndim == 1:
            value.set_value(value + 0.2 * paddle.randn(value.shape))
    network.eval()
    return network


def test_names_and_shapes_are_those_of_the_table(network):
    expected = {}
    for name, shape in shapes_of_the_table().items():
        expected |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
        expected |= {f"{name}_bn.{own}": shape[:1] for own in ("weight", "bias", "_mean", "_variance")}
    assert {name: value.shape for name, value in network.state_dict().items()} == expected


def by_pytorch(network, pictures):
    """The features [N, 1024, h, w] as the authors' network computes them."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    state = {name: torch.from_numpy(value.numpy()) for name, value in network.state_dict().items()}

    def conv(name, x, stride=1):
        weight = state[f"{name}.weight"]
        x = functional.conv2d(x, weight, state[f"{name}.bias"], stride, weight.shape[2] // 2)
        norm = (state[f"{name}_bn.{own}"] for own in ("_mean", "_variance", "weight", "bias"))
        return functional.relu(functional.batch_norm(x, *norm, eps=1e-5))

    def halve(x):
        return functional.max_pool2d(x, 3, 2, ceil_mode=True)

    x = halve(conv("conv1_7x7_s2", torch.from_numpy(pictures), 2))
    x = halve(conv("conv2_3x3", conv("conv2_3x3_reduce", x)))
    for line in TABLE.strip().splitlines():
        unit = f"inception_{line[:2]}"
        stride = 2 if unit[-2:] in ("3c", "4e") else 1
        three = conv(f"{unit}_3x3", conv(f"{unit}_3x3_reduce", x), stride)
        double = conv(f"{unit}_double_3x3_1", conv(f"{unit}_double_3x3_reduce", x))
        branches = [three, conv(f"{unit}_double_3x3_2", double, stride)]
        if stride == 2:
            branches.append(halve(x))
        else:
            pooled = functional.max_pool2d(x, 3, 1, 1) if unit[-2:] == "5b" else functional.avg_pool2d(x, 3, 1, 1)
            branches = [conv(f"{unit}_1x1", x), *branches, conv(f"{unit}_pool_proj", pooled)]
        x = torch.cat(branches, dim=1)
    return x.numpy()


@pytest.mark.parametrize(("height", "width", "grid"), [(224, 224, (7, 7)), (70, 96, (2, 3))])
@paddle.no_grad()
def test_features_are_those_of_pytorch(network, height, width, grid):
    pictures = np.random.default_rng(1).standard_normal((1, 3, height, width)).astype("float32")
    expected = by_pytorch(network, pictures)
    assert expected.shape[2:] == grid
    tolerance = 1e-5 * np.abs(expected).max()
    features = network.features(paddle.to_tensor(pictures))
    np.testing.assert_allclose(features.numpy(), expected, rtol=0, atol=tolerance)
    pooled = network(paddle.to_tensor(pictures))
    assert pooled.shape == [1, 1024, 1, 1]
    np.testing.assert_allclose(pooled.numpy()[..., 0, 0], expected.mean((2, 3)), rtol=0, atol=tolerance)


def test_grids_of_odd_sides_are_halved_too(network):
    # 112 pixels: 56, 28, 14, 7, which the authors' pooling would make 3 and their convolutions 4
    with paddle.no_grad():
        assert network.features(paddle.zeros([1, 3, 112, 112])).shape == [1, 1024, 4, 4]


def test_statistics_follow_the_last_batch_by_nine_tenths():
    network = BNInception(in_channels=2)
    network.train()
    frames = paddle.randn([2, 2, 32, 32])
    with paddle.no_grad():
        mean = network.conv1_7x7_s2(frames).mean(axis=[0, 2, 3])
        network(frames)
    np.testing.assert_allclose(network.conv1_7x7_s2_bn._mean.numpy(), 0.9 * mean.numpy(), rtol=1e-4, atol=1e-6)
