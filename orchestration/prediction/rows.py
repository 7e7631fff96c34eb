"""Turn the outcomes of a prediction into its record: a row a query."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import results
from hcl.assembly.experiment_files import load_resolved
from hcl.config.resolve import changes
from hcl.evaluation.methods import HierarchicalMatching
from orchestration.prediction.predict import Found
from orchestration.prediction.request import Asked
from orchestration.prediction.run_calibration import Calibration
from results.records.predictions import OK, PredictionsRecord

NONE = "none of these"


def record_of(asked: Asked, found: Found, *, command: str = "") -> PredictionsRecord:
    """Return the record of a prediction.

    Args:
        command: the command line.
    """
    names = found.setup.classes
    none = next(text for text in (NONE, f"({NONE})", f"[{NONE}]") if text not in names)
    support = {name: [clip.name for clip in clips] for name, clips in asked.support.items()}
    clips = [clip.name for clip in asked.support_clips]
    rows = []
    for clip, outcome in zip(asked.queries, found.outcomes, strict=True):
        note = {"note": outcome["note"]} if "note" in outcome else {}
        if "reason" in outcome:
            rows.append({"query": clip.name, "status": "unreadable", "reason": outcome["reason"], **note})
            continue
        row = _row(outcome, names, found.calibration, none)
        if "nearest" in outcome:
            row["nearest"] = clips[outcome["nearest"]]
        rows.append({"query": clip.name, "status": OK, **row, **note})
    options, how, own = found.setup.options, found.setup.how, asked.folder / "experiment.yaml"
    return PredictionsRecord(
        run=asked.folder.name,
        support=support,
        rows=rows,
        none=none,
        calibration=found.calibration.content if found.calibration else {},
        uncalibrated=found.uncalibrated,
        metric=how.matcher.metric if isinstance(how, HierarchicalMatching) else how.metric(max(asked.shots)),
        checkpoint=str(asked.checkpoint),
        checkpoint_digest=found.setup.checkpoint_digest,
        settings=changes(load_resolved(own), asked.experiment),
        frame_options={"short_side": options.short_side, "quality": options.quality, "n_frames": options.n_frames},
        command=command,
        created=results.now(),
    )


def _row(
    outcome: Mapping[str, Any], names: tuple[str, ...], calibration: Calibration | None, none: str
) -> dict[str, Any]:
    """Return the fields of a query that was classified; the first of equal classes is the best."""
    scores = np.array(outcome["scores"])
    best, second = np.argsort(-scores, kind="stable")[:2]
    is_none = calibration is not None and not calibration.accepts(scores[None])[0]
    return {
        "answer": none if is_none else names[best],
        "is_none": bool(is_none),
        "best_class": names[best],
        "second_class": names[second],
        "score": float(scores[best]),
        "margin": float(scores[best] - scores[second]),
        "confidence": float(calibration.confidences(scores[None])[0]) if calibration else None,
        "scores": dict(zip(names, scores.tolist(), strict=True)),
        "levels": {name: values[best] for name, values in outcome["levels"].items()},
        "frames": outcome["n_frames"],
    }
