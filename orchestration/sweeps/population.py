"""Population-based training: members of a population train in rounds and change their values on the way.

After each round a member among the worst quarter of those that have ended this round takes over the checkpoint of one
among the best quarter, and that one's values, moved (Jaderberg et al., arXiv:1711.09846). All others go on as they are.
A member's round is a trial of the ledger, which notes whose checkpoint it went on from. So nothing waits for a whole
round to end, a trial is never written to by another, and a study that was killed goes on as any other.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import optuna
from optuna.trial import FrozenTrial, TrialState

from hcl.errors import HCLError, StorageError
from orchestration.sweeps.ledger import Ledger
from orchestration.sweeps.samplers import seed_of
from orchestration.sweeps.trial_source import LAST, NAME, Given
from search_spaces.trials import NearTrial

MEMBER, ROUND, PARENT = "member", "round", "parent"
"""What is noted of a trial, beside what every ledger notes."""
MAY_CHANGE = ("loss.", "fusion.")
"""Settings that a model in the middle of its training can go on with."""
_QUARTER = 4
_TRIES = 1000


def n_rounds(epochs: int, round_epochs: int) -> int:
    """Rounds of a whole training; the last may be shorter."""
    return -(-epochs // round_epochs)


class _Place(NamedTuple):
    round: int
    member: int


class Population(Ledger):
    """The ledger of a population.

    Args:
        members: models that train beside each other.
        epochs: of a whole training.
        round_epochs: of a round; the last round may be shorter.
        known: the arguments of `Ledger`; its `n_trials` follows from the others.
    """

    def __init__(self, *args: Any, members: int, epochs: int, round_epochs: int, **known: Any):
        self.members, self.epochs, self.round_epochs = members, epochs, round_epochs
        self.rounds = n_rounds(epochs, round_epochs)
        super().__init__(*args, **known, n_trials=members * self.rounds, sampler="population")

    def may_ask(self) -> bool:
        """Whether a member is free, or all is given out."""
        return bool(self._interrupted) or len(self._numbers) >= self.n_trials or self._next_place() is not None

    def ask(self) -> Given | None:
        if self._interrupted or len(self._numbers) >= self.n_trials:
            return super().ask()
        place = self._next_place()
        assert place is not None, "asked while all members train"
        if place.round and not self._is_asked_for():
            self._ask_for(place)
        return super().ask()

    def given(self, name: str) -> Given:
        trial = self.trial(name)
        until = min(self.epochs, (trial.user_attrs[ROUND] + 1) * self.round_epochs)
        parent = trial.user_attrs.get(PARENT)
        if parent is not None and parent not in self._numbers:  # it leads to a folder
            raise StorageError(f"goes on from {parent!r:.80}, which is no trial", where=f"ledger of {name}")
        return Given(name, self.space.decode(trial.params), parent, until)

    def _give_out(self, trial: optuna.Trial, params: dict[str, Any]) -> Given:
        if MEMBER not in trial.user_attrs:  # of the first round
            trial.set_user_attr(MEMBER, len(self._numbers))
            trial.set_user_attr(ROUND, 0)
        return self.given(super()._give_out(trial, params).name)

    def _next_place(self) -> _Place | None:
        """The free member that has trained least; None while all others than those at their end train."""
        latest = {trial.user_attrs[MEMBER]: trial for trial in self.trials()}
        if len(latest) < self.members:
            return _Place(0, len(latest))
        free = [trial.user_attrs for trial in latest.values() if trial.state != TrialState.RUNNING]
        places = [_Place(notes[ROUND] + 1, notes[MEMBER]) for notes in free if notes[ROUND] + 1 < self.rounds]
        return min(places, default=None)

    def _is_asked_for(self) -> bool:
        """Whether a process that was killed had chosen already."""
        return bool(self._half_asked or self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))

    def _ask_for(self, place: _Place) -> None:
        """Choose the checkpoint and the params with which a member trains its next round."""
        seed = seed_of(self.seed, len(self._numbers))
        before = [trial for trial in self.trials() if trial.user_attrs[ROUND] == place.round - 1]
        own = next(trial for trial in before if trial.user_attrs[MEMBER] == place.member)
        best_first = self._ranked(before)
        cut = max(1, len(best_first) // _QUARTER)
        has_ended = own in best_first
        if has_ended and (len(best_first) == 1 or own not in best_first[-cut:]):
            parent, point = own.user_attrs[NAME], dict(own.params)
        elif best_first:
            other = random.Random(seed).choice(best_first[:cut])
            parent, point = other.user_attrs[NAME], self._moved(other, seed)
        else:  # it has failed, and nobody else has ended: what it had before, with other values
            parent, point = own.user_attrs.get(PARENT), self._moved(own, seed)
        notes = {MEMBER: place.member, ROUND: place.round} | ({PARENT: parent} if parent else {})
        self.study.enqueue_trial(point, user_attrs=notes)

    def _ranked(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Those that have ended well, the best after its last epoch first."""
        sign = -1 if self.space.objective.mode == "max" else 1
        ended = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        return sorted(ended, key=lambda trial: (sign * trial.user_attrs[LAST], trial.number))

    def _moved(self, trial: FrozenTrial, seed: int) -> dict[str, Any]:
        """Return a trial's params, each moved, as the storage takes them. Raises HCLError where none can be run."""
        problem: str | None = None
        for attempt in range(_TRIES):
            params = self.space.suggest(NearTrial(trial.params, seed_of(seed, attempt)))
            problem = self._problem_with(params)
            if problem is None:
                return self.space.encode(params)
        raise HCLError(
            f"none of {_TRIES} changes to {trial.user_attrs[NAME]} can be run: {problem}",
            where=f"space {self.space.name}",
            remedy="widen its constraints, or its parameters",
        )
