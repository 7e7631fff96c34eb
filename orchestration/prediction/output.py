"""Write the results of a prediction into a folder."""

from __future__ import annotations

from pathlib import Path

from orchestration.prediction.predict import Found
from orchestration.storage.record_files import storing_records
from results.page.predictions_page import Pictures, write_predictions_page
from results.records.predictions import PredictionsRecord, write_predictions

PAGE = "page.html"
_MOST_SUPPORT = 60  # clips of the support on the page


def write(folder: Path, record: PredictionsRecord, found: Found) -> None:
    """Write predictions.csv, predictions.json and page.html. Raises StorageError."""
    with storing_records():
        write_predictions(folder, record)
        write_predictions_page(folder / PAGE, record, _pictures(record, found))


def _pictures(record: PredictionsRecord, found: Found) -> Pictures:
    """Return the pictures of the first queries, and some of each class's clips."""
    queries = [
        (_read(found.store.animation(digest)), _read(found.store.match(digest)))
        for digest in found.digests[: found.n_pictures]
    ]
    shown, first = {}, 0
    most = max(1, _MOST_SUPPORT // len(record.support))
    for name, clips in record.support.items():
        pictures = [_read(path) for path in found.support_pictures[first : first + min(most, len(clips))]]
        shown[name] = [picture for picture in pictures if picture]
        first += len(clips)
    return Pictures(queries, shown)


def _read(path: Path) -> bytes | None:
    """Return a picture; None if there is none, or it is damaged: a page can do without."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    return content if content[:4] == b"RIFF" and content[8:12] == b"WEBP" else None
