import numpy as np
import paddle
import pytest

from paddlevid.models import Normalize, RawFrameClassifier, create_model

T, SIDE, CLASSES = 4, 32, 5
MODELS = {
    "divided": ("timesformer", {"num_frames": T, "attention": "divided_space_time"}),
    "joint": ("timesformer", {"num_frames": T, "attention": "joint_space_time"}),
    "space_only": ("timesformer", {"num_frames": T, "attention": "space_only"}),
    "tsn": ("tsn", {"num_segments": T, "backbone": "resnet18"}),
    "tsn_identity": ("tsn", {"num_segments": T, "backbone": "resnet18", "consensus": "identity"}),
    "tsm": ("tsm", {"num_segments": T, "backbone": "resnet18"}),
    "tsm_mobilenet": ("tsm", {"num_segments": T, "backbone": "mobilenet_v2"}),
    "tsn_keep_rgb": (
        "tsn",
        {"backbone": "resnet18", "modality": "rgb_diff", "snippet_length": 1, "keep_rgb": True},
    ),
    "tsm_flow": ("tsm", {"num_segments": 2, "backbone": "resnet18", "modality": "warped_flow", "snippet_length": 2}),
    "tsm_keep_rgb": (
        "tsm",
        {"num_segments": 2, "backbone": "mobilenet_v2", "modality": "rgb_diff", "snippet_length": 1, "keep_rgb": True},
    ),
    "tsn_bn_inception": ("tsn", {"backbone": "bn_inception", "modality": "flow", "snippet_length": 2}),
    "tsm_bn_inception": ("tsm", {"num_segments": T, "backbone": "bn_inception", "shift_place": "block"}),
    "tsn_inception_v3": ("tsn", {"backbone": "inception_v3", "modality": "rgb_diff", "snippet_length": 1}),
    "tsn_vgg16": ("tsn", {"backbone": "vgg16", "modality": "flow", "snippet_length": 2}),
}
SLOW = {"tsm_flow", "tsm_keep_rgb", "tsm_bn_inception", "tsn_inception_v3", "tsn_vgg16"}
SIDES = {"tsn_bn_inception": 64, "tsm_bn_inception": 64, "tsn_inception_v3": 96, "tsn_vgg16": 64}
TINY = {"image_size": SIDE, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "temporal_fc_zero": False}


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in MODELS],
)
def exported(request, tmp_path_factory):
    """A model with its normalisation, where its static form lies, and the shape of a clip."""
    paddle.seed(1)
    name, options = MODELS[request.param]
    model = create_model(name, num_classes=CLASSES, **options, **(TINY if name == "timesformer" else {}))
    for parameter in model.parameters():
        # Untrained heads answer near zero, and running statistics hide what a network does
        if parameter.ndim == 1 or "head" in parameter.name or parameter.shape[-1] == CLASSES:
            parameter.set_value(parameter + 0.3 * paddle.rand(parameter.shape))
    channels = 2 if "flow" in options.get("modality", "rgb") else 3
    raw = RawFrameClassifier(Normalize((0.45, 0.4, 0.5)[:channels], (0.225, 0.2, 0.25)[:channels]), model)
    raw.eval()
    path = tmp_path_factory.mktemp(request.param) / "model"
    side = SIDES.get(request.param, SIDE)
    shape = (T, side, side, channels)
    spec = paddle.static.InputSpec([-1, *shape], "uint8", name="frames")
    paddle.jit.save(paddle.jit.to_static(raw, input_spec=[spec], full_graph=True), str(path))
    return raw, path, shape


def clips(batch, shape):
    rng = np.random.default_rng(batch)
    return rng.integers(0, 256, (batch, *shape), dtype=np.uint8)


def eager(raw, frames):
    """Logits and features: the layer itself was turned into its static form, but its parts were not."""
    video = raw.normalize(paddle.to_tensor(frames))
    outputs = raw.model(video), raw.model.forward_features(video)
    # A TSN with the identity consensus answers for each frame
    return [(x.mean(axis=1) if x.ndim == 3 else x).numpy() for x in outputs]


def tolerance(expected):
    """Numbers of deep networks that nothing has trained can be large."""
    return 1e-4 * max(1.0, float(np.abs(expected).max()))


@pytest.mark.parametrize("onednn", [False, True])
def test_paddle_inference_gives_the_logits_and_features_of_the_model(exported, onednn):
    raw, path, shape = exported
    config = paddle.inference.Config(f"{path}.json", f"{path}.pdiparams")
    config.disable_gpu()
    config.disable_glog_info()
    config.enable_mkldnn() if onednn else config.disable_mkldnn()
    predictor = paddle.inference.create_predictor(config)
    for batch in (1, 3):
        frames = clips(batch, shape)
        predictor.get_input_handle("frames").copy_from_cpu(frames)
        predictor.run()
        outputs = [predictor.get_output_handle(name).copy_to_cpu() for name in predictor.get_output_names()]
        for output, expected in zip(outputs, eager(raw, frames), strict=True):
            np.testing.assert_allclose(output, expected, rtol=1e-4, atol=tolerance(expected))


def test_onnx_runtime_gives_the_logits_and_features_of_the_model(exported, tmp_path):
    paddle2onnx = pytest.importorskip("paddle2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    raw, path, shape = exported
    file = tmp_path / "model.onnx"
    # Without an optimiser: the default one installs packages by itself
    paddle2onnx.export(f"{path}.json", f"{path}.pdiparams", str(file), opset_version=17, optimize_tool="none")
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        frames = clips(batch, shape)
        outputs = session.run(None, {"frames": frames})
        for output, expected in zip(outputs, eager(raw, frames), strict=True):
            np.testing.assert_allclose(output, expected, rtol=1e-4, atol=tolerance(expected))
