"""Test hours from seconds and resources; without recorded resources they are a bound."""

from __future__ import annotations

import pandas as pd
import pytest

from results.page.costs import Cost, evaluation_cost, seconds_between, sweep_cost, training_cost

TIMES = {"started": "2026-01-01T10:00:00+00:00", "finished": "2026-01-01T12:00:00+00:00"}


def test_training_costs_the_seconds_of_its_epochs_times_what_it_held():
    epochs = pd.DataFrame({"train_seconds": [1000.0, 500.0], "val_seconds": [200.0, 100.0]})
    run = {**TIMES, "resources.cpus": 4.0, "resources.gpus": 2.0}
    assert training_cost(run, epochs) == Cost(2.0, 1.0, is_bound=False)


def test_older_records_give_a_bound_and_the_oldest_nothing():
    assert training_cost({**TIMES, "hardware.cpus": 8}, pd.DataFrame()) == Cost(16.0, 0.0, is_bound=True)
    assert training_cost(TIMES, pd.DataFrame()) is None
    assert training_cost({"hardware.cpus": 8}, pd.DataFrame()) is None


def test_evaluation_costs_the_seconds_of_its_actors():
    frame = pd.DataFrame({"seconds": [3600.0, 1800.0, None], "on_gpu": [True, False, True]})
    assert evaluation_cost(frame) == Cost(1.5, 1.0)
    assert evaluation_cost(frame[2:]) is None


def test_a_study_costs_what_its_trials_cost():
    trials = pd.DataFrame({"seconds": [1800.0, None, 1800.0]})
    assert sweep_cost({"resources": {"cpus": 2.0, "gpus": 0.5}}, trials, {}) == Cost(2.0, 0.5)
    assert sweep_cost({"resources": {}, "seconds": 3600.0}, trials, {"hardware.cpus": 2}) == Cost(2.0, 0.0, True)
    assert sweep_cost({"resources": {}, "seconds": None}, trials, {"hardware.cpus": 2}) is None


def test_costs_add_up_and_a_bound_stays_one():
    assert Cost(1, 2).plus(Cost(3, 4, is_bound=True)) == Cost(4, 6, is_bound=True)


@pytest.mark.parametrize("finished", [None, "yesterday", float("nan")])
def test_a_run_without_an_end_lasted_nobody_knows_how_long(finished):
    assert seconds_between(TIMES["started"], finished) is None
