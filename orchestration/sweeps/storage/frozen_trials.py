"""Trials as Optuna's storage takes them whole, and where their objectives should go."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search_spaces import Space


def directions_of(space: Space) -> list[StudyDirection]:
    """Return where each objective should go."""
    return [StudyDirection.MAXIMIZE if one.mode == "max" else StudyDirection.MINIMIZE for one in space.objectives]


def learnt_trial(
    space: Space, params: Mapping[str, Any], objectives: Sequence[float], notes: dict[str, Any]
) -> FrozenTrial:
    """Return a trial of another study as a complete one of this space."""
    drawn = optuna.trial.FixedTrial(space.encode(params))
    space.suggest(drawn)  # type: ignore[arg-type]
    return optuna.trial.create_trial(
        params=drawn.params, distributions=drawn.distributions, values=objectives, user_attrs=notes
    )


def trial_again(trial: FrozenTrial, *, without: Collection[str]) -> FrozenTrial:
    """Return a trial that has ended as one under way.

    Args:
        without: keys of notes that are left out.
    """
    return optuna.trial.create_trial(
        state=TrialState.RUNNING,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs={key: note for key, note in trial.user_attrs.items() if key not in without},
        system_attrs=trial.system_attrs,
    )
