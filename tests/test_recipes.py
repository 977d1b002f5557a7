"""The recipes of configs/, and the schema against the classes that it configures."""

from __future__ import annotations

import dataclasses
import inspect
import re
import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest

from paddlevid import build, schema
from paddlevid.config import load_config
from paddlevid.data.class_names import read_class_names
from paddlevid.schema import Config
from paddlevid.schema.types import Section
from paddlevid.weights import list_weights

ROOT = Path(__file__).resolve().parent.parent
RECIPES = sorted((ROOT / "configs").glob("*.yaml"))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PUBLIC = {weights.name: weights for weights in list_weights()}
PUBLISHED = [path for path in RECIPES if path.stem != "quickstart" and not path.stem.startswith("motion_")]
REQUIRED = object()


def name_of(path: Path) -> str:
    return path.stem


def load(name: str) -> Config:
    return load_config(ROOT / "configs" / f"{name}.yaml")


# ---- schema and classes ---------------------------------------------------------------------------------------------


def sections_of(union: Any) -> list[type[Section]]:
    """The members of `Annotated[A | B | ..., Field(discriminator=...)]`."""
    return list(get_args(get_args(union)[0]))


def tag_of(section: type[Section]) -> str:
    field = section.model_fields.get("kind") or section.model_fields["name"]
    return get_args(field.annotation)[0]


def options_of(section: type[Section]) -> dict[str, object]:
    """Each key of a section that a constructor takes, and its default."""
    fields = section.model_fields.items()
    return {
        name: REQUIRED if field.is_required() else field.default
        for name, field in fields
        if name not in ("kind", "name")
    }


def parameters_of(constructor: type, *leave_out: str) -> dict[str, object]:
    """Each parameter of a constructor, and its default."""
    parameters = inspect.signature(constructor).parameters.values()
    return {p.name: REQUIRED if p.default is p.empty else p.default for p in parameters if p.name not in leave_out}


CROPS_TO_SIZE = {tag_of(section) for section in schema.data.CROPS_TO_SIZE}


@pytest.mark.parametrize("section", sections_of(schema.data.TransformConfig), ids=tag_of)
def test_transform_sections_are_their_constructors(section: type[Section]) -> None:
    size = ["size"] if tag_of(section) in CROPS_TO_SIZE else []
    # Its scales depend on the modality
    scales = {"scales": None} if tag_of(section) == "multi_scale_crop" else {}
    assert options_of(section) == parameters_of(build.TRANSFORMS[tag_of(section)], *size) | scales


@pytest.mark.parametrize("section", sections_of(schema.data.SamplingConfig), ids=tag_of)
def test_sampling_sections_are_their_constructors(section: type[Section]) -> None:
    assert options_of(section) == parameters_of(build.SAMPLINGS[tag_of(section)], "num_frames")


def test_every_class_has_a_section() -> None:
    assert {tag_of(section) for section in sections_of(schema.data.TransformConfig)} == set(build.TRANSFORMS)
    assert {tag_of(section) for section in sections_of(schema.data.SamplingConfig)} == set(build.SAMPLINGS)
    takes_size = {name for name, cls in build.TRANSFORMS.items() if "size" in parameters_of(cls)}
    assert takes_size == set(CROPS_TO_SIZE)


# What `data` gives, and what has one value only as long as a TimeSformer's clips are RGB.
FROM_DATA = {"num_classes", "num_frames", "num_segments", "image_size", "modality", "snippet_length"}
NOT_IN_RECIPES = {"timesformer": {"in_channels"}, "tsn": set(), "tsm": set()}


@pytest.mark.parametrize("section", sections_of(schema.ModelConfig), ids=tag_of)
def test_model_sections_are_their_constructors(section: type[Section]) -> None:
    from paddlevid.models import MODELS

    name = tag_of(section)
    assert options_of(section) == parameters_of(MODELS[name], *FROM_DATA, *NOT_IN_RECIPES[name])
    hints = get_type_hints(MODELS[name].__init__)
    for option, field in section.model_fields.items():
        if option != "name" and get_origin(field.annotation) is Literal:
            assert set(get_args(field.annotation)) == set(get_args(hints[option])), option


