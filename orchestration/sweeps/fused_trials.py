"""Search the best fusion of the levels for each complete trial: `hcl sweep --fuse N`, the second stage of a search.

The first stage trains. The sigmas of the fusion need no training, and are searched on each trial's val score table.
Both values are shown side by side: the one from training, and the one that the fusion reaches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import results
from hcl.assembly.experiment_files import load_resolved
from hcl.errors import HCLError
from hcl.files.json_files import write_checked_json
from orchestration.evaluation.fuse import search_fusion
from orchestration.runtime.connect import connect
from orchestration.storage.locks import held, lock_of
from orchestration.sweeps.study import Study
from search_spaces import Space, load_space

FUSED_TRIALS = "fused_trials.json"


@dataclass(frozen=True)
class FusedTrial:
    """Hold the results of a trial in both stages.

    Attributes:
        trained: its objective in the study.
        fused, published: mean val accuracy over `evaluation.shots`, at its best fusion and at the published one.
        settings: the settings of its best fusion, by dotted path.
    """

    trial: str
    trained: float
    fused: float
    published: float
    settings: dict[str, Any]


def fuse_trials(
    study: Study,
    trials: Sequence[results.TrialRecord],
    *,
    n_trials: int,
    space: Space | None = None,
    address: str | None = None,
    on_trial: Callable[[FusedTrial], None] = lambda fused: None,
) -> list[FusedTrial]:
    """Search the fusion of every complete trial and return them, the best first. A repeated call reads earlier results.

    Raises:
        ConfigError: if a trial has no levels to weight, or val was trained on.
        HCLError: if no trial is complete.
    """
    space = space or load_space("fusion")
    if not any(trial.state == "complete" and trial.value is not None for trial in trials):
        raise HCLError("no trial is complete", where=str(study.folder), remedy="sweep with --stop none")
    fused_trials: list[FusedTrial] = []
    with held(lock_of(study.folder), what=f"study {study.experiment.name}"), connect(address):
        for trial in trials:
            if trial.state != "complete" or trial.value is None:
                continue
            folder = study.trial_folder(trial.trial)
            search = search_fusion(
                folder,
                load_resolved(folder / "experiment.yaml"),
                data=study.data,
                runs=study.runs,
                space=space,
                n_trials=n_trials,
                seed=study.seed,
            )
            fused_trials.append(FusedTrial(trial.trial, trial.value, search.value, search.published, search.settings))
            on_trial(fused_trials[-1])
    fused_trials.sort(key=lambda trial: -trial.fused)
    write_fused(study, fused_trials)
    return fused_trials


def write_fused(study: Study, found: Sequence[FusedTrial]) -> Path:
    """Keep both stages of every trial in the study's folder, for people. Raises StorageError."""
    return write_checked_json(study.folder / FUSED_TRIALS, {"trials": [vars(one) for one in found]})
