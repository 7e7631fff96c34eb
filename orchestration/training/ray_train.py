"""The epochs of a run by Ray Train, by fewer workers where nodes have left; the errors of its workers."""

from __future__ import annotations

import logging
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray.train
import torch
from ray.exceptions import RayError
from ray.train import CheckpointConfig, ControllerError, FailureConfig, RunConfig, ScalingConfig, WorkerGroupError
from ray.train.torch import TorchConfig, TorchTrainer, get_device, prepare_model
from torch import nn

from hcl import errors
from hcl.errors import ClusterError, HCLError, StorageError, TrainingError
from hcl.files.json_files import read_json, write_json
from hcl.training.process_group import DistributedGroup, ProcessGroup, SingleProcess
from orchestration.console import notes
from orchestration.runtime import meters
from orchestration.runtime.ray_gaps import ctrl_c_ends_training, work_in
from orchestration.runtime.roles import wait_for_nodes
from orchestration.storage.places import SAME_RUNS, check_seen, storage_error
from orchestration.training.elastic import could_be_more, first_count, n_that_fit, next_count, worker_resources
from orchestration.training.run import FAILED, Run
from orchestration.training.worker import run_epochs
from results import RecordError

_RAY_STATE = ".ray_train"  # Ray Train's own files; ours are the checkpoints


def fit(run: Run, *, callbacks: Sequence[Any] = (), report: Callable[[dict], dict] | None = None) -> None:
    """Run the epochs of a run by Ray Train.

    Workers that cannot be started within RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S become fewer, down to
    `train.min_workers`; at the end of an epoch they become more again where there is room.

    Args:
        callbacks: of Ray Train, such as the one that hands metrics on to Ray Tune.
        report: makes of an epoch's metrics what rank 0 reports.
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
            done = run.epochs_done()
            try:
                with ctrl_c_ends_training():
                    _trainer(run, n_workers, state, callbacks, report).fit()
            except ControllerError:  # so many could not be started
                if run.epochs_done() > done:
                    failed.clear()
                failed[n_workers] += 1
                following = next_count(settings.worker_counts, n_that_fit(settings), failed)
                if following is None or settings.min_workers is None:
                    raise
                n_workers = following
                continue
            except WorkerGroupError as error:  # nodes have died, more often than Ray Train itself allows
                if run.epochs_done() <= done or not all(map(_is_death, error.worker_failures.values())):
                    raise
                n_workers, failed = first_count(settings), Counter()
                continue
            if (run.folder / FAILED).exists() or run.epochs_done() >= run.last_epoch:
                break
            if run.epochs_done() <= done:
                raise StorageError(
                    "its workers have ended, and left no checkpoint that is seen here",
                    where=str(run.folder),
                    remedy=SAME_RUNS,
                )
            n_workers, failed = first_count(settings), Counter()
    except HCLError:
        raise
    except Exception as error:
        _raise_recorded(run)
        failures = getattr(error, "worker_failures", {}).values()
        for one in (error, *failures):  # a full disk has no room for what a worker leaves behind either
            if told := storage_error(one, run.folder):
                raise told from error
            if isinstance(one, (HCLError, RecordError)):
                raise one from error
        if failures and not any(map(_is_death, failures)):
            raise  # a bug in our own code, which wants its traceback
        raise ClusterError(
            f"training stopped: {str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__}",
            where=str(run.folder),
            remedy=f"{settings.min_workers or settings.workers} workers need as many free "
            f"{'GPUs' if settings.use_gpu else 'CPUs'}, and {settings.cpus_per_worker} CPUs each, on nodes that train "
            f"(they have room for {n_that_fit(settings)}); "
            "repeat the command to go on from the last checkpoint",
        ) from error
    finally:
        shutil.rmtree(state, ignore_errors=True)
    _raise_recorded(run)


def _trainer(
    run: Run, n_workers: int, state: Path, callbacks: Sequence[Any], report: Callable[[dict], dict] | None
) -> TorchTrainer:
    settings = run.experiment.train
    n_tries = 3 if settings.min_workers is None else 0  # to start the workers again; where fewer will do, `fit` tries
    return TorchTrainer(
        _train_worker,
        train_loop_config={"run": run, "report": report, "folder": Path.cwd()},
        torch_config=TorchConfig(backend="nccl" if settings.use_gpu else "gloo", timeout_s=600),
        scaling_config=ScalingConfig(
            num_workers=n_workers,
            use_gpu=settings.use_gpu,
            resources_per_worker=worker_resources(settings),
            placement_strategy="PACK",  # on one node where they fit: gradients then stay off the network
        ),
        run_config=RunConfig(
            name=f"{run.folder.name}-{time.time_ns()}",  # a name that exists would be resumed by Ray's own files
            storage_path=str(state),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
            failure_config=FailureConfig(max_failures=3, controller_failure_limit=n_tries),  # type: ignore[call-arg]
            callbacks=list(callbacks),
        ),
    )


def _train_worker(config: dict[str, Any]) -> None:
    """Run in each of Ray Train's workers."""
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
        """Report an epoch; return true, in every worker, where the run should start again with more workers."""
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
        content = {"kind": type(error).__name__, "problem": error.problem, "where": error.where}
        with suppress(StorageError):  # Ray hands the error on as well, where a full disk has no room for it
            write_json(run.folder / FAILED, content | {"remedy": error.remedy})
        raise


def _is_death(failure: Exception) -> bool:
    """Return true where a worker ended because its process or its node died."""
    return isinstance(failure, RayError)


def _synchronised(model: nn.Module) -> nn.Module:
    """Take batch-norm statistics over all workers (deviation 22); torch has it on CUDA only."""
    return nn.SyncBatchNorm.convert_sync_batchnorm(model)


def _raise_recorded(run: Run) -> None:
    """Raise the error that a worker left behind, if there is one."""
    path = run.folder / FAILED
    if path.exists():
        content = read_json(path, remedy="remove it, then repeat the command")
        told = content if isinstance(content, dict) else {}
        kind = _KINDS.get(str(told.get("kind")), TrainingError)
        raise kind(str(told.get("problem")), where=str(told.get("where") or path), remedy=told.get("remedy"))


# The errors that a worker can leave behind; a name out of a file leads to nothing else.
_KINDS: dict[str, type[HCLError]] = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, HCLError)
} | {"RecordError": StorageError, "NonFiniteLossError": TrainingError}
