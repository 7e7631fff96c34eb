"""Make Optuna's samplers by name.

A sampler's random numbers are a function of the study's seed and the trial's number, and all other state of a sampler
lies in the study's storage. A study that is resumed after a kill therefore draws the values that it would have drawn.
"""

from __future__ import annotations

import hashlib
import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from hcl.errors import ConfigError
from orchestration.sweeps.sampling.cma import CmaSampler

_RANDOM_TRIALS = 6  # trials that a model of the objective needs first
_NEEDS = {"cmaes": ("cmaes",), "gp": ("scipy",)}
_MAKE: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed, multivariate=True, n_startup_trials=_RANDOM_TRIALS),
    "cmaes": lambda seed: CmaSampler(seed, _RANDOM_TRIALS),
    "gp": lambda seed: GPSampler(seed=seed, n_startup_trials=_RANDOM_TRIALS),
    "random": lambda seed: RandomSampler(seed=seed),
    "grid": lambda seed: RandomSampler(seed=seed),  # the grid gives every value; nothing is drawn
    "population": lambda seed: RandomSampler(seed=seed),  # of the first round; see orchestration.sweeps.population
}


def check_sampler(name: str, n_objectives: int) -> None:
    """Raise ConfigError if a sampler is not installed, or does not support the number of objectives."""
    missing = [package for package in _NEEDS.get(name, ()) if importlib.util.find_spec(package) is None]
    if missing:
        raise ConfigError(
            f"needs the package {missing[0]}, which is not installed",
            where=f"--sampler {name}",
            remedy="pip install 'hcl-orchestrator[samplers]', or use tpe",
        )
    if name == "cmaes" and n_objectives > 1:
        raise ConfigError(
            f"searches for one objective, the space has {n_objectives}",
            where="--sampler cmaes",
            remedy="use tpe or gp",
        )


def make_sampler(name: str, seed: int) -> BaseSampler:
    """Return Optuna's sampler of that name; its first trials are drawn at random."""

    def sampler_for(number: int) -> BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return _MAKE[name](seed_of(seed, number))

    return _SeededByTrial(sampler_for)


def seed_of(seed: int, number: int) -> int:
    """Return a seed of 31 bits for one trial of a study."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest()[:4], "big") >> 1


class _SeededByTrial(BaseSampler):
    """Delegate each call to a sampler that is made for the current trial."""

    def __init__(self, sampler_for: Callable[[int], BaseSampler]):
        self._sampler_for = sampler_for
        self._number: int | None = None
        self._sampler: BaseSampler = RandomSampler()

    def _for(self, trial: FrozenTrial) -> BaseSampler:
        if trial.number != self._number:
            self._number, self._sampler = trial.number, self._sampler_for(trial.number)
        return self._sampler

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._for(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._for(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._for(trial).sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._for(trial).before_trial(study, trial)

    def after_trial(self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        self._for(trial).after_trial(study, trial, state, values)
