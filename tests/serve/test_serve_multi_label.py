"""A server of a model of several labels a video."""

import numpy as np
import pytest

from paddlevid.data.records import Record
from paddlevid.deploy.manifest import read_manifest, write_manifest
from paddlevid.deploy.predictor import Predictor

from .conftest import NUM_CLASSES, write_model


@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_the_answer_has_the_probability_of_each_class_by_itself(start_server, videos, tmp_path, average):
    folder = tmp_path / "model"
    write_model(folder)
    manifest = read_manifest(folder)
    data = manifest.data.model_copy(update={"multi_label": True})
    views = manifest.views.model_copy(update={"average": average})
    write_manifest(manifest.model_copy(update={"data": data, "views": views}), folder)
    predictor = Predictor(folder, runtime="onnxruntime")
    server = start_server(folder=folder)
    sums = []
    for video in videos[:3]:
        logits = predictor.run(predictor.read(Record(path=str(video)))).logits.astype(np.float64)  # [V, K]
        of_views = 1 / (1 + np.exp(-logits))
        expected = of_views.mean(axis=0) if average == "probabilities" else 1 / (1 + np.exp(-logits.mean(axis=0)))
        found = server.upload(video.read_bytes(), top_k=NUM_CLASSES).json()["predictions"]
        assert [one["label"] for one in found] == np.argsort(-expected, kind="stable").tolist()
        np.testing.assert_allclose([one["score"] for one in found], np.sort(expected)[::-1], atol=1e-4)
        sums.append(expected.sum())
    assert min(abs(total - 1) for total in sums) > 0.01
