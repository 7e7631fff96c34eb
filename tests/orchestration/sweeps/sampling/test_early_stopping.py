"""Test the rules that stop trials early: rungs, and who falls behind."""

from __future__ import annotations

import optuna
import pytest
from optuna.pruners import SuccessiveHalvingPruner

from orchestration.sweeps.sampling.early_stopping import falls_behind, first_rung, first_rung_of_old, rungs_of


@pytest.mark.parametrize(
    ("epochs", "warmup", "expected"),
    [(1, 0, 1), (4, 1, 2), (4, 0, 2), (3, 1, 2), (30, 1, 10), (30, 12, 13), (10, 0, 4)],
)
def test_no_trial_is_stopped_before_a_third_and_the_warm_up(epochs: int, warmup: int, expected: int) -> None:
    assert first_rung(epochs, warmup) == expected


def test_older_studies_keep_their_first_rung() -> None:
    assert [first_rung_of_old(epochs) for epochs in (1, 2, 4, 9, 10)] == [1, 1, 1, 3, 3]


def test_rungs_lie_before_the_last_epoch() -> None:
    assert rungs_of("asha", 2, 20) == (2, 6, 18)
    assert rungs_of("asha", 3, 9) == (3,)
    assert rungs_of("median", 2, 6) == (2, 3, 4, 5)
    assert rungs_of("none", 2, 20) == rungs_of("asha", 4, 4) == rungs_of("median", 1, 1) == ()


@pytest.mark.parametrize("is_max", [True, False])
def test_asha_keeps_whom_optunas_pruner_keeps(is_max: bool) -> None:
    values = [0.3, 0.5, 0.1, 0.5, 0.4, 0.6, 0.2, 0.7, 0.45, 0.55, 0.65, 0.05]
    pruner = SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    study = optuna.create_study(direction="maximize" if is_max else "minimize", pruner=pruner)
    for index, value in enumerate(values):
        trial = study.ask()
        trial.report(value, 1)
        assert falls_behind("asha", value, values[:index], is_max=is_max) == trial.should_prune(), index
        study.tell(trial, value)


def test_the_median_of_the_others_needs_four_of_them() -> None:
    assert not falls_behind("median", 0.0, [0.5, 0.6, 0.7], is_max=True)
    assert falls_behind("median", 0.54, [0.4, 0.5, 0.6, 0.7], is_max=True)
    assert not falls_behind("median", 0.55, [0.4, 0.5, 0.6, 0.7], is_max=True)
    assert falls_behind("median", 0.56, [0.4, 0.5, 0.6, 0.7], is_max=False)
