"""Test the lead of a study's best trial."""

import pytest

from results.tables.trials import TrialLead, lead_of_best, lead_text


@pytest.mark.parametrize(
    ("mode", "second", "lead"), [("max", "t2", 0.07), ("min", "t2", 0.09)], ids=["largest", "smallest"]
)
def test_the_lead_is_the_distance_to_the_second(mode, second, lead):
    found = lead_of_best({"t0": 0.31, "t1": 0.47, "t2": 0.4}, mode)
    assert found is not None and found.second == second and found.lead == pytest.approx(lead)


def test_equal_trials_have_no_lead_and_one_trial_has_no_second():
    assert lead_of_best({"t0": 0.5, "t1": 0.5}) == TrialLead("t1", 0.0)
    assert lead_of_best({"t0": 0.5}) is None and lead_of_best({}) is None


def test_accuracies_are_told_in_points_and_other_objectives_in_their_unit():
    assert "by 1.2 points" in lead_text(TrialLead("t3", 0.012), "val_accuracy")
    assert "by 0.25;" in lead_text(TrialLead("t3", 0.25), "loss.total")
