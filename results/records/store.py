"""Load any number of runs and studies as tidy frames: `results.load("runs/*")`."""

from __future__ import annotations

import dataclasses
import glob
import os
import re
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from results.errors import RecordError
from results.records.answers import episode_frame
from results.records.files import Skipped
from results.records.labels import LABELS, read_labels
from results.records.records import (
    EvaluationRecord,
    SweepRecord,
    TrialRecord,
    read_epochs,
    read_evaluation,
    read_provenance,
    read_sweep,
    read_trials,
)
from results.records.weights import Weights

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Results:
    """Hold frames with a row for each run, epoch, evaluation, study and trial; `run` or `sweep` names the folder.

    Nested values are spread over dotted columns: `versions.torch`, `levels.global`, `params.loss.sigma_ce`. Trials
    repeat their study's `objective` and `mode`. An evaluation is `stale` if its run now has other weights than those
    that were evaluated (`results.records.weights`). `tags` of runs and studies are separated by blanks.
    """

    runs: pd.DataFrame
    epochs: pd.DataFrame
    evaluations: pd.DataFrame
    sweeps: pd.DataFrame
    trials: pd.DataFrame
    skipped: tuple[Skipped, ...]

    @cached_property
    def episodes(self) -> pd.DataFrame:
        """Return one row for each episode of the evaluation records, read from the answers on first use."""
        return episode_frame(self.evaluations)


def load(paths: str | Path | Iterable[str | Path]) -> Results:
    """Read runs and studies from folders or globs; a folder that is neither is searched one level deep.

    Damaged and foreign files are left out, and listed in `skipped`.

    Raises:
        RecordError: if a path does not exist, a pattern has no match, or a path is a URI.
    """
    reader = _Reader()
    for folder in _folders([paths] if isinstance(paths, (str, Path)) else paths):
        reader.read(folder)
    return reader.results()


class _Reader:
    def __init__(self) -> None:
        self.rows: dict[str, list[dict[str, Any]]] = {name: [] for name in _COLUMNS}
        self.skipped: list[Skipped] = []
        self.labels: set[str] = set()
        self.seen: set[Path] = set()
        self.weights = Weights()

    def read(self, folder: Path) -> None:
        if folder.resolve() in self.seen:  # patterns may overlap
            return
        self.seen.add(folder.resolve())
        if not (_is_run(folder) or _is_sweep(folder)):
            inside = (
                [subfolder for subfolder in sorted(folder.iterdir()) if subfolder.is_dir()] if folder.is_dir() else []
            )
            subfolders = [subfolder for subfolder in inside if _is_run(subfolder) or _is_sweep(subfolder)]
            if not subfolders and folder.name not in _BESIDE:
                self.skipped.append(Skipped(str(folder), "neither a run nor a sweep"))
            for subfolder in subfolders:
                self.read(subfolder)
            return
        name = folder.resolve().name
        label = name if name not in self.labels else str(folder)
        self.labels.add(label)
        if _is_run(folder):
            self._read_run(label, folder)
        if _is_sweep(folder):
            self._read_sweep(label, folder)

    def results(self) -> Results:
        frames = {}
        for name, rows_of_frame in self.rows.items():
            rows = [_of_whole_characters(row) for row in rows_of_frame]
            columns = dict.fromkeys([*_COLUMNS[name], *(key for row in rows for key in row)])
            frames[name] = pd.DataFrame(rows, columns=list(columns))
        return Results(**frames, skipped=tuple(self.skipped))

    def _read_run(self, label: str, folder: Path) -> None:
        run: dict[str, Any] = {"run": label, "path": str(folder)}
        if (folder / "provenance.json").exists():
            provenance = self._try(read_provenance, folder, folder / "provenance.json")
            run |= _flat(dataclasses.asdict(provenance)) if provenance else {}
        if (folder / "experiment.yaml").exists():
            text = self._try(_read_text, folder / "experiment.yaml", folder / "experiment.yaml")
            run |= {"experiment": text} if text is not None else {}
        self.rows["runs"].append(run | self._labels(folder))
        if (folder / "metrics.parquet").exists():
            epochs = self._try(read_epochs, folder, folder / "metrics.parquet")
            self.rows["epochs"] += [{"run": label} | row | {"run": label} for row in epochs or []]
        for file in sorted((folder / "evaluation").glob("*.json")):
            record = self._try(read_evaluation, file, file)
            if record:
                row = _flat(vars(record)) | {"settings": " ".join(record.settings)}
                row["stale"] = self.weights.is_stale(folder, record.checkpoint, record.checkpoint_digest)
                self.rows["evaluations"].append({**row, "run": label, "path": str(file)})

    def _labels(self, folder: Path) -> dict[str, str]:
        """Return the tags, separated by blanks, and the note; each only if there is one."""
        labels = self._try(read_labels, folder, folder / LABELS)
        known = {"tags": " ".join(labels.tags), "note": labels.note} if labels else {}
        return {name: text for name, text in known.items() if text}

    def _read_sweep(self, label: str, folder: Path) -> None:
        sweep = self._try(read_sweep, folder, folder / "sweep.json") if (folder / "sweep.json").exists() else None
        fields = dataclasses.asdict(sweep) if sweep else {}
        self.rows["sweeps"].append({"sweep": label, "path": str(folder), **fields, **self._labels(folder)})
        aim = {"objective": fields.get("objective", "objective"), "mode": fields.get("mode", "max")}
        for trial in self._try(read_trials, folder, folder / "trials.parquet") or []:
            row = dataclasses.asdict(trial)
            params = {f"params.{name}": value for name, value in row.pop("params").items()}
            params |= {f"values.{name}": value for name, value in row.pop("values").items()}
            self.rows["trials"].append({"sweep": label, **aim, **row, **params})

    def _try(self, read: Callable[[Path], T], path: Path, file: Path) -> T | None:
        try:
            return read(path)
        except RecordError as error:
            self.skipped.append(Skipped.of(file, error))
            return None


