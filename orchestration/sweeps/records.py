"""Write a study's ledger as records into its folder while it runs, for the status and the reports."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

import results
from hcl.config import Experiment
from hcl.config.resolve import override
from orchestration.storage.record_files import write_sweep
from orchestration.sweeps.ledger import Ledger
from orchestration.sweeps.population import MEMBER, PARENT, ROUND
from orchestration.sweeps.study import Study
from orchestration.sweeps.trial_source import EPOCHS, ERROR, FUSED, LOG, NAME, SECONDS, UNFUSED

_STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
_EVERY_S = 1.0


class Records:
    """Write a study's trials.parquet and sweep.json about once a second, and call the listeners.

    Args:
        on_trial: is called with each trial when it ends.
        on_change: is called with all trials each time after they are written.
    """

    def __init__(
        self,
        study: Study,
        ledger: Ledger,
        *,
        command: str = "",
        on_trial: Callable[[results.TrialRecord], None] | None = None,
        on_change: Callable[[list[results.TrialRecord]], None] | None = None,
    ):
        self._study, self._ledger, self._command = study, ledger, command
        self._on_trial, self._on_change = on_trial, on_change
        self._began, self._written = time.monotonic(), 0.0
        self._earlier = 0.0
        with suppress(results.RecordError):
            self._earlier = results.read_sweep(study.folder).seconds or 0.0

    def on_event(self, name: str, event: str) -> None:
        """Handle an event of `run_trials`."""
        if event == "ended" and self._on_trial is not None:
            self._on_trial(record_of(self._study, self._ledger.trial(name)))
        if time.monotonic() - self._written >= _EVERY_S:
            self.write()

    def write(self, *, at_end: bool = False) -> tuple[results.SweepRecord, list[results.TrialRecord]]:
        """Write both files from the ledger; at the end with the importances of the parameters."""
        self._written = time.monotonic()
        study, objective = self._study, self._study.space.objective
        trials = [record_of(study, trial) for trial in self._ledger.trials()]
        best = best_trial(study, trials)
        record = results.SweepRecord(
            name=study.experiment.name,
            space=study.space.model_dump(mode="json"),
            objective=objective.metric,
            mode=objective.mode,
            best_trial=best.trial if best else None,
            best_value=best.value if best else None,
            pareto=pareto_front(study, trials),
            importances=_importances(self._ledger.study) if at_end else {},
            sampler=study.sampler,
            reproducible=not study.as_they_come,
            lag=study.lag if study.has_lag else None,
            n_trials=self._ledger.n_trials,
            seconds=self._earlier + time.monotonic() - self._began,
            resources=study.trial_resources(),
            seed=study.seed,
            experiment_digest=study.experiment.digest(),
            command=self._command,
            created=results.now(),
        )
        write_sweep(study.folder, record, trials)
        if self._on_change is not None:
            self._on_change(trials)
        return record, trials


def record_of(study: Study, trial: FrozenTrial) -> results.TrialRecord:
    """Return the record of one of the ledger's trials."""
    notes, values = trial.user_attrs, trial.values
    if not values and trial.state == TrialState.RUNNING and trial.intermediate_values:
        values = [trial.intermediate_values[max(trial.intermediate_values)]]
    metrics = [objective.metric for objective in study.space.objectives]
    return results.TrialRecord(
        trial=notes[NAME],
        params=study.space.decode(trial.params),
        value=values[0] if values else None,
        values=dict(zip(metrics, values, strict=False)) if values and len(metrics) > 1 else {},
        state=_STATES.get(trial.state, "running"),  # type: ignore[arg-type]
        epochs=notes.get(EPOCHS, max(trial.intermediate_values, default=0)),
        seconds=notes.get(SECONDS),
        error=notes.get(ERROR),
        log=notes.get(LOG),
        fusion=notes.get(FUSED, {}),
        unfused=notes.get(UNFUSED),
        member=notes.get(MEMBER),
        round=notes.get(ROUND),
        parent=notes.get(PARENT),
    )


def best_trial(study: Study, trials: Sequence[results.TrialRecord]) -> results.TrialRecord | None:
    """Return the complete or pruned trial with the best value of the first objective; the first of equal ones."""
    pick = max if study.space.objective.mode == "max" else min
    scored = [(trial.value, trial) for trial in trials if trial.value is not None and trial.state in _ENDED_WELL]
    return pick(scored, key=lambda value_and_trial: value_and_trial[0])[1] if scored else None


def best_experiment(study: Study, trials: Sequence[results.TrialRecord]) -> Experiment:
    """Return the study's experiment with the best trial's values and fusion, under the name `<study>-best`."""
    best = best_trial(study, trials)
    assert best is not None
    return override(study.experiment, {**best.params, **best.fusion, "name": f"{study.experiment.name}-best"})


def pareto_front(study: Study, trials: Sequence[results.TrialRecord]) -> list[str]:
    """Return the names of the trials on the Pareto front, which no other trial beats; empty for a single objective.

    A trial beats another if it is at least as good in all objectives and better in one.
    """
    if not study.space.trade_offs:
        return []
    signs = [1.0 if objective.mode == "max" else -1.0 for objective in study.space.objectives]
    ended = [trial for trial in trials if trial.values and trial.state in _ENDED_WELL]
    points = [[sign * value for sign, value in zip(signs, trial.values.values(), strict=True)] for trial in ended]

    def beats(a: list[float], b: list[float]) -> bool:
        return a != b and all(x >= y for x, y in zip(a, b, strict=True))

    return [
        trial.trial
        for trial, point in zip(ended, points, strict=True)
        if not any(beats(other, point) for other in points)
    ]


def _importances(study: optuna.Study) -> dict[str, float]:
    """Return the share of each parameter in the first objective's variation; empty if there are too few trials."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len({trial.values[0] for trial in done}) < 2:
        return {}
    sign = -1.0 if study.directions[0] == StudyDirection.MAXIMIZE else 1.0  # with several, low values must be good
    several: Any = (lambda trial: sign * trial.values[0]) if len(study.directions) > 1 else None
    with suppress(ValueError, RuntimeError), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it asks for the sign that is applied above
        importances = optuna.importance.get_param_importances(study, target=several)
        return {path: float(share) for path, share in importances.items()}
    return {}


_ENDED_WELL = ("complete", "pruned")
