"""Train a run's epochs with Ray Train, with fewer workers after nodes have left, and pass on its workers' errors."""

from __future__ import annotations

import logging
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray.train
import torch
from ray.exceptions import RayError
from ray.train import CheckpointConfig, ControllerError, FailureConfig, RunConfig, ScalingConfig, WorkerGroupError
from ray.train.torch import TorchConfig, TorchTrainer, get_device, prepare_model
from torch import nn

from hcl.errors import ClusterError, HCLError, StorageError
from hcl.training.process_group import DistributedGroup, ProcessGroup, SingleProcess
from orchestration.console import notes
from orchestration.runtime import meters
from orchestration.runtime.ray_gaps import ctrl_c_ends_training, work_in
from orchestration.runtime.roles import wait_for_nodes
from orchestration.storage.places import SAME_RUNS, check_seen, storage_error
from orchestration.training.elastic import could_be_more, first_count, n_that_fit, next_count, worker_resources
from orchestration.training.failure import raise_recorded, record_failure
from orchestration.training.run import Run
from orchestration.training.run_files import FAILED
from orchestration.training.worker import run_epochs
from results import RecordError

_RAY_STATE = ".ray_train"  # Ray Train's own files, which are never resumed from


def fit(run: Run, *, callbacks: Sequence[Any] = (), report: Callable[[dict], dict] | None = None) -> None:
    """Train the run's epochs with Ray Train.

    If workers cannot be started within RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S, fewer are used, down to
    `train.min_workers`; after an epoch more are used again if they fit.

    Args:
        callbacks: callbacks of Ray Train, such as the one that passes metrics to Ray Tune.
        report: converts an epoch's metrics on rank 0 before they are reported.
    """
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    (run.folder / FAILED).unlink(missing_ok=True)
    settings = run.experiment.train
    state = run.folder / _RAY_STATE
    wait_for_nodes("train", use_gpu=settings.use_gpu)
    n_workers = first_count(settings)
    failed: Counter[int] = Counter()
    try:
        while True:
            if n_workers < settings.workers:
                notes.print(f"{run.experiment.name}: {n_workers} of {settings.workers} workers", highlight=False)
            n_done = run.epochs_done()
            try:
                with ctrl_c_ends_training():
                    _trainer(run, n_workers, state, callbacks, report).fit()
            except ControllerError:  # this number of workers could not be started
                if run.epochs_done() > n_done:
                    failed.clear()
                failed[n_workers] += 1
                next_n_workers = next_count(settings.worker_counts, n_that_fit(settings), failed)
                if next_n_workers is None or settings.min_workers is None:
                    raise
                n_workers = next_n_workers
                continue
            except WorkerGroupError as error:  # nodes have died more often than Ray Train itself allows
                if run.epochs_done() <= n_done or not all(map(_is_death, error.worker_failures.values())):
                    raise
                n_workers, failed = first_count(settings), Counter()
                continue
            if (run.folder / FAILED).exists() or run.epochs_done() >= run.last_epoch:
                break
            if run.epochs_done() <= n_done:
                raise StorageError(
                    "its workers have ended, but their checkpoint is not visible here",
                    where=str(run.folder),
                    remedy=SAME_RUNS,
                )
            n_workers, failed = first_count(settings), Counter()
    except HCLError:
        raise
    except Exception as error:
        raise_recorded(run.folder)
        failures = getattr(error, "worker_failures", {}).values()
        for one in (error, *failures):  # a full disk has no room for what a worker leaves behind either
            if told := storage_error(one, run.folder):
                raise told from error
            if isinstance(one, (HCLError, RecordError)):
                raise one from error
        if failures and not any(map(_is_death, failures)):
            raise  # a bug in our own code, which needs its traceback
        raise ClusterError(
            f"training stopped: {str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__}",
            where=str(run.folder),
            remedy=f"{settings.min_workers or settings.workers} workers need as many free "
            f"{'GPUs' if settings.use_gpu else 'CPUs'}, and {settings.cpus_per_worker} CPUs each, on nodes that train "
            f"({n_that_fit(settings)} fit there); "
            "repeat the command to resume from the last checkpoint",
        ) from error
    finally:
        shutil.rmtree(state, ignore_errors=True)
    raise_recorded(run.folder)


def _trainer(
    run: Run, n_workers: int, state: Path, callbacks: Sequence[Any], report: Callable[[dict], dict] | None
) -> TorchTrainer:
    settings = run.experiment.train
    n_tries = 3 if settings.min_workers is None else 0  # restarts of the workers; if fewer suffice, `fit` retries
    return TorchTrainer(
        _train_worker,
        train_loop_config={"run": run, "report": report, "folder": Path.cwd()},
        torch_config=TorchConfig(backend="nccl" if settings.use_gpu else "gloo", timeout_s=600),
        scaling_config=ScalingConfig(
            num_workers=n_workers,
            use_gpu=settings.use_gpu,
            resources_per_worker=worker_resources(settings),
            placement_strategy="PACK",  # on one node if they fit, which keeps gradients off the network
        ),
        run_config=RunConfig(
            name=f"{run.folder.name}-{time.time_ns()}",  # Ray would resume an existing name from its own files
            storage_path=str(state),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
            failure_config=FailureConfig(max_failures=3, controller_failure_limit=n_tries),  # type: ignore[call-arg]
            callbacks=list(callbacks),
        ),
    )


def _train_worker(config: dict[str, Any]) -> None:
    """Train in one of Ray Train's workers."""
    work_in(config["folder"])
    run: Run = config["run"]
    context = ray.train.get_context()
    report = config["report"] if config["report"] and context.get_world_rank() == 0 else dict
    check_seen(run.folder, by=run.folder / "experiment.yaml", remedy=SAME_RUNS)
    if (run.folder / FAILED).exists():
        return  # this worker was restarted after an error that would only repeat itself
    world_size = context.get_world_size()
    settings = run.experiment.train
    torch.set_num_threads(settings.cpus_per_worker)
    group: ProcessGroup = DistributedGroup() if world_size > 1 else SingleProcess()
    synchronise = run.experiment.model.batch_norm == "sync" and world_size > 1

    def ends_here(row: dict[str, Any]) -> bool:
        """Report an epoch, and return whether to restart with more workers, on which all workers agree."""
        ray.train.report(report(row))
        if context.get_world_rank() == 0:
            meters.epoch_ended(run.folder.name, row)
        if world_size == settings.workers:
            return False
        wants_more = group.rank == 0 and could_be_more(settings, world_size)  # rank 0 decides for all
        return any(group.all_gather_numbers([int(wants_more)]))

    try:
        run_epochs(
            run,
            group=group,
            device=get_device(),
            wrap=lambda model: prepare_model(_synchronised(model) if synchronise else model),
            on_epoch=ends_here,
        )
    except (HCLError, RecordError) as error:
        record_failure(run.folder, error)
        raise


def _is_death(failure: Exception) -> bool:
    """Return whether a worker ended by the death of its process or its node."""
    return isinstance(failure, RayError)


def _synchronised(model: nn.Module) -> nn.Module:
    """Share batch-norm statistics over all workers (deviation 22), which torch supports on CUDA only."""
    return nn.SyncBatchNorm.convert_sync_batchnorm(model)
