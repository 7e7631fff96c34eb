"""Keep a study's ledger, the single source of truth, in Optuna's storage: trials that were given out, run or ended.

Ray Tune runs the trials that the ledger gives out, and its own state is never used again. After a kill the ledger is
opened again; it first gives out the trials that were running, with the same values and names, and then new ones.
Optuna's dashboard and later studies can read it.

A ledger with a lag is a function of its seed: trial k is chosen by the results of the trials before k - lag, for which
it waits, and is stopped by comparison with trials of lower index. When they end does not matter. Without a lag both
depend on what has ended by then.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hcl.errors import StorageError
from orchestration.sweeps.sampling.draws import Draws
from orchestration.sweeps.sampling.early_stopping import rungs_of
from orchestration.sweeps.sampling.rungs import End, Rungs
from orchestration.sweeps.sampling.samplers import learns, make_sampler
from orchestration.sweeps.sampling.seen import seen_trials
from orchestration.sweeps.storage.frozen_trials import directions_of, learnt_trial, trial_again
from orchestration.sweeps.trial_source import EPOCHS, ERROR, LOG, NAME, OF_AN_END, Given, index_of, name_of
from search_spaces import Space, grid_points

_GIVEN = re.compile(r"trial-[0-9]{4,9}")
_LEARNT = "learnt"


class Ledger:
    """Hold the trials of one study; one process writes it at a time.

    Args:
        stop_rule, first_rung, epochs: the rule that stops trials early, the first epoch after which it does, and the
            epochs of a complete trial.
        lag: the number of trials before each one whose results its sampler does not see; None: it sees all that have
            ended by then, and the study is not a function of its seed.
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
        first_rung: int = 1,
        epochs: int = 1,
        seed: int = 0,
        lag: int | None = None,
        problem_with: Callable[[Mapping[str, Any]], str | None] = lambda params: None,
    ):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.n_trials, self.seed, self.lag = space, n_trials, seed, lag
        self._storage, self._problem_with = storage, problem_with
        self._sampler, self._learns = sampler, learns(sampler)
        points = grid_points(space, whole=sampler == "grid")
        if sampler == "grid":
            points = [point for point in points if problem_with(space.decode(point)) is None]
            self.n_trials = min(n_trials, len(points))
        turns = make_sampler(sampler, seed)
        self.study = optuna.create_study(
            storage=storage, study_name=name, directions=directions_of(space), load_if_exists=True, sampler=turns
        )
        self._study_id = storage.get_study_id_from_name(name)
        self._numbers: dict[str, int] = {}  # of the trials that were given out, by name
        self._running: set[str] = set()
        self._ended: list[str] = []
        self._read()
        self._interrupted = sorted(self._running, key=index_of)
        self._draws = Draws(self.study, space, turns, seed=seed, points=points, problem_with=problem_with)
        self._rungs = Rungs(
            stop_rule,
            () if space.trade_offs else rungs_of(stop_rule, first_rung, epochs),
            is_max=self.study.directions[0] == StudyDirection.MAXIMIZE,
            in_order=lag is not None,
            trials=self.trials,
            write=self._write,
            end=self._end,
        )
        if sampler != "grid":
            for point in space.encoded_first_points():
                self.enqueue(point)

    def may_ask(self) -> bool:
        """Return whether the next trial can be chosen by now: all trials whose results its sampler sees have ended."""
        if self._interrupted or len(self._numbers) >= self.n_trials or self.lag is None or not self._learns:
            return True
        return all(index_of(name) >= len(self._numbers) - self.lag for name in self._running)

    def enqueue(self, point: Mapping[str, Any]) -> None:
        """Enqueue an encoded point, to be given out before anything is sampled, unless the study has it already."""
        self._draws.enqueue(point)

    def learn(self, known: Sequence[tuple[Mapping[str, Any], Sequence[float]]]) -> None:
        """Let the sampler know params and objectives of another study's trials; they do not count as this one's.

        A call that was killed may be repeated.
        """
        for params, objectives in known[len(self._learnt()) :]:
            self.study.add_trial(learnt_trial(self.space, params, objectives, {_LEARNT: True}))

    def ask(self) -> Given | None:
        """Return the next trial to run, first those that a kill interrupted; None after the last one.

        Raises HCLError if the constraints leave almost nothing to draw.
        """
        if self._interrupted:
            return self.given(self._interrupted.pop(0))
        if len(self._numbers) >= self.n_trials:
            return None
        assert self.may_ask(), "trials that its sampler sees are still running"
        seen = None
        if self.lag is not None:
            seen = seen_trials(self._sampler, self._learnt(), self.trials(), self.lag) if self._learns else []
        trial, params = self._draws.next(len(self._numbers), seen)
        return self._give_out(trial, params)

    def given(self, name: str) -> Given:
        """A trial as it was given out."""
        return Given(name, self.space.decode(self.trial(name).params))

    def report(self, name: str, epoch: int, value: float) -> bool:
        """Note the objective after an epoch, and return whether the trial should stop because it falls behind."""
        if self.space.trade_offs or not math.isfinite(value):
            return False
        return self._rungs.report(index_of(name), epoch, value)

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
        earlier: Mapping[int, Mapping[str, Any]] | None = None,
    ) -> None:
        """Note the end of a trial; this happens once and is final. See `take_ended` for when it is recorded.

        Args:
            values: values of the objectives, in their order; None: the trial has failed.
            is_whole: whether the trial was not stopped early.
            notes: notes under EPOCHS, SECONDS, ERROR, LOG and BEST; those that are None are left out.
            earlier: notes by epoch, which count if it turns out that the trial should have stopped after that one.
        """
        self._rungs.end(index_of(name), End(values, is_whole, notes or {}, earlier or {}))

    def take_ended(self) -> list[str]:
        """Return the trials whose ends were recorded since the last call.

        With a lag a trial's end is recorded once all trials of lower index have come as far as its last rung.
        """
        ended, self._ended = self._ended, []
        return ended

    def failed(self) -> list[str]:
        """Return the names of the failed trials."""
        return [trial.user_attrs[NAME] for trial in self.trials() if trial.state == TrialState.FAIL]

    def retry_failed(self) -> None:
        """Give out every failed trial again, unchanged. The last note about a name counts."""
        for trial in self.trials():
            if trial.state == TrialState.FAIL:
                self.study.add_trial(trial_again(trial, without=OF_AN_END))
        self._read()
        self._draws.read()
        self._interrupted = sorted(self._running, key=index_of)

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
        return len(self._running) - len(self._interrupted) - self._rungs.n_kept_back

    @property
    def most_at_once(self) -> int | None:
        """Return how many trials can run at once, given the lag; None: any number."""
        return self.lag + 1 if self.lag is not None and self._learns else None

    def is_done(self) -> bool:
        """Return whether all trials were given out and none is running."""
        return not self._running and len(self._numbers) >= self.n_trials

    def _read(self) -> None:
        """Read which trials an earlier process has given out."""
        self._numbers.clear()
        for trial in self.study.get_trials(deepcopy=False):
            if name := trial.user_attrs.get(NAME):
                if not _GIVEN.fullmatch(str(name)):  # the name becomes a folder
                    raise self._damaged(f"holds a trial with the name {name!r:.80}")
                self._numbers[name] = trial.number
                if trial.state == TrialState.RUNNING:
                    self._running.add(name)
        names = sorted(self._numbers, key=index_of)
        if missing := [name_of(index) for index, name in enumerate(names) if index_of(name) != index]:
            raise self._damaged(f"does not hold {missing[0]}, but later ones")
        self._numbers = {name: self._numbers[name] for name in names}

    def _damaged(self, problem: str) -> StorageError:
        return StorageError(
            problem,
            where=f"ledger of {self.study.study_name}",
            remedy="restore the study's journal from a backup, or start over with --restart",
        )

    def _learnt(self) -> list[FrozenTrial]:
        return [trial for trial in self.study.get_trials(deepcopy=False) if _LEARNT in trial.user_attrs]

    def _give_out(self, trial: optuna.Trial, params: dict[str, Any]) -> Given:
        name = name_of(len(self._numbers))
        trial.set_user_attr(NAME, name)
        self._numbers[name] = trial.number
        self._running.add(name)
        return Given(name, params)

    def _write(self, index: int, epoch: int, value: float) -> None:
        self._storage.set_trial_intermediate_value(self._id(name_of(index)), epoch, value)

    def _end(self, index: int, end: End, rung: int | None) -> None:
        """Record a trial's end; `rung` is the epoch at which it was stopped."""
        name, notes = name_of(index), dict(end.notes)
        if rung is not None:
            notes = {**notes, ERROR: None, LOG: None, **end.earlier.get(rung, {}), EPOCHS: rung}
        for key, note in notes.items():
            if note is not None:
                self._storage.set_trial_user_attr(self._id(name), key, note)
        if rung is None and (end.values is None or not all(map(math.isfinite, end.values))):
            self.study.tell(self._numbers[name], state=TrialState.FAIL)
        elif rung is None and (end.is_whole or self.space.trade_offs):
            self.study.tell(self._numbers[name], list(end.values or ()))
        else:
            self.study.tell(self._numbers[name], state=TrialState.PRUNED)
        self._running.discard(name)
        self._ended.append(name)

    def _id(self, name: str) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, self._numbers[name])
