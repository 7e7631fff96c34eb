"""Use the program from Python: the functions that the commands call, with typed results.

    from orchestration import api

    api.extract("mine")
    run = api.train("metaworld_cpu", ["data.dataset=mine", "name=first"])
    api.evaluate(run.folder).frame

Each function does what the command of the same name does, with the same files on disk: a repeated call resumes, and a
finished one returns what is there. Progress goes to standard error, which notebooks show. `address` names a running Ray
cluster; without it a local Ray is started for the call, and stopped after it. Errors are `hcl.errors.HCLError`, with
`problem`, `where` and `remedy`.
"""

from orchestration.api.functions import evaluate, extract, fuse, load_results, predict, report, sweep, train
from orchestration.api.typed_results import Evaluations, Fusion, Predictions, StudyResult, TrainedRun
from orchestration.extraction.extract import ExtractSummary
from orchestration.reports.report import Report

__all__ = [
    "Evaluations",
    "ExtractSummary",
    "Fusion",
    "Predictions",
    "Report",
    "StudyResult",
    "TrainedRun",
    "evaluate",
    "extract",
    "fuse",
    "load_results",
    "predict",
    "report",
    "sweep",
    "train",
]
