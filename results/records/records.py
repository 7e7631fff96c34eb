"""Define the records of a run, an evaluation and a study, and their files.

- `<run>/provenance.json`: how the run was made
- `<run>/metrics.parquet`: one row for each epoch
- `<run>/evaluation/*.json`: a (method, data set, partition, way, shot); its answers: `results.records.outcomes`
- `<sweep>/sweep.json`, `<sweep>/trials.parquet`: the study and its trials
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from results.errors import RecordError
from results.records.codec import SCHEMA, bounded, decode, encode
from results.records.files import check_content, read_json, read_rows, write_checked, write_rows

R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class EvaluationRecord:
    """Hold the accuracy of one method on the episodes of one (data set, partition, way, shot)."""

    KIND: ClassVar[str] = "evaluation"

    run: str
    method: str  # "hcl", "hcl untrained", "prototype", ...
    train_dataset: str
    dataset: str
    partition: str
    way: int = bounded(2)
    shot: int = bounded(1)
    queries: int = bounded(1)  # clips to classify per class
    episodes: int = bounded(1)
    seed: int
    accuracy: float = bounded(0, 1)
    ci95: float | None = bounded(0)  # half width of the interval over episodes; None for a single episode
    accuracy_std: float | None = bounded(0, default=None)  # standard deviation of the episodes' accuracies
    ci95_classes: float | None = bounded(0, default=None)  # half width of the interval over classes and their videos
    ci95_videos: float | None = bounded(0, default=None)  # half width of the interval over videos
    levels: dict[str, float] = field(default_factory=dict)  # accuracy of each level alone
    protocol: Literal["standard", "published"] = "standard"  # of training and selection
    evaluation_protocol: Literal["standard", "published"] = "standard"  # of the episodes and their frames
    overlapping: bool = False  # a clip may be support and query of an episode
    mode: str = "corrected"
    leaks_labels: bool = False  # the matcher read the queries' classes, as in the release
    metric: str = ""
    split_digest: str = ""  # of the effective split, from which the episodes are drawn
    episodes_digest: str = ""
    experiment_digest: str = ""
    digests: dict[str, str] = field(default_factory=dict)  # of contents: `frames`; `embeddings`, `weights` if used
    checkpoint: str = ""
    checkpoint_digest: str = ""
    checkpoint_epoch: int | None = bounded(0, default=None)  # of its weights, if training was incomplete
    epochs_done: int | None = bounded(0, default=None)  # of that run at its evaluation
    n_clips: int | None = bounded(0, default=None)
    n_classes: int | None = bounded(0, default=None)
    seconds: float | None = bounded(0, default=None)  # of all actors and look-ups; shots share a table's
    on_gpu: bool = False  # each of these actors had a GPU
    command: str = ""  # as typed
    created: str = ""  # ISO 8601
    settings: list[str] = field(default_factory=list)  # PATH=VALUE, where they differ from the run's own
    revision: str | None = None  # git commit of the evaluating code
    dirty: bool | None = None  # tracked files differed from it
    versions: dict[str, str] = field(default_factory=dict)
    schema: int = SCHEMA


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """Hold one sampled configuration of a study. `params` maps dotted paths to values; `value` is the objective."""

    KIND: ClassVar[str] = "trial"

    trial: str
    params: dict[str, Any]
    value: float | None
    state: Literal["complete", "pruned", "failed", "running"] = "complete"
    epochs: int = bounded(0, default=0)
    seconds: float | None = bounded(0, default=None)
    error: str | None = None  # its last line; `log` names the file with all lines
    log: str | None = None
    values: dict[str, float] = field(default_factory=dict)  # values of several objectives, by metric
    fusion: dict[str, float] = field(default_factory=dict)  # weights of the levels chosen in validation, by path
    unfused: float | None = None  # val_accuracy without them
    member: int | None = None  # of a population
    round: int | None = None  # the member's, from 0
    parent: str | None = None  # the trial whose checkpoint it continued from
    schema: int = SCHEMA


@dataclass(frozen=True, kw_only=True)
class SweepRecord:
    """Hold one study: the space, the objective and the best trial."""

    KIND: ClassVar[str] = "sweep"

    name: str
    space: dict[str, Any]
    objective: str  # the metric's name
    mode: Literal["max", "min"] = "max"
    best_trial: str | None = None
    best_value: float | None = None
    pareto: list[str] = field(default_factory=list)  # trials on the Pareto front of several objectives
    importances: dict[str, float] = field(default_factory=dict)  # share of the objective's variation, by path
    sampler: str = ""
    reproducible: bool | None = None  # whether it is a function of its seed and lag; None: of an earlier version
    lag: int | None = bounded(0, default=None)  # trials before each one whose results its sampler does not see
    n_trials: int = bounded(0, default=0)
    seconds: float | None = bounded(0, default=None)
    resources: dict[str, float] = field(default_factory=dict)  # of one trial: workers, cpus, gpus
    seed: int | None = None
    experiment_digest: str = ""
    command: str = ""
    created: str = ""
    schema: int = SCHEMA


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Hold the provenance of a run, enough to repeat it. `results.records.provenance` creates it."""

    KIND: ClassVar[str] = "provenance"

    command: str
    revision: str | None = None  # git commit; None outside a checkout
    dirty: bool | None = None  # tracked files differed from it
    revision_note: str = ""  # why one of the two is unknown, with a remedy
    versions: dict[str, str] = field(default_factory=dict)
    hardware: dict[str, Any] = field(default_factory=dict)
    seeds: dict[str, int] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)  # of experiment, data, episodes
    data: dict[str, Any] = field(default_factory=dict)  # amounts: `train.videos`, `train.classes` and so on
    resources: dict[str, float] = field(default_factory=dict)  # held while it runs: workers, cpus, gpus
    started: str = ""
    finished: str | None = None
    extended: list[dict[str, Any]] | None = None  # by more epochs: from, to, after, digest before, command, started
    schema: int = SCHEMA


