"""Read YAML strictly for configuration: no constructors, no duplicate keys, numbers and dates without surprises.

PyYAML follows YAML 1.1, where `1e-4` is a string, `010` is eight, `12:30` is 750 and `2024-01-01` is a date. Here
numbers are decimal, `1e-4` is a number, and times and dates stay text.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from hcl.errors import ConfigError


def read_yaml(path: Path, label: str) -> Any:
    """Read a YAML file.

    Args:
        path: the file.
        label: the name of the file in messages.

    Raises:
        ConfigError: the file is missing, unreadable, no text or no YAML, or has a duplicate key.
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
    """Parse a YAML text. Raises ConfigError with line and column if it is invalid."""
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
    """Write plain data as YAML that `parse_yaml` and other programs, which follow YAML 1.1, read alike."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=False, width=110)


# PyYAML raises all of these for values that do not fit their tag, such as `!!int x`, `!!bool x`, `!!float ""`.
_NOT_YAML = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, ArithmeticError)


class _Loader(yaml.SafeLoader):  # builds only plain data, for all tags
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (key.tag, key.value) in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key `{key.value}` is given twice", key.start_mark
                )
            seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


def _decimal(loader: _Loader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node))


_INT, _FLOAT, _TIMESTAMP = (f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "timestamp"))
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in {_INT, _FLOAT, _TIMESTAMP}]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_INT, re.compile(r"[-+]?[0-9]+$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    _FLOAT, re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"), list("-+.0123456789")
)
_Loader.add_constructor(_INT, _decimal)


class _Dumper(yaml.SafeDumper):
    """Quote texts that either YAML 1.1 or `parse_yaml` would read as another type: `1e4`, `08`, `0x1`."""


_Dumper.yaml_implicit_resolvers = {
    first: [
        *_Loader.yaml_implicit_resolvers.get(first, []),
        *yaml.SafeLoader.yaml_implicit_resolvers.get(first, []),
    ]
    for first in {*_Loader.yaml_implicit_resolvers, *yaml.SafeLoader.yaml_implicit_resolvers}
}
