"""Define the interface between a source of trials (ledger, confirmation) and their runner (Ray Tune)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

NAME, EPOCHS, SECONDS, ERROR, LOG, BEST = "name", "epochs", "seconds", "error", "log", "best"
LAST, FUSED, UNFUSED = "last", "fused", "unfused"
"""Keys of the ledger's notes about a trial, kept as Optuna's user attributes. LAST: the first objective after the last
epoch; FUSED and UNFUSED: the best weights of the levels in validation, and the accuracy without them."""
OF_AN_END = frozenset((EPOCHS, SECONDS, ERROR, LOG, BEST, LAST, FUSED, UNFUSED))


@dataclass(frozen=True)
class Given:
    """Describe a trial that was given out.

    Attributes:
        values: parameters by dotted path.
        parent: the trial whose checkpoint it continues from; None: it starts without one.
        until: the epoch after which it ends; None: the last one.
    """

    name: str
    params: dict[str, Any]
    parent: str | None = None
    until: int | None = None

    @property
    def index(self) -> int:
        """Return its number in the study, from 0."""
        return index_of(self.name)


def index_of(name: str) -> int:
    """Return the number in the study of the trial of this name, from 0."""
    return int(name.rpartition("-")[2])


def name_of(index: int) -> str:
    """Return the name of a study's trial."""
    return f"trial-{index:04d}"


class Source(Protocol):
    """Give out trials and record their ends: a study's ledger, or the trials that a confirmation trains again."""

    @property
    def n_running(self) -> int: ...

    @property
    def most_at_once(self) -> int | None: ...

    def may_ask(self) -> bool: ...

    def ask(self) -> Given | None: ...

    def report(self, name: str, epoch: int, value: float) -> bool: ...

    def take_back(self, name: str) -> None: ...

    def take_ended(self) -> list[str]: ...

    def finish(
        self,
        name: str,
        values: Sequence[float] | None,
        *,
        is_whole: bool = True,
        notes: Mapping[str, Any] | None = None,
        earlier: Mapping[int, Mapping[str, Any]] | None = None,
    ) -> None: ...
