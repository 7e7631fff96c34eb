"""Studies whose trials are computed in this process, one after another: for what a study is, not for how it is run."""

from __future__ import annotations

from typing import Any

import pytest

import results
from orchestration.sweeps import sweep as sweeping
from orchestration.sweeps.study import Study
from orchestration.sweeps.trial_source import EPOCHS
from tests.orchestration.inline import connect


def without_tune(patched: pytest.MonkeyPatch, *, value: float = 0.5) -> list[str]:
    """Have `sweep` give every trial this value; the list names those that were run, as they are run."""
    ran: list[str] = []

    def run_trials(study: Study, ledger: Any, on_event: Any, train: Any = None) -> None:
        while (given := ledger.ask()) is not None:
            ran.append(given.name)
            results.append_epoch(study.trial_folder(given.name), {"epoch": 1, "val_accuracy": value})
            ledger.finish(given.name, [value], notes={EPOCHS: 1})

    patched.setattr(sweeping, "connect", connect)
    patched.setattr(sweeping, "run_trials", run_trials)
    return ran
