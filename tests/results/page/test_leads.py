"""Test the leads of cells: their sizes on the same episodes, and the methods that must not lead."""

from __future__ import annotations

import pytest

import results
from results.page.leads import against, leads, leads_table


@pytest.fixture
def found(tmp_path, evaluation, answers):
    """Write records with answers, and load them."""

    def build(*methods):
        for name, skill, changes in methods:
            outcomes = answers(skill)
            record = evaluation(method=name, accuracy=float(outcomes.accuracies.mean()), way=3, **changes)
            results.write_outcomes(results.evaluation_file(tmp_path / "r", record), outcomes)
            results.write_evaluation(tmp_path / "r", record)
        return results.load(tmp_path / "r").evaluations

    return build


def test_the_best_leads_and_differences_are_paired(found, answers):
    (lead,) = leads(found(("worst", 0.0, {}), ("best", 0.9, {}), ("near", 0.85, {})))
    assert lead.name == "best" and [one.name for one in lead.others] == ["near", "worst"]
    paired = results.paired_difference(answers(0.9).accuracies, answers(0.0).accuracies)
    near, worst = (other.verdict for other in lead.others)
    assert worst.difference.mean == pytest.approx(paired.mean)
    assert lead.others[1].episodes == pytest.approx(paired.ci95)
    assert worst.is_significant and worst.p_value == 2 * worst.difference.p_value
    assert near.is_significant is False
    table = leads_table([lead])
    assert table["verdict"].tolist() == [
        "no significant difference over classes",
        "significant difference over classes",
    ]
    assert (
        table["behind by"].tolist()[1] == f"{100 * paired.mean:.1f}" and "paired by episode" in table.attrs["caption"]
    )


def test_a_number_that_flatters_does_not_lead(found):
    evaluations = found(("leaking", 0.95, {"leaks_labels": True}), ("honest", 0.5, {}))
    assert [lead.name for lead in leads(evaluations)] == ["honest"]
    (only,) = leads(evaluations[evaluations["method"] == "leaking"])
    assert only.name == "leaking §"


def test_queries_that_may_be_their_own_support_do_not_lead(found):
    evaluations = found(("overlapping", 0.95, {"overlapping": True}), ("disjoint", 0.5, {}))
    assert [lead.name for lead in leads(evaluations)] == ["disjoint"]


def test_other_episodes_give_a_difference_and_no_interval(found):
    (lead,) = leads(found(("best", 0.9, {}), ("other", 0.1, {"episodes_digest": "e2"})))
    assert lead.others[0].verdict.difference.mean > 0.3
    assert lead.others[0].episodes is None and lead.others[0].verdict.is_significant is None
    sentence = against(lead.others[0])
    assert sentence["before"] == "next:" and sentence["figures"] == "(significance unknown)"


def test_a_tile_says_ahead_only_of_what_is_significantly_behind(found):
    (lead,) = leads(found(("best", 0.9, {}), ("near", 0.85, {}), ("worst", 0.0, {})))
    near, worst = map(against, lead.others)
    assert near["before"] == "no significant difference over classes to" and near["after"] == ""
    assert worst["before"].endswith("points ahead of") and worst["after"] == ": significant difference over classes"
    assert worst["name"] == "worst" and "± " in worst["figures"] and "p < 0.001" in worst["figures"]


def test_methods_with_different_marks_are_not_judged(found):
    (lead,) = leads(found(("leaking", 0.95, {"leaks_labels": True}), ("other", 0.1, {"overlapping": True})))
    assert lead.name == "leaking §" and lead.others[0].verdict.is_significant is None
