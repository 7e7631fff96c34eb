"""A run's epochs by Ray Train, and the errors of its workers on their way to the caller."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from typing import Any

import ray.train
from ray.exceptions import RayError
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer, get_device, prepare_model
from torch import nn

from hcl import errors
from hcl.errors import ClusterError, HCLError, TrainingError
from hcl.gather import OneProcess, Workers
from orchestration.runs import FAILED, Run
from orchestration.worker import run_epochs
from results.files import write_atomically

_RAY_STATE = ".ray_train"  # Ray Train's own files; ours are the checkpoints


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