def _folders(paths: Iterable[str | Path]) -> list[Path]:
    folders: list[Path] = []
    for path in paths:
        if _URI.match(str(path)):
            raise RecordError(
                "is a URI, but records are only read from a file system",
                where=str(path),
                remedy="copy the runs' folders here first; checkpoints/ are not needed",
            )
        if Path(path).exists():  # a folder's own name may hold brackets
            folders.append(Path(path))
            continue
        matches = sorted(glob.glob(os.path.expanduser(str(path))))
        if not matches:
            raise RecordError(
                "does not exist or matches nothing", where=str(path), remedy="give a run, a study or a folder of them"
            )
        folders += map(Path, matches)
    return folders


def _is_run(folder: Path) -> bool:
    return any(
        (folder / name).exists() for name in ("provenance.json", "metrics.parquet", "evaluation", "experiment.yaml")
    )


def _is_sweep(folder: Path) -> bool:
    return (folder / "sweep.json").exists() or (folder / "trials.parquet").exists()


_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # a single letter is a drive
_BESIDE = ("cache",)  # folders of commands beside runs


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise RecordError(f"cannot be read as text: {error}", where=str(path)) from error


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{key}": item for key, item in value.items()}
        else:
            flat[name] = value
    return flat


def _of_whole_characters(value: Any) -> Any:
    """Return a value with lone surrogates escaped, which JSON and folder names may hold but no table accepts."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_of_whole_characters(key): _of_whole_characters(item) for key, item in value.items()}
    return [_of_whole_characters(item) for item in value] if isinstance(value, list) else value


def _names(record: type[Any], *, without: tuple[str, ...] = ()) -> list[str]:
    return [field.name for field in dataclasses.fields(record) if field.name not in without]


_COLUMNS: dict[str, list[str]] = {
    # present even in an empty frame, so that readers need no special case
    "runs": ["run", "path", "command", "revision", "dirty", "started", "finished", "experiment", "tags", "note"],
    "epochs": ["run", "epoch"],
    "evaluations": [*_names(EvaluationRecord, without=("levels",)), "stale", "path"],
    "sweeps": ["sweep", "path", *_names(SweepRecord), "tags", "note"],
    "trials": ["sweep", "objective", "mode", *_names(TrialRecord, without=("params",))],
}
