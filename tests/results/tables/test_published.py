"""Test published accuracies in the page's figures; test_exporting.py tests them as a table."""

from __future__ import annotations

import pytest

from results.tables.cells import footnotes, marked
from results.tables.published import SOURCES, published_figures


def test_the_shipped_list_reads_and_carries_its_marks():
    figures = published_figures()
    hcl = figures[figures["method"].str.startswith("HCL") & (figures["dataset"] == "ssv2_100_otam")].sort_values("shot")
    assert hcl["accuracy"].tolist() == pytest.approx([0.4773, 0.5541, 0.6002, 0.6271, 0.6489])
    assert marked(hcl.iloc[0].to_dict()) == "HCL (released checkpoint) †‡" and len(footnotes(hcl)) == 2
    others = figures[~figures["method"].str.startswith("HCL")]
    assert {marked(row) for row in others.to_dict("records")} == {"OTAM", "TRX", "STRM"}
    assert set(figures["source"]) == set(SOURCES.values())
    assert not figures.duplicated(["method", "dataset", "way", "shot"]).any()
