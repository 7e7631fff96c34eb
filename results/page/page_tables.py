"""Prepare frames and their cells for the page's template."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd
from markupsafe import Markup, escape

from results.page.panels import shortened
from results.tables.markup import numeric_columns


def page_table(frame: pd.DataFrame) -> dict[str, Any] | None:
    """Return the columns, rows, caption and footnotes of a frame for the template; None for an empty frame.

    It also lists which columns are numbers, which cells are bold, and how many columns name a row.
    """
    if frame.empty:
        return None
    columns, numeric = list(frame.columns), numeric_columns(frame)
    return {
        "caption": frame.attrs.get("caption", ""),
        "footnotes": frame.attrs.get("footnotes", []),
        "columns": columns,
        "rows": [list(row) for row in frame.itertuples(index=False)],
        "numeric": numeric,
        "best": {(row, columns.index(name)) for row, name in frame.attrs.get("bold", ())},
        "n_naming": max(1, numeric.index(True)) if True in numeric else 1,
    }


def without_shared(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table of accuracies with values that all rows share in its caption instead of in columns."""
    shared = [name for name in ("trained on", "data set") if name in frame and frame[name].nunique() == 1]
    shared_text = "".join(f" {name.capitalize()}: {frame[name].iloc[0]}." for name in shared)
    kept = frame.drop(columns=shared)
    kept.attrs = {**frame.attrs, "caption": frame.attrs.get("caption", "") + shared_text}
    return kept


def best_first(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table of accuracies with the rows of each data set sorted by their first shot."""
    shots = [name for name in frame.columns if str(name).endswith("-shot")]
    if not shots:
        return frame
    heights = pd.to_numeric(frame[shots[0]].str.extract(r"^([\d.]+)")[0])
    by = [name for name in ("trained on", "data set", "partition", "way") if name in frame]
    order = frame.assign(height=-heights).sort_values([*by, "height"], kind="stable").index.tolist()
    table = frame.loc[order].reset_index(drop=True)
    bold = [[order.index(row), name] for row, name in frame.attrs.get("bold", ())]
    table.attrs = {**frame.attrs, "bold": bold}
    return table


def breakable(name: Any) -> Markup:
    """Return a heading that may wrap after the dots and underscores of a setting's path."""
    return Markup(re.sub(r"([._])", r"\1<wbr>", str(escape(name))))


def short(name: Any) -> str:
    """Return a shortened name for narrow places; tables have it in full."""
    return shortened(str(name), 72)


def parts(value: Any) -> tuple[str, str]:
    """Return a cell in two parts: the text before its brackets, and the brackets, which may be shown below it."""
    match = re.fullmatch(r"(.*?\d) (\(± [\d.]+(?: v)?\))", str(value))
    return (match[1], match[2]) if match else (str(value), "")
