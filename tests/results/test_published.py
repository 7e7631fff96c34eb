"""Printed accuracies: the shipped list reads, and what is wrong in a list is named by its line."""

from __future__ import annotations

import pytest

from results import RecordError
from results.marks import footnotes, marked
from results.published import COLUMNS, published_figures


def test_the_shipped_list_reads_and_carries_its_marks():
    found = published_figures()
    hcl = found[(found["method"] == "HCL") & (found["dataset"] == "ssv2_100_otam")].sort_values("shot")
    assert hcl["accuracy"].tolist() == pytest.approx([0.4773, 0.5541, 0.6002, 0.6271, 0.6489])
    assert marked(hcl.iloc[0].to_dict()) == "HCL †‡" and len(footnotes(hcl)) == 2
    others = found[found["method"] != "HCL"]
    assert {marked(row) for row in others.to_dict("records")} == {"OTAM", "TRX", "STRM"}
    assert not found.duplicated(["method", "dataset", "way", "shot"]).any()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("m,d,5,one,50,s,", "line 2.*no number"),
        ("m,d,5,1,101,s,", "line 2.*percent"),
        ("m,d,5,1,nan,s,", "line 2.*percent"),
        ("m,d,5,1,50,s,*", r"line 2.*no such sign: \*"),
        ("m,d,5,1,50", "line 2.*7 values, got 5"),
    ],
)
def test_a_line_that_is_wrong_is_named(tmp_path, line, said):
    path = tmp_path / "mine.csv"
    path.write_text(",".join(COLUMNS) + "\n" + line + "\n")
    with pytest.raises(RecordError, match=said):
        published_figures(path)


def test_another_file_is_refused(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(RecordError, match="not CSV"):
        published_figures(tmp_path / "x.csv")
    (tmp_path / "y.csv").write_text("a,b\n")
    with pytest.raises(RecordError, match="other columns"):
        published_figures(tmp_path / "y.csv")
