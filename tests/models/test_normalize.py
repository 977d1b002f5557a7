import numpy as np
import paddle
import pytest

from paddlevid.errors import ConfigError
from paddlevid.models import Normalize, RawFrameClassifier

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize("leading", [(2,), (2, 3), ()])
def test_normalize_is_its_formula_for_every_byte(leading):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (*leading, 4, 5, 6, 3), dtype=np.uint8)
    frames.reshape(-1)[:256] = np.arange(256)
    video = Normalize(MEAN, STD)(paddle.to_tensor(frames))
    expected = (frames.astype("float64") / 255 - MEAN) / STD
    expected = np.moveaxis(expected, -1, -3).reshape(-1, 4, 3, 5, 6)
    assert video.dtype == paddle.float32
    np.testing.assert_allclose(video.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_normalize_takes_as_many_channels_as_it_has_numbers():
    video = Normalize((0.5, 0.5), (0.226, 0.226))(paddle.zeros([1, 2, 3, 3, 2], dtype="uint8"))
    np.testing.assert_allclose(video.numpy(), np.full((1, 2, 2, 3, 3), -0.5 / 0.226), rtol=1e-6)


def test_normalize_leaves_nothing_in_the_weights():
    model = RawFrameClassifier(Normalize(MEAN, STD), paddle.nn.Linear(2, 2))
    assert sorted(model.state_dict()) == ["model.bias", "model.weight"]


@pytest.mark.parametrize(("mean", "std"), [((0.5,), (0.5, 0.5)), ((), ()), ((0.5,), (0.0,))])
def test_normalize_refuses_numbers_that_do_not_fit(mean, std):
    with pytest.raises(ConfigError):
        Normalize(mean, std)
