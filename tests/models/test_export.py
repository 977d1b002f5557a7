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
}
TINY = {"image_size": SIDE, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "temporal_fc_zero": False}


@pytest.fixture(scope="module", params=list(MODELS))
def exported(request, tmp_path_factory):
    """A model with its normalisation, and where its static form lies."""
    paddle.seed(1)
    name, options = MODELS[request.param]
    model = create_model(name, num_classes=CLASSES, **options, **(TINY if name == "timesformer" else {}))
    for parameter in model.parameters():
        # Untrained heads answer near zero, and running statistics hide what a network does
        if parameter.ndim == 1 or "head" in parameter.name or parameter.shape[-1] == CLASSES:
            parameter.set_value(parameter + 0.3 * paddle.rand(parameter.shape))
    raw = RawFrameClassifier(Normalize((0.45, 0.4, 0.5), (0.225, 0.2, 0.25)), model)
    raw.eval()
    path = tmp_path_factory.mktemp(request.param) / "model"
    spec = paddle.static.InputSpec([-1, T, SIDE, SIDE, 3], "uint8", name="frames")
    paddle.jit.save(paddle.jit.to_static(raw, input_spec=[spec], full_graph=True), str(path))
    return raw, path


def clips(batch):
    rng = np.random.default_rng(batch)
    return rng.integers(0, 256, (batch, T, SIDE, SIDE, 3), dtype=np.uint8)


def eager(raw, frames):
    """Logits and features: the layer itself was turned into its static form, but its parts were not."""
    video = raw.normalize(paddle.to_tensor(frames))
    outputs = raw.model(video), raw.model.forward_features(video)
    # A TSN with the identity consensus answers for each frame
    return [(x.mean(axis=1) if x.ndim == 3 else x).numpy() for x in outputs]


@pytest.mark.parametrize("onednn", [False, True])
def test_paddle_inference_gives_the_logits_and_features_of_the_model(exported, onednn):
    raw, path = exported
    config = paddle.inference.Config(f"{path}.json", f"{path}.pdiparams")
    config.disable_gpu()
    config.disable_glog_info()
    config.enable_mkldnn() if onednn else config.disable_mkldnn()
    predictor = paddle.inference.create_predictor(config)
    for batch in (1, 3):
        frames = clips(batch)
        predictor.get_input_handle("frames").copy_from_cpu(frames)
        predictor.run()
        outputs = [predictor.get_output_handle(name).copy_to_cpu() for name in predictor.get_output_names()]
        for output, expected in zip(outputs, eager(raw, frames), strict=True):
            np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-4)


def test_onnx_runtime_gives_the_logits_and_features_of_the_model(exported, tmp_path):
    paddle2onnx = pytest.importorskip("paddle2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    raw, path = exported
    file = tmp_path / "model.onnx"
    # Without an optimiser: the default one installs packages by itself
    paddle2onnx.export(f"{path}.json", f"{path}.pdiparams", str(file), opset_version=17, optimize_tool="none")
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        frames = clips(batch)
        outputs = session.run(None, {"frames": frames})
        for output, expected in zip(outputs, eager(raw, frames), strict=True):
            np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-4)
