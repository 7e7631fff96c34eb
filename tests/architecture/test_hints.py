"""Test that names in suggested commands are quoted for the shell."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("hcl", "orchestration", "search_spaces", "cluster", "results")
COMMANDS = (
    "new|extract|data|train|sweep|evaluate|fuse|explain"
    "|predict|report|results|status|reproduce|submit|jobs|cluster|checkpoint"
)
UNFINISHED = re.compile(rf"(\bhcl ({COMMANDS})\b|\bgit \w)[^`;,:]*$")
QUOTED = {"options", "at", "first", "quoted"}
"""Names of variables whose text is already quoted."""


def unquoted(text: str) -> Iterator[str]:
    """Yield the expressions of f-strings that continue a command and are not quoted."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.JoinedStr):
            continue
        before = ""
        for part in node.values:
            if isinstance(part, ast.Constant):
                before += str(part.value)
                continue
            expression = ast.unparse(part.value) if isinstance(part, ast.FormattedValue) else ""
            if UNFINISHED.search(before) and "shlex." not in expression and expression not in QUOTED:
                yield f"{before[-40:]}{{{expression}}}"
            before += "x"


def test_the_check_sees_what_is_not_quoted() -> None:
    assert list(unquoted('f"next: hcl extract {name}, then hcl data check {shlex.quote(name)} --data {data}"')) == [
        "next: hcl extract {name}",
        "next: hcl extract x, then hcl data check x --data {data}"[-46:],
    ]
    assert not list(unquoted('f"{name}: see `hcl config show`, {count} of them"'))


@pytest.mark.parametrize("package", PACKAGES)
def test_what_commands_in_messages_name_is_quoted(package: str) -> None:
    found = {
        f"{path.relative_to(ROOT)}: {one}"
        for path in (ROOT / package).rglob("*.py")
        for one in unquoted(path.read_text())
    }
    assert not found
