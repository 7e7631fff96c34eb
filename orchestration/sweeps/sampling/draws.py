"""Draw the values of the next trial: given points first, then a grid, then what the sampler suggests.

Values that cannot be run are refused and drawn again. Each step is in the storage before the next one, so a study that
was killed between any two of them draws what it would have drawn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from hcl.errors import HCLError
from orchestration.sweeps.sampling.samplers import TurnSampler, seed_of
from orchestration.sweeps.sampling.seen import Turn
from orchestration.sweeps.trial_source import NAME
from search_spaces import Space

_POINT, _GRID, _INFEASIBLE, _INDEX, _AGAIN, _GOOD = "point", "grid", "infeasible", "index", "again", "good"
"""Notes of a trial: the point and the place in the grid that it was enqueued for; of a refused one the problem, the
index that it was drawn for, and the point that is enqueued again; and the index for which a feasible draw stands in."""
_TRIES_OF_SAMPLER, _TRIES = 10, 10_000


class Draws:
    """Draw trials of a study, in the order of their indices.

    Args:
        points: the points of a grid; empty: there is none.
        problem_with: returns the problem of a trial's values, or None; values with a problem are refused.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: Space,
        sampler: TurnSampler,
        *,
        seed: int,
        points: Sequence[Mapping[str, Any]],
        problem_with: Callable[[Mapping[str, Any]], str | None],
    ):
        self._study, self._space, self._sampler, self._seed = study, space, sampler, seed
        self._points, self._problem_with = points, problem_with
        self._n_grid = 0
        self._half_drawn: list[int] = []
        self._n_refused: Counter[int] = Counter()  # by index
        self.read()

    def read(self) -> None:
        """Read what an earlier process has left in the storage."""
        trials = self._study.get_trials(deepcopy=False)
        self._n_grid = len({trial.user_attrs[NAME] for trial in trials if {_GRID, NAME} <= trial.user_attrs.keys()})
        unnamed = [trial for trial in trials if NAME not in trial.user_attrs]
        refused = [trial for trial in unnamed if _INFEASIBLE in trial.user_attrs]
        indices = [trial.user_attrs.get(_INDEX) for trial in refused]
        self._n_refused = Counter(index for index in indices if isinstance(index, int))
        running = [trial for trial in unnamed if trial.state == TrialState.RUNNING]
        self._half_drawn = [trial.number for trial in running if _INFEASIBLE not in trial.user_attrs]
        for trial in refused:
            if trial.state == TrialState.RUNNING:
                self._end_refusal(trial.number, trial.user_attrs.get(_AGAIN))

    def enqueue(self, point: Mapping[str, Any]) -> None:
        """Enqueue an encoded point, to be given out before anything is sampled, unless the study has it already."""
        self._study.enqueue_trial(dict(point), user_attrs={_POINT: dict(point)}, skip_if_exists=True)

    def is_under_way(self) -> bool:
        """Return whether the next trial is enqueued or half drawn already, by a process that was killed."""
        return bool(self._half_drawn or self._waiting())

    def next(self, index: int, seen: list[FrozenTrial] | None) -> tuple[optuna.Trial, dict[str, Any]]:
        """Return the trial of this index with its params.

        Args:
            seen: the trials that the sampler sees; None: all that the storage holds, with a seed by Optuna's number.
        Raises:
            HCLError: if the constraints leave almost nothing to draw.
        """
        while True:
            attempt = self._n_refused[index]
            if attempt >= _TRIES_OF_SAMPLER:
                self._enqueue_a_good_draw(index)
            seed = seed_of(self._seed, index) if attempt == 0 else seed_of(seed_of(self._seed, index), attempt)
            self._sampler.turn = None if seen is None else Turn(seed, seen)
            trial = self._next()
            params = self._space.suggest(trial)  # type: ignore[arg-type]
            problem = self._problem_with(params)
            if problem is None:
                self._n_grid += _GRID in trial.user_attrs
                return trial, params
            self._refuse(trial, problem, index)

    def _next(self) -> optuna.Trial:
        if self._half_drawn:  # killed while its values were drawn: those already drawn are kept
            storage, number = self._study._storage, self._half_drawn.pop(0)
            id_ = storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number)
            return optuna.Trial(self._study, id_)
        if self._points and not self._waiting():
            point = dict(self._points[self._n_grid % len(self._points)])
            self._study.enqueue_trial(point, user_attrs={_POINT: point, _GRID: self._n_grid})
        return self._study.ask()

    def _waiting(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))

    def _refuse(self, trial: optuna.Trial, problem: str, index: int) -> None:
        """Mark a trial as infeasible, so that it never runs, and enqueue its point to draw the rest anew."""
        point = trial.user_attrs.get(_POINT, {})
        is_partial = point and _GRID not in trial.user_attrs and len(point) < len(trial.params)
        again = point if is_partial and self._n_refused[index] + 1 < _TRIES_OF_SAMPLER else None
        trial.set_user_attr(_INDEX, index)
        trial.set_user_attr(_AGAIN, again)
        trial.set_user_attr(_INFEASIBLE, problem)
        self._n_refused[index] += 1
        self._end_refusal(trial.number, again)

    def _end_refusal(self, number: int, again: Mapping[str, Any] | None) -> None:
        if isinstance(again, Mapping) and not any(trial.user_attrs.get(_POINT) == again for trial in self._waiting()):
            self._study.enqueue_trial(dict(again), user_attrs={_POINT: dict(again)})
        self._study.tell(number, state=TrialState.FAIL)

    def _enqueue_a_good_draw(self, index: int) -> None:
        """Enqueue a feasible random draw, for constraints so narrow that the sampler finds no feasible values."""
        if any(trial.user_attrs.get(_GOOD) == index for trial in self._study.get_trials(deepcopy=False)):
            return
        problem: str | None = None
        for attempt in range(_TRIES):
            params = self._space.sample(seed_of(self._seed, index * _TRIES + attempt))
            problem = self._problem_with(params)
            if problem is None:
                self._study.enqueue_trial(self._space.encode(params), user_attrs={_GOOD: index})
                return
        raise HCLError(
            f"none of {_TRIES} draws can be run: {problem}",
            where=f"space {self._space.name}",
            remedy="widen its constraints, or its parameters",
        )
