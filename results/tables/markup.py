"""Write a frame as Markdown, CSV and LaTeX.

Names come from data, so each writer escapes its format's special characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Any

import pandas as pd


def to_markdown(table: pd.DataFrame) -> str:
    """Return a GitHub table between the caption and the footnotes in `table.attrs`, with padded columns."""
    header = [_markdown(str(name)) for name in table.columns]
    rows = _decorated(table, _markdown, "**{}**")
    numeric = numeric_columns(table)
    widths = [max(3, *map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: list[str]) -> str:
        padded = (c.rjust(w) if n else c.ljust(w) for c, w, n in zip(cells, widths, numeric, strict=True))
        return "| " + " | ".join(padded) + " |"

    rule = [("-" * (w - 1) + ":") if n else "-" * w for w, n in zip(widths, numeric, strict=True)]
    parts = ["\n".join(map(line, [header, rule, *rows]))] if header else []
    if table.attrs.get("caption"):
        parts.insert(0, table.attrs["caption"])
    return "\n\n".join([*parts, *table.attrs.get("footnotes", [])]) + "\n"


def to_csv(table: pd.DataFrame) -> str:
    """Return the table as comma-separated text, quoted where needed, one line for each row, without its notes.

    A spreadsheet runs a text that begins with `=`, `+`, `-`, `@`, a tab or a line break as a formula. An apostrophe is
    put before such a text, in cells and headings; numbers are not changed, including negative ones. To recover the
    text, remove one apostrophe from texts that begin with apostrophes and one of these signs. A carriage return is
    written as a line feed, because readers would end the row there. JSON and Parquet files hold every text unchanged.
    """
    shown = table.copy()
    shown.columns = pd.Index([_no_formula(name) for name in table.columns])
    for position, kind in enumerate(table.dtypes):
        values = table.iloc[:, position]
        if isinstance(kind, pd.CategoricalDtype):  # few categories in a million episodes
            shown.isetitem(position, values.map(_no_formula).array)
        elif not pd.api.types.is_numeric_dtype(kind):
            shown.isetitem(position, pd.Series([_no_formula(value) for value in values], dtype=object).array)
    return shown.to_csv(index=False, lineterminator="\n")


def to_latex(table: pd.DataFrame) -> str:
    """Return a booktabs `tabular` with its caption and footnotes, in a table environment."""
    columns = "".join("r" if numeric else "l" for numeric in numeric_columns(table))
    header = " & ".join(_latex(str(name)) for name in table.columns)
    body = [" & ".join(row) + r" \\" for row in _decorated(table, _latex, r"\textbf{{{}}}")]
    lines = [r"\begin{table}", r"\centering"]
    if table.attrs.get("caption"):
        lines.append(rf"\caption{{{_latex(table.attrs['caption'])}}}")
    lines += [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", header + r" \\", r"\midrule", *body, r"\bottomrule"]
    lines.append(r"\end{tabular}")
    lines += [rf"\par\smallskip {{\footnotesize {_latex(note)}}}" for note in table.attrs.get("footnotes", [])]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def numeric_columns(table: pd.DataFrame) -> list[bool]:
    """Return which columns hold accuracies and numbers, which are right-aligned."""
    return [
        all(re.match(_NUMERIC, str(value)) is not None for value in table.iloc[:, index])
        for index in range(table.shape[1])
    ]


def bold_cells(table: pd.DataFrame) -> set[tuple[int, str]]:
    """Return row and column of the cells in `attrs["bold"]`."""
    return {(row, column) for row, column in table.attrs.get("bold", [])}


def visible(text: str) -> str:
    """Return `text` on one line: breaks become spaces; control and bidirectional override characters become \\u...."""
    text = re.sub(r"[\t\n\v\f\r\x85\u2028\u2029]+", " ", text)
    return "".join(f"\\u{ord(c):04x}" if unicodedata.category(c) in ("Cc", "Cs") or c in _BIDI else c for c in text)


_NUMERIC = r"(< )?[-+]?\d[\d.,e+-]*( ± [\d.]+)?( \((± |p )(< )?[\d.]+( v|, v)?\))?$|–?$"
_FORMULA = re.compile(r"'*[=+\-@\t\n＝＋－＠]")
_FIGURE = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?%?( \((p|±) (< )?[\d.]+(,? v)?\))?")
"""A number as a table shows it, possibly followed by a p-value or an interval, such as `-1.2 (p 0.030)`."""
_BIDI = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # they would reorder a table's text
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "†": r"$^\dagger$", "‡": r"$^\ddagger$",
    "§": r"$^\S$", "◊": r"$^\diamond$", "‖": r"$^\Vert$", "¶": r"$^\P$", "Δ": r"$\Delta$",
    "–": "--",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''",
}  # fmt: skip


def _decorated(table: pd.DataFrame, escape: Callable[[str], str], bold: str) -> list[list[str]]:
    """Return the cells as text of a format, some of them bold."""
    chosen = bold_cells(table)
    return [
        [
            bold.format(escape(str(value))) if (index, column) in chosen else escape(str(value))
            for column, value in zip(table.columns, row, strict=True)
        ]
        for index, row in enumerate(table.itertuples(index=False))
    ]


def _no_formula(value: Any) -> Any:
    """Return a text with an apostrophe before it if a spreadsheet would run it, and any other value unchanged."""
    if isinstance(value, (list, tuple, dict)):
        value = str(value)
    if not isinstance(value, str):
        return value
    text = value.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{text}" if _FORMULA.match(text) and not _FIGURE.fullmatch(text) else text


def _markdown(text: str) -> str:
    text = re.sub(r"([\\|`*\[\]])", r"\\\1", visible(text))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in visible(text))
