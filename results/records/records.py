"""What a run, an evaluation and a sweep leave behind, and the files that hold it.

- `<run>/provenance.json`: how it came about
- `<run>/metrics.parquet`: one row an epoch
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
    """The accuracy of one method on the episodes of one (data set, partition, way, shot)."""

    KIND: ClassVar[str] = "evaluation"

    run: str
    method: str  # "hcl", "hcl untrained", "prototype", ...
    train_dataset: str
    dataset: str
    partition: str
    way: int = bounded(2)
    shot: int = bounded(1)
    queries: int = bounded(1)  # clips to classify, a class
    episodes: int = bounded(1)
    seed: int
    accuracy: float = bounded(0, 1)
    ci95: float | None = bounded(0)  # half width of the interval over episodes; None for a single episode
    accuracy_std: float | None = bounded(0, default=None)  # deviation of the accuracies of the episodes
    ci95_classes: float | None = bounded(0, default=None)  # half width for other classes and their videos
    ci95_videos: float | None = bounded(0, default=None)  # half width for other videos of the same classes
    levels: dict[str, float] = field(default_factory=dict)  # accuracy of the global, temporal, spatial level alone
    protocol: Literal["standard", "published"] = "standard"  # of training and selection
    evaluation_protocol: Literal["standard", "published"] = "standard"  # of the episodes and their frames
    overlapping: bool = False  # a clip may be support and query of an episode, though not asked as published
    mode: str = "corrected"
    leaks_labels: bool = False  # the matcher read the queries' classes, as the release does with semantics
    metric: str = ""
    split_digest: str = ""  # of the effective split: the classes and videos that the episodes come from
    episodes_digest: str = ""
    experiment_digest: str = ""
    digests: dict[str, str] = field(default_factory=dict)  # by content: `frames`; `embeddings`, `weights` if it has any
    checkpoint: str = ""
    checkpoint_digest: str = ""
    checkpoint_epoch: int | None = bounded(0, default=None)  # of its weights, where the run had not been trained whole
    epochs_done: int | None = bounded(0, default=None)  # of that run, when it was evaluated
    n_clips: int | None = bounded(0, default=None)
    n_classes: int | None = bounded(0, default=None)
    seconds: float | None = bounded(0, default=None)  # of all actors and of looking up; a table's are shared by shots
    on_gpu: bool = False  # each of those actors had one
    command: str = ""  # as typed
    created: str = ""  # ISO 8601
    settings: list[str] = field(default_factory=list)  # PATH=VALUE: where the experiment is not the run's own
    revision: str | None = None  # git commit of the code that answered
    dirty: bool | None = None  # tracked files differed from it
    versions: dict[str, str] = field(default_factory=dict)
    schema: int = SCHEMA


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One sampled configuration of a study. `params` maps dotted paths to values; `value` is the objective."""

    KIND: ClassVar[str] = "trial"

    trial: str
    params: dict[str, Any]
    value: float | None
    state: Literal["complete", "pruned", "failed", "running"] = "complete"
    epochs: int = bounded(0, default=0)
    seconds: float | None = bounded(0, default=None)
    error: str | None = None  # its last line; `log` names the file with all of it
    log: str | None = None
    values: dict[str, float] = field(default_factory=dict)  # of several objectives, by metric
    fusion: dict[str, float] = field(default_factory=dict)  # weights of the levels that validation chose, by path
    unfused: float | None = None  # val_accuracy without them
    member: int | None = None  # of a population
    round: int | None = None  # the member's, from 0
    parent: str | None = None  # the trial whose checkpoint it went on from
    schema: int = SCHEMA


