"""What a study is: which experiment, which space, how many trials, and what its folder holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import results
from hcl.build import caches_grids
from hcl.config import Experiment
from hcl.errors import ConfigError, StorageError
from hcl.resolve import override, setting_of, to_yaml
from orchestration.runs import Run
from orchestration.train import STUDY, check_data, check_draws
from orchestration.worker import METRICS
from results.files import write_atomically
from search_spaces import Space


@dataclass(frozen=True)
class Study:
    """A search: what varies, around which experiment, and how long."""

    experiment: Experiment
    space: Space
    data_root: Path
    runs: Path
    n_trials: int
    seed: int = 0
    stop_early: bool = True

    @property
    def folder(self) -> Path:
        return self.runs / self.experiment.name

    def trial_run(self, trial_id: str, config: dict[str, Any]) -> Run:
        """The run of one trial; raises ConfigError where its values contradict each other."""
        experiment = override(self.experiment, self.space.overrides(config))
        return Run(experiment, self.data_root, self.runs, self.folder / "trials" / trial_id)


def check_study(study: Study) -> None:
    """Raise for what can be known to fail without starting anything: the space, the data, the folder."""
    check_space(study)
    run = Run(study.experiment, study.data_root, study.runs, study.folder)
    check_data(run)
    partitions = run.partitions()
    for probe in study.space.probes():
        if not _DRAWN_WITH.isdisjoint(probe):
            check_draws(override(study.experiment, probe), *partitions)
    if (study.folder / "experiment.yaml").exists() and not (study.folder / STUDY).exists():
        raise ConfigError(
            "holds a run, not a study", where=str(study.folder), remedy="give the study another name (--set name=...)"
        )


def check_space(study: Study) -> None:
    """Hold every path and bound of the space against the experiment's schema."""
    study.space.validate_paths(_require)
    metric = study.space.objective.metric
    if metric not in METRICS:
        raise ConfigError(
            f"trials do not report {metric!r}",
            where=f"space {study.space.name}, objective.metric",
            remedy=f"name one of {', '.join(METRICS)}",
        )
    for probe in study.space.probes():
        override(study.experiment, probe)
    if study.experiment.data.selection_partition == "test":
        raise ConfigError(
            "a study would choose settings on the test classes",
            where="data.selection_partition",
            remedy="sweep with data.protocol=standard; train the best settings with protocol published, if you must",
        )
    for path in study.space.searched:
        if path.startswith(_SECTIONS_FOR_ALL) or path in _SETTINGS_FOR_ALL:
            raise ConfigError(
                "would give each trial other questions or other data: their values could not be compared",
                where=f"space {study.space.name}, {path}",
                remedy="fix it, and make one study for each value",
            )
        is_cached = path.startswith("clips.") or path in _CACHED_WITH
        if is_cached and caches_grids(study.experiment):
            raise ConfigError(
                "cannot be searched where frozen stages of the backbone are encoded once for all trials",
                where=f"space {study.space.name}, {path}",
                remedy="leave it out of the space, or set model.cached_views=0",
            )


def _require(path: str) -> None:
    setting_of(path)


def best_experiment(study: Study, trials: Sequence[results.TrialRecord]) -> Experiment:
    """The study's experiment with the best trial's values, under the name `<study>-best`."""
    best = best_trial(study, trials)
    assert best is not None
    return override(study.experiment, {**best.params, "name": f"{study.experiment.name}-best"})


def best_trial(study: Study, trials: Sequence[results.TrialRecord]) -> results.TrialRecord | None:
    """The trial with the best value among those that did not fail."""
    pick = max if study.space.objective.mode == "max" else min
    scored = [(trial.value, trial) for trial in trials if trial.value is not None and trial.state != "failed"]
    return pick(scored, key=lambda one: one[0])[1] if scored else None


def open_folder(study: Study) -> None:
    """Make or reopen the study's folder; raises ConfigError where it holds another study."""
    content = {
        "experiment": study.experiment.digest(),
        "space": study.space.model_dump(mode="json"),
        "seed": study.seed,
        "n_trials": study.n_trials,
    }
    path = study.folder / STUDY
    if path.exists() and yaml.safe_load(path.read_text()) != content:
        raise ConfigError(
            "holds a study of another experiment, space, seed or number of trials",
            where=str(study.folder),
            remedy="give this one another name (--set name=...), or begin anew with --restart",
        )
    try:
        study.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, yaml.safe_dump(content, sort_keys=False).encode())
        write_atomically(study.folder / "experiment.yaml", to_yaml(study.experiment).encode())
    except OSError as error:
        raise StorageError(
            f"cannot be written: {error.strerror}", where=str(study.folder), remedy="give --runs a folder of yours"
        ) from error


_SECTIONS_FOR_ALL = ("data.", "evaluation.", "train.val_")
_SETTINGS_FOR_ALL = frozenset(("name", "mode", "train.workers", "train.use_gpu"))
_CACHED_WITH = frozenset(
    f"model.{name}" for name in ("backbone", "weights", "train_backbone", "frozen_stages", "cached_views")
) | {"seed", "train.precision"}
_DRAWN_WITH = frozenset(("train.classes_per_batch",))
