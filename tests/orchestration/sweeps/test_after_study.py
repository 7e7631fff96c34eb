"""Test the steps after a study: its best trials with new seeds, and each at its best fusion, without Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import results
from hcl.assembly.experiment_files import to_yaml
from hcl.errors import HCLError
from orchestration.evaluation.fusion_search import Search
from orchestration.sweeps import confirm as confirming
from orchestration.sweeps import fused_trials
from orchestration.sweeps.confirm import confirm
from orchestration.sweeps.fused_trials import fuse_trials
from orchestration.sweeps.view import show_candidates, show_fused
from results.statistics.significance import over_seeds
from tests.orchestration.inline import connect
from tests.orchestration.sweeps.stub_trials import stub_study


def trial_of(index: int, value: float, state: Any = "complete") -> results.TrialRecord:
    params = {"loss.sigma_temporal": index / 10, "loss.sigma_spatial": 0.5}
    return results.TrialRecord(trial=f"trial-000{index}", params=params, value=value, state=state)


TRIALS = [trial_of(0, 0.5), trial_of(1, 0.75), trial_of(2, 0.7), trial_of(3, 0.9, "pruned"), trial_of(4, 0.6)]


def train_with(values: dict[int, list[float | None]]) -> Any:
    """Replace `run_trials`: give each trial its value at each seed."""

    def run_trials(study: Any, source: Any, on_event: Any, train: Any) -> None:
        while (given := source.ask()) is not None:
            index = round(10 * given.params["loss.sigma_temporal"])
            value = values[index][given.params["seed"] - 1]
            assert study.trial_run(given).experiment.seed == given.params["seed"]
            source.finish(given.name, None if value is None else [value])

    return run_trials


@pytest.fixture
def confirmed(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(confirming, "connect", connect)

    def run(values: dict[int, list[float | None]], **options: Any) -> list[confirming.Candidate]:
        monkeypatch.setattr(confirming, "run_trials", train_with(values))
        return confirm(stub_study(data_root, tmp_path, 5), TRIALS, **{"n_best": 3, "n_seeds": 3} | options)

    return run


def test_a_lucky_trial_is_no_winner(confirmed: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Trial 1 was the best of the study; over the seeds trial 2 is, significantly better than 4 but not than 1."""
    first, second, third = confirmed({1: [0.6, 0.7, 0.5], 2: [0.7, 0.71, 0.69], 4: [0.5, 0.51, 0.48]})
    assert [first.trial, second.trial, third.trial] == ["trial-0002", "trial-0001", "trial-0004"]
    assert first.behind is None and first.mean == pytest.approx(0.7)
    of_second = over_seeds([0.1, 0.01, 0.19])
    assert second.behind.difference.mean == pytest.approx(of_second.mean)
    assert second.behind.p_value == pytest.approx(of_second.p_value)  # the larger of two is not corrected
    assert not second.is_significantly_behind
    assert third.behind.difference.mean == pytest.approx(0.61 / 3) and third.is_significantly_behind
    show_candidates([first, second, third])
    assert "no significant difference to trial-0002: trial-0001" in capsys.readouterr().out


def test_what_was_trained_is_not_trained_again(confirmed: Any) -> None:
    values: dict[int, list[float | None]] = {1: [0.6, None, 0.5], 2: [0.7, 0.7, 0.7], 4: [0.5, 0.5, 0.5]}
    once = confirmed(values)
    assert once[1].values == {1: 0.6, 3: 0.5}  # a seed that failed is missing, not zero
    assert confirmed({}) == once
    with pytest.raises(KeyError):
        confirmed({}, n_seeds=4)


def test_nothing_that_could_be_trained(confirmed: Any) -> None:
    with pytest.raises(HCLError, match="no seed of any candidate could be trained"):
        confirmed(dict.fromkeys((1, 2, 4), [None] * 3))


def test_a_lead_over_one_seed_is_not_significant(confirmed: Any, capsys: pytest.CaptureFixture[str]) -> None:
    candidates = confirmed({1: [0.6], 2: [0.7], 4: [0.5]}, n_seeds=1)
    assert not any(candidate.is_significantly_behind for candidate in candidates)
    show_candidates(candidates)
    assert "20.0 ± –" in capsys.readouterr().out


def test_candidates_are_corrected_for_their_number(confirmed: Any) -> None:
    """A lead that would be significant alone is not beside another one that is as small."""
    leads = [0.10, 0.13, 0.06]
    assert 0.025 < over_seeds(leads).p_value < 0.05
    behind = [0.7 - lead for lead in leads]
    _, second, third = confirmed({2: [0.7, 0.7, 0.7], 1: behind, 4: behind})
    assert not second.is_significantly_behind and not third.is_significantly_behind


def test_each_whole_trial_is_judged_at_its_best_fusion(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    searched: list[str] = []

    def search(folder: Path, experiment: Any, **options: Any) -> Search:
        searched.append(folder.name)
        assert options["n_trials"] == 50 and experiment.loss.sigma_temporal == int(folder.name[-1]) / 10
        value = {"trial-0000": 0.95, "trial-0001": 0.8}.get(folder.name, 0.6)
        return Search({"fusion.sigma_spatial": 2.0}, value, 0.5, 50, 0.1)

    study = stub_study(data_root, tmp_path, 5)
    for trial in TRIALS:
        run = study.trial_run(confirming.Given(trial.trial, trial.params))
        run.folder.mkdir(parents=True)
        (run.folder / "experiment.yaml").write_text(to_yaml(run.experiment))
    monkeypatch.setattr(fused_trials, "search_fusion", search)
    monkeypatch.setattr(fused_trials, "connect", connect)
    fused = fuse_trials(study, TRIALS, n_trials=50)
    assert searched == [f"trial-{number:04d}" for number in (0, 1, 2, 4)], "a trial that was stopped early is left out"
    assert [trial.trial for trial in fused][:2] == ["trial-0000", "trial-0001"]
    assert (fused[0].trained, fused[0].published, fused[0].fused) == (0.5, 0.5, 0.95)
    show_fused(fused)
    assert "sigma_spatial 2" in capsys.readouterr().out
    with pytest.raises(HCLError, match="no trial is complete"):
        fuse_trials(study, [TRIALS[3]], n_trials=50)
