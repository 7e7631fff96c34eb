"""Do what the commands do, as functions with typed results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

import results
from hcl.assembly.experiment_files import load_resolved
from hcl.config import PUBLISHED_EVALUATION, Experiment
from hcl.config.overrides import Overrides, override_values
from hcl.config.resolve import override, resolve
from hcl.errors import ConfigError
from hcl.frames.loose_clips import find_clips, find_support
from hcl.frames.stored_dataset import DataRoot, StoredDataset
from orchestration.api.typed_results import Evaluations, Fusion, Predictions, StudyResult, TrainedRun
from orchestration.evaluation import evaluate as evaluation
from orchestration.evaluation import fuse as fusion
from orchestration.evaluation.questions import questions_of
from orchestration.evaluation.targets import check_methods, evaluation_settings, target_of
from orchestration.extraction.extract import ExtractSummary, extract_dataset
from orchestration.prediction.output import write as write_predictions
from orchestration.prediction.predict import predict as classify
from orchestration.prediction.request import Asked, default_folder
from orchestration.prediction.rows import record_of
from orchestration.prediction.run_calibration import Reliability
from orchestration.reports.report import Report, make_report
from orchestration.storage.data_roots import data_of
from orchestration.storage.run_folders import run_and_checkpoint, run_folder
from orchestration.sweeps.records import best_experiment
from orchestration.sweeps.study import Limits, Study
from orchestration.sweeps.sweep import sweep as run_study
from orchestration.sweeps.sweep import write_best
from orchestration.training.run_files import BEST
from orchestration.training.train import train as train_run
from search_spaces import Space, load_space

Source = str | Path | Experiment
"""The name of a shipped experiment, a YAML file, or an experiment."""


def extract(dataset: str, *, data: str | Path = "data", address: str | None = None, **options: Any) -> ExtractSummary:
    """Extract the frames of a data set: `hcl extract`.

    Args:
        options: as of `orchestration.extraction.extract.extract_dataset`: short_side, quality, n_frames, actors and
            others.
    """
    return extract_dataset(StoredDataset(Path(data).absolute(), dataset), address=address, **options)


def train(
    experiment: Source,
    settings: Overrides = (),
    *,
    epochs: int | None = None,
    data: str | Path | None = None,
    runs: str | Path = "runs",
    restart: bool = False,
    address: str | None = None,
) -> TrainedRun:
    """Train a run, or resume it: `hcl train`.

    Args:
        settings: `path=value` texts as of `--set`, or values by dotted path.
        epochs: number of all epochs, in place of the experiment's; a run of fewer epochs is trained further.
        restart: start over, and remove the run's earlier files.
    """
    chosen = _experiment(experiment, settings)
    chosen = override(chosen, {"train.epochs": epochs}) if epochs else chosen
    root, where = _root(data, _folder(runs) / chosen.name), _folder(runs)
    further = epochs is not None
    run = train_run(chosen, data=root, runs=where, restart=restart, further=further, address=address, command=_COMMAND)
    rows = pd.DataFrame(results.read_epochs(run.folder))
    return TrainedRun(run.folder, chosen, rows, run.resumption(holding=["best"]).state["best"])


def sweep(
    experiment: Source,
    space: str | Path | Space,
    settings: Overrides = (),
    *,
    trials: int = 20,
    data: str | Path | None = None,
    runs: str | Path = "runs",
    concurrency: int | None = None,
    restart: bool = False,
    address: str | None = None,
    **options: Any,
) -> StudyResult:
    """Search settings, or resume the study: `hcl sweep`.

    Args:
        space: the name of a shipped space, a YAML file, or a space; `settings` of its parameters fix them.
        concurrency: the largest number of trials at once; None: as many as fit.
        options: other fields of `orchestration.sweeps.study.Study`, such as seed, sampler, stop_rule, lag, storage.
    """
    chosen = _experiment(experiment, settings)
    found = space if isinstance(space, Space) else load_space(str(space))
    study = Study(
        chosen,
        found.pin(override_values(settings)),
        _root(data, _folder(runs) / chosen.name),
        _folder(runs),
        trials,
        limits=Limits(concurrency=concurrency),
        **options,
    )
    record, ended = run_study(study, restart=restart, address=address, command=_COMMAND)
    best = best_experiment(study, ended)
    write_best(study, best)
    return StudyResult(study.folder, record, results.load(study.folder).trials, best)


def evaluate(
    *run: str | Path,
    settings: Overrides = (),
    methods: Sequence[str] = (),
    datasets: Sequence[str] = (),
    protocol: str = "standard",
    fused: bool = False,
    data: str | Path | None = None,
    runs: str | Path = "runs",
    address: str | None = None,
) -> Evaluations:
    """Compute few-shot accuracies of runs or checkpoints: `hcl evaluate`.

    Args:
        run: folders, names under `runs`, or checkpoints.
        settings: settings that an evaluation may change: `evaluation.*`, `fusion.*`, `matching.metric`, the machine's.
        methods: the run's own if empty; see `hcl evaluate --help`.
        protocol: `published` evaluates as for the printed results.
        fused: use the fusion that `fuse` chose.
    """
    check_methods(methods)
    changes: dict[str, Any] = {**(PUBLISHED_EVALUATION if protocol == "published" else {})}
    changes |= evaluation_settings(settings) | ({"evaluation.datasets": list(datasets)} if datasets else {})
    given = [run_and_checkpoint(Path(one), _folder(runs)) for one in run]
    if not given:
        raise ConfigError("nothing to evaluate", where="run", remedy="give a run's folder, its name or a checkpoint")
    targets = [target_of(*one, tuple(methods), changes, fused=fused) for one in given]
    root = _root(data, *(target.folder for target in targets))
    answers = evaluation.evaluate(questions_of(targets, root), runs=_folder(runs), address=address, command=_COMMAND)
    frame = results.load([target.folder for target in targets]).evaluations
    asked = {(record.method, record.episodes_digest) for record in answers.records}
    kept = [pair in asked for pair in zip(frame["method"], frame["episodes_digest"], strict=True)]
    return Evaluations(answers.records, frame[kept].reset_index(drop=True))


def fuse(
    run: str | Path,
    space: str | Path | Space = "fusion",
    settings: Overrides = (),
    *,
    trials: int = 5000,
    seed: int = 0,
    data: str | Path | None = None,
    runs: str | Path = "runs",
    restart: bool = False,
    address: str | None = None,
) -> Fusion:
    """Choose the weights of the levels on val, then evaluate them on test once: `hcl fuse`."""
    folder, where = run_folder(Path(run), _folder(runs)), _folder(runs)
    root = _root(data, folder)
    experiment = override(load_resolved(folder / "experiment.yaml"), evaluation_settings(settings))
    found = space if isinstance(space, Space) else load_space(str(space))
    search = fusion.search_fusion(
        folder, experiment, data=root, runs=where, space=found, n_trials=trials, seed=seed, restart=restart,
        address=address,
    )  # fmt: skip
    records = fusion.evaluate_fusion(folder, experiment, data=root, runs=where, address=address, command=_COMMAND)
    return Fusion(search, dict(records))


def predict(
    run: str | Path,
    support: str | Path,
    *queries: str | Path,
    to: str | Path | None = None,
    settings: Overrides = (),
    fused: bool = False,
    calibrated_on: Reliability | None = "test",
    pictures: int = 50,
    data: str | Path | None = None,
    runs: str | Path = "runs",
    address: str | None = None,
) -> Predictions:
    """Classify videos that are in no data set: `hcl predict`.

    Args:
        support: a folder with a folder of labelled clips for each class.
        queries: videos, folders of frames, or folders that are searched for both.
        to: the folder of the page and tables; None: below the run's folder.
        calibrated_on: the partition on which confidences are checked; None: no confidences.
        pictures: number of queries, from the first, that the page shows.
    """
    folder, checkpoint = run_and_checkpoint(Path(run), _folder(runs))
    experiment = target_of(folder, checkpoint, (), evaluation_settings(settings), fused=fused).experiment
    clips = [clip for query in queries for clip in find_clips(Path(query))]
    asked = Asked(
        folder.absolute(), experiment, (checkpoint or folder / BEST).absolute(), _root(data, folder), _folder(runs),
        find_support(Path(support)), clips, n_pictures=pictures, calibrated_on=calibrated_on,
    )  # fmt: skip
    found = classify(asked, address=address)
    record = record_of(asked, found, command=_COMMAND)
    place = Path(to) if to else default_folder(folder, Path(support), [Path(query) for query in queries])
    write_predictions(place, record, found)
    return Predictions(place, record, pd.DataFrame(record.rows))


def report(*folders: str | Path, to: str | Path = "report", title: str = "HCL results") -> Report:
    """Write the results page and tables of runs and studies: `hcl report`. Without folders, of all under `runs`."""
    return make_report(folders or ["runs/*"], Path(to), title=title)


def load_results(*folders: str | Path) -> results.Results:
    """Read the records of runs and studies as pandas frames; without folders, of all under `runs`."""
    return results.load(list(folders) or ["runs/*"])


def _experiment(source: Source, settings: Overrides) -> Experiment:
    return override(source, settings) if isinstance(source, Experiment) else resolve(source, settings).experiment


def _root(data: str | Path | None, *folders: Path) -> DataRoot:
    """Return the data root: the given one, or the one that the folders of runs remember, or `data`."""
    return DataRoot(data_of(folders, None if data is None else Path(data)).absolute())


def _folder(runs: str | Path) -> Path:
    return Path(runs).absolute()


_COMMAND = "orchestration.api"
