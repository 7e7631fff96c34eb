"""Check that docstrings begin as sentences; CONTRIBUTING says why."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

FOLDERS = ("hcl", "orchestration", "search_spaces", "cluster", "results", "tests")
NOUN_CLAUSE = re.compile(r"(What|Whether|Of|How|Which|Where|Who|Whose|Why|When)\b")


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each docstring of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text is not None:
                yield node.body[0].lineno, text


def noun_clauses(path: Path) -> list[str]:
    """Return the summary lines of a file that begin with a noun clause in place of a verb."""
    return [f"{line}: {text.splitlines()[0]}" for line, text in docstrings(path) if NOUN_CLAUSE.match(text)]


def test_the_check_sees_a_noun_clause(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text('"""What a run is."""\n\n\ndef f():\n    """Return what a run is."""\n')
    assert noun_clauses(path) == ["1: What a run is."]


@pytest.mark.parametrize("folder", FOLDERS)
def test_docstrings_begin_with_a_verb_not_with_a_noun_clause(folder: str) -> None:
    found = {str(path.relative_to(ROOT)): noun_clauses(path) for path in (ROOT / folder).rglob("*.py")}
    assert len(found) > 5
    assert {path: lines for path, lines in found.items() if lines} == {}
