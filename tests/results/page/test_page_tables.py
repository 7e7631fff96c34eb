"""Test tables of the page: values that all rows share are removed, the best come first, and bold cells stay bold."""

from __future__ import annotations

import pandas as pd

from results.page.page_tables import best_first, breakable, page_table, parts, short, without_shared


def table():
    frame = pd.DataFrame(
        {
            "trained on": ["t"] * 4,
            "data set": ["a", "a", "b", "b"],
            "method": ["low", "high", "none", "some"],
            "1-shot": ["9.5 ± 0.2 (± 3.1)", "40.1 ± 0.2", "–", "30.0"],
        }
    )
    frame.attrs = {"caption": "Accuracy.", "bold": [[1, "1-shot"], [3, "1-shot"]], "footnotes": ["note"]}
    return frame


def test_the_best_come_first_and_bold_moves_along():
    ordered = best_first(table())
    assert ordered["method"].tolist() == ["high", "low", "some", "none"]
    assert ordered.attrs["bold"] == [[0, "1-shot"], [2, "1-shot"]] and ordered.attrs["footnotes"] == ["note"]


def test_what_all_rows_share_goes_into_the_caption():
    kept = without_shared(table())
    assert list(kept.columns) == ["data set", "method", "1-shot"]
    assert kept.attrs["caption"] == "Accuracy. Trained on: t." and kept.attrs["footnotes"] == ["note"]


def test_a_page_s_table_knows_its_names_its_numbers_and_its_bold_cells():
    content = page_table(without_shared(table()))
    assert content is not None
    assert content["numeric"] == [False, False, True] and content["n_naming"] == 2
    assert content["best"] == {(1, 2), (3, 2)} and content["rows"][0][1] == "low"
    assert page_table(table()[:0]) is None


def test_texts_of_cells():
    assert parts("47.7 ± 0.9 (± 3.1)") == ("47.7 ± 0.9", "(± 3.1)") and parts("f(x)") == ("f(x)", "")
    assert breakable("loss.sigma_ce<b>") == "loss.<wbr>sigma_<wbr>ce&lt;b&gt;"
    assert short("x" * 300) != "x" * 300 and len(short("x" * 300)) <= 73 and short("method") == "method"
