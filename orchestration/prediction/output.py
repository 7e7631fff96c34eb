"""Write the results of a prediction into a folder."""

from __future__ import annotations

from pathlib import Path

from orchestration.prediction.predict import Found
from orchestration.storage.record_files import storing_records
from results.records.predictions import PredictionsRecord, write_predictions


def write(folder: Path, record: PredictionsRecord, found: Found) -> None:
    """Write predictions.csv and predictions.json. Raises StorageError."""
    with storing_records():
        write_predictions(folder, record)
