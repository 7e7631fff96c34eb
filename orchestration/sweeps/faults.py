"""Recognise faults that no trial has caused: of a disk, a node or a database, which would fail any trial of a study.

A trial that met such a fault is neither complete nor failed. It stays running in the ledger, the study ends with that
one error, and the repeated command runs the remaining trials.
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
    """Return the fault of the machine that a trial's error comes from; None if the trial itself has failed.

    All trials use the same data, so an error of the data is a fault of the machine. Whether episodes can be drawn from
    them depends on a trial's settings.

    Args:
        folder: the trial's folder, for errors that name no place.
    """
    if isinstance(error, EpisodeError):
        return None
    if isinstance(error, ClusterError) and isinstance(error.__cause__, WorkerGroupError):
        return None  # its workers have died, which the trial may have caused
    if isinstance(error, _OF_THE_MACHINE):
        return error
    return storage_error(error, folder)


def as_words(fault: HCLError) -> list[str | None]:
    """Return a fault in the form in which a trial can report it."""
    return [type(fault).__name__, fault.problem, fault.where, fault.remedy]


def from_words(words: list[str | None]) -> HCLError:
    """Rebuild the fault from what `as_words` returned."""
    kind, problem, where, remedy = words
    return _KINDS.get(str(kind), HCLError)(str(problem), where=where, remedy=remedy)


class Halt:
    """Keep the first fault of a study.

    Tune takes an error in a callback for a trial's failure, so callbacks note it here.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self.fault: HCLError | None = None

    def note(self, fault: HCLError) -> None:
        """Remember a fault; later ones, which may follow from it, are not reported."""
        self.fault = self.fault or fault

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note an error of the block unless it is a bug; nothing more is written after a fault."""
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
        """Raise the fault if there is one."""
        if self.fault is not None:
            raise self.fault
