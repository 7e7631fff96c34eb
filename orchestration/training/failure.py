"""Keep the error that ended a run in its folder, for the command that started it and for people who look later."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hcl import errors
from hcl.errors import HCLError, StorageError, TrainingError
from hcl.files.json_files import read_json, write_json
from orchestration.training.run_files import FAILED
from results import RecordError


@contextmanager
def recording_failures(folder: Path) -> Iterator[None]:
    """Write an error that ends the block into the run's folder, unless a worker has already written its own."""
    (folder / FAILED).unlink(missing_ok=True)
    try:
        yield
    except (HCLError, RecordError) as error:
        if not (folder / FAILED).exists():
            record_failure(folder, error)
        raise


def record_failure(folder: Path, error: HCLError | RecordError) -> None:
    """Write the error that ends a run. A full disk may have no room for it; the error itself is raised all the same."""
    content = {"kind": type(error).__name__, "problem": error.problem, "where": error.where, "remedy": error.remedy}
    with suppress(StorageError):
        write_json(folder / FAILED, content)


def raise_recorded(folder: Path) -> None:
    """Raise the error that a worker has recorded, if there is one."""
    path = folder / FAILED
    if path.exists():
        content = read_json(path, remedy="remove it, then repeat the command")
        told = content if isinstance(content, dict) else {}
        kind = _KINDS.get(str(told.get("kind")), TrainingError)
        raise kind(str(told.get("problem")), where=str(told.get("where") or path), remedy=told.get("remedy"))


# Errors that a worker can record; a name in the file selects nothing else.
_KINDS: dict[str, type[HCLError]] = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, HCLError)
} | {"RecordError": StorageError, "NonFiniteLossError": TrainingError}
