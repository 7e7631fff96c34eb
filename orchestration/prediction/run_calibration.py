"""Calibrate a run's scores on episodes of its validation classes, and measure the confidences on its test classes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np

from hcl.assembly import inputs
from hcl.clips.episodes import Episodes
from hcl.config import Experiment
from hcl.errors import ConfigError, DataError
from hcl.evaluation.calibration import (
    Threshold,
    balanced_threshold,
    errors_at,
    fit_scale,
    probabilities,
    reliability,
)
from hcl.evaluation.methods import HierarchicalMatching, Method, Pairwise
from hcl.evaluation.scores import query_classes
from hcl.evaluation.single_queries import with_one_metric
from hcl.files.json_files import read_json, write_checked_json
from hcl.frames.stored_dataset import DataRoot
from orchestration.evaluation.scoring import Mixed, ensure_tables
from orchestration.evaluation.tables import Cell, digest_of
from orchestration.training.grids import ensure_grids

REVISION = 1  # raise it when code changes a calibration with the same settings
Reliability = Literal["test", "val"]
By = Literal["score", "confidence"]
Pair = tuple[Episodes, Episodes | None]
"""Episodes, and the same supports with queries of absent classes."""


class Scored(NamedTuple):
    """Hold the scores of queries whose class is in the support, (query, way), and of queries of other classes."""

    present: np.ndarray
    classes: np.ndarray
    absent: np.ndarray | None


@dataclass(frozen=True)
class Calibration:
    """Hold a calibration: plain values, as they are written.

    Attributes:
        scale: factor of scores in the softmax.
        by: the value that is compared with the threshold: the best score, or the confidence.
        threshold: a query below it belongs to none of the classes; None if that was not fitted.
        content: everything, for records and the page.
    """

    scale: float
    by: By
    threshold: float | None
    content: dict[str, Any]

    @classmethod
    def of(cls, content: dict[str, Any]) -> Calibration:
        return cls(content["scale"], content["by"], content["threshold"], content)

    def confidences(self, scores: np.ndarray) -> np.ndarray:
        """Return the confidence of the best class of each query."""
        return probabilities(scores, self.scale).max(axis=-1)

    def accepts(self, scores: np.ndarray) -> np.ndarray:
        """Return whether each query belongs to one of the classes."""
        if self.threshold is None:
            return np.ones(len(scores), bool)
        return _values(scores, self.scale, self.by) >= self.threshold


def calibrate(
    folder: Path,
    experiment: Experiment,
    checkpoint: Path,
    *,
    data: DataRoot,
    runs: Path,
    shots: Sequence[int],
    measured_on: Reliability = "test",
) -> Calibration:
    """Fit the scale and the threshold on val, and measure both on test; Ray must be connected.

    The result is kept in the run's `predictions/`, under a digest of weights, data and settings. Scores come from the
    tables of `hcl evaluate`, which are made where they are missing.

    Args:
        shots: number of support clips of each class of the prediction.
        measured_on: where to measure; without that partition, and with `val`, on the episodes of the fit.

    Raises:
        ConfigError: the run was trained on val.
        DataError: the data root lacks the run's val partition, or it has too few classes or clips.
    """
    if "val" in experiment.data.train_partitions:
        raise ConfigError("was trained on val, so that val cannot calibrate it", where=str(folder))
    cells = _cells(experiment, checkpoint, data, measured_on)
    shot = int(np.median(shots))
    episodes = [inputs.calibration_episodes(experiment, cells[0].partition, way=len(shots), shot=shot)]
    way, shot = episodes[0][0].way, episodes[0][0].shot
    if len(cells) > 1:
        episodes.append(inputs.calibration_episodes(experiment, cells[1].partition, way=way, shot=shot))
    how = cells[0].how
    how = with_one_metric(how, shots) if isinstance(how, HierarchicalMatching) else how
    meaning = _meaning(cells, episodes, how)
    path = folder / "predictions" / f"calibration-{digest_of(meaning)}.json"
    if path.exists():
        return Calibration.of(read_json(path, remedy="delete it and repeat the command"))
    scored = _scored(cells, episodes, how, runs)
    content = {"kind": "calibration", "schema": 1, **_fitted(scored[0]), **_description(cells[0], episodes[0][0])}
    content["measured"] = _measured(scored[-1], content, cells[-1].partition.name)
    content["asked"] = meaning
    write_checked_json(path, content)
    return Calibration.of(json.loads(json.dumps(content)))


def _cells(experiment: Experiment, checkpoint: Path, data: DataRoot, measured_on: Reliability) -> list[Cell]:
    """Return the cell of val and, if it is asked for and there, that of test."""
    stored, method = data.dataset(experiment.data.dataset), experiment.regime_name
    partitions = [stored.effective("val", keep_copies=experiment.asks_copies)]
    if measured_on == "test":
        with suppress(DataError):  # no such list, or its videos have no frames: the record says where it was measured
            partitions.append(stored.effective("test", keep_copies=experiment.asks_copies))
    return [Cell(method, experiment, stored, partition, checkpoint) for partition in partitions]


def _meaning(cells: Sequence[Cell], episodes: Sequence[Pair], how: Method) -> dict[str, Any]:
    fusion = {}
    if isinstance(how, HierarchicalMatching):
        fusion = {**how.matcher.looking, "sigmas": dict(how.sigmas)}
    return {
        "revision": REVISION,
        "tables": [cell.key for cell in cells],
        "episodes": [[part.digest() for part in pair if part is not None] for pair in episodes],
        "fusion": fusion,
    }


def _scored(cells: Sequence[Cell], episodes: Sequence[Pair], how: Method, runs: Path) -> list[Scored]:
    """Return the scores of the episodes of each cell."""
    ensure_grids([job for cell in cells if (job := cell.grid_job())], runs)
    if how.reason(episodes[0][0].shot) is None:
        ensure_tables(cells, runs)
        pairwise = cast(Pairwise, how)
        tables = [cell.table(runs).read() for cell in cells]
        each = [
            [None if part is None else how.fuse(pairwise.look_up(table, part)) for part in pair]
            for table, pair in zip(tables, episodes, strict=True)
        ]
    else:
        asked = [
            Mixed(cell, part) for cell, pair in zip(cells, episodes, strict=True) for part in pair if part is not None
        ]
        scores = iter(ensure_tables([], runs, mixed=asked).mixed)
        each = [[None if part is None else how.fuse(next(scores)) for part in pair] for pair in episodes]
    return [_flat(pair[0], *of_cell) for pair, of_cell in zip(episodes, each, strict=True)]


def _flat(asked: Episodes, present: np.ndarray | None, absent: np.ndarray | None) -> Scored:
    assert present is not None
    classes = np.tile(query_classes(asked.way, asked.n_queries), len(asked))
    return Scored(present.reshape(-1, asked.way), classes, None if absent is None else absent.reshape(-1, asked.way))


def _fitted(scored: Scored) -> dict[str, Any]:
    """Return the scale and, if there are queries of absent classes, the better of two ways to recognise them."""
    scale = fit_scale(scored.present, scored.classes)
    fitted: dict[str, Any] = {"scale": scale, "by": "score", "threshold": None, "val": None}
    if scored.absent is None:
        return fitted
    chosen: dict[By, Threshold] = {
        by: balanced_threshold(_values(scored.present, scale, by), _values(scored.absent, scale, by))
        for by in cast(tuple[By, ...], ("score", "confidence"))
    }
    by = min(chosen, key=lambda name: chosen[name].error)
    return {**fitted, "by": by, "threshold": chosen[by].value, "val": _errors(chosen[by])}


def _measured(scored: Scored, content: dict[str, Any], partition: str) -> dict[str, Any]:
    """Return the reliability of the confidences, and the errors of the threshold."""
    confidences = probabilities(scored.present, content["scale"]).max(axis=1)
    right = scored.present.argmax(axis=1) == scored.classes
    bins, error = reliability(confidences, right)
    unknown = None
    if scored.absent is not None and content["threshold"] is not None:
        values = [_values(part, content["scale"], content["by"]) for part in (scored.present, scored.absent)]
        unknown = _errors(errors_at(content["threshold"], *values))
    return {
        "partition": partition,
        "n": len(right),
        "accuracy": float(right.mean()),
        "confidence": float(confidences.mean()),
        "error": error,
        "bins": [one._asdict() for one in bins],
        "unknown": unknown,
    }


def _errors(threshold: Threshold) -> dict[str, float]:
    return {"rejected": threshold.rejected, "accepted": threshold.accepted, "error": threshold.error}


def _values(scores: np.ndarray, scale: float, by: By) -> np.ndarray:
    return scores.max(axis=-1) if by == "score" else probabilities(scores, scale).max(axis=-1)


def _description(cell: Cell, episodes: Episodes) -> dict[str, Any]:
    return {
        "dataset": cell.partition.dataset,
        "way": episodes.way,
        "shot": episodes.shot,
        "episodes": len(episodes),
        "checkpoint_digest": cell.checkpoint_digest,
    }
