"""Find all reasons for which a command would be refused, now or after hours, before anything starts.

Faults of every partition that a run will ever need are found at once, each with the setting that mends it; the settings
fit together (`hcl.assembly.draw_faults`).
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from hcl.assembly import inputs
from hcl.assembly.backbones import weights_identity
from hcl.assembly.draw_faults import ClassSizes, Fault, draw_faults
from hcl.config import Experiment
from hcl.datasets.splits import Partition, merge
from hcl.errors import BackboneError, ClusterError, DataError, HCLError, SplitError, StorageError
from hcl.frames.stored_dataset import DataRoot, StoredDataset
from hcl.models.backbone import OwnBackbone, make_backbone
from orchestration.planning.machine import free_gb, has_weights, memory_bytes
from orchestration.training.run import Run


def run_faults(run: Run) -> list[Fault]:
    """Return the faults of a run's data: frames, batches, episodes of validation and test, names of classes.

    Raises:
        SplitError: the lists cannot be read, so that nothing else is known.
    """
    experiment, stored = run.experiment, run.stored
    stored.check_lists()
    settings, asked = experiment.data, experiment.evaluation
    faults: list[Fault] = []
    learnt = [_partition(stored, name, experiment.learns_from_copies, faults) for name in settings.train_partitions]
    train = learnt[0] if len(learnt) == 1 else merge(learnt, "+".join(settings.train_partitions))
    selection = _partition(stored, settings.selection_partition, experiment.learns_from_copies, faults)
    tested = []
    for name in asked.datasets or (settings.dataset,):
        other = run.data.dataset(name)
        if other is stored or has_lists(other, asked.partition):
            tested.append((other, _partition(other, asked.partition, experiment.asks_copies, faults)))
    faults += draw_faults(
        experiment,
        train=ClassSizes.of(train),
        selection=ClassSizes.of(selection),
        tested=[ClassSizes.of(partition) for _, partition in tested],
    )
    needed = {(one.dataset, one.name): (owner, one) for owner, one in [(stored, train), (stored, selection), *tested]}
    return _once([*faults, *_name_faults(experiment, needed.values())])


def evaluation_faults(asked: Iterable[tuple[Experiment, str]], data: DataRoot, *, drawn: bool = True) -> list[Fault]:
    """Return the faults of evaluations: lists, frames and episodes of every data set.

    Args:
        asked: experiments, each with a data set.
        drawn: episodes are drawn from the data sets, not given.
    """
    faults: list[Fault] = []
    by_experiment: dict[str, tuple[Experiment, list[ClassSizes]]] = {}
    for experiment, name in asked:
        try:
            partition = _partition(data.dataset(name), experiment.evaluation.partition, experiment.asks_copies, faults)
        except HCLError as error:
            faults.append(Fault(error))
            continue
        by_experiment.setdefault(experiment.digest(), (experiment, []))[1].append(ClassSizes.of(partition))
    for experiment, tested in by_experiment.values() if drawn else ():
        faults += draw_faults(experiment, tested=tested)
    return _once(faults)


def machine_faults(run: Run, address: str | None) -> list[Fault]:
    """Return the faults of this machine: weights that cannot be had, GPUs, disk. A cluster's nodes are not asked."""
    experiment = run.experiment
    faults = list(_weight_faults(experiment, is_here=_is_here(address)))
    if _is_here(address):
        faults += _gpu_faults(experiment)
        faults += [] if faults else _disk_faults(run)
    return faults


