"""Test that a table shows all of its text in any width: as it is, with wrapped cells, or row by row."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from orchestration.table_layout import fits, fitted

NAME = "metaworld_cpu_long_name_of_forty_letters"


def printed(table: Table, width: int) -> str:
    """Return the table as it is printed on a console of this width, without colours."""
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    shown = fitted(table, console)
    console.print(shown, soft_wrap=not isinstance(shown, Table))
    return console.file.getvalue()  # type: ignore[attr-defined]


def table_of(columns: list[str], *rows: list[str], title: str | None = None) -> Table:
    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*row)
    return table


def test_a_table_that_fits_is_printed_as_it_is() -> None:
    table = table_of(["run", "epochs"], ["first", "3"])
    assert fits(table, Console(width=80)) and fitted(table, Console(width=80)) is table


def test_cells_are_wrapped_between_words_before_anything_else() -> None:
    out = printed(table_of(["check", "remedy"], ["data", "mount the data root there under the same path"]), 40)
    assert "│ data  │ mount the data root there    │\n│       │ under the same path          │" in out
    assert max(map(len, out.splitlines())) <= 40


def test_a_long_name_is_broken_behind_a_sign() -> None:
    out = printed(table_of(["setting", "value"], ["name", NAME]), 42)
    assert "metaworld_cpu_long_name_of_" in out and "forty_letters" in out and "┃" in out
    assert max(map(len, out.splitlines())) <= 42


def test_a_number_stays_with_its_interval() -> None:
    cells = ["51.2 ± 10.0 (± 3.1)", "61.2 ± 10.0 (± 3.1)"]
    out = printed(table_of(["method", "1-shot", "5-shot"], ["hcl", *cells]), 38)
    assert "│ 51.2 ± 10.0 │ 61.2 ± 10.0 │" in out and "│ (± 3.1)     │" in out


def test_rows_of_many_columns_become_blocks() -> None:
    columns = ["run", "data set", "backbone", "val %", "started"]
    rows = [[NAME, "metaworld", "efficientnet_lite0", "51.2", "–"], [NAME, "", "resnet50", "50.0", "2026-11-30"]]
    out = printed(table_of(columns, *rows, title="runs"), 60)
    assert out.splitlines() == [
        "runs",
        f"run: {NAME}",
        "  data set: metaworld  backbone: efficientnet_lite0",
        "    val %: 51.2",
        "  backbone: resnet50  val %: 50.0  started: 2026-11-30",
    ]


def test_a_long_sentence_in_a_block_is_wrapped_between_words() -> None:
    sentence = "statistics of a worker's own frames, as released, which do not depend on the number of workers"
    out = printed(table_of(["path", "meaning"] + ["x"] * 9, [NAME, sentence, *"123456789"]), 50)
    assert sentence in " ".join(out.split()) and max(map(len, out.splitlines())) <= 50


def test_two_columns_become_lines() -> None:
    out = printed(table_of(["", "value"], ["path", "x" * 90]), 60)
    assert out == f"path: {'x' * 90}\n"


def test_bold_cells_stay_bold() -> None:
    console = Console(file=io.StringIO(), width=30, force_terminal=True)
    table = table_of(["method", *"abcdefghi"], ["hcl", *["[bold]62.8 ± 0.2[/]"] * 9])
    console.print(fitted(table, console))
    assert console.file.getvalue().count("\x1b[1m62.8 ± 0.2") == 9  # type: ignore[attr-defined]


WORDS = st.lists(st.text("abcxyz019", min_size=1, max_size=30), min_size=0, max_size=5).map(" ".join)


@given(st.data(), st.integers(1, 7), st.integers(20, 120))
def test_no_word_is_cut(data: st.DataObject, n_columns: int, width: int) -> None:
    row = st.lists(WORDS, min_size=n_columns, max_size=n_columns)
    rows = data.draw(st.lists(row, min_size=1, max_size=4))
    out = printed(table_of([f"c{index}" for index in range(n_columns)], *rows), width)
    assert "…" not in out
    seen = set(re.findall(r"[a-z0-9]+", out))
    assert {word for cells in rows for cell in cells for word in cell.split()} <= seen
    is_table = "┃" in out
    assert not is_table or max(map(len, out.splitlines())) <= width


@pytest.mark.parametrize("text", ["a/very/long/path/of/many/folders/and/a/file.txt", "x" * 100])
def test_a_broken_name_keeps_all_of_its_letters(text: str) -> None:
    out = printed(table_of(["", "value"], ["path", text]), 40)
    assert "".join(re.findall(r"│ (\S+) +│$", out, re.MULTILINE)) == text or f"path: {text}\n" == out
