"""Names and calls that stand in one place: a second copy would drift from the first."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from hcl.datasets.cards import PARTITIONS
from hcl.matching.similarity import LEVELS

ROOT = Path(__file__).resolve().parents[2]


def nodes() -> Iterator[tuple[str, ast.AST]]:
    for package in ("hcl", "orchestration"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                yield str(path.relative_to(ROOT)), node


@pytest.mark.parametrize(
    ("names", "place"),
    [(LEVELS, "hcl/matching/similarity.py"), (PARTITIONS, "hcl/datasets/cards.py")],
    ids=["LEVELS", "PARTITIONS"],
)
def test_a_list_of_names_is_written_once(names: tuple[str, ...], place: str) -> None:
    found = [
        path
        for path, node in nodes()
        if isinstance(node, ast.Tuple | ast.List)
        and len(node.elts) == len(names)
        and {one.value for one in node.elts if isinstance(one, ast.Constant)} == set(names)
    ]
    assert found == [place]


@pytest.mark.parametrize(
    ("function", "place"),
    [("sample_episodes", "hcl/assembly/inputs.py"), ("embeddings_file", "hcl/assembly/inputs.py")],
)
def test_a_function_of_settings_is_called_where_settings_become_arguments(function: str, place: str) -> None:
    """`hcl data embed` has no experiment, and calls `embeddings_file` with data.embeddings alone."""
    found = {
        path
        for path, node in nodes()
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function
    }
    assert found - {"orchestration/cli/data/embed.py"} == {place}
