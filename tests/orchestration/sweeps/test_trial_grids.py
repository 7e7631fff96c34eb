"""Test that the grids of frozen stages are encoded for every setting that a study's trials may have."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hcl.errors import ConfigError
from hcl.frames.stored_dataset import DataRoot
from orchestration.runtime import actors
from orchestration.sweeps.checks import check_space
from orchestration.sweeps.study import Study
from orchestration.sweeps.sweep import sweep
from orchestration.sweeps.trial_grids import grid_jobs, variations_of_grids
from orchestration.sweeps.trial_source import Given
from orchestration.training import grids
from search_spaces import Space
from tests.orchestration.conftest import tiny_experiment

FLIP = {"type": "choice", "values": [False, True]}
CROP = {"type": "choice", "values": [[0.2, 1.0], [0.6, 1.0]]}
RATE = {"type": "float", "low": 1e-4, "high": 1e-3}


def study_of(data_root: Path, runs: Path, parameters: dict[str, Any], n_trials: int = 4, **changes: Any) -> Study:
    space = Space.model_validate({"name": "test", "about": "for tests", "parameters": parameters})
    experiment = tiny_experiment(**{"name": "study", "train__epochs": 1} | changes)
    return Study(experiment, space, DataRoot(data_root), runs, n_trials, seed=1)


def test_each_combination_of_augmentations_has_grids_and_other_settings_share_them(
    data_root: Path, tmp_path: Path
) -> None:
    parameters = {"clips.flip": FLIP, "clips.crop_scale": CROP, "optim.lr": RATE}
    study = study_of(data_root, tmp_path, parameters)
    check_space(study)
    variations = variations_of_grids(study)
    assert len(variations) == 4
    ready = {job.store(tmp_path).folder for job in grid_jobs(study, variations)}
    assert len(ready) == 8  # of training and of validation clips
    for seed in range(20):  # whatever a trial draws, it reads some of them
        run = study.trial_run(Given(f"trial-{seed}", study.space.sample(seed)))
        assert {job.store(tmp_path).folder for job in run.grid_jobs()} <= ready


def test_without_settings_of_grids_there_is_one_variation(data_root: Path, tmp_path: Path) -> None:
    assert variations_of_grids(study_of(data_root, tmp_path, {"optim.lr": RATE})) == [{}]


def test_trials_that_read_no_grids_may_search_any_augmentation(data_root: Path, tmp_path: Path) -> None:
    parameters = {"clips.jitter": {"type": "float", "low": 0.0, "high": 1.0}}
    study = study_of(data_root, tmp_path, parameters, model__cached_views=0)
    check_space(study)
    assert grid_jobs(study, variations_of_grids(study)) == []


def test_a_space_that_switches_the_cache_on_is_checked_too(data_root: Path, tmp_path: Path) -> None:
    parameters = {"model.cached_views": {"type": "choice", "values": [0, 2]}, "clips.flip": FLIP}
    study = study_of(data_root, tmp_path, parameters, model__cached_views=0)
    assert len(grid_jobs(study, variations_of_grids(study))) == 4
    endless = study_of(data_root, tmp_path, parameters | {"clips.jitter": RATE}, model__cached_views=0)
    with pytest.raises(ConfigError, match=r"space test, clips.jitter: has more values than grids"):
        check_space(endless)


def test_too_many_combinations_are_refused_by_their_number(data_root: Path, tmp_path: Path) -> None:
    parameters = {"clips.n_frames": {"type": "int", "low": 2, "high": 10}, "clips.flip": FLIP}
    with pytest.raises(ConfigError, match=r"18 combinations of clips.n_frames, clips.flip .* for at most 16"):
        check_space(study_of(data_root, tmp_path, parameters))


@pytest.mark.ray
def test_no_trial_encodes_anything(
    local_ray: ModuleType, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver encodes all grids before the first trial, and trials of both values end well."""
    encoded: list[Any] = []

    def spied(make: Any, blocks: list[Any], *arguments: Any, **options: Any) -> Any:
        encoded.extend(job.experiment.clips.flip for job, *_ in blocks)
        return actors.map_actors(make, blocks, *arguments, **options)

    monkeypatch.setattr(grids, "map_actors", spied)
    study = study_of(data_root, tmp_path, {"clips.flip": {"type": "grid", "values": [False, True]}}, 2)
    _, trials = sweep(study, command="hcl sweep")
    assert [trial.state for trial in trials] == ["complete"] * 2
    assert {trial.params["clips.flip"] for trial in trials} == {False, True} == set(encoded)
