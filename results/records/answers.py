"""Load the answers of many evaluations as one tidy frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from results.errors import RecordError
from results.records.files import Skipped
from results.records.outcomes import Questions, read_outcomes, read_questions

_KEYS = ["run", "method", "train_dataset", "dataset", "partition", "way", "shot", "evaluation_protocol"]
_KEYS += ["episodes_digest", "path"]


def episode_frame(evaluations: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each episode: fields of its evaluation record, `episode` from 0, and `accuracy` (0 to 1).

    Two methods answered the same question if `episodes_digest` and `episode` are equal. Records without answers, as
    from older versions, have no rows; damaged answers are listed in `attrs["skipped"]`. Texts are categories, so that a
    million rows take about 50 MB.

    Args:
        evaluations: evaluations of `results.load`, or some of their rows.
    """
    questions: dict[tuple[Path, str], Questions] = {}
    accuracies: list[np.ndarray] = []
    skipped: list[Skipped] = []
    columns = (evaluations[name] for name in ("path", "episodes_digest", "accuracy"))
    for file, digest, accuracy in zip(*columns, strict=True):
        path, episode_accuracies = Path(file), np.empty(0)
        try:
            if path.with_suffix(".npz").exists():
                key = (path.parent, digest)
                questions[key] = questions.get(key) or read_questions(*key)
                outcomes = read_outcomes(path, digest, accuracy, questions[key])
                episode_accuracies = outcomes.accuracies if outcomes is not None else episode_accuracies
        except RecordError as error:
            skipped.append(Skipped.of(path.with_suffix(".npz"), error))
        accuracies.append(episode_accuracies)
    counts = [len(of_record) for of_record in accuracies]
    keys = evaluations[_KEYS].astype({name: "category" for name in _KEYS if name not in ("way", "shot")})
    frame = keys.iloc[np.repeat(np.arange(len(keys)), counts)].reset_index(drop=True)
    frame["episode"] = np.concatenate([np.arange(n) for n in counts]) if counts else np.empty(0, dtype=np.int64)
    frame["accuracy"] = np.concatenate(accuracies) if accuracies else np.empty(0)
    frame.attrs["skipped"] = skipped
    return frame
