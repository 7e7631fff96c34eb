"""Space files: reading, and telling what is wrong with one."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from search_spaces.errors import SpaceError, did_you_mean, short
from search_spaces.parameters import KINDS
from search_spaces.space import Objective, Space

_SHIPPED = Path(__file__).parent


def shipped_spaces() -> list[str]:
    """The names that `load_space` knows without a file."""
    return sorted(path.stem for path in _SHIPPED.glob("*.yaml"))


def load_space(name_or_path: str | os.PathLike[str]) -> Space:
    """A shipped space by its name, or any space by its file.

    Raises:
        SpaceError: no such space, a file that cannot be read, or one that does not describe a space.
    """
    path = _find(name_or_path)
    content = _read(path)
    if not isinstance(content, dict):
        raise SpaceError(f"expected a mapping, got {_kind(content)}", where=str(path), remedy=_SHAPE)
    try:
        return Space.model_validate(content)
    except ValidationError as error:
        problems = [_describe(item) for item in error.errors()]
        raise SpaceError("; ".join(problems), where=str(path), remedy=_SHAPE) from None


def _find(name_or_path: str | os.PathLike[str]) -> Path:
    text = os.fspath(name_or_path)
    if text in shipped_spaces():
        return _SHIPPED / f"{text}.yaml"
    path = Path(text)
    try:
        is_file = path.is_file()
    except OSError as error:  # a name that no file can have
        raise SpaceError(f"cannot be read: {error.strerror}", where=text, remedy=_ASK_FOR) from None
    if is_file:
        return path
    if path.suffix in (".yaml", ".yml") or os.sep in text:
        raise SpaceError("is not a file" if path.exists() else "no such file", where=text, remedy=_ASK_FOR)
    raise SpaceError(
        f"no space {text!r}; {did_you_mean(text, shipped_spaces())}", where="search space", remedy=_ASK_FOR
    )


def _read(path: Path) -> Any:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        raise SpaceError(f"not valid YAML: {getattr(error, 'problem', None) or error}", where=where) from None
    except RecursionError:
        raise SpaceError("not valid YAML: nested too deeply", where=str(path), remedy=_SHAPE) from None
    except UnicodeDecodeError as error:
        raise SpaceError(f"not UTF-8 text: {error.reason} at byte {error.start}", where=str(path)) from None
    except OSError as error:
        raise SpaceError(f"cannot be read: {error.strerror}", where=str(path)) from None
    except (ValueError, LookupError, AttributeError, TypeError, ArithmeticError) as error:
        # of PyYAML, for tags whose values do not suit them, such as `!!int x` and `!!float ""`
        raise SpaceError(f"not valid YAML: {error}", where=str(path), remedy=_SHAPE) from None


class _Loader(yaml.SafeLoader):
    """Build plain data only, with no key twice; PyYAML allows registration on classes only."""


def _mapping_without_duplicates(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        if key.value in seen:
            problem = f"the key {key.value!r} stands here twice"
            raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
        seen.add(key.value)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping_without_duplicates)


def _whole_number(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


SCALARS = (
    ("null", r"~|null|Null|NULL|", ("~", "n", "N", "")),
    ("bool", r"(?i:true|false|yes|no|on|off)", tuple("tTfFyYnNoO")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", tuple("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", tuple("-+.0123456789")),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", tuple("-+.")),
    ("merge", r"<<", ("<",)),
)
"""What a text without quotes stands for: its kind, its form, and the characters that it may begin with. All else is
text. This is YAML 1.2's core schema, with the truth values and the merge key of YAML 1.1. `hcl.config.strict_yaml` has
the same table."""

_Loader.yaml_implicit_resolvers = {}
for _tag, _form, _first in SCALARS:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_form})$"), list(_first))
_Loader.add_constructor("tag:yaml.org,2002:int", _whole_number)


def _describe(item: Any) -> str:
    """One finding of pydantic, as `entry: problem`."""
    location, problem = tuple(item["loc"]), item["msg"].removeprefix("Value error, ")
    shown = [str(part) for index, part in enumerate(location) if not _is_tag(location, index)]
    if item["type"] == "extra_forbidden":
        problem = f"unknown key; {did_you_mean(shown[-1], _known_keys(location))}"
    elif item["type"] == "union_tag_invalid":
        tag = item["ctx"]["tag"]
        problem = f"unknown type {tag!r}; {did_you_mean(tag, KINDS)}"
    elif item["type"] == "union_tag_not_found":
        problem = f"expected a mapping with a type, one of {', '.join(KINDS)}"
    elif item["type"] == "missing":
        problem = "is missing"
    elif item["type"] == "string_pattern_mismatch" and location[-1] == "[key]":
        problem = "not a dotted path such as loss.sigma_temporal"
    elif item["type"] != "value_error" and not isinstance(item["input"], (dict, list)):
        problem = f"{problem}, got {short(item['input'])}"
    return f"{'.'.join(part for part in shown if part != '[key]')}: {problem}" if shown else problem


def _known_keys(location: tuple[Any, ...]) -> list[str]:
    if location[0] == "parameters" and len(location) > 3:
        return list(KINDS[location[2]].model_fields)
    in_objective = location[0] in ("objective", "trade_offs") and len(location) > 1
    return list((Objective if in_objective else Space).model_fields)


def _is_tag(location: tuple[Any, ...], index: int) -> bool:
    """pydantic puts the kind of a parameter into the location: parameters, PATH, float, low."""
    return index == 2 and location[0] == "parameters" and location[2] in KINDS


def _kind(content: Any) -> str:
    return "an empty file" if content is None else f"a {type(content).__name__}"


_ASK_FOR = f"name one of {', '.join(shipped_spaces())}, or the path of a .yaml file"
_SHAPE = "search_spaces/README.md describes a space file"
