"""Train a population: its members train in rounds and change their values between them.

After each round a member among the worst quarter takes over the checkpoint and the perturbed values of a member among
the best quarter (Jaderberg et al., arXiv:1711.09846). All others continue unchanged. Each round of a member is a trial
of the ledger, which notes the trial whose checkpoint it continues from. So no other trial writes to a trial, and a
killed study resumes as any other. A round starts when all members have ended the one before, so that the study is a
function of its seed. Where trials are taken as they come, no member waits: it is ranked among those that have ended its
round by then.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import optuna
from optuna.trial import FrozenTrial, TrialState

from hcl.errors import HCLError, StorageError
from orchestration.sweeps.ledger import Ledger
from orchestration.sweeps.sampling.samplers import seed_of
from orchestration.sweeps.trial_source import LAST, NAME, Given
from search_spaces.trials import NearTrial

MEMBER, ROUND, PARENT = "member", "round", "parent"
"""Keys of the notes of a population's trial, besides those of every ledger."""
MAY_CHANGE = ("loss.", "fusion.")
"""Settings that may change in the middle of a training."""
_QUARTER = 4
_TRIES = 1000


def n_rounds(epochs: int, round_epochs: int) -> int:
    """Return the number of rounds of a whole training; the last may be shorter."""
    return -(-epochs // round_epochs)


class _Place(NamedTuple):
    round: int
    member: int


class Population(Ledger):
    """Hold the ledger of a population.

    Args:
        members: number of models that train side by side.
        epochs: epochs of a whole training.
        round_epochs: epochs of a round; the last round may be shorter.
        ledger_options: the other arguments of `Ledger`; its `n_trials` follows from these.
    """

    def __init__(self, *args: Any, members: int, epochs: int, round_epochs: int, **ledger_options: Any):
        self.members, self.epochs, self.round_epochs = members, epochs, round_epochs
        self.rounds = n_rounds(epochs, round_epochs)
        super().__init__(*args, **ledger_options, n_trials=members * self.rounds, sampler="population")

    def may_ask(self) -> bool:
        """Return whether a member may start its next round, or all trials are given out."""
        return bool(self._interrupted) or len(self._numbers) >= self.n_trials or self._next_place() is not None

    def ask(self) -> Given | None:
        if self._interrupted or len(self._numbers) >= self.n_trials:
            return super().ask()
        place = self._next_place()
        assert place is not None, "no member is free"
        if place.round and not self._draws.is_under_way():
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
        """Return the place of the free member that has trained least; None if no member can start its next round."""
        latest = {trial.user_attrs[MEMBER]: trial for trial in self.trials()}
        if len(latest) < self.members:
            return _Place(0, len(latest))
        free = [trial.user_attrs for trial in latest.values() if trial.state != TrialState.RUNNING]
        if self.lag is not None:
            done = min(trial.user_attrs[ROUND] - (trial.state == TrialState.RUNNING) for trial in latest.values())
            free = [notes for notes in free if notes[ROUND] <= done]
        places = [_Place(notes[ROUND] + 1, notes[MEMBER]) for notes in free if notes[ROUND] + 1 < self.rounds]
        return min(places, default=None)

    def _ask_for(self, place: _Place) -> None:
        """Choose the checkpoint and the values with which a member continues, and enqueue them."""
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
        else:  # it failed and no other has ended: its previous checkpoint, with perturbed values
            parent, point = own.user_attrs.get(PARENT), self._moved(own, seed)
        notes = {MEMBER: place.member, ROUND: place.round} | ({PARENT: parent} if parent else {})
        self.study.enqueue_trial(point, user_attrs=notes)

    def _ranked(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Return the trials that are complete, the best after its last epoch first."""
        sign = -1 if self.space.objective.mode == "max" else 1
        ended = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        return sorted(ended, key=lambda trial: (sign * trial.user_attrs[LAST], trial.number))

    def _moved(self, trial: FrozenTrial, seed: int) -> dict[str, Any]:
        """Return a trial's values, each perturbed and encoded for the storage. Raises HCLError if none are feasible."""
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