def test_every_model_has_a_section() -> None:
    from paddlevid.models import MODELS

    assert {tag_of(section) for section in sections_of(schema.ModelConfig)} == set(MODELS)


# ---- recipes --------------------------------------------------------------------------------------------------------


def header_of(path: Path) -> dict[str, str]:
    """`# Train:   text`, gone on with in the lines below it -> {"Train": text}."""
    fields: dict[str, str] = {}
    key = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        label = re.match(r"# ([A-Z][\w-]*):", line)
        if label:
            key = label[1]
        text = line[label.end() :] if label else line.removeprefix("#")
        if key:
            fields[key] = f"{fields.get(key, '')} {text.strip()}".strip()
    return fields


@pytest.mark.parametrize("path", PUBLISHED, ids=name_of)
def test_header_tells_where_the_recipe_is_from(path: Path) -> None:
    header = header_of(path)
    assert list(header) == ["Paper", "Train", "Start", "Test", "Top-1", "Source", "Lists", "Differs"]
    assert re.search(r"\d{4}, arXiv:\d{4}\.\d{5}", header["Paper"])
    assert re.match(r"(\d\d\.\d+\D|none is published)", header["Top-1"])
    assert "we have not trained" in header["Top-1"]
    assert header["Start"].split()[0] in PUBLIC
    assert f"-w {header['Start'].split()[0]}" in header["Train"]


