"""Show what a study would do, with its cost in machines, time and disk: `hcl sweep --dry-run`."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from rich.markup import escape

import results
from hcl.assembly import inputs, models
from hcl.config import Experiment
from hcl.config.resolve import override
from hcl.datasets.splits import Partition
from hcl.training.validation import clips_needed
from orchestration.console import add_json, out
from orchestration.runtime.connect import connect
from orchestration.sweeps.concurrency import default_lag, room_for
from orchestration.sweeps.study import Study, n_trials_in_all
from orchestration.sweeps.view import order_text
from orchestration.training.run import Run
from orchestration.training.run_files import LAST, PREVIOUS
from orchestration.training.worker import run_epochs
from results.records.moments import duration
from search_spaces import grid_points

_STEPS, _EPISODES, _SAMPLES = 3, 2, 3


class Cost(NamedTuple):
    """Hold the cost of one trial on this machine: seconds with one worker, and bytes on disk."""

    seconds: float
    size: int


def show_plan(study: Study, address: str | None) -> None:
    """Print what the study would do; nothing is started but three training steps, which are timed."""
    settings, space = study.experiment.train, study.space
    n_trials = study.n_trials
    if study.sampler == "grid":
        n_trials = min(n_trials, len(grid_points(space, whole=True)))
    stop = f"rounds of {study.round_epochs} epochs" if study.is_population else study.stop_rule
    what = "members" if study.is_population else "trials"
    out.print(f"{n_trials} {what} of {settings.epochs} epochs over space {space.name}, by {study.sampler}, {stop}:")
    for path, parameter in space.parameters.items():
        out.print(f"  {path}: {escape(str(parameter.model_dump(exclude_defaults=True)))}", soft_wrap=True)
    for text in space.constraints:
        out.print(f"  constraint: {escape(text)}", soft_wrap=True)
    for objective in space.objectives:
        out.print(f"  objective: {objective.mode} {objective.metric}")
    for params in _samples(study):
        out.print(f"  for example {escape(str(params))}", soft_wrap=True)
    room = _room(study, address)
    kind = "GPU" if settings.use_gpu else "CPU"
    each = study.limits.gpu_share if settings.use_gpu and settings.workers == 1 else float(settings.workers)
    each *= 1 if settings.use_gpu else settings.cpus_per_worker
    study = study if study.lag is not None or not study.has_lag else replace(study, lag=default_lag(study, room))
    room = min(room, (study.lag or 0) + 1) if study.has_lag else room
    out.print(f"a trial takes {each:g} {kind}s; {room} at once")
    out.print(order_text(reproducible=not study.as_they_come, lag=study.lag if study.has_lag else None))
    if study.can_stop:
        out.print(f"no trial is stopped before the end of epoch {study.first_rung}")
    cost = measure(study)
    total_s = n_trials * cost.seconds / settings.workers / max(1, room)
    out.print(
        f"about {duration(total_s)} in all, {duration(cost.seconds / settings.workers)} a trial, none stopped early; "
        f"by {_STEPS} steps timed on this machine",
        soft_wrap=True,
    )
    seconds = cost.seconds / settings.workers
    add_json(
        "plan",
        {
            "trials": n_trials,
            "epochs": settings.epochs,
            "sampler": study.sampler,
            "stop": None if study.is_population else study.stop_rule,
            "space": space.name,
            "parameters": {path: one.model_dump(exclude_defaults=True) for path, one in space.parameters.items()},
            "at_once": room,
            "lag": study.lag if study.has_lag else None,
            "seconds": total_s,
            "trial_seconds": seconds,
            "trial_bytes": cost.size,
        },
    )
    size = n_trials_in_all(study) * cost.size if study.is_population else n_trials * cost.size
    out.print(f"about {size / 1e9:.2f} GB on disk, {cost.size / 1e6:.0f} MB a trial; nothing was started")


def measure(study: Study) -> Cost:
    """Return the cost of a trial, from a few steps and validation episodes in a scratch folder."""
    experiment = study.experiment
    small = override(
        experiment,
        {
            "train.epochs": 1,
            "train.batches_per_epoch": min(_STEPS, experiment.train.batches_per_epoch),
            "train.val_episodes": min(_EPISODES, experiment.train.val_episodes),
            "train.workers": 1,
            "model.cached_views": 0,  # the cost of features that are not cached yet, an upper bound
        },
    )
    use_gpu = experiment.train.use_gpu and torch.cuda.is_available()
    device = torch.device("cuda" if use_gpu else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        run = Run(small, study.data, study.runs, Path(folder))
        run_epochs(run, device=device, wrap=lambda model: model.to(device))
        [row] = results.read_epochs(run.folder)
        size = sum(path.stat().st_size for path in run.folder.rglob("*") if path.is_file())
        if not (run.folder / PREVIOUS).exists():  # a run of a single epoch has no previous checkpoint
            size += (run.folder / LAST).stat().st_size
    clips = models.clips_per_epoch(experiment)
    val = run.partitions()[1]
    validation = row["val_seconds"] * _n_clips(experiment, val) / _n_clips(small, val)
    return Cost(experiment.train.epochs * (clips / row["clips_per_second"] + validation), size)


def _n_clips(experiment: Experiment, partition: Partition) -> int:
    """Return the number of distinct clips of the validation episodes, all of which validation encodes."""
    return len(clips_needed(inputs.val_episodes(experiment, partition)))


def _samples(study: Study) -> list[dict[str, object]]:
    """Return a few feasible draws."""
    samples: list[dict[str, object]] = []
    for seed in range(1000):
        params = study.space.sample(seed)
        if study.problem_with(params) is None:
            samples.append(params)
        if len(samples) == _SAMPLES:
            break
    return samples


def _room(study: Study, address: str | None) -> int:
    """Return how many trials fit at once on the given cluster, or on this machine."""
    if address:
        with connect(address):
            return room_for(study)
    settings = study.experiment.train
    total = torch.cuda.device_count() if settings.use_gpu else os.cpu_count() or 1
    each = study.limits.gpu_share if settings.use_gpu and settings.workers == 1 else float(settings.workers)
    each *= 1 if settings.use_gpu else settings.cpus_per_worker
    room = int(total / each + 1e-9)
    return min(room, study.limits.concurrency or room)
