"""Test the page of predictions: what it says, that names from data are text, and that it needs nothing else."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pytest

from results.page.predictions_page import MOST_ROWS, Pictures, write_predictions_page
from results.page.report import is_page
from results.records.predictions import PredictionsRecord, read_predictions, write_predictions
from tests.results.conftest import HOSTILE, WEBP
from tests.results.page.browser import Browser, chromium

BINS = [
    {"low": index / 10, "high": (index + 1) / 10, "n": 7 * index, "confidence": index / 10 + 0.05, "accuracy": 0.5}
    for index in range(10)
]
CALIBRATION: dict[str, Any] = {
    "scale": 12.5,
    "by": "confidence",
    "threshold": 0.4321,
    "val": {"rejected": 0.21, "accepted": 0.19, "error": 0.2},
    "dataset": "mine",
    "way": 5,
    "shot": 2,
    "episodes": 300,
    "measured": {
        "partition": "test",
        "n": 4500,
        "accuracy": 0.61,
        "confidence": 0.58,
        "error": 0.034,
        "bins": BINS,
        "unknown": {"rejected": 0.3, "accepted": 0.2, "error": 0.25},
    },
}


def row(query: str, names: list[str], **changes: Any) -> dict[str, Any]:
    return {
        "query": query,
        "status": "ok",
        "answer": names[0],
        "is_none": False,
        "best_class": names[0],
        "second_class": names[1],
        "score": 1.5,
        "margin": 0.25,
        "confidence": 0.7,
        "scores": dict(zip(names, (1.5, 1.25, 0.1), strict=False)),
        "levels": {"global": 0.9, "temporal": 0.8},
        "frames": 40,
        "nearest": f"{names[0]}/clip",
        **changes,
    }


def record(names: list[str], n: int = 2, **changes: Any) -> PredictionsRecord:
    rows = [row(f"{names[index % len(names)]}.mp4", names) for index in range(n)]
    rows.append(row("far.mp4", names, answer="none of these", is_none=True, note="has the content of another"))
    rows.append({"query": "broken.mp4", "status": "unreadable", "reason": "moov atom not found"})
    return PredictionsRecord(
        run="first",
        support={name: [f"{name}/a", f"{name}/b"] for name in names},
        rows=rows,
        none="none of these",
        calibration=CALIBRATION,
        metric="euclidean",
        checkpoint_digest="abc",
        command="hcl predict first",
        **changes,
    )


def text_of(page: Path) -> str:
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", page.read_text())))


def test_the_page_says_what_is_known(tmp_path: Path) -> None:
    names = ["wave", "clap", "jump"]
    pictures = Pictures([(WEBP, WEBP), (WEBP, None), (None, None), (None, None)], {"wave": [WEBP, WEBP]})
    page = write_predictions_page(tmp_path / "page.html", record(names), pictures)
    text = text_of(page)
    for expected in (
        "4 queries, 3 classes with 2 labelled clips each",
        "wave 2",
        "none of these 1",
        "could not be read 1",
        "none of these else wave 70.0%",
        "margin 0.250 · global 0.900 · temporal 0.800",
        "moov atom not found",
        "It has the content of another",
        "Match with",
        "negative squared distances",
        "times 12.5",
        "300 episodes (5-way, 2-shot)",
        "The support has 3 classes",
        "3.4 points",
        "confidence is below 0.4321",
        "21.0% of queries of the classes are rejected, 19.0% of others are accepted",
        "an error of 25.0%",
        "4,500 queries of episodes of test",
    ):
        assert expected in text, expected
    assert page.read_text().count("data:image/webp") == 5 and "<script" not in page.read_text()
    assert is_page(page)


def test_without_calibration_it_says_why(tmp_path: Path) -> None:
    made = record(["wave", "clap", "jump"])
    plain = PredictionsRecord(
        run="first",
        support=made.support,
        rows=[{**one, "confidence": None} for one in made.rows],
        none=made.none,
        uncalibrated="no val here",
    )
    text = text_of(write_predictions_page(tmp_path / "page.html", plain, Pictures()))
    assert "There are no confidences, and no query is taken for none of these : no val here" in text
    assert "expected calibration error" not in text


def test_many_queries_are_in_the_csv_file_only(tmp_path: Path) -> None:
    made = record(["wave", "clap", "jump"], n=MOST_ROWS + 50)
    text = text_of(write_predictions_page(tmp_path / "page.html", made, Pictures([(WEBP, None)] * 3)))
    assert "52 more queries are in predictions.csv" in text and "The first 3 of 1052 queries are shown" in text


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = record(["=wave", "clap", "jump"])
    write_predictions(tmp_path, made)
    assert read_predictions(tmp_path) == made
    lines = (tmp_path / "predictions.csv").read_text().splitlines()
    assert (
        lines[0] == "query,status,answer,score,margin,confidence,best_class,second_class,global,temporal,frames,reason"
    )
    assert lines[1].startswith("'=wave.mp4,ok,'=wave,1.5,0.25,0.7,'=wave,clap,0.9,0.8,40,")
    assert lines[4] == "broken.mp4,unreadable,,,,,,,,,,moov atom not found"


@pytest.mark.skipif(chromium() is None, reason="no Chromium on this machine")
def test_a_browser_shows_hostile_names_as_text(tmp_path: Path) -> None:
    names = [str(name) for name in HOSTILE]
    pictures = Pictures([(WEBP, WEBP)] * 6, {name: [WEBP] for name in names})
    page = write_predictions_page(tmp_path / "page.html", record(names, n=len(names)), pictures)
    with Browser(tmp_path / "browser") as browser:
        for width in (1200, 400):
            browser.open(page, width=width)
            browser.value("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
            assert browser.complaints() == [] and browser.requests() == [page.as_uri()]
            wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert browser.value(wide) <= 0
        assert browser.value("document.scripts.length") == 0
