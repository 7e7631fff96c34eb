"""Write the page of predictions: queries with their clips and matches, the reliability of confidences, the support."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from results.page.charts import Chart
from results.page.environment import page_environment, page_style
from results.page.page_tables import page_table
from results.page.panels import Panel
from results.page.scales import Scale
from results.records.files import write_atomically
from results.records.predictions import OK, PredictionsRecord

MOST_ROWS = 1000
"""Number of queries in the page's table; predictions.csv holds all of them."""
MOST_CLASSES = 5
"""Number of classes whose scores are listed with a query."""
_FEW = 30  # queries of a bin of the reliability figure, below which it says little


@dataclass(frozen=True)
class Pictures:
    """Hold WebP pictures.

    Attributes:
        queries: of each of the first queries: its clip, and its match (None without).
        support: clips of each class; there may be fewer than the class has.
    """

    queries: Sequence[tuple[bytes | None, bytes | None]] = ()
    support: Mapping[str, Sequence[bytes]] = field(default_factory=dict)


def write_predictions_page(path: Path, record: PredictionsRecord, pictures: Pictures) -> Path:
    """Write one self-contained page, which needs no network and no script. Raises UnwritableError."""
    rows = record.rows
    context = {
        "title": f"Predictions of {record.run}",
        "style": page_style(),
        "record": record,
        "counts": _counts(record),
        "shown": [_shown(row, *pair) for row, pair in zip(rows, pictures.queries, strict=False)],
        "answers": page_table(_table(record)),
        "n_left_out": max(0, len(rows) - MOST_ROWS),
        "support": [
            (name, len(clips), [_source(picture) for picture in pictures.support.get(name, ())])
            for name, clips in record.support.items()
        ],
        "shots": sorted({len(clips) for clips in record.support.values()}),
        "calibration": record.calibration,
        "chart": reliability_chart(record.calibration["measured"]) if record.calibration else None,
    }
    page = page_environment().get_template("predictions.html.j2").render(context)
    return write_atomically(path, page.encode("utf-8", errors="backslashreplace"))


def reliability_chart(measured: Mapping[str, Any]) -> Chart:
    """Draw the share of right answers over the confidence: a bar a bin, and a line where both are equal.

    Args:
        measured: `bins` (low, high, n, confidence, accuracy), `n`, `error` and `partition`.
    """
    scale = Scale(0, 100, ticks_at=(0, 20, 40, 60, 80, 100))
    panel = Panel(
        scale,
        scale,
        "Share of right answers over the confidence: "
        + ", ".join(f"{one['confidence']:.0%} {one['accuracy']:.0%}" for one in measured["bins"] if one["n"]),
        x_title="confidence, %",
        y_title="right, %",
        width=420,
        height=340,
    )
    for one in measured["bins"]:
        if not one["n"]:
            continue
        tip = f"{one['n']:,} queries: confidence {one['confidence']:.1%}, right {one['accuracy']:.1%}"
        low, high = 100 * one["low"] + 0.8, 100 * one["high"] - 0.8
        panel.box((low, 0), (high, 100 * one["accuracy"]), "fill c0", opacity=0.3 if one["n"] < _FEW else 0.75, tip=tip)
        panel.mark((100 * one["confidence"], 100 * one["accuracy"]), "c1", size=3.5, tip=tip)
    panel.bar((0, 0), (100, 100), "rule")
    notes = [
        f"{measured['n']:,} queries of episodes of {measured['partition']}. The line is where confidence and accuracy "
        f"are equal; points stand at the mean confidence of their bin; pale bars have fewer than {_FEW} queries."
    ]
    return Chart("Reliability of the confidence", [panel], notes=notes)


def _counts(record: PredictionsRecord) -> list[tuple[str, int, bool]]:
    """Return how many queries got each answer, the most frequent first; the last value is true for no class."""
    answers = Counter((row["answer"], bool(row["is_none"])) for row in record.rows if row["status"] == OK)
    n_lost = sum(row["status"] != OK for row in record.rows)
    counted = [(name, n, is_none) for (name, is_none), n in answers.most_common()]
    return [*counted, *([("could not be read", n_lost, True)] if n_lost else [])]


def _shown(row: Mapping[str, Any], clip: bytes | None, match: bytes | None) -> dict[str, Any]:
    """Return a query for the template."""
    ranked = sorted(row.get("scores", {}).items(), key=lambda pair: -pair[1])[:MOST_CLASSES]
    low, high = (ranked[-1][1], ranked[0][1]) if ranked else (0.0, 1.0)
    return {
        **row,
        "clip": _source(clip) if clip else "",
        "match": _source(match) if match else "",
        "ranked": [(name, score, (score - low) / ((high - low) or 1.0)) for name, score in ranked],
        "n_more": max(0, len(row.get("scores", {})) - MOST_CLASSES),
    }


def _table(record: PredictionsRecord) -> pd.DataFrame:
    rows = [
        {
            "query": row["query"],
            "answer": row["answer"] if row["status"] == OK else "could not be read",
            "score": f"{row['score']:.3f}" if row["status"] == OK else "–",
            "margin": f"{row['margin']:.3f}" if row["status"] == OK else "–",
            "confidence": f"{100 * row['confidence']:.1f}" if row.get("confidence") is not None else "–",
            "second": row.get("second_class", "–"),
        }
        for row in record.rows[:MOST_ROWS]
    ]
    return pd.DataFrame(rows, columns=["query", "answer", "score", "margin", "confidence", "second"])


def _source(picture: bytes) -> str:
    return "data:image/webp;base64," + base64.b64encode(picture).decode()