@pytest.mark.parametrize("path", PUBLISHED, ids=name_of)
@pytest.mark.parametrize("field", ["Train", "Test"])
def test_commands_of_the_header_run_this_recipe(path: Path, field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import main

    command = header_of(path)[field].replace(" \\ ", " ")
    monkeypatch.setattr(sys, "argv", shlex.split(command.partition("main.py")[2], comments=False))
    sys.argv.insert(0, "main.py")
    args = main.parse_arguments()
    assert args.config == f"configs/{path.name}"
    assert (args.test, args.validate) == (field == "Test", field == "Train")
    assert args.weights in PUBLIC or args.weights.startswith("output/")
    assert load_config(path, main.overrides_of(args)).test is not None


@pytest.mark.parametrize("path", PUBLISHED, ids=name_of)
def test_the_tested_weights_are_those_of_the_published_number(path: Path) -> None:
    header = header_of(path)
    name = re.search(r"-w (\S+)", header["Test"])[1]
    if header["Top-1"].startswith("none"):
        assert name.startswith("output/")
        return
    weights = PUBLIC[name]
    assert weights.family == load_config(path).model.name
    assert f"{weights.top1:g}" in header["Top-1"].split(",")[0]
    overrides = re.findall(r"-o '([^']+)'", header["Test"])
    data = load_config(path, overrides).data
    expected = {"tsm": IMAGENET, "tsn": IMAGENET, "timesformer": ((0.45,) * 3, (0.225,) * 3)}[weights.family]
    if (weights.family, weights.source) == ("timesformer", "MMAction2"):
        expected = ((0.5,) * 3, (0.5,) * 3)
    assert (data.mean, data.std) == expected, "frames are normalised as these weights were trained"


@pytest.mark.parametrize("path", RECIPES, ids=name_of)
def test_recipe_is_consistent(path: Path) -> None:
    cfg = load_config(path)
    assert cfg.output_dir == f"output/{path.stem}"
    assert cfg.valid is not None
    assert cfg.train.global_batch % cfg.train.batch_size == 0
    if path in PUBLISHED:
        assert len(read_class_names(cfg.data.class_names, cfg.data.num_classes)) == cfg.data.num_classes


@pytest.mark.parametrize("path", RECIPES, ids=name_of)
def test_train_transforms_end_at_the_size_of_the_model(path: Path) -> None:
    cfg = load_config(path)
    rng = np.random.default_rng(0)
    channels = 2 if cfg.data.modality in ("flow", "warped_flow") else 3
    frames = rng.integers(0, 256, (2, 240, 320, channels), np.uint8)
    for section in cfg.train.transforms:
        frames = build.build_transform(section, cfg.data)(frames, rng)
    assert (frames.shape, frames.dtype) == ((2, cfg.data.image_size, cfg.data.image_size, channels), np.uint8)


@dataclasses.dataclass(frozen=True)
class Reference:
    """Numbers of the references' scripts, papers and READMEs, copied by hand."""

    classes: int
    frames: int
    clips: int  # a step
    lr: float
    decay: float
    epochs: int
    milestones: tuple[int, ...]
    views: int
    test_frames: int


REFERENCES = {
    "timesformer_k400": Reference(400, 8, 64, 0.005, 1e-4, 15, (11, 14), 3, 8),
    "timesformer_hr_k400": Reference(400, 16, 64, 0.005, 1e-4, 15, (11, 14), 3, 16),
    "timesformer_l_k400": Reference(400, 96, 64, 0.005, 1e-4, 15, (11, 14), 3, 96),
    "timesformer_joint_k400": Reference(400, 8, 64, 0.005, 1e-4, 15, (11, 14), 3, 8),
    "timesformer_space_k400": Reference(400, 8, 64, 0.005, 1e-4, 15, (11, 14), 3, 8),
    "tsm_k400": Reference(400, 8, 128, 0.02, 1e-4, 50, (20, 40), 1, 8),
    "tsm_dense_k400": Reference(400, 8, 128, 0.02, 1e-4, 100, (40, 80), 30, 8),
    "tsm_ucf101": Reference(101, 8, 64, 0.001, 5e-4, 25, (10, 20), 1, 8),
    "tsm_ssv2": Reference(174, 8, 64, 0.01, 5e-4, 50, (20, 40), 6, 8),
    "tsn_k400": Reference(400, 3, 128, 0.01, 1e-4, 100, (40, 80), 10, 25),
    "tsn_ucf101": Reference(101, 3, 128, 0.001, 5e-4, 80, (30, 60), 10, 25),
    # Frames of the test: 25 snippets of one frame, of six for five differences, of five flows
    "tsn_ucf101_rgb": Reference(101, 3, 128, 0.001, 5e-4, 80, (30, 60), 10, 25),
    "tsn_ucf101_rgb_diff": Reference(101, 7, 128, 0.001, 5e-4, 180, (80, 160), 10, 25 * 6),
    "tsn_ucf101_flow": Reference(101, 3, 128, 0.001, 5e-4, 340, (190, 300), 10, 25 * 5),
    "tsn_ucf101_warped_flow": Reference(101, 3, 128, 0.001, 5e-4, 340, (190, 300), 10, 25 * 5),
    "tsn_hmdb51_rgb": Reference(51, 3, 128, 0.001, 5e-4, 80, (30, 60), 10, 25),
    "tsn_hmdb51_rgb_diff": Reference(51, 7, 128, 0.001, 5e-4, 180, (80, 160), 10, 25 * 6),
    "tsn_hmdb51_flow": Reference(51, 3, 128, 0.001, 5e-4, 340, (190, 300), 10, 25 * 5),
    "tsn_hmdb51_warped_flow": Reference(51, 3, 128, 0.001, 5e-4, 340, (190, 300), 10, 25 * 5),
}
STREAMS = [name for name in REFERENCES if re.match("tsn_(ucf101|hmdb51)_", name)]


@pytest.mark.parametrize("name", REFERENCES)
def test_numbers_of_the_reference(name: str) -> None:
    cfg, expected = load(name), REFERENCES[name]
    assert cfg.test is not None
    views = build.build_views(cfg.data, cfg.test)
    assert (
        Reference(
            classes=cfg.data.num_classes,
            frames=cfg.data.num_frames,
            clips=cfg.train.global_batch,
            lr=cfg.optimizer.lr,
            decay=cfg.optimizer.weight_decay,
            epochs=cfg.train.epochs,
            milestones=cfg.schedule.milestone_epochs,
            views=views.num_views,
            test_frames=views.num_frames,
        )
        == expected
    )
    assert (cfg.optimizer.name, cfg.optimizer.momentum, cfg.schedule.gamma) == ("momentum", 0.9, 0.1)


@pytest.mark.parametrize("name", STREAMS)
def test_streams_of_the_reference(name: str) -> None:
    cfg = load(name)
    modality = name.split("_", 2)[2]
    dropout, clip = {"rgb": (0.8, 20), "rgb_diff": (0.8, 40)}.get(modality, (0.7, 20))
    assert (cfg.model.name, cfg.model.backbone, cfg.model.dropout) == ("tsn", "bn_inception", dropout)
    assert (cfg.data.modality, cfg.data.snippet_length) == (modality, 1 if modality == "rgb" else 5)
    assert (cfg.train.clip_grad_norm, cfg.train.partial_bn) == (clip, True)
    scales = (1, 0.875, 0.75, 0.66) if modality == "rgb" else (1, 0.875, 0.75)
    crop = build.build_transform(cfg.train.transforms[0], cfg.data)
    assert (crop.scales, crop.max_distort, crop.fix_crop, crop.more_fix_crop) == (scales, 1, True, True)
    # The reference takes (104, 117, 128) off the blue, green and red of 0 to 255, 128 off flow, nothing off differences
    levels = {"rgb": (128, 117, 104), "rgb_diff": (0, 0, 0)}.get(modality, (128, 128))
    assert np.round(255 * np.array(cfg.data.mean), 2).tolist() == list(levels)
    assert np.round(255 * np.array(cfg.data.std), 3).tolist() == [1] * len(levels)
    if modality.endswith("flow"):
        assert (cfg.data.format, cfg.data.flow.bound, cfg.data.flow.short_side) == ("flow", 20, 256)
        assert f"-c configs/{name}.yaml" in header_of(ROOT / f"configs/{name}.yaml")["Lists"]  # which tells of the rest


def test_timesformer_k400_frames_and_pixels() -> None:
    cfg = load("timesformer_k400")
    assert (cfg.optimizer.nesterov, cfg.train.clip_grad_norm, cfg.schedule.warmup_epochs) == (True, None, 0)
    assert (cfg.data.mean, cfg.data.std) == ((0.45,) * 3, (0.225,) * 3)
    jitter, crop, flip = cfg.train.transforms
    assert (jitter.min_size, jitter.max_size, crop.kind, flip.prob) == (256, 320, "random_crop", 0.5)
    # Of a video of 300 frames at 30 a second, 8 frames at rate 32 from its start: the worked example of the reference.
    sampling = build.build_sampling(cfg.data, cfg.data.num_frames)
    assert sampling(300, 30.0, rng=None).tolist() == [[0, 36, 72, 109, 145, 182, 218, 255]]


def test_high_resolution_and_long_timesformers() -> None:
    hr, long = load("timesformer_hr_k400"), load("timesformer_l_k400")
    assert (hr.data.image_size, hr.data.sampling.rate) == (448, 16)
    assert (hr.train.transforms[0].min_size, hr.train.transforms[0].max_size) == (448, 512)
    assert (long.data.image_size, long.data.sampling.rate) == (224, 4)


def test_tsm_on_something_something_never_mirrors() -> None:
    cfg = load("tsm_ssv2")
    assert [transform.kind for transform in cfg.train.transforms] == ["multi_scale_crop"]
    assert (cfg.data.format, cfg.data.frame_template.format(1)) == ("frames", "000001.jpg")
    assert cfg.data.frame_start_index == 1


# ---- models of recipes ----------------------------------------------------------------------------------------------


def count(parameters: Any) -> int:
    return sum(int(np.prod(p.shape)) for p in parameters if not p.stop_gradient)


def test_timesformer_of_the_recipe() -> None:
    model = build.build_model(load("timesformer_k400"))
    # 14 x 14 patches and the class token; ViT-B with a second attention, norm and projection in each block
    assert list(model.pos_embed.shape) == [1, 197, 768]
    assert list(model.time_embed.shape) == [1, 8, 768]
    width, depth = 768, 12
    attention = 4 * width * width + 4 * width
    block = 2 * attention + (width * width + width) + 3 * 2 * width + 8 * width * width + 5 * width
    embeddings = (16 * 16 * 3 * width + width) + (1 + 197 + 8) * width
    assert count(model.parameters()) == depth * block + embeddings + 2 * width + 400 * (width + 1)


def test_tsm_of_the_recipe() -> None:
    model = build.build_model(load("tsm_k400"))
    # torchvision's ResNet-50 has 25,557,032 parameters, 1000 x 2049 of them in its classifier
    assert count(model.parameters()) == 25_557_032 - 1000 * 2049 + 400 * 2049


def one_step(name: str, *overrides: str) -> dict[str, tuple[float, float]]:
    """Name of each parameter -> its multipliers of rate and decay, read from a step at rate 1 and decay 0.5."""
    import paddle

    cfg = load_config(ROOT / "configs" / f"{name}.yaml", ["optimizer.lr=1", "optimizer.weight_decay=0.5", *overrides])
    found = []
    for value in (0.0, 1.0):  # what is 0 has no decay
        model = build.build_model(cfg)
        for parameter in model.parameters():
            parameter.set_value(np.full(parameter.shape, value, np.float32))
        optimizer = build.build_optimizer(cfg, model)
        paddle.add_n([parameter.sum() for parameter in model.parameters()]).backward()
        optimizer.step()
        learning = {key: p for key, p in model.named_parameters() if not p.stop_gradient}
        found.append({key: value - parameter.flatten()[0].item() for key, parameter in learning.items()})
    rates, steps = found
    return {key: (round(rates[key], 4), round((steps[key] / rates[key] - 1) / 0.5, 4)) for key in rates}


@pytest.mark.parametrize("name", ["tsm_k400", "tsm_ucf101", "tsm_ssv2", "tsm_dense_k400", "tsn_ucf101"])
# ResNet-50 has 1 + 3 x 16 + 4 = 53 convolutions, MobileNetV2 1 + 2 + 3 x 16 + 1 = 52, none with a bias, and each with a
# batch norm of weight and bias
@pytest.mark.parametrize(("backbone", "num_convs"), [("resnet50", 53), ("mobilenet_v2", 52)])
def test_parameter_groups(name: str, backbone: str, num_convs: int) -> None:
    """The reference's table; its first convolution, on RGB, has the numbers of the others."""
    groups = one_step(name, f"model.backbone={backbone}")
    assert groups.pop("head.weight") == (5, 1)
    assert groups.pop("head.bias") == (10, 0)
    assert Counter(groups.values()) == {(1, 1): num_convs, (1, 0): 2 * num_convs}


@pytest.mark.parametrize("name", [name for name in STREAMS if "ucf101" in name])
def test_parameter_groups_of_the_streams(name: str) -> None:
    """The five groups of tsn-pytorch, and the multipliers that flow has; partial BN leaves one batch norm to learn."""
    groups = one_step(name, "train.partial_bn=true")
    is_flow = name.endswith("flow")
    assert groups.pop("backbone.conv1_7x7_s2.weight") == ((5, 1) if is_flow else (1, 1))
    assert groups.pop("backbone.conv1_7x7_s2.bias") == ((10, 0) if is_flow else (2, 0))
    norms = {key: value for key, value in groups.items() if "_bn." in key}
    assert set(norms.values()) == {(1, 0)}
    others = {key: value for key, value in groups.items() if key not in norms}
    assert {key.rpartition(".")[2]: value for key, value in others.items()} == {"weight": (1, 1), "bias": (2, 0)}
    # Two more layers of the stem, ten units of 2 and 3, eight of them with a first branch and a projection; the head
    assert len(others) == 2 * (2 + 10 * (2 + 3) + 8 + 8 + 1)


def test_quickstart_decays_weights_and_embeddings_alone() -> None:
    groups = one_step("quickstart")
    assert set(groups.values()) == {(1, 1), (1, 0)}
    assert {key for key in groups if key.endswith("bias") or "norm" in key} == {
        key for key, (_, decay) in groups.items() if decay == 0
    }


# ---- class names ----------------------------------------------------------------------------------------------------


def test_kinetics_names() -> None:
    names = read_class_names("kinetics400", 400)
    assert (names[0], names[5], names[399]) == ("abseiling", "archery", "zumba")
    assert len(set(names)) == 400


def test_ucf_names_are_in_the_order_of_its_index_file() -> None:
    names = read_class_names("ucf101", 101)
    # lines 1, 22, 35, 36 and 101 of classInd.txt
    assert [names[i] for i in (0, 21, 34, 35, 100)] == [
        "ApplyEyeMakeup",
        "CliffDiving",
        "Hammering",
        "HammerThrow",
        "YoYo",
    ]
    assert names == sorted(set(names), key=str.lower)
