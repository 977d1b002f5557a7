"""What the reader of recipes accepts, refuses, and says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from pydantic import ValidationError

from paddlevid.config import dump_section, load_config, load_section
from paddlevid.errors import ConfigError
from paddlevid.schema import Config

RECIPE = """\
model:
  name: timesformer
data:
  num_classes: 4
  num_frames: 8
  image_size: 64
  mean: [0.45, 0.45, 0.45]
  std: [0.225, 0.225, 0.225]
  sampling:
    kind: clip
    rate: 4
train:
  list: train.txt
  transforms:
    - {kind: short_side_jitter, min_size: 72, max_size: 80}
    - {kind: random_crop}
  epochs: 15
  global_batch: 8
  batch_size: 4
valid:
  list: valid.txt
  short_side: 64
optimizer:
  name: adamw
  lr: 2e-3
  weight_decay: 1e-6
schedule:
  kind: cosine
output_dir: output/x
"""


@pytest.fixture
def errors_of(tmp_path: Path) -> Callable[..., list[str]]:
    """`errors_of(old, new)`: the lines of the error that the recipe ends in when `old` is replaced by `new`.

    The recipe's path is cut off the lines, so that they begin with `:` and a line number, or with the dotted key.
    """

    def errors(old: str = "", new: str = "", overrides: Sequence[str] = ()) -> list[str]:
        assert old in RECIPE
        path = tmp_path / "recipe.yaml"
        path.write_text(RECIPE.replace(old, new) if old else RECIPE + new)
        with pytest.raises(ConfigError) as caught:
            load_config(path, overrides)
        return [line.removeprefix(str(path)).removeprefix(": ") for line in str(caught.value).splitlines()]

    return errors


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Config]:
    def load_recipe(*overrides: str) -> Config:
        path = tmp_path / "recipe.yaml"
        path.write_text(RECIPE)
        return load_config(path, overrides)

    return load_recipe


def test_values_and_defaults(load: Callable[..., Config]) -> None:
    cfg = load()
    assert (cfg.data.num_classes, cfg.data.mean, cfg.train.transforms[0].kind) == (4, (0.45,) * 3, "short_side_jitter")
    assert (cfg.model.embed_dim, cfg.valid.crop, cfg.test, cfg.seed) == (768, "center", None, 0)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param(
            "    rate: 4", "    rate: 4\n    rates: 4", "data.sampling.rates: unknown key; did you mean rate?"
        ),
        pytest.param("", "sed: 3", "sed: unknown key; did you mean seed?", id="unknown key at the top"),
        pytest.param(
            "min_size: 72", "min_siz: 72", "train.transforms.0.min_siz: unknown key; did you mean min_size?", id="list"
        ),
        pytest.param("", "zzzz: 3", "zzzz: unknown key", id="nothing near"),
        pytest.param("epochs: 15", "epochs: many", "train.epochs: expected a valid integer, got 'many'"),
        pytest.param("epochs: 15", "epochs: 15.5", "train.epochs: expected a valid integer, got 15.5"),
        pytest.param("epochs: 15", 'epochs: "15"', "train.epochs: expected a valid integer, got '15'"),
        pytest.param("epochs: 15", "epochs: true", "train.epochs: expected a valid integer, got True"),
        pytest.param("epochs: 15", "epochs:", "train.epochs: expected a valid integer, got None"),
        pytest.param("list: train.txt", "list: 5", "train.list: expected a valid string, got 5"),
        pytest.param("lr: 2e-3", "lr: fast", "optimizer.lr: expected a valid number, got 'fast'"),
        pytest.param("  lr: 2e-3\n", "", "optimizer.lr: missing; this key is needed"),
        pytest.param("schedule:\n  kind: cosine\n", "", "schedule: missing; this key is needed", id="no section"),
        pytest.param("epochs: 15", "epochs: 0", "train.epochs: expected greater than or equal to 1, got 0"),
        pytest.param("lr: 2e-3", "lr: 0", "optimizer.lr: expected greater than 0, got 0"),
        pytest.param(
            "  short_side: 64",
            "  short_side: 64\n  crop: centre",
            "valid.crop: expected 'center', 'three' or 'ten', got 'centre'; did you mean center?",
            id="not a choice",
        ),
        pytest.param(
            "kind: clip",
            "kind: clipp",
            "data.sampling.kind: 'clipp' is not one of segment, dense, clip, linspace; did you mean clip?",
            id="unknown kind",
        ),
        pytest.param("    kind: clip\n", "", "data.sampling: missing the key 'kind'", id="no kind"),
        pytest.param(
            "    - {kind: random_crop}\n",
            "",
            "train: transforms must end at data.image_size: after any resize, add one of random_crop, center_crop, "
            "multi_scale_crop, random_resized_crop",
            id="no crop",
        ),
        pytest.param("std: [0.225,", "std: [0,", "data: std [0.0, 0.225, 0.225] must be positive", id="std"),
        pytest.param(
            "name: timesformer",
            "name: timesformer\n  num_heads: 7",
            "model: embed_dim 768 is not a multiple of num_heads 7",
            id="heads",
        ),
        pytest.param(
            "image_size: 64",
            "image_size: 60",
            "data.image_size 60 is not a multiple of model.patch_size 16",
            id="patches",
        ),
        pytest.param(
            "short_side: 64",
            "short_side: 32",
            "valid.short_side 32 is smaller than data.image_size 64",
            id="views smaller than crops",
        ),
        pytest.param(
            "  short_side: 64",
            "  short_side: 64\n  num_frames: 4",
            "valid.num_frames differs from data.num_frames only for tsn, not for timesformer",
            id="frames of views",
        ),
        pytest.param(
            "    kind: clip\n    rate: 4",
            "    kind: dense\n    window: 6",
            "data: sampling.window 6 is shorter than num_frames 8",
            id="window",
        ),
        pytest.param(
            "lr: 2e-3",
            "lr: 2e-3\n  groups: [{pattern: '('}]",
            "optimizer.groups.0.pattern: '(' is not a regular expression: missing ), unterminated subpattern at "
            "position 0",
            id="pattern",
        ),
    ],
)
def test_one_line_says_what_is_wrong(errors_of: Callable[..., list[str]], old: str, new: str, expected: str) -> None:
    assert errors_of(old, new) == [expected]


@pytest.mark.parametrize(
    ("old", "new", "line", "reason"),
    [
        ("  epochs: 15", "  epochs: [15", 18, "expected ',' or ']', but got ':'"),
        ("  epochs: 15", "\tepochs: 15", 17, "found character '\\t' that cannot start any token"),
        ("  epochs: 15", "  epochs: 15\n  epochs: 16", 18, "key 'epochs' stands twice"),
        ("  epochs: 15", "  epochs: !!python/object:os.system 1", 17, "could not determine a constructor for the tag"),
    ],
    ids=["bracket", "tab", "duplicate", "tag"],
)
def test_no_yaml(errors_of: Callable[..., list[str]], old: str, new: str, line: int, reason: str) -> None:
    (message,) = errors_of(old, new)
    assert message.startswith(f":{line}: not valid YAML: {reason}")


@pytest.mark.parametrize("text", ["", "3", "- a list"])
def test_no_mapping(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="expected a mapping with model, data, train"):
        load_config(path)


def test_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "tsm_k400.yaml").write_text(RECIPE)
    with pytest.raises(ConfigError, match=r"tsm_k40\.yaml: no such config file; did you mean tsm_k400\.yaml\?"):
        load_config(tmp_path / "tsm_k40.yaml")
    with pytest.raises(ConfigError, match=r"no such config file$"):
        load_config(tmp_path / "nowhere" / "tsm_k400.yaml")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"\x80\x81"])
def test_binary_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(path)


def test_folder_instead_of_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)


def test_all_errors_at_once(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.replace("epochs: 15", "epocs: 15").replace("lr: 2e-3", "lr: -1").replace("rate: 4", ""))
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert set(str(caught.value).splitlines()) == {
        f"{path}: data.sampling.rate: missing; this key is needed",
        f"{path}: train.epochs: missing; this key is needed",
        f"{path}: train.epocs: unknown key; did you mean epochs?",
        f"{path}: optimizer.lr: expected greater than 0, got -1",
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-6", 1e-6), ("1E-6", 1e-6), ("5.e-3", 5e-3), (".5", 0.5), ("+1e-3", 1e-3), ("1.5e-3", 1.5e-3), ("1", 1.0)],
)
def test_numbers_as_people_write_them(load: Callable[..., Config], text: str, value: float) -> None:
    assert load(f"optimizer.lr={text}").optimizer.lr == value


def test_exponents_in_the_file(load: Callable[..., Config]) -> None:
    optimizer = load().optimizer
    assert (optimizer.lr, optimizer.weight_decay) == (2e-3, 1e-6)


@pytest.mark.parametrize("text", ["1e", "e5", "1e-6x", "1.2.3"])
def test_what_is_no_number_stays_text(errors_of: Callable[..., list[str]], text: str) -> None:
    assert errors_of("lr: 2e-3", f"lr: {text}") == [f"optimizer.lr: expected a valid number, got '{text}'"]


def test_overrides(load: Callable[..., Config]) -> None:
    cfg = load(
        "data.num_classes=2",
        "train.transforms.0.max_size=96",
        "train.amp.enabled=true",
        "optimizer={name: sgd, lr: 1e-2}",
        "valid=null",
        "output_dir=output/a=b",
        "seed=1",
        "seed=7",
    )
    jitter = cfg.train.transforms[0]
    assert (cfg.data.num_classes, jitter.min_size, jitter.max_size, cfg.train.amp.enabled) == (2, 72, 96, True)
    assert (cfg.optimizer.name, cfg.optimizer.lr, cfg.valid) == ("sgd", 0.01, None)
    assert (cfg.output_dir, cfg.seed) == ("output/a=b", 7)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed", "expected KEY=VALUE, such as data.num_classes=2"),
        ("=3", "expected KEY=VALUE, such as data.num_classes=2"),
        ("seed=[1", "'[1' is not a valid YAML value"),
        ("train.transforms.9.min_size=3", "'9' is not an index into a list of 2"),
        ("train.transforms.-1.min_size=3", "'-1' is not an index into a list of 2"),
        ("train.transforms.first.min_size=3", "'first' is not an index into a list of 2"),
        ("train.epochs.x=3", "'x' lies under a single value, 15"),
        ("train.epochs=x", "train.epochs: expected a valid integer, got 'x'"),
        ("train.transforms.0.min_size=a", "train.transforms.0.min_size: expected a valid integer, got 'a'"),
        ("train.amp={enabled: 3}", "train.amp.enabled: expected a valid boolean, got 3"),
        ("train.epocs=3", "train.epocs: unknown key; did you mean epochs?"),
        ("trian.epochs=3", "trian: unknown key; did you mean train?"),
    ],
)
def test_bad_override_is_named(errors_of: Callable[..., list[str]], override: str, expected: str) -> None:
    assert errors_of(overrides=["train.batch_size=2", override]) == [f"-o {override}: {expected}"]


def test_values_are_frozen(load: Callable[..., Config]) -> None:
    cfg = load()
    with pytest.raises(ValidationError, match="frozen"):
        cfg.seed = 3
    with pytest.raises(ValidationError, match="frozen"):
        cfg.train.amp.enabled = True
    assert isinstance(cfg.train.transforms, tuple)


def test_dumped_section_reads_back_equal(load: Callable[..., Config], tmp_path: Path) -> None:
    cfg = load("optimizer.groups=[{pattern: '\\.bn\\d', decay_mult: 0}]", "data.class_names=名前.txt")
    path = tmp_path / "dumped.yaml"
    path.write_text(dump_section(cfg), encoding="utf-8")
    assert load_config(path) == cfg
    path.write_text(dump_section(cfg.data), encoding="utf-8")
    assert load_section(path, type(cfg.data)) == cfg.data
