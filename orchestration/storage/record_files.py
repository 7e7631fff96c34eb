"""Write the records of `results` from orchestration.

A disk that refuses a record raises StorageError with the system's remedy, as for every other file that orchestration
writes; `results` itself cannot know that exception.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import results
from hcl.files.disk_errors import refused
from results.records import labels


@contextmanager
def storing_records() -> Iterator[None]:
    """Raise StorageError, which names the record's file, for a record of the block that cannot be written."""
    try:
        yield
    except results.UnwritableError as error:
        cause = error.__cause__
        raise refused(cause if isinstance(cause, OSError) else OSError(error.problem), str(error.where)) from error


write_epochs = storing_records()(results.write_epochs)
write_evaluation = storing_records()(results.write_evaluation)
write_labels = storing_records()(labels.write_labels)
write_outcomes = storing_records()(results.write_outcomes)
write_provenance = storing_records()(results.write_provenance)
write_sweep = storing_records()(results.write_sweep)
