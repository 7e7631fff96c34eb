"""What came out: records on disk, tidy frames, statistics, tables and a report. Neither torch nor Ray.

`results.page.report` is imported by name: it brings jinja2, which a worker that writes a record does not need.
"""

from results.errors import RecordError, UnwritableError
from results.records.outcomes import Outcomes, Questions, read_outcomes, write_outcomes
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
from results.records.store import Results, Skipped, load
from results.statistics.episodes import mean_and_ci95, paired_difference
from results.statistics.resampling import over_classes, over_videos

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
