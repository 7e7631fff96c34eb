"""What stands between those who give out trials and those who run them: a trial as given, and what is told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

NAME, EPOCHS, SECONDS, ERROR, LOG, BEST = "name", "epochs", "seconds", "error", "log", "best"
LAST, FUSED, UNFUSED = "last", "fused", "unfused"
"""What the ledger notes of a trial, as Optuna's user attributes. LAST: the first objective after the last epoch;
FUSED and UNFUSED: the best weights of the levels that validation found, and the accuracy without them."""
OF_AN_END = frozenset((EPOCHS, SECONDS, ERROR, LOG, BEST, LAST, FUSED, UNFUSED))


@dataclass(frozen=True)
class Given:
    """A trial that was given out.

    Attributes:
        params: values of the experiment's settings, by dotted path.
        parent: the trial whose checkpoint it goes on from; None: it begins anew.
        until: the epoch that it ends with; None: the last one.
    """

    name: str
    params: dict[str, Any]
    parent: str | None = None
    until: int | None = None

    @property
    def index(self) -> int:
        """Its place in the study, from 0."""
        return int(self.name.rpartition("-")[2])


class Source(Protocol):
    """Where trials come from and their ends go to: a study's ledger, or what a confirmation trains again."""

    @property
    def n_running(self) -> int: ...

    def may_ask(self) -> bool: ...

    def ask(self) -> Given | None: ...

    def report(self, name: str, epoch: int, value: float) -> bool: ...

    def take_back(self, name: str) -> None: ...

    def finish(
        self,
        name: str,
        values: Sequence[float] | None,
        *,
        is_whole: bool = True,
        notes: Mapping[str, Any] | None = None,
    ) -> None: ...
