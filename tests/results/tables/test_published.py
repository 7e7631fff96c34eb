"""Test published accuracies in the page's figures; test_exporting.py tests them as a table."""

from __future__ import annotations

import pytest

from results.tables.cells import footnotes, marked
from results.tables.published import SOURCES, charted_figures, disagreements, published_figures, read_published


def test_the_shipped_list_reads_and_carries_its_marks():
    figures = published_figures()
    released = figures["method"] == "HCL (released checkpoint)"
    hcl = figures[released & (figures["dataset"] == "ssv2_100_otam")].sort_values("shot")
    assert hcl["accuracy"].tolist() == pytest.approx([0.4773, 0.5541, 0.6002, 0.6271, 0.6489])
    assert marked(hcl.iloc[0].to_dict()) == "HCL (released checkpoint) †‡" and len(footnotes(hcl)) == 2
    assert {"OTAM", "TRX", "STRM", "HyRSM", "MoLo"} < {marked(row) for row in figures[~released].to_dict("records")}
    assert set(figures["source"]) == set(SOURCES.values())
    assert not figures.duplicated(["method", "dataset", "way", "shot", "source"]).any()


def test_hcl_has_figures_on_all_five_benchmarks():
    own = read_published().query("method == 'HCL'")
    assert own.groupby("dataset")["shot"].apply(sorted).to_dict() == {
        "ssv2_100_otam": [1, 2, 3, 4, 5],
        "ssv2_100": [1, 3, 5],
        "kinetics100": [1, 2, 3, 4, 5],
        "ucf101": [1, 3, 5],
        "hmdb51": [1, 3, 5],
    }


def test_charts_show_few_of_them():
    charted = charted_figures()
    assert set(charted["method"]) == {"HCL (released checkpoint)", "HCL", "OTAM", "TRX", "STRM"}
    assert charted.groupby("dataset")["method"].nunique().max() == 5


def test_where_sources_disagree_both_figures_are_told():
    numbers = {"hcl": 1, "strm": 2, "trokens": 3}
    assert disagreements(read_published(), numbers) == (
        "Sources disagree: OTAM on kinetics100, 5-shot: 85.8 [2] or 84.2 [3]; "
        "TRX on kinetics100, 5-shot: 85.9 [2] or 85.2 [3]; STRM on ucf101, 5-shot: 96.8 [2] or 96.9 [3]."
    )
    assert disagreements(read_published().query("source == 'trokens'"), numbers) is None
