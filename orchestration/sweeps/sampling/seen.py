"""Show a sampler the part of a study that does not depend on when trials end.

The sampler of trial k sees the results of the trials before k - lag, all of which have ended. Of the trials between
these and k, GP sees the parameters alone, as if they were running, whether or not they have ended by now: two of its
trials would else be nearly the same. TPE draws at random and does not see them. It would take them for bad ones, and
found worse values so (a smooth function of four weights, 60 seeds, best of 20 trials with lag 3 or 4). So a choice is a
function of the study's seed, of the lag and of k.
"""

from __future__ import annotations

import copy
from collections.abc import Container, Sequence
from typing import NamedTuple

import optuna
from optuna.trial import FrozenTrial, TrialState


class Turn(NamedTuple):
    """Hold what a sampler needs to choose one trial: a seed, and the trials that it sees."""

    seed: int
    trials: list[FrozenTrial]


def seen_trials(
    sampler: str, known: Sequence[FrozenTrial], given: Sequence[FrozenTrial], lag: int
) -> list[FrozenTrial]:
    """Return the trials that the sampler of the next trial sees.

    Args:
        known: trials of an earlier study.
        given: the trials that were given out, by index.
    """
    n_ended = max(0, len(given) - lag)
    under_way = given[n_ended:] if sampler == "gp" else []
    return [*known, *given[:n_ended], *map(_as_running, under_way)]


def _as_running(trial: FrozenTrial) -> FrozenTrial:
    """Return a copy with nothing that is known only once the trial has started to run."""
    running = copy.copy(trial)
    running.state, running.values, running.intermediate_values = TrialState.RUNNING, None, {}
    running.datetime_complete = None
    return running


class SeenStudy(optuna.Study):
    """Stand for a study that has only the given trials; what is written goes to the study itself."""

    def __init__(self, study: optuna.Study, trials: list[FrozenTrial]):
        self.__dict__.update(study.__dict__)  # its names, directions and storage, without reading them again
        self._seen = trials

    def get_trials(self, deepcopy: bool = True, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
        return self._get_trials(deepcopy, states)

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        trials = [trial for trial in self._seen if states is None or trial.state in states]
        return copy.deepcopy(trials) if deepcopy else trials
