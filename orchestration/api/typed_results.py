"""Define the results of the functions for Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

import results
from hcl.config import Experiment
from orchestration.evaluation.fusion_search import Search
from results.records.predictions import PredictionsRecord


@dataclass(frozen=True)
class TrainedRun:
    """Hold a finished run.

    Attributes:
        folder: the run's folder, which `evaluate`, `fuse` and `report` accept.
        experiment: every setting.
        epochs: metrics, one row an epoch; accuracies are shares from 0 to 1.
        best: the row of the epoch whose weights are kept as the best.
    """

    folder: Path
    experiment: Experiment
    epochs: pd.DataFrame
    best: Mapping[str, Any]


@dataclass(frozen=True)
class StudyResult:
    """Hold a finished study.

    Attributes:
        trials: one row a trial, with its params as `params.<path>`, its value and its state.
        best: the best trial's settings as an experiment, which `train` accepts.
    """

    folder: Path
    record: results.SweepRecord
    trials: pd.DataFrame
    best: Experiment


@dataclass(frozen=True)
class Evaluations:
    """Hold the records of an evaluation.

    Attributes:
        frame: one row a data set, method and shot; `accuracy` and the half widths of its 95% intervals (`ci95` over
            episodes, `ci95_classes` over classes) are shares from 0 to 1.
    """

    records: list[results.EvaluationRecord]
    frame: pd.DataFrame


@dataclass(frozen=True)
class Fusion:
    """Hold the fusion that was chosen on val, and the test accuracies of it and of others."""

    search: Search
    records: dict[str, list[results.EvaluationRecord]]


@dataclass(frozen=True)
class Predictions:
    """Hold the answers to queries.

    Attributes:
        folder: the folder with page.html, predictions.csv and predictions.json.
        frame: one row a query, with the fields of `results.records.predictions.PredictionsRecord.rows`.
    """

    folder: Path
    record: PredictionsRecord
    frame: pd.DataFrame
