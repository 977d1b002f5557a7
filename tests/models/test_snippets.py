import numpy as np
import paddle
import pytest

from paddlevid.errors import ConfigError
from paddlevid.models import TSM, TSN, create_model
from paddlevid.models.snippets import Snippets

K = 3
# Frames of a snippet, channels of a frame, channels of a stacked snippet: tsn-pytorch, models.py
SIZES = [
    (Snippets(), (1, 3, 3)),
    (Snippets("rgb_diff", 5), (6, 3, 15)),
    (Snippets("rgb_diff", 5, keep_rgb=True), (6, 3, 18)),
    (Snippets("rgb_diff", 1), (2, 3, 3)),
    (Snippets("flow", 5), (5, 2, 10)),
    (Snippets("warped_flow", 1), (1, 2, 2)),
]


def frames(values):
    """One clip of frames of one pixel, [1, T, C, 1, 1]."""
    video = np.array(values, dtype="float32")
    return paddle.to_tensor(video.reshape(1, *video.shape, 1, 1))


@pytest.mark.parametrize(("snippets", "sizes"), SIZES)
def test_sizes(snippets, sizes):
    assert (snippets.frames_per_snippet, snippets.frame_channels, snippets.in_channels) == sizes
    video = paddle.zeros([2, 3 * sizes[0], sizes[1], 4, 5])
    assert snippets.stack(video).shape == [2, 3, sizes[2], 4, 5]


def test_flows_lie_x_y_x_y():
    stacked = Snippets("flow", 2).stack(frames([[1, 2], [3, 4], [5, 6], [7, 8]]))
    assert stacked.numpy().reshape(2, 4).tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


TWO_SNIPPETS = [[1, 10, 100], [2, 30, 400], [4, 60, 900], [0, 0, 0], [5, 5, 5], [5, 6, 4]]


def test_differences_lie_frame_by_frame():
    stacked = Snippets("rgb_diff", 2).stack(frames(TWO_SNIPPETS))
    assert stacked.numpy().reshape(2, 6).tolist() == [[1, 20, 300, 2, 30, 500], [5, 5, 5, 0, 1, -1]]


def test_the_first_frame_lies_before_the_differences():
    stacked = Snippets("rgb_diff", 2, keep_rgb=True).stack(frames(TWO_SNIPPETS))
    expected = [[1, 10, 100, 1, 20, 300, 2, 30, 500], [0, 0, 0, 5, 5, 5, 0, 1, -1]]
    assert stacked.numpy().reshape(2, 9).tolist() == expected


@pytest.mark.parametrize(
    ("snippets", "shape", "message"),
    [
        (Snippets("flow", 5), [1, 12, 2, 4, 4], "12 frames; a snippet of 'flow' takes 5"),
        (Snippets("rgb_diff", 5), [1, 5, 3, 4, 4], "5 frames; a snippet of 'rgb_diff' takes 6"),
        (Snippets("flow", 5), [1, 5, 3, 4, 4], "3 channels; modality 'flow' has 2"),
        (Snippets(), [1, 5, 2, 4, 4], "2 channels; modality 'rgb' has 3"),
    ],
)
def test_other_videos_are_refused(snippets, shape, message):
    with pytest.raises(ValueError, match=message):
        snippets.stack(paddle.zeros(shape))


@pytest.mark.parametrize("name", ["tsn", "tsm"])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"snippet_length": 5}, ["snippet_length", "'rgb'", "5"]),
        ({"modality": "flow", "snippet_length": 0}, ["snippet_length", "0"]),
        ({"modality": "rgb_diff", "snippet_length": -1}, ["snippet_length", "-1"]),
        ({"modality": "flow", "keep_rgb": True}, ["keep_rgb", "'rgb_diff'", "'flow'"]),
        ({"keep_rgb": True}, ["keep_rgb", "'rgb'"]),
        ({"modality": "flows"}, ["'flows'", "'warped_flow'", "did you mean 'flow'"]),
    ],
)
def test_what_does_not_go_together_is_named_in_one_line(name, options, words):
    with pytest.raises(ConfigError) as error:
        create_model(name, num_classes=K, backbone="resnet18", **options)
    message = str(error.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == []


def test_a_modality_is_checked_without_create_model():
    with pytest.raises(ConfigError, match="modality must be one of rgb, rgb_diff, flow, warped_flow, not 'depth'"):
        Snippets("depth")


@pytest.fixture(scope="module")
def flow_tsn():
    paddle.seed(0)
    model = TSN(K, num_segments=2, backbone="resnet18", modality="flow", snippet_length=5)
    model.eval()
    return model


def test_a_snippet_of_flow_is_a_picture_of_ten_channels(flow_tsn):
    """The logits are the mean over snippets of those that the network alone gives to the stacked pictures."""
    video = paddle.randn([2, 15, 2, 32, 32])
    pictures = video.reshape([6, 10, 32, 32])
    alone = flow_tsn.head(flow_tsn.backbone(pictures).reshape([2, 3, 512])).mean(axis=1)
    assert flow_tsn.backbone.conv1.weight.shape == [64, 10, 7, 7]
    np.testing.assert_allclose(flow_tsn(video).numpy(), alone.numpy(), rtol=1e-4, atol=1e-5)
    assert flow_tsn.forward_features(video).shape == [2, 512]


def test_differences_do_not_see_what_stands_still():
    paddle.seed(0)
    model = TSN(K, num_segments=2, backbone="resnet18", modality="rgb_diff", snippet_length=2)
    model.eval()
    still = [paddle.randn([1, 1, 3, 32, 32]).expand([1, 6, 3, 32, 32]) for _ in range(2)]
    np.testing.assert_allclose(model(still[0]).numpy(), model(still[1]).numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("modality", ["flow", "rgb_diff"])
def test_a_tsm_shifts_between_snippets(modality):
    """Another last snippet changes the features of the one before it, which is its neighbour, through the shift."""
    paddle.seed(0)
    model = TSM(K, num_segments=3, backbone="resnet18", modality=modality, snippet_length=2)
    model.eval()
    per_snippet, channels = model.snippets.frames_per_snippet, model.snippets.frame_channels
    video = paddle.randn([1, 3 * per_snippet, channels, 32, 32])
    other = paddle.concat([video[:, :-per_snippet], paddle.randn([1, per_snippet, channels, 32, 32])], axis=1)
    pictures = [model.snippets.stack(clip).squeeze(0) for clip in (video, other)]
    feats = [model.backbone(picture).squeeze([2, 3]).numpy() for picture in pictures]
    assert np.abs(feats[0] - feats[1]).max(axis=1).min() > 1e-5
    np.testing.assert_allclose(model.forward_features(video).numpy()[0], feats[0].mean(0), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=rf"video has 3 frames; this TSM shifts over {3 * per_snippet}"):
        model(video[:, :3])


def test_an_online_tsm_is_of_rgb():
    with pytest.raises(ConfigError, match="cannot be 'flow'"):
        TSM(K, num_segments=2, backbone="resnet18", modality="flow", online=True)
