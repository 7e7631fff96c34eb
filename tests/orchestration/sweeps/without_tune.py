"""Run studies whose trials are computed in this process, to test studies rather than their runner."""

from __future__ import annotations

from typing import Any

import pytest

import results
from orchestration.sweeps import sweep as sweeping
from orchestration.sweeps.study import Study
from orchestration.sweeps.trial_source import EPOCHS
from tests.orchestration.inline import connect


def without_tune(patched: pytest.MonkeyPatch, *, value: float = 0.5) -> list[str]:
    """Make `sweep` give every trial this value; return the list of the trials that run."""
    ran: list[str] = []

    def run_trials(study: Study, ledger: Any, on_event: Any, train: Any = None) -> None:
        while (given := ledger.ask()) is not None:
            ran.append(given.name)
            results.append_epoch(study.trial_folder(given.name), {"epoch": 1, "val_accuracy": value})
            ledger.finish(given.name, [value], notes={EPOCHS: 1})

    patched.setattr(sweeping, "connect", connect)
    patched.setattr(sweeping, "run_trials", run_trials)
    return ran
