"""Make Optuna's samplers by name.

A sampler's random numbers are a function of the study's seed and the trial's index, and all other state of a sampler
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
from optuna.trial import FrozenTrial

from hcl.errors import ConfigError
from orchestration.sweeps.sampling.cma import CmaSampler
from orchestration.sweeps.sampling.seen import SeenStudy, Turn

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


def learns(name: str) -> bool:
    """Return whether a sampler chooses a trial by the results of others."""
    return name in ("tpe", "cmaes", "gp")


def make_sampler(name: str, seed: int) -> TurnSampler:
    """Return Optuna's sampler of that name; its first trials are drawn at random."""

    def sampler_of(seed_of_trial: int) -> BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return _MAKE[name](seed_of_trial)

    return TurnSampler(sampler_of, seed)


def seed_of(seed: int, number: int | str) -> int:
    """Return a seed of 31 bits for one trial of a study, or for one parameter of a trial."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest()[:4], "big") >> 1


class TurnSampler(BaseSampler):
    """Delegate each call to a sampler that is made for the current trial.

    Attributes:
        turn: the seed of the next trial and the trials that its sampler sees; None: a seed by Optuna's number of the
            trial, and all that the study holds by now.
    """

    def __init__(self, sampler_of: Callable[[int], BaseSampler], seed: int):
        self._sampler_of, self._seed = sampler_of, seed
        self.turn: Turn | None = None
        self._made_for: tuple[int, int] | None = None
        self._sampler: BaseSampler = RandomSampler()

    def _for(self, study: optuna.Study, trial: FrozenTrial) -> tuple[BaseSampler, optuna.Study]:
        seed = seed_of(self._seed, trial.number) if self.turn is None else self.turn.seed
        if self._made_for != (trial.number, seed):
            self._made_for, self._sampler = (trial.number, seed), self._sampler_of(seed)
        return self._sampler, study if self.turn is None else SeenStudy(study, self.turn.trials)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        sampler, seen = self._for(study, trial)
        return sampler.infer_relative_search_space(seen, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        sampler, seen = self._for(study, trial)
        return sampler.sample_relative(seen, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        sampler, seen = self._for(study, trial)
        if self.turn is not None:  # a trial that was killed half drawn skips the values that it has already
            sampler = self._sampler_of(seed_of(self.turn.seed, param_name))
        return sampler.sample_independent(seen, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        sampler, seen = self._for(study, trial)
        sampler.before_trial(seen, trial)