def memory_faults(run: Run, bytes_of_worker: int, address: str | None) -> list[Fault]:
    """Return the fault of workers that take more memory than this machine has; none on a GPU or a cluster."""
    if run.experiment.train.use_gpu or not _is_here(address):
        return []
    workers, total = run.experiment.train.workers, memory_bytes()
    if workers * bytes_of_worker <= total:
        return []
    settings = _fewer_workers(run.experiment, total // bytes_of_worker)
    problem = f"{workers} workers of {bytes_of_worker / 1e9:.1f} GB exceed the {total / 1e9:.1f} GB of this machine"
    others = "make a step smaller: fewer train.classes_per_batch, clips.n_frames or clips.size"
    remedy = remedy_of(settings) if settings else others
    return [Fault(ClusterError(problem, where="train.workers", remedy=remedy), settings)]


def _fewer_workers(experiment: Experiment, most: int) -> dict[str, Any]:
    """Return settings with the most workers that share a step evenly, up to `most`; recomputing where even one is too
    many; empty if that is set already."""
    train = experiment.train
    shared = train.episodes_per_step if train.traits.is_episodic else train.classes_per_batch
    workers = next((count for count in range(min(most, train.workers - 1), 0, -1) if shared % count == 0), 0)
    if workers:
        return {"train.workers": workers} | ({"train.min_workers": None} if train.min_workers else {})
    return {} if train.recompute_backbone or not experiment.model.train_backbone else {"train.recompute_backbone": True}


def has_lists(stored: StoredDataset, partition: str) -> bool:
    """Return true if a data set has lists of a partition that can be read."""
    try:
        stored.partition(partition)
    except HCLError:
        return False
    return True


def raise_faults(faults: Sequence[Fault]) -> None:
    """Raise all faults as one error: that of the first, whose text continues with the others and what mends them."""
    if not faults:
        return
    first, *others = (fault.error for fault in faults)
    mended: dict[str, Any] = {}
    for fault in faults:
        mended |= fault.settings
    rest = "".join(f"\nerror {error}" for error in others)
    if len(mended) > 1 or (others and mended):
        what = "all of it" if all(fault.settings for fault in faults) else "what settings can mend"
        rest += f"\n{what} at once: {remedy_of(mended)}"
    if not rest:
        raise first
    raise type(first)(first.problem, where=first.where, remedy=f"{first.remedy or 'see below'}{rest}")


def remedy_of(settings: Mapping[str, Any]) -> str:
    """Return settings as options of a command."""
    return " ".join(f"--set {shlex.quote(_override(path, value))}" for path, value in settings.items())


def _override(path: str, value: Any) -> str:
    """Return the `PATH=VALUE` text of a setting."""
    return f"{path}={value if isinstance(value, str) else json.dumps(value, separators=(',', ':'))}"


def _partition(stored: StoredDataset, name: str, keep_copies: bool, faults: list[Fault]) -> Partition:
    """Return a partition as it is used; as it is listed where frames are missing, which is added to the faults."""
    try:
        return stored.effective(name, keep_copies=keep_copies)
    except SplitError:
        raise
    except DataError as error:
        faults.append(Fault(error))
        return stored.partition(name)


def _name_faults(experiment: Experiment, needed: Iterable[tuple[StoredDataset, Partition]]) -> Iterator[Fault]:
    for stored, partition in needed:
        try:
            inputs.class_embeddings(experiment, stored, partition)
        except HCLError as error:
            yield Fault(error)


def _weight_faults(experiment: Experiment, *, is_here: bool) -> Iterator[Fault]:
    """Yield the fault of pretrained weights that are not here and cannot be downloaded."""
    backbone, weights = experiment.model.backbone, experiment.model.weights
    try:
        weights_identity(experiment)
    except BackboneError as error:
        yield Fault(error)
        return
    is_own = isinstance(experiment.definition("backbone").implementation, OwnBackbone)
    if weights != "imagenet" or not is_here or not is_own or has_weights(backbone):
        return
    if backbone == "efficientnet_lite0":
        try:
            make_backbone(backbone, "none")
        except BackboneError as error:
            yield Fault(error)
        return
    has_lite = has_weights("efficientnet_lite0") and not experiment.train.traits.grid_halvings
    settings = {"model.backbone": "efficientnet_lite0"} if has_lite else {"model.weights": "none"}
    kind = "other" if has_lite else "random"
    yield Fault(
        BackboneError(
            f"the ImageNet weights of {backbone} are not here, and their server does not answer",
            where="model.weights",
            remedy=f"give a local file: --set model.weights=/path/to/{backbone}.pth; or take {kind} weights: "
            f"{remedy_of(settings)}",
        ),
        settings,
    )


def _gpu_faults(experiment: Experiment) -> list[Fault]:
    import torch

    if not experiment.train.use_gpu or torch.cuda.device_count():
        return []
    settings: dict[str, Any] = {"train.use_gpu": False}
    if experiment.model.batch_norm == "sync":
        settings["model.batch_norm"] = "frozen"
    remedy = f"{remedy_of(settings)}, or use --address with a cluster that has some"
    return [Fault(ClusterError("this machine has no GPU", where="train.use_gpu", remedy=remedy), settings)]


def _disk_faults(run: Run) -> list[Fault]:
    """Return the fault of cached grids that do not fit on the disk of the runs; frames must be there to tell."""
    free, experiment = free_gb(run.runs) * 1e9, run.experiment
    try:
        jobs = [job for job in run.grid_jobs() if not job.store(run.runs).is_whole()]
    except HCLError:
        return []
    if not jobs:
        return []
    n_numbers = 1
    for size in jobs[0].clip_shape():
        n_numbers *= size
    needed = {job.training: 2.0 * n_numbers * job.views * len(job.partition.videos) for job in jobs}
    if sum(needed.values()) <= free:
        return []
    of_view = needed.get(True, 0.0) / experiment.model.cached_views
    n_views = int((0.9 * free - needed.get(False, 0.0)) / of_view) if of_view else 0
    settings = {"model.cached_views": max(0, n_views)}
    problem = f"cached views take {sum(needed.values()) / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free"
    remedy = f"free space, use --runs on a larger disk, or {remedy_of(settings)}"
    return [Fault(StorageError(problem, where=str(run.runs), remedy=remedy), settings)]


def _is_here(address: str | None) -> bool:
    """Return true if a command works on this machine alone."""
    return address is None and not os.environ.get("RAY_ADDRESS")


def _once(faults: Iterable[Fault]) -> list[Fault]:
    """Return the faults without those of equal texts."""
    return list({str(fault.error): fault for fault in faults}.values())
