"""`hcl train`: one run by Ray Train, with DDP workers that share every batch."""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray.train
from ray.exceptions import RayError
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer, get_device, prepare_model
from torch import nn

import results
from hcl import build, errors
from hcl.config import Experiment
from hcl.episodes import pair_batch
from hcl.errors import ClusterError, ConfigError, HCLError, StorageError, TrainingError
from hcl.gather import OneProcess, Workers
from hcl.resolve import load_resolved, to_yaml
from hcl.settings import flatten
from hcl.splits import Partition
from orchestration.checkpoints import IMPORTED
from orchestration.grids import ensure_grids
from orchestration.runtime import connect
from orchestration.worker import PROGRESS, Run, run_epochs
from results.files import write_atomically

FAILED = "failed.json"
STUDY = "study.yaml"  # marks a study's folder
_RAY_STATE = ".ray_train"  # Ray Train's own files; ours are the checkpoints


def train(
    experiment: Experiment,
    *,
    data_root: Path,
    runs: Path,
    restart: bool = False,
    address: str | None = None,
    command: str = "",
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    on_progress: Callable[[dict[str, Any]], None] | None = None,
) -> Run:
    """Train, or go on with, the run `runs/<experiment.name>`; a finished one is left as it is.

    Args:
        restart: begin anew instead.
        on_epoch: called here, in the driver, with each epoch's metrics as they appear.
        on_progress: called about once a second with the epoch and step under way.

    Raises:
        ConfigError: the folder holds a run of another experiment.
        DataError: frames are missing, or the splits cannot provide the batches and episodes.
        TrainingError, ClusterError: see there.
    """
    run = prepare(experiment, data_root=data_root, runs=runs, restart=restart)
    if run.epochs_done() >= experiment.train.epochs:
        return run
    provenance = _provenance(run, command)
    results.write_provenance(run.folder, provenance)
    with connect(address):
        ensure_grids(run.grid_jobs(), run.runs)
        with _watching(run, on_epoch, on_progress):
            fit(run)
    results.write_provenance(run.folder, results.finished(provenance))
    return run


def prepare(experiment: Experiment, *, data_root: Path, runs: Path, restart: bool = False) -> Run:
    """Check everything that can be checked without Ray, then make or reopen the run's folder."""
    run = Run(experiment, Path(data_root).absolute(), Path(runs).absolute(), Path(runs).absolute() / experiment.name)
    check_data(run)
    settings = run.folder / "experiment.yaml"
    if (run.folder / STUDY).exists():
        raise ConfigError(
            "holds a study, not a run", where=str(run.folder), remedy="give the run another name (--set name=...)"
        )
    if (run.folder / IMPORTED).exists():
        raise ConfigError(
            "holds imported weights, not a run", where=str(run.folder), remedy="give the run another name"
        )
    if restart and run.folder.exists():
        shutil.rmtree(run.folder)
    if settings.exists() and (old := load_resolved(settings)).digest() != experiment.digest():
        differences = _differences(old, experiment)
        raise ConfigError(
            f"holds a run with other settings: {'; '.join(differences[:3])} ({len(differences)} differences)",
            where=str(run.folder),
            remedy="give this one another name (--set name=...), or begin anew with --restart",
        )
    try:
        run.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(settings, to_yaml(experiment).encode())
    except OSError as error:
        raise StorageError(
            f"cannot be written: {error.strerror}", where=str(run.folder), remedy="give --runs a folder of yours"
        ) from error
    return run


def _provenance(run: Run, command: str) -> results.Provenance:
    """That of the run's first call; raises ConfigError where its data have changed since."""
    data = {partition.name: partition.digest() for partition in run.partitions()}
    known: results.Provenance | None = None
    with suppress(results.RecordError):
        known = results.read_provenance(run.folder)
    if known is None:
        digests = {"experiment": run.experiment.digest(), **data}
        return results.collect_provenance(command, seeds={"experiment": run.experiment.seed}, digests=digests)
    if changed := [name for name, digest in data.items() if known.digests.get(name, digest) != digest]:
        raise ConfigError(
            f"was begun with other videos in {', '.join(changed)}",
            where=str(run.folder),
            remedy="give this run another name (--set name=...), or begin anew with --restart",
        )
    return known


def check_data(run: Run) -> None:
    """Raise for what would stop the run later: frames that are missing, batches or episodes that cannot be drawn."""
    train_partition, val_partition = run.partitions()
    check_draws(run.experiment, train_partition, val_partition)


def check_draws(experiment: Experiment, train_partition: Partition, val_partition: Partition) -> None:
    """Raise EpisodeError for batches or validation episodes that the partitions cannot provide."""
    pair_batch(
        train_partition.labels,
        classes_per_batch=experiment.train.classes_per_batch,
        seed=0,
        epoch=0,
        step=0,
        class_names=train_partition.classes,
    )
    build.val_episodes(experiment, val_partition)


