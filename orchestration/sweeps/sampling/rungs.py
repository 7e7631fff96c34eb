"""Decide at rungs which trials stop, by an order that does not depend on when values are reported.

At a rung a trial is compared with the trials of lower index alone: with their values at the same epoch, or with nothing
where they have ended before it. A trial does not wait for slower ones. It goes on training, and its later reports and
its end are kept back here until the rung is decided. If it should have stopped there, it is recorded as stopped at that
rung, with the value that it had there, and what came later is discarded. So each decision is a function of the trials'
values. Nothing that is kept back is lost in a kill, because a trial that resumes reports all its epochs again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from optuna.trial import FrozenTrial

from orchestration.sweeps.sampling.early_stopping import falls_behind


class End(NamedTuple):
    """Hold the end of a trial, as its process has reported it.

    Attributes:
        values: the objectives; None: it failed.
        notes: its notes at the end; `earlier` holds those of each epoch, in case it should have stopped there.
    """

    values: Sequence[float] | None
    is_whole: bool
    notes: Mapping[str, Any]
    earlier: Mapping[int, Mapping[str, Any]]


class Rungs:
    """Judge the trials of a study at its rungs, and pass on reports and ends as soon as they are final.

    Args:
        rule: `asha` or `median`; see `orchestration.sweeps.sampling.early_stopping`.
        epochs: the rungs; without any, everything is passed on at once.
        in_order: compare with trials of lower index alone; otherwise with all that have reached the rung by now.
        trials: returns the trials that were given out, by index.
        write: notes a trial's value after an epoch.
        end: records the end of a trial, with the epoch at which it was stopped or None.
    """

    def __init__(
        self,
        rule: str,
        epochs: Sequence[int],
        *,
        is_max: bool,
        in_order: bool,
        trials: Callable[[], Sequence[FrozenTrial]],
        write: Callable[[int, int, float], None],
        end: Callable[[int, End, int | None], None],
    ):
        self._rule, self._epochs, self._is_max, self._in_order = rule, frozenset(epochs), is_max, in_order
        self._trials, self._write, self._end = trials, write, end
        self._reports: dict[int, dict[int, float]] = {}
        self._ends: dict[int, End] = {}
        self._judged: dict[int, tuple[int, bool]] = {}  # by index: the last rung, and whether the trial stops there

    @property
    def n_kept_back(self) -> int:
        """Return the number of trials that have ended, though it is not known yet at which rung."""
        return len(self._ends)

    def report(self, index: int, epoch: int, value: float) -> bool:
        """Note a trial's value after an epoch, and return whether it should stop; known epochs are left as they are."""
        self._reports.setdefault(index, {})[epoch] = value
        self._pass_on()
        return self._judged.get(index, (0, False))[1]

    def end(self, index: int, end: End) -> None:
        """Record a trial's end, now or once its last rung is decided."""
        self._ends[index] = end
        self._pass_on()

    def _pass_on(self) -> None:
        """Pass on what is final, in the order of the trials, because the higher ones depend on the lower ones."""
        for index in sorted({*self._reports, *self._ends}):
            if self._is_decided(index) and index in self._ends:
                end, (rung, stops) = self._ends.pop(index), self._judged.pop(index, (0, False))
                self._reports.pop(index, None)
                self._end(index, end, rung if stops else None)

    def _is_decided(self, index: int) -> bool:
        """Write a trial's reports up to the first undecided rung; return whether there is none."""
        reports = self._reports.pop(index, {})
        last = max(self._trials()[index].intermediate_values, default=0) if self._epochs else 0
        for epoch in (last, *sorted(epoch for epoch in reports if epoch > last)):
            if epoch > last:
                self._write(index, epoch, reports.pop(epoch))
            if epoch in self._epochs:
                stops = self._stops(index, epoch)
                if stops is None:
                    self._reports[index] = {later: value for later, value in reports.items() if later > epoch}
                    return False
                if stops:
                    return True
        return True

    def _stops(self, index: int, rung: int) -> bool | None:
        """Return whether a trial stops at a rung that it has reached; None while that is not known."""
        judged_at, stops = self._judged.get(index, (0, False))
        if judged_at == rung:
            return stops
        trials = self._trials()
        others = trials[:index] if self._in_order else [*trials[:index], *trials[index + 1 :]]
        reached = [trial.intermediate_values[rung] for trial in others if rung in trial.intermediate_values]
        n_ended = sum(rung not in trial.intermediate_values and trial.state.is_finished() for trial in others)
        if self._in_order and len(reached) + n_ended < len(others):
            return None
        stops = falls_behind(self._rule, trials[index].intermediate_values[rung], reached, is_max=self._is_max)
        self._judged[index] = rung, stops
        return stops
