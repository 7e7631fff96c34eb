"""What is no trial's fault: a disk, a node or a database that fails a study, and would fail any trial of it.

A trial that met one is neither complete nor failed. It stays under way in the ledger, the study ends with that one
error, and the command repeated runs what is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ray.train import WorkerGroupError

from hcl import errors
from hcl.errors import BackboneError, ClusterError, DataError, EpisodeError, HCLError, StorageError
from orchestration.storage.places import storage_error
from results import RecordError

_OF_THE_MACHINE = (StorageError, ClusterError, BackboneError, DataError)
_KINDS = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, HCLError)}


def fault_of(error: BaseException, folder: Path) -> HCLError | None:
    """Return the machine's part in what a trial has raised; None where the trial itself has failed.

    Data are those of all trials. Whether episodes can be drawn from them, a trial's settings say.

    Args:
        folder: of the trial, where the error names none.
    """
    if isinstance(error, EpisodeError):
        return None
    if isinstance(error, ClusterError) and isinstance(error.__cause__, WorkerGroupError):
        return None  # its workers have died, which may be of its own making
    if isinstance(error, _OF_THE_MACHINE):
        return error
    return storage_error(error, folder)


def as_words(fault: HCLError) -> list[str | None]:
    """Return a fault as a trial can report it."""
    return [type(fault).__name__, fault.problem, fault.where, fault.remedy]


def from_words(words: list[str | None]) -> HCLError:
    """Return what `as_words` was given."""
    kind, problem, where, remedy = words
    return _KINDS.get(str(kind), HCLError)(str(problem), where=where, remedy=remedy)


class Halt:
    """The first fault that a study met. Tune takes what its callbacks raise for a trial's failure, so they note it."""

    def __init__(self, folder: Path):
        self._folder = folder
        self.fault: HCLError | None = None

    def note(self, fault: HCLError) -> None:
        """Remember a fault; those that follow from it are not told."""
        self.fault = self.fault or fault

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note what the block raises, unless it is a bug; nothing more is written after a fault."""
        try:
            yield
        except HCLError as error:
            self.note(error)
        except RecordError as error:
            self.note(StorageError(error.problem, where=error.where, remedy=error.remedy))
        except OSError as error:
            fault = storage_error(error, self._folder)
            if fault is None:
                raise
            self.note(fault)

    def check(self) -> None:
        """Raise the fault, if there is one."""
        if self.fault is not None:
            raise self.fault
