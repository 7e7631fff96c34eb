"""Hold results: records on disk, tidy frames, statistics, tables and a report, without torch and Ray.

`results.page.report` must be imported by name, because it needs jinja2, which a worker that writes a record does not.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from results.errors import RecordError, UnwritableError
from results.records.files import Skipped
from results.records.provenance import collect_provenance, finished, now
from results.records.records import (
    EvaluationRecord,
    Provenance,
    SweepRecord,
    TrialRecord,
    append_epoch,
    evaluation_file,
    read_epochs,
    read_evaluation,
    read_provenance,
    read_sweep,
    read_trials,
    write_epochs,
    write_evaluation,
    write_provenance,
    write_sweep,
)

if TYPE_CHECKING:
    from results.records.outcomes import Outcomes, Questions, read_outcomes, write_outcomes
    from results.records.store import Results, load
    from results.statistics.effects import over_classes, over_videos
    from results.statistics.episodes import mean_and_ci95, paired_difference

_WHEN_USED = {
    "Outcomes": "results.records.outcomes",
    "Questions": "results.records.outcomes",
    "Results": "results.records.store",
    "load": "results.records.store",
    "mean_and_ci95": "results.statistics.episodes",
    "over_classes": "results.statistics.effects",
    "over_videos": "results.statistics.effects",
    "paired_difference": "results.statistics.episodes",
    "read_outcomes": "results.records.outcomes",
    "write_outcomes": "results.records.outcomes",
}
"""The module of each name that is imported when it is first used."""

__all__ = [
    "EvaluationRecord",
    "Outcomes",
    "Provenance",
    "Questions",
    "RecordError",
    "Results",
    "Skipped",
    "SweepRecord",
    "TrialRecord",
    "UnwritableError",
    "append_epoch",
    "collect_provenance",
    "evaluation_file",
    "finished",
    "load",
    "mean_and_ci95",
    "now",
    "over_classes",
    "over_videos",
    "paired_difference",
    "read_epochs",
    "read_evaluation",
    "read_outcomes",
    "read_provenance",
    "read_sweep",
    "read_trials",
    "write_epochs",
    "write_evaluation",
    "write_outcomes",
    "write_provenance",
    "write_sweep",
]


def __getattr__(name: str) -> Any:
    """Import one of the names of `_WHEN_USED`."""
    if name not in _WHEN_USED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_WHEN_USED[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