def evaluation_file(run_dir: Path | str, record: EvaluationRecord) -> Path:
    """Return the file of a record: one for each (method, data set, partition, way, shot, protocol)."""
    cell = [record.method, record.dataset, record.partition, f"{record.way}way", f"{record.shot}shot"]
    cell += ["published"] if record.evaluation_protocol == "published" else []
    name = "-".join(_file_name_part(part) for part in cell)
    return Path(run_dir) / "evaluation" / f"{name}.json"


def write_evaluation(run_dir: Path | str, record: EvaluationRecord) -> Path:
    """Write a record; it replaces that of an earlier evaluation of the same cell."""
    return write_checked(evaluation_file(run_dir, record), encode(record))


def read_evaluation(path: Path | str) -> EvaluationRecord:
    return _read(EvaluationRecord, Path(path))


def write_provenance(run_dir: Path | str, record: Provenance) -> Path:
    return write_checked(Path(run_dir) / "provenance.json", encode(record))


def read_provenance(run_dir: Path | str) -> Provenance:
    return _read(Provenance, Path(run_dir) / "provenance.json")


def write_sweep(folder: Path | str, sweep: SweepRecord, trials: Iterable[TrialRecord]) -> Path:
    """Write `trials.parquet`, then `sweep.json`, so that a reader of the second finds trials that are no older."""
    rows = [encode(trial) for trial in trials]
    # parameters differ in name and type between studies: one JSON column keeps the table's columns fixed
    flat = [{**row, **{name: json.dumps(row[name]) for name in _AS_JSON}} for row in rows]
    write_rows(Path(folder) / "trials.parquet", flat)
    return write_checked(Path(folder) / "sweep.json", encode(sweep))


def read_sweep(folder: Path | str) -> SweepRecord:
    return _read(SweepRecord, Path(folder) / "sweep.json")


def _read(record_type: type[R], path: Path) -> R:
    """Return a record; its checksum is checked last, so that an error names a wrong field first."""
    content = read_json(path)
    record = decode(record_type, content, where=str(path))
    check_content(content, path)
    return record


_AS_JSON = ("params", "values", "fusion")


def read_trials(folder: Path | str) -> list[TrialRecord]:
    path = Path(folder) / "trials.parquet"
    trials = []
    for row in read_rows(path):
        try:
            row |= {name: json.loads(row[name]) for name in _AS_JSON if name == "params" or name in row}
        except (KeyError, TypeError, ValueError) as error:
            raise RecordError("holds no trials: a row's `params` is not JSON", where=str(path)) from error
        trials.append(decode(TrialRecord, row, where=str(path)))
    return trials


def append_epoch(run_dir: Path | str, row: Mapping[str, Any]) -> Path:
    """Write one epoch's metrics into `metrics.parquet`, in place of rows of the same `epoch` or of later ones.

    Such rows come from a training that was resumed at an earlier checkpoint, or started over, so that weights differ.

    Args:
        row: flat metrics with the key `epoch`. The report draws names that contain `loss` and `accuracy`.

    Raises:
        RecordError: if `epoch` is no integer, a column mixes kinds, or the file cannot be read or written.
    """
    path = Path(run_dir) / "metrics.parquet"
    values = _of_epoch(row, path)
    earlier = [old for old in read_epochs(run_dir) if old["epoch"] < values["epoch"]] if path.exists() else []
    return write_rows(path, [*earlier, values])


def write_epochs(run_dir: Path | str, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write all epochs' metrics, and replace an existing file without reading it.

    Raises:
        RecordError: as `append_epoch`.
    """
    path = Path(run_dir) / "metrics.parquet"
    return write_rows(path, sorted((_of_epoch(row, path) for row in rows), key=lambda values: values["epoch"]))


def _of_epoch(row: Mapping[str, Any], path: Path) -> dict[str, Any]:
    values = {str(name): value.item() if hasattr(value, "item") else value for name, value in row.items()}
    epoch = values.get("epoch")
    if not isinstance(epoch, int) or isinstance(epoch, bool):
        raise RecordError(f"expected a whole number, got {epoch!r}", where=f"{path}: epoch")
    for name, value in values.items():
        if not isinstance(value, (int, float, str, bool, type(None))):
            raise RecordError(f"expected a number or text, got {type(value).__name__}", where=f"{path}: {name}")
    return values


def read_epochs(run_dir: Path | str) -> list[dict[str, Any]]:
    path = Path(run_dir) / "metrics.parquet"
    rows = read_rows(path)
    if any(not isinstance(row.get("epoch"), int) for row in rows):
        raise RecordError("holds no epochs: expected a column `epoch` of whole numbers", where=str(path))
    return rows


def _file_name_part(text: str) -> str:
    """Return `text` if it can be part of a file name; otherwise its usable characters with a digest.

    Names thus stay distinct.
    """
    if re.fullmatch(r"[A-Za-z0-9_]{1,60}", text):
        return text
    kept = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")[:60] or "x"
    return f"{kept}_{hashlib.sha256(text.encode('utf-8', errors='backslashreplace')).hexdigest()[:6]}"
