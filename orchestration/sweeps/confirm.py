"""Train the best trials again with new seeds before a winner is named: `hcl sweep --confirm K --seeds N`.

The best value of a study is partly luck, because it is the maximum of many. The best K trials therefore get N seeds
each, the same ones, so that their accuracies are compared seed by seed. The winner is significantly better than another
candidate by the rule of `results.statistics.significance`, over seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import results
from hcl.errors import ConfigError, HCLError
from hcl.files.json_files import read_json, write_checked_json
from orchestration.runtime.connect import connect
from orchestration.storage.locks import held, lock_of
from orchestration.sweeps.ray_tune import run_trials
from orchestration.sweeps.recorder import OnEvent
from orchestration.sweeps.study import Study
from orchestration.sweeps.trial_grids import grid_jobs
from orchestration.sweeps.trial_source import ERROR, Given
from orchestration.training.grids import ensure_grids
from orchestration.training.run_files import HUNG_LOG
from results.statistics.significance import Difference, Verdict, judged, over_seeds

CONFIRMATION = "confirmation.json"
_DAMAGED = "move it away, then repeat the command, which trains its seeds again"


@dataclass(frozen=True)
class Candidate:
    """Hold one of the best trials: its objective for each trained seed, and how far it is behind the winner.

    Attributes:
        values: the objective by seed; a seed whose training failed is missing.
        behind: the verdict on the winner's mean advantage over the seeds that both have; None for the winner itself.
    """

    trial: str
    values: dict[int, float]
    behind: Verdict | None

    @property
    def mean(self) -> float:
        return sum(self.values.values()) / len(self.values) if self.values else math.nan

    @property
    def is_significantly_behind(self) -> bool:
        """Return whether the winner is significantly better, given the variation over seeds."""
        return self.behind is not None and bool(self.behind.is_significant) and self.behind.difference.mean > 0


def confirm(
    study: Study,
    trials: Sequence[results.TrialRecord],
    *,
    n_best: int,
    n_seeds: int,
    retry_failed: bool = False,
    address: str | None = None,
    on_event: OnEvent = lambda name, event: None,
    train: Any = None,
) -> list[Candidate]:
    """Train the best trials again with `n_seeds` new seeds each, and return the candidates, the winner first.

    A repeated call with the same arguments trains only what is missing. All values are kept in confirmation.json.

    Args:
        retry_failed: train seeds again whose training has failed.
    Raises:
        HCLError: if no seed of any candidate could be trained.
        KeyboardInterrupt: on Ctrl-C; finished trials are kept.
    """
    if study.is_population:
        raise ConfigError(
            "a member's values changed while it trained, so there are no settings to train again with",
            where="--confirm",
            remedy="repeat the study with other seeds (--set seed=... --set name=...)",
        )
    sign = -1 if study.space.objective.mode == "max" else 1
    whole = [trial for trial in trials if trial.state == "complete" and trial.value is not None]
    best = sorted(whole, key=lambda trial: sign * (trial.value or 0.0))[:n_best]
    seeds = [study.experiment.seed + 1 + index for index in range(n_seeds)]
    with held(lock_of(study.folder), what=f"study {study.experiment.name}"):
        again = _Again(study, best, seeds, retry_failed=retry_failed)
        if again.n_left:
            with connect(address):
                ensure_grids(grid_jobs(study, again.wanted.values()), study.runs)
                run_trials(study, again, on_event, train)
            if again.n_left:
                raise KeyboardInterrupt
    return _judged(best, again.values, sign)


class _Again:
    """Hold the trainings that a confirmation still needs, with a file of their outcomes; a source of trials."""

    def __init__(self, study: Study, best: Sequence[results.TrialRecord], seeds: Sequence[int], *, retry_failed: bool):
        self._path = study.folder / CONFIRMATION
        known = read_json(self._path, remedy=_DAMAGED) if self._path.exists() else {}
        self._done: dict[str, Any] = dict(known.get("runs", {}))
        if retry_failed:
            failed = [name for name, outcome in self._done.items() if outcome.get("value") is None]
            for name in failed:
                (study.trial_folder(name) / HUNG_LOG).unlink(missing_ok=True)
                del self._done[name]
        self.wanted = {f"{trial.trial}-seed-{seed}": {**trial.params, "seed": seed} for seed in seeds for trial in best}
        self._open = [name for name in self.wanted if name not in self._done]
        self._n_running = 0
        self._ended: list[str] = []
        self.n_left = len(self._open)

    @property
    def n_running(self) -> int:
        return self._n_running

    @property
    def most_at_once(self) -> int | None:
        return None

    @property
    def values(self) -> dict[tuple[str, int], float]:
        """Return the value of the objective by trial and seed."""
        values = {}
        for name, outcome in self._done.items():
            trial, _, seed = name.rpartition("-seed-")
            if name in self.wanted and outcome.get("value") is not None:
                values[trial, int(seed)] = float(outcome["value"])
        return values

    def may_ask(self) -> bool:
        return True

    def ask(self) -> Given | None:
        if not self._open:
            return None
        self._n_running += 1
        name = self._open.pop(0)
        return Given(name, self.wanted[name])

    def report(self, name: str, epoch: int, value: float) -> bool:
        """Return False: no seed is stopped early, because a seed that starts badly is part of the answer."""
        return False

    def take_back(self, name: str) -> None:
        self._n_running -= 1
        self._open.insert(0, name)

    def take_ended(self) -> list[str]:
        ended, self._ended = self._ended, []
        return ended

    def finish(
        self,
        name: str,
        values: Sequence[float] | None,
        *,
        is_whole: bool = True,
        notes: Mapping[str, Any] | None = None,
        earlier: Mapping[int, Mapping[str, Any]] | None = None,
    ) -> None:
        self._n_running -= 1
        self._ended.append(name)
        self.n_left -= 1
        self._done[name] = {"value": values[0] if values else None, "error": (notes or {}).get(ERROR)}
        write_checked_json(self._path, {"runs": self._done})


def _judged(best: Sequence[results.TrialRecord], values: dict[tuple[str, int], float], sign: int) -> list[Candidate]:
    by_trial = {
        candidate.trial: {seed: value for (trial, seed), value in values.items() if trial == candidate.trial}
        for candidate in best
    }
    trained = {trial: of_trial for trial, of_trial in by_trial.items() if of_trial}
    if not trained:
        raise HCLError("no seed of any candidate could be trained", remedy="look at trials/*-seed-*/error.log")
    order = sorted(trained, key=lambda trial: sign * sum(trained[trial].values()) / len(trained[trial]))
    winner = trained[order[0]]
    leads: dict[str, Difference] = {}
    for trial in order[1:]:
        both = sorted(winner.keys() & trained[trial].keys())
        if both:
            leads[trial] = over_seeds([-sign * (winner[seed] - trained[trial][seed]) for seed in both])
    verdicts = dict(zip(leads, judged(list(leads.values())), strict=True))
    return [Candidate(trial, trained[trial], verdicts.get(trial)) for trial in order]
