"""Keep a study's ledger, the single source of truth, in Optuna's storage: trials that were given out, run or ended.

Ray Tune runs the trials that the ledger gives out, and its own state is never used again. After a kill the ledger is
opened again; it first gives out the trials that were running, with the same values and names, and then new ones.
Optuna's dashboard and later studies can read it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from hcl.errors import HCLError, StorageError
from orchestration.sweeps.sampling.early_stopping import make_pruner
from orchestration.sweeps.sampling.samplers import make_sampler, seed_of
from orchestration.sweeps.storage.frozen_trials import directions_of, learnt_trial, trial_again
from orchestration.sweeps.trial_source import NAME, OF_AN_END, Given
from search_spaces import Space, grid_points

_GIVEN = re.compile(r"trial-[0-9]{4,9}")
_INFEASIBLE, _POINT, _GRID, _LEARNT = "infeasible", "point", "grid", "learnt"
_TRIES_OF_SAMPLER, _TRIES = 10, 10_000


class Ledger:
    """Hold the trials of one study; one process writes it at a time.

    Args:
        epochs: epochs of a complete trial, for the rule that stops trials early.
        problem_with: returns the problem of a trial's values, or None; values with a problem are never run.
    """

    def __init__(
        self,
        name: str,
        storage: BaseStorage,
        space: Space,
        *,
        n_trials: int,
        sampler: str = "tpe",
        stop_rule: str = "none",
        epochs: int = 1,
        seed: int = 0,
        problem_with: Callable[[Mapping[str, Any]], str | None] = lambda params: None,
    ):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.n_trials, self.seed = space, n_trials, seed
        self._storage, self._problem_with = storage, problem_with
        self._points = grid_points(space, whole=sampler == "grid")
        if sampler == "grid":
            self._points = [point for point in self._points if problem_with(space.decode(point)) is None]
            self.n_trials = min(n_trials, len(self._points))
        self.study = optuna.create_study(
            storage=storage,
            study_name=name,
            directions=directions_of(space),
            load_if_exists=True,
            sampler=make_sampler(sampler, seed),
            pruner=make_pruner("none" if space.trade_offs else stop_rule, epochs),
        )
        self._study_id = storage.get_study_id_from_name(name)
        self._numbers: dict[str, int] = {}  # of the trials that were given out, by name
        self._running: set[str] = set()
        self._half_asked: list[int] = []
        self._n_grid = 0
        self._read()
        self._interrupted = sorted(self._running)
        if sampler != "grid":
            for point in space.encoded_first_points():
                self.enqueue(point)

    def may_ask(self) -> bool:
        """Return whether the next trial can be chosen from the trials that have ended by now. Here it always can."""
        return True

    def enqueue(self, point: Mapping[str, Any]) -> None:
        """Enqueue an encoded point, to be given out before anything is sampled, unless the study has it already."""
        self.study.enqueue_trial(dict(point), user_attrs={_POINT: dict(point)}, skip_if_exists=True)

    def learn(self, known: Sequence[tuple[Mapping[str, Any], Sequence[float]]]) -> None:
        """Let the sampler know params and objectives of another study's trials; they do not count as this one's."""
        for params, objectives in known:
            self.study.add_trial(learnt_trial(self.space, params, objectives, {_LEARNT: True}))

    def ask(self) -> Given | None:
        """Return the next trial to run, first those that a kill interrupted; None after the last one.

        Raises HCLError if the constraints leave almost nothing to draw.
        """
        if self._interrupted:
            return self.given(self._interrupted.pop(0))
        if len(self._numbers) >= self.n_trials:
            return None
        for attempt in range(_TRIES_OF_SAMPLER + 1):
            if attempt == _TRIES_OF_SAMPLER:
                self._enqueue_a_good_draw()
            trial = self._next()
            params = self.space.suggest(trial)  # type: ignore[arg-type]
            problem = self._problem_with(params)
            if problem is None:
                return self._give_out(trial, params)
            self._refuse(trial, problem)
        raise AssertionError("a feasible draw became infeasible")

    def given(self, name: str) -> Given:
        """A trial as it was given out."""
        return Given(name, self.space.decode(self.trial(name).params))

    def report(self, name: str, epoch: int, value: float) -> bool:
        """Note the objective after an epoch, and return whether the trial should stop because it falls behind."""
        if self.space.trade_offs or not math.isfinite(value):
            return False
        self._storage.set_trial_intermediate_value(self._id(name), epoch, value)
        return bool(self.study.pruner.prune(self.study, self.trial(name)))

    def take_back(self, name: str) -> None:
        """Put a trial back in the queue, unchanged, because its process died before training started."""
        self._interrupted.insert(0, name)

    def finish(
        self,
        name: str,
        values: Sequence[float] | None,
        *,
        is_whole: bool = True,
        notes: Mapping[str, Any] | None = None,
    ) -> None:
        """Note the end of a trial; this happens once and is final.

        Args:
            values: values of the objectives, in their order; None: the trial has failed.
            is_whole: whether the trial was not stopped early.
            notes: notes under EPOCHS, SECONDS, ERROR, LOG and BEST; those that are None are left out.
        """
        for key, note in (notes or {}).items():
            if note is not None:
                self._storage.set_trial_user_attr(self._id(name), key, note)
        if values is None or not all(map(math.isfinite, values)):
            self.study.tell(self._numbers[name], state=TrialState.FAIL)
        elif is_whole or self.space.trade_offs:
            self.study.tell(self._numbers[name], list(values))
        else:
            self.study.tell(self._numbers[name], state=TrialState.PRUNED)
        self._running.discard(name)

    def failed(self) -> list[str]:
        """Return the names of the failed trials."""
        return [trial.user_attrs[NAME] for trial in self.trials() if trial.state == TrialState.FAIL]

    def retry_failed(self) -> None:
        """Give out every failed trial again, unchanged. The last note about a name counts."""
        for trial in self.trials():
            if trial.state == TrialState.FAIL:
                self.study.add_trial(trial_again(trial, without=OF_AN_END))
        self._read()
        self._interrupted = sorted(self._running)

    def trial(self, name: str) -> FrozenTrial:
        """Return a trial from the storage."""
        return self._storage.get_trial(self._id(name))

    def trials(self) -> list[FrozenTrial]:
        """Return the trials that were given out, in their order."""
        trials = self.study.get_trials(deepcopy=False)
        return [trials[number] for number in self._numbers.values()]

    @property
    def n_running(self) -> int:
        """Return the number of running trials that this process has given out."""
        return len(self._running) - len(self._interrupted)

    def is_done(self) -> bool:
        """Return whether all trials were given out and none is running."""
        return not self._running and len(self._numbers) >= self.n_trials

    def _read(self) -> None:
        """Read what an earlier process has left in the storage."""
        self._numbers.clear()
        self._half_asked.clear()
        self._n_grid = 0
        for trial in self.study.get_trials(deepcopy=False):
            if name := trial.user_attrs.get(NAME):
                if not _GIVEN.fullmatch(str(name)):  # the name becomes a folder
                    raise StorageError(
                        f"holds a trial with the name {name!r:.80}",
                        where=f"ledger of {self.study.study_name}",
                        remedy="restore the study's journal from a backup, or start over with --restart",
                    )
                self._n_grid += _GRID in trial.user_attrs and name not in self._numbers
                self._numbers[name] = trial.number
                if trial.state == TrialState.RUNNING:
                    self._running.add(name)
            elif trial.state == TrialState.RUNNING and _INFEASIBLE in trial.user_attrs:
                self.study.tell(trial.number, state=TrialState.FAIL)
            elif trial.state == TrialState.RUNNING:
                self._half_asked.append(trial.number)

    def _next(self) -> optuna.Trial:
        if self._half_asked:  # killed while its values were drawn: those already drawn are kept
            return optuna.Trial(self.study, self._id_of(self._half_asked.pop(0)))
        if self._points and not self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            point = self._points[self._n_grid % len(self._points)]
            self.study.enqueue_trial(point, user_attrs={_POINT: point, _GRID: self._n_grid})
        return self.study.ask()

    def _give_out(self, trial: optuna.Trial, params: dict[str, Any]) -> Given:
        name = f"trial-{len(self._numbers):04d}"
        self._n_grid += _GRID in trial.user_attrs
        trial.set_user_attr(NAME, name)
        self._numbers[name] = trial.number
        self._running.add(name)
        return Given(name, params)

    def _refuse(self, trial: optuna.Trial, problem: str) -> None:
        """Mark a trial as infeasible, so that it never runs, and enqueue its point to draw the rest anew."""
        point = trial.user_attrs.get(_POINT, {})
        trial.set_user_attr(_INFEASIBLE, problem)
        self.study.tell(trial.number, state=TrialState.FAIL)
        if point and _GRID not in trial.user_attrs and len(point) < len(trial.params):
            self.study.enqueue_trial(point, user_attrs={_POINT: point})

    def _enqueue_a_good_draw(self) -> None:
        """Enqueue a feasible random draw, for constraints so narrow that the sampler finds no feasible values."""
        number = len(self.study.get_trials(deepcopy=False))
        problem: str | None = None
        for attempt in range(_TRIES):
            params = self.space.sample(seed_of(self.seed, number * _TRIES + attempt))
            problem = self._problem_with(params)
            if problem is None:
                self.study.enqueue_trial(self.space.encode(params))
                return
        raise HCLError(
            f"none of {_TRIES} draws can be run: {problem}",
            where=f"space {self.space.name}",
            remedy="widen its constraints, or its parameters",
        )

    def _id(self, name: str) -> int:
        return self._id_of(self._numbers[name])

    def _id_of(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
