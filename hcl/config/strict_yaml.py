"""Read YAML as configuration needs it: no constructors, no key twice, and scalars as people mean them.

PyYAML follows YAML 1.1, where `1e-4` is a string, `010` is eight, `12:30` is 750 and `2024-01-01` is a date. Here, as
in YAML 1.2, `1e-4` and `010` are decimal numbers, and what looks like a time or a date stays text. `yes`, `no`, `on`
and `off` are truth values as in YAML 1.1: as texts, the choices `[on, off]` of a space would equal neither true nor
false.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from hcl.errors import ConfigError


def read_yaml(path: Path, label: str) -> Any:
    """Return the content of a YAML file.

    Args:
        path: the file.
        label: how messages name it.

    Raises:
        ConfigError: the file is missing, unreadable, no text or no YAML, or names a key twice.
    """
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        raise ConfigError("no such file", where=label, remedy="check the path") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"not UTF-8 text ({error.reason} at byte {error.start})", where=label) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot be read: {reason}", where=label, remedy="name a readable YAML file") from None
    return parse_yaml(text, label)


def parse_yaml(text: str, label: str) -> Any:
    """Return the value that a YAML text holds. Raises ConfigError with line and column where it holds none."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = f"not valid YAML{place}: {error.problem or error.context}"
    except _NOT_YAML as error:
        problem = f"not valid YAML: {' '.join(str(error).split())}"
    except RecursionError:
        problem = "not valid YAML: nested too deeply"
    raise ConfigError(problem, where=label, remedy="correct it; quote values that hold special characters")


def dump_yaml(content: Any) -> str:
    """Return plain data as YAML that `parse_yaml` and other programs, which follow YAML 1.1, read as the same."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=False, width=110)


# PyYAML raises all of these for tags whose values do not suit them, such as `!!int x`, `!!bool x`, `!!float ""`.
_NOT_YAML = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, ArithmeticError)


class _Loader(yaml.SafeLoader):  # builds plain data only, whatever the tags say
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (key.tag, key.value) in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key `{key.value}` stands twice", key.start_mark
                )
            seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


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
text. This is YAML 1.2's core schema, with the truth values and the merge key of YAML 1.1. `search_spaces.loader` has
the same table."""

_Loader.yaml_implicit_resolvers = {}
for _tag, _form, _first in SCALARS:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_form})$"), list(_first))
_Loader.add_constructor("tag:yaml.org,2002:int", _whole_number)


class _Dumper(yaml.SafeDumper):
    """Quote a text that this reader or YAML 1.1 takes for something else: `1e4`, `08`, `12:30`."""


_Dumper.yaml_implicit_resolvers = {
    first: [
        *_Loader.yaml_implicit_resolvers.get(first, []),
        *yaml.SafeLoader.yaml_implicit_resolvers.get(first, []),
    ]
    for first in {*_Loader.yaml_implicit_resolvers, *yaml.SafeLoader.yaml_implicit_resolvers}
}
