"""A trained model -> a folder that predicts by itself, checked against the model that it came from."""

from __future__ import annotations

import hashlib
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle

import paddlevid
from paddlevid import build
from paddlevid.data.annotations import read_list
from paddlevid.deploy.manifest import MANIFEST_FILE, Manifest, make_manifest, write_manifest
from paddlevid.deploy.runtimes import PaddleRuntime
from paddlevid.errors import DataError, ExportError
from paddlevid.models.normalize import RawFrameClassifier
from paddlevid.schema import Config
from paddlevid.weights import LoadReport, load_trained, locate
from paddlevid.weights.read import weights_file

TOLERANCE = 1e-4  # of the largest logit: rounding stays below, a wrong layer does not
CHECKED_BATCHES = (1, 3)


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how far its logits are from the model's on the same frames."""

    folder: Path
    files: list[str]
    weights: LoadReport
    frames_from: str
    max_difference: float
    max_logit: float


def export_model(cfg: Config, weights: str | Path, folder: str | Path, *, pdmodel: bool = False) -> ExportReport:
    """Write `NAME.json` (`NAME.pdmodel` with `pdmodel`), `NAME.pdiparams` and `inference.yml`; NAME is the folder's.

    The graph takes uint8 RGB frames `[B, T, H, W, 3]` of any B and gives logits `[B, K]`.

    Raises:
        WeightsError: the weights are not of this model.
        ExportError: the exported model answers differently.
    """
    folder = Path(folder)
    name = folder.resolve().name
    paddle.seed(cfg.seed)
    model = build.build_model(cfg)
    report = load_trained(model, weights)
    classifier = RawFrameClassifier(build.build_normalize(cfg), model)
    classifier.eval()
    manifest = make_manifest(
        cfg,
        version=paddlevid.__version__,
        model_file=f"{name}.{'pdmodel' if pdmodel else 'json'}",
        params_file=f"{name}.pdiparams",
        weights_sha256=_sha256(weights_file(locate(weights))),
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=folder.parent) as unchecked:
        frames, frames_from = _frames_to_check(cfg, manifest)
        difference, largest = _save_and_compare(classifier, manifest, Path(unchecked) / name, frames)
        if not difference <= TOLERANCE * largest:
            raise ExportError(
                f"{folder}: not written: the exported model's logits differ by {difference:.3g} from the model's "
                f"(largest logit {largest:.3g})"
            )
        write_manifest(manifest, unchecked)
        folder.mkdir(exist_ok=True)
        for stale in (f"{name}.json", f"{name}.pdmodel", f"{name}.pdiparams.info"):
            (folder / stale).unlink(missing_ok=True)
        for file in Path(unchecked).iterdir():
            file.replace(folder / file.name)
    files = [manifest.model_file, manifest.params_file, MANIFEST_FILE]
    return ExportReport(folder, files, report, frames_from, difference, largest)


def _sha256(path: Path) -> str:
    checksum = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            checksum.update(chunk)
    return checksum.hexdigest()


def _frames_to_check(cfg: Config, manifest: Manifest) -> tuple[np.ndarray, str]:
    """Frames uint8 `[B, T, H, W, 3]` of a video of the recipe, or noise where none of its first can be read here."""
    views = build.build_views(manifest.data, manifest.views)
    split = cfg.test or cfg.valid
    assert split is not None
    shape = (max(CHECKED_BATCHES), views.num_frames, views.size, views.size, 3)
    frames, origin = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8), "random frames"
    try:
        records = read_list(split.list, format=cfg.data.format, root=cfg.data.root, num_classes=cfg.data.num_classes)
    except DataError:
        records = []
    for record in records[:10]:
        try:
            frames, origin = views(record), record.path
            break
        except DataError:
            continue
    repeats = -(-max(CHECKED_BATCHES) // len(frames))
    return np.concatenate([frames] * repeats)[: max(CHECKED_BATCHES)], origin


@paddle.no_grad()
def _save_and_compare(
    classifier: paddle.nn.Layer, manifest: Manifest, prefix: Path, frames: np.ndarray
) -> tuple[float, float]:
    """Write graph and weights; return the largest difference of logits, and the largest logit, on the frames."""
    size = manifest.data.image_size
    spec = paddle.static.InputSpec([-1, manifest.num_frames, size, size, 3], "uint8", "frames")
    # Paddle's translation of Python asks for the shape of bytes, which the older graphs of .pdmodel files cannot give.
    paddle.jit.ignore_module([sys.modules[RawFrameClassifier.__module__]])
    static = paddle.jit.to_static(classifier, input_spec=[spec], full_graph=True)
    paddle.jit.save(static, str(prefix))
    model_file = prefix.with_name(manifest.model_file)
    if not model_file.is_file():
        raise ExportError(f"this PaddlePaddle did not write {manifest.model_file}; try with or without --pdmodel")
    runtime = PaddleRuntime(model_file, prefix.with_name(manifest.params_file))
    differences, sizes = [], []
    for batch in CHECKED_BATCHES:
        expected = classifier(paddle.to_tensor(frames[:batch])).numpy()  # [B, K]
        differences.append(float(np.abs(runtime(frames[:batch]) - expected).max()))
        sizes.append(float(np.abs(expected).max()))
    return max(differences), max(sizes)