def fit(run: Run, *, callbacks: Sequence[Any] = (), report: Callable[[dict], dict] | None = None) -> None:
    """The run's epochs by Ray Train.

    Args:
        callbacks: of Ray Train, such as the one that hands metrics on to Ray Tune.
        report: what rank 0 makes of an epoch's metrics before it reports them.
    """
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    (run.folder / FAILED).unlink(missing_ok=True)
    settings = run.experiment.train
    state = run.folder / _RAY_STATE
    trainer = TorchTrainer(
        _train_worker,
        train_loop_config={"run": run, "report": report},
        torch_config=TorchConfig(backend="nccl" if settings.use_gpu else "gloo", timeout_s=600),
        scaling_config=ScalingConfig(
            num_workers=settings.workers,
            use_gpu=settings.use_gpu,
            resources_per_worker={"CPU": 1, "GPU": 1} if settings.use_gpu else {"CPU": 1},
        ),
        run_config=RunConfig(
            name=f"{run.experiment.name}-{time.time_ns()}",  # a name that exists would be resumed by Ray's own files
            storage_path=str(state),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
            failure_config=FailureConfig(max_failures=3, controller_failure_limit=3),  # type: ignore[call-arg]
            callbacks=list(callbacks),
        ),
    )
    try:
        trainer.fit()
    except HCLError:
        raise
    except Exception as error:
        _raise_recorded(run)
        failures = getattr(error, "worker_failures", {}).values()
        if failures and not any(isinstance(one, RayError) for one in failures):
            raise  # a bug in our own code, which wants its traceback
        raise ClusterError(
            f"training stopped: {str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__}",
            where=str(run.folder),
            remedy=f"{settings.workers} workers need as many free {'GPUs' if settings.use_gpu else 'CPUs'}; "
            "repeat the command to go on from the last checkpoint",
        ) from error
    finally:
        shutil.rmtree(state, ignore_errors=True)
    _raise_recorded(run)


def _train_worker(config: dict[str, Any]) -> None:
    """Runs in each of Ray Train's workers."""
    run: Run = config["run"]
    report = config["report"] or (lambda row: row)
    context = ray.train.get_context()
    if (run.folder / FAILED).exists():
        return  # this worker was restarted after an error that would only repeat itself
    world = context.get_world_size()
    synchronise = run.experiment.model.batch_norm == "sync" and world > 1
    try:
        run_epochs(
            run,
            gather=Workers() if world > 1 else OneProcess(),
            device=get_device(),
            wrap=lambda model: prepare_model(_synchronised(model) if synchronise else model),
            on_epoch=lambda row: ray.train.report(report(row)),
        )
    except HCLError as error:
        content = {"kind": type(error).__name__, "problem": error.problem, "where": error.where}
        write_atomically(run.folder / FAILED, json.dumps(content | {"remedy": error.remedy}).encode())
        raise


def _synchronised(model: nn.Module) -> nn.Module:
    """Batch-norm statistics over all workers (deviation 22); torch has it on CUDA only."""
    return nn.SyncBatchNorm.convert_sync_batchnorm(model)


def _raise_recorded(run: Run) -> None:
    """The error that a worker left behind, if there is one."""
    path = run.folder / FAILED
    if path.exists():
        content = json.loads(path.read_text())
        kind = getattr(errors, content["kind"], TrainingError)
        raise kind(content["problem"], where=content["where"], remedy=content["remedy"])


@contextmanager
def _watching(
    run: Run,
    on_epoch: Callable[[dict[str, Any]], None] | None,
    on_progress: Callable[[dict[str, Any]], None] | None,
) -> Iterator[None]:
    """Hand on each new row of the run's metrics, and how far the epoch is, while the workers write them."""
    stop = threading.Event()
    seen: set[int] = {row["epoch"] for row in _rows(run)}

    def look() -> None:
        for row in _rows(run):
            if row["epoch"] not in seen:
                seen.add(row["epoch"])
                if on_epoch is not None:
                    on_epoch(row)

    def watch() -> None:
        while not stop.wait(1.0):
            look()
            if on_progress is not None:
                with suppress(OSError, ValueError):
                    on_progress(json.loads((run.folder / PROGRESS).read_text()))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        look()
        (run.folder / PROGRESS).unlink(missing_ok=True)


def _rows(run: Run) -> list[dict[str, Any]]:
    with suppress(results.RecordError):
        return results.read_epochs(run.folder)
    return []


def _differences(old: Experiment, new: Experiment) -> list[str]:
    before, after = (flatten(one.model_dump(mode="json"), "experiment") for one in (old, new))
    return [f"{path} {before.get(path)} there, {after[path]} now" for path in after if before.get(path) != after[path]]