@dataclass(frozen=True, kw_only=True)
class SweepRecord:
    """One study: what was searched, for what, and which trial won."""

    KIND: ClassVar[str] = "sweep"

    name: str
    space: dict[str, Any]
    objective: str  # the metric's name
    mode: Literal["max", "min"] = "max"
    best_trial: str | None = None
    best_value: float | None = None
    pareto: list[str] = field(default_factory=list)  # of several objectives: trials that no other beats in all
    importances: dict[str, float] = field(default_factory=dict)  # share of the objective's variation, by path
    sampler: str = ""
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
    """How a run came about: enough to repeat it. `results.records.provenance` fills it in."""

    KIND: ClassVar[str] = "provenance"

    command: str
    revision: str | None = None  # git commit; None outside a checkout
    dirty: bool | None = None  # tracked files differed from it
    revision_note: str = ""  # why one of the two is not known, and what to do about it
    versions: dict[str, str] = field(default_factory=dict)
    hardware: dict[str, Any] = field(default_factory=dict)
    seeds: dict[str, int] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)  # of experiment, data, episodes
    data: dict[str, Any] = field(default_factory=dict)  # how much there is of it: `train.videos`, `train.classes`, ...
    resources: dict[str, float] = field(default_factory=dict)  # held while it runs: workers, cpus, gpus
    started: str = ""
    finished: str | None = None
    schema: int = SCHEMA


def evaluation_file(run_dir: Path | str, record: EvaluationRecord) -> Path:
    """Where a record lies: one file a (method, data set, partition, way, shot, protocol)."""
    cell = [record.method, record.dataset, record.partition, f"{record.way}way", f"{record.shot}shot"]
    cell += ["published"] if record.evaluation_protocol == "published" else []
    name = "-".join(_file_name_part(part) for part in cell)
    return Path(run_dir) / "evaluation" / f"{name}.json"


def write_evaluation(run_dir: Path | str, record: EvaluationRecord) -> Path:
    """Evaluating the same cell again replaces its record."""
    return write_checked(evaluation_file(run_dir, record), encode(record))


def read_evaluation(path: Path | str) -> EvaluationRecord:
    return _read(EvaluationRecord, Path(path))


def write_provenance(run_dir: Path | str, record: Provenance) -> Path:
    return write_checked(Path(run_dir) / "provenance.json", encode(record))


def read_provenance(run_dir: Path | str) -> Provenance:
    return _read(Provenance, Path(run_dir) / "provenance.json")


def write_sweep(folder: Path | str, sweep: SweepRecord, trials: Iterable[TrialRecord]) -> Path:
    """`trials.parquet`, then `sweep.json`: who finds the second finds the first of at least the same age."""
    rows = [encode(trial) for trial in trials]
    # parameters differ in name and type from study to study: one JSON column keeps the table's shape fixed
    flat = [{**row, **{name: json.dumps(row[name]) for name in _AS_JSON}} for row in rows]
    write_rows(Path(folder) / "trials.parquet", flat)
    return write_checked(Path(folder) / "sweep.json", encode(sweep))


def read_sweep(folder: Path | str) -> SweepRecord:
    return _read(SweepRecord, Path(folder) / "sweep.json")


def _read(record_type: type[R], path: Path) -> R:
    """A record, whose checksum is looked at last: a field that cannot be is named."""
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
    """Put one epoch's metrics into `metrics.parquet`, in the place of rows of the same `epoch` or of later ones.

    Such rows are of a training that was resumed at an earlier checkpoint, or started again: other weights than now.

    Args:
        row: flat; `epoch` is the key. The report draws names that contain `loss` and `accuracy`.

    Raises:
        RecordError: no whole-numbered `epoch`, a column of mixed kinds, an unreadable or unwritable file.
    """
    path = Path(run_dir) / "metrics.parquet"
    values = _of_epoch(row, path)
    earlier = [old for old in read_epochs(run_dir) if old["epoch"] < values["epoch"]] if path.exists() else []
    return write_rows(path, [*earlier, values])


def write_epochs(run_dir: Path | str, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write all epochs' metrics anew: who knows them all needs nothing of the file that stands there.

    Raises:
        RecordError: as `append_epoch`.
    """
    path = Path(run_dir) / "metrics.parquet"
    return write_rows(path, sorted((_of_epoch(row, path) for row in rows), key=lambda one: one["epoch"]))


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
    """`text` if it can stand in a file name; else what can, and a digest, so that two names never share a file."""
    if re.fullmatch(r"[A-Za-z0-9_]{1,60}", text):
        return text
    kept = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")[:60] or "x"
    return f"{kept}_{hashlib.sha256(text.encode('utf-8', errors='backslashreplace')).hexdigest()[:6]}"
