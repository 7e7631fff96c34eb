"""CMA-ES (Hansen, arXiv:1604.00772) as a function of a study's trials.

Optuna's own sampler keeps its optimiser in the storage as a pickle, and whoever can write there could have it run code.
Here a trial notes two plain things: the generation that it was drawn from and, where it is the first of one, which
trials the generations before were judged by. From these the optimiser is made again for each trial, the same one
whatever has been killed in between. Of what Optuna's sampler has left in older studies only the generations are read.
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
_FIRST_STEP = 1 / 6  # of a parameter's range, as Optuna begins


class CmaSampler(BaseSampler):
    """CMA-ES for the numbers of a space; choices, and numbers that not all trials have, are drawn at random.

    Args:
        seed: of the trial that is asked for.
        n_random: trials of the study that are drawn at random before.
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
        known = [one for one in complete if search_space.keys() <= one.params.keys()]
        optimiser, judged_by = self._replayed(ranges, known, study)
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
        """Return the optimiser after all whole generations, and what those were judged by that nobody has noted."""
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
                of_it = [one.number for one in complete if one.system_attrs.get(GENERATION) == optimiser.generation]
                if len(of_it) < size:
                    return optimiser, new
                judged_by = new[generation] = of_it[:size]
            chosen = [by_number[number] for number in judged_by]
            optimiser.tell([(_point(ranges, one), sign * float(one.values[0])) for one in chosen])


def _point(ranges: _SearchSpaceTransform, trial: FrozenTrial) -> np.ndarray:
    return ranges.transform({name: trial.params[name] for name in ranges._search_space})


def _noted(trials: Sequence[FrozenTrial]) -> dict[str, list[int]]:
    """Return the trials that each generation was judged by; what is first said of one holds."""
    noted: dict[str, list[int]] = {}
    for trial in trials:
        judged_by = trial.system_attrs.get(JUDGED_BY)
        for generation, numbers in judged_by.items() if isinstance(judged_by, dict) else ():
            if isinstance(numbers, list):
                noted.setdefault(generation, [number for number in numbers if isinstance(number, int)])
    return noted
