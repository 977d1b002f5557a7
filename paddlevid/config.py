"""YAML files and overrides -> one typed, checked, frozen `Config`. The only reader of configuration YAML.

A file is checked as a whole before anything is built: every mistake is reported at once, each with its file, dotted
key, value, what was expected and the nearest valid key.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import ValidationError

from paddlevid.errors import ConfigError
from paddlevid.schema import Config
from paddlevid.schema.types import Section

# ---- reading --------------------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """YAML 1.2 floats (`1e-6` is a number) and no silent duplicate keys."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d[\d_]*\.?[\d_]*(?:[eE][-+]?\d+)|\d[\d_]*\.[\d_]*|\.\d[\d_]*(?:[eE][-+]?\d+)?)$"),
    list("-+0123456789."),
)


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    for index, key in enumerate(keys):
        if key in keys[:index]:
            mark = node.value[index][0].start_mark
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", mark)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


AnySection = TypeVar("AnySection", bound=Section)

_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_mapping)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read, override and check a recipe.

    Args:
        path: a YAML file.
        overrides: `KEY=VALUE` texts with dotted keys (`data.num_classes=2`, `train.transforms.0.max_size=320`); the
            values are parsed as YAML.

    Raises:
        ConfigError: the file is missing, is no YAML, or does not describe a recipe; all mistakes are listed.
    """
    return load_section(path, Config, overrides)


def load_section(path: str | Path, section: type[AnySection], overrides: Sequence[str] = ()) -> AnySection:
    """Read a YAML file that holds one section, such as a whole `Config`; see `load_config`."""
    tree = _read_yaml(Path(path))
    for override in overrides:
        tree = _apply_override(tree, override)
    try:
        # Through JSON, because strict checking there still takes lists for tuples, and nothing else for something else.
        return section.model_validate_json(json.dumps(tree, default=str), strict=True)
    except ValidationError as error:
        lines = [_describe(problem, section, path, overrides) for problem in error.errors()]
        raise ConfigError("\n".join(lines)) from None


def dump_section(section: Section) -> str:
    """YAML that `load_section` reads back as an equal section."""
    return yaml.safe_dump(section.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        hint = _nearest(path.name, [other.name for other in path.parent.glob("*.yaml")] if path.parent.is_dir() else [])
        raise ConfigError(f"{path}: no such config file{hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    try:
        tree = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: 2020-13-45 looks like a date
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        raise ConfigError(
            f"{path}{where}: not valid YAML: {getattr(error, 'problem', None) or str(error).splitlines()[0]}"
        ) from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected a mapping with model, data, train, ... at the top, found {tree!r:.60}")
    return tree


def _apply_override(tree: dict[str, Any], override: str) -> dict[str, Any]:
    """A copy of the tree with one dotted key set."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"-o {override}: expected KEY=VALUE, such as data.num_classes=2")
    try:
        value = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError):
        raise ConfigError(f"-o {override}: {text!r} is not a valid YAML value") from None
    return _with_value(tree, key.strip().split("."), value, override)


def _with_value(node: Any, keys: Sequence[str], value: Any, override: str) -> Any:
    if not keys:
        return value
    head, rest = keys[0], keys[1:]
    if isinstance(node, list):
        if not head.isdecimal() or int(head) >= len(node):
            raise ConfigError(f"-o {override}: {head!r} is not an index into a list of {len(node)}")
        index = int(head)
        return [_with_value(item, rest, value, override) if i == index else item for i, item in enumerate(node)]
    if node is not None and not isinstance(node, dict):
        raise ConfigError(f"-o {override}: {head!r} lies under a single value, {node!r}")
    node = node or {}
    return {**node, head: _with_value(node.get(head), rest, value, override)}


# ---- messages -------------------------------------------------------------------------------------------------------


YAML_WORDS = {"Input should be": "expected", "an object": "a mapping", "a valid array": "a list"}


def _describe(problem: Any, root: type[Section], path: str | Path, overrides: Sequence[str]) -> str:
    """One line: file or override, dotted key, what is wrong, what was given, the nearest valid key."""
    keys, valid_keys = _walk(root, problem["loc"])
    dotted = ".".join(keys)
    source = str(path)
    for override in overrides:
        key = override.partition("=")[0].strip()
        if dotted == key or dotted.startswith(key + ".") or (key.startswith(dotted + ".") and dotted):
            source = f"-o {override}"
    place = f"{source}: {dotted}" if dotted else source
    kind, given = problem["type"], problem["input"]
    if kind == "extra_forbidden":
        return f"{place}: unknown key{_nearest(keys[-1], valid_keys)}"
    if kind == "missing" and keys[-1].isdigit():
        return f"{source}: {'.'.join(keys[:-1])}: too few values, number {int(keys[-1]) + 1} is missing"
    if kind == "missing":
        return f"{place}: missing; this key is needed"
    if kind == "union_tag_not_found":
        return f"{place}: missing the key {problem['ctx']['discriminator']}"
    if kind == "union_tag_invalid":
        key, tag, expected = (problem["ctx"][name] for name in ("discriminator", "tag", "expected_tags"))
        choices = [choice.strip("'") for choice in expected.split(", ")]
        return f"{place}.{key.strip(chr(39))}: {tag!r} is not one of {', '.join(choices)}{_nearest(str(tag), choices)}"
    message = problem["msg"].removeprefix("Value error, ")
    for json_word, yaml_word in YAML_WORDS.items():
        message = message.replace(json_word, yaml_word)
    if kind == "value_error":
        blamed = [f"-o {override}" for override in overrides if override.partition("=")[0].strip() in message]
        return f"{', '.join(blamed) or place}: {message}"
    hint = ""
    if kind == "literal_error" and isinstance(given, str):
        hint = _nearest(given, re.findall(r"'([^']*)'", problem["ctx"]["expected"]))
    return f"{place}: {message}, got {given!r:.80}{hint}"


def _walk(root: type[Section], loc: Sequence[str | int]) -> tuple[list[str], list[str]]:
    """An error location as the user typed its keys (no union tags), and the valid keys beside the last one."""
    annotation: Any = root
    keys: list[str] = []
    siblings: list[str] = []
    for part in loc:
        members = _members(annotation)
        tagged = [m for m in members if _is_section(m) and part in _tags(m)]
        if len(members) > 1 and tagged:
            annotation = tagged[0]
            continue
        keys.append(str(part))
        sections = [m for m in members if _is_section(m)]
        if isinstance(part, int):
            annotation = next((get_args(m)[0] for m in members if get_origin(m) is tuple), None)
            continue
        siblings = [name for section in sections for name in section.model_fields]
        field = next((s.model_fields[part] for s in sections if part in s.model_fields), None)
        annotation = field.annotation if field is not None else None
    return keys, siblings


def _members(annotation: Any) -> list[Any]:
    """The alternatives of an annotation: through Annotated and Union to classes and tuples."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _members(get_args(annotation)[0])
    if origin is Union or type(annotation).__name__ == "UnionType":
        return [member for arg in get_args(annotation) for member in _members(arg)]
    return [annotation]


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _tags(section: type[Section]) -> tuple[Any, ...]:
    field = section.model_fields.get("kind") or section.model_fields.get("name")
    return get_args(field.annotation) if field is not None else ()


def _nearest(word: str, choices: Sequence[str]) -> str:
    matches = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    return f"; did you mean {matches[0]}?" if matches else ""
