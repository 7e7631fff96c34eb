"""The answers of many evaluations as one tidy frame."""

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
    """One row an episode: what its evaluation record is about, `episode` from 0, and its `accuracy` (0 to 1).

    Two methods answered the same question where `episodes_digest` and `episode` are the same. Records without answers,
    as those of older versions, have no rows; damaged answers are named in `attrs["skipped"]`. Texts are categories:
    a million rows take about 50 MB.

    Args:
        evaluations: of `results.load`, or some of its rows.
    """
    known: dict[tuple[Path, str], Questions] = {}
    accuracies: list[np.ndarray] = []
    skipped: list[Skipped] = []
    columns = (evaluations[name] for name in ("path", "episodes_digest", "accuracy"))
    for file, digest, accuracy in zip(*columns, strict=True):
        path, found = Path(file), np.empty(0)
        try:
            if path.with_suffix(".npz").exists():
                asked = (path.parent, digest)
                known[asked] = known.get(asked) or read_questions(*asked)
                outcomes = read_outcomes(path, digest, accuracy, known[asked])
                found = outcomes.accuracies if outcomes is not None else found
        except RecordError as error:
            skipped.append(Skipped.of(path.with_suffix(".npz"), error))
        accuracies.append(found)
    counts = [len(one) for one in accuracies]
    keys = evaluations[_KEYS].astype({name: "category" for name in _KEYS if name not in ("way", "shot")})
    frame = keys.iloc[np.repeat(np.arange(len(keys)), counts)].reset_index(drop=True)
    frame["episode"] = np.concatenate([np.arange(n) for n in counts]) if counts else np.empty(0, dtype=np.int64)
    frame["accuracy"] = np.concatenate(accuracies) if accuracies else np.empty(0)
    frame.attrs["skipped"] = skipped
    return frame
