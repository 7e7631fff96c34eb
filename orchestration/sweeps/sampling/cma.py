"""Implement CMA-ES (Hansen, arXiv:1604.00772) as a function of a study's trials.

Optuna's own sampler stores its optimiser as a pickle, so that anybody who can write to the storage could run code here.
This one stores two plain values with a trial: the generation that it was drawn from and, if it is the first of a
generation, the trials by which the previous generations were judged. The optimiser is rebuilt from these for each
trial, so it is the same one after any interruption. Of the values that Optuna's sampler has left in older studies, only
the generations are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna._transform import _SearchSpaceTransform
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

GENERATION, JUDGED_BY = "cma:generation", "cma:judged_by"
_FIRST_STEP = 1 / 6  # of a parameter's range; Optuna starts with the same


class CmaSampler(BaseSampler):
    """Sample numeric parameters by CMA-ES; draw choices, and numbers that not all trials have, at random.

    Args:
        seed: the seed of the next trial.
        n_random: number of trials of the study that are drawn at random first.
    """

    def __init__(self, seed: int, n_random: int):
        self._seed, self._n_random = seed, n_random
        self._random = RandomSampler(seed=seed)
        self._shared = IntersectionSearchSpace()

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {
            name: distribution
            for name, distribution in self._shared.calculate(study).items()
            if isinstance(distribution, FloatDistribution | IntDistribution) and not distribution.single()
        }

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if not search_space or len(complete) < self._n_random:
            return {}
        ranges = _SearchSpaceTransform(search_space, transform_0_1=True)
        usable = [trial for trial in complete if search_space.keys() <= trial.params.keys()]
        optimiser, judged_by = self._replayed(ranges, usable, study)
        if judged_by:
            study._storage.set_trial_system_attr(trial._trial_id, JUDGED_BY, judged_by)
        study._storage.set_trial_system_attr(trial._trial_id, GENERATION, optimiser.generation)
        return ranges.untransform(optimiser.ask())

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def _replayed(
        self, ranges: _SearchSpaceTransform, complete: Sequence[FrozenTrial], study: optuna.Study
    ) -> tuple[Any, dict[str, list[int]]]:
        """Return the optimiser after all complete generations, and the judging trials that are not noted yet."""
        import cmaes  # an optional package

        n = len(ranges.bounds)
        optimiser = cmaes.CMA(
            mean=np.full(n, 0.5), sigma=_FIRST_STEP, bounds=ranges.bounds, n_max_resampling=10 * n, seed=self._seed
        )
        noted, by_number = _noted(study.get_trials(deepcopy=False)), {trial.number: trial for trial in complete}
        sign = 1.0 if study.direction == StudyDirection.MINIMIZE else -1.0
        new: dict[str, list[int]] = {}
        while True:
            generation, size = str(optimiser.generation), optimiser.population_size
            judged_by = [number for number in noted.get(generation, []) if number in by_number]
            if len(judged_by) != size:
                members = [
                    trial.number for trial in complete if trial.system_attrs.get(GENERATION) == optimiser.generation
                ]
                if len(members) < size:
                    return optimiser, new
                judged_by = new[generation] = members[:size]
            chosen = [by_number[number] for number in judged_by]
            optimiser.tell([(_point(ranges, trial), sign * float(trial.values[0])) for trial in chosen])


def _point(ranges: _SearchSpaceTransform, trial: FrozenTrial) -> np.ndarray:
    return ranges.transform({name: trial.params[name] for name in ranges._search_space})


def _noted(trials: Sequence[FrozenTrial]) -> dict[str, list[int]]:
    """Return the trials by which each generation was judged; the first note about a generation counts."""
    noted: dict[str, list[int]] = {}
    for trial in trials:
        judged_by = trial.system_attrs.get(JUDGED_BY)
        for generation, numbers in judged_by.items() if isinstance(judged_by, dict) else ():
            if isinstance(numbers, list):
                noted.setdefault(generation, [number for number in numbers if isinstance(number, int)])
    return noted
