"""Train one run with Ray Train, with DDP workers that share every batch: `hcl train`."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import results
from hcl.assembly import arguments, backbones, inputs
from hcl.assembly.draw_faults import ClassSizes, draw_faults
from hcl.assembly.experiment_files import load_resolved, write_experiment
from hcl.config import Experiment
from hcl.config.paths import flatten
from hcl.datasets.splits import Partition
from hcl.errors import ConfigError
from hcl.frames.stored_dataset import DataRoot
from orchestration.console import notes
from orchestration.planning.preflight import raise_faults, run_faults
from orchestration.runtime.connect import connect
from orchestration.runtime.notices import telling_notices
from orchestration.storage.clearing import OF_RUN, clear
from orchestration.storage.data_roots import remember_data, remembered_data
from orchestration.storage.locks import held, lock_of
from orchestration.storage.record_files import write_provenance
from orchestration.training.failure import recording_failures
from orchestration.training.further_training import check_extension, is_extension, with_extension
from orchestration.training.grids import ensure_grids
from orchestration.training.progress import watching
from orchestration.training.ray_train import fit
from orchestration.training.resumption import PARTS, settle
from orchestration.training.run import Run, gpus_here, resources_of
from orchestration.training.run_files import IMPORTED

STUDY = "study.yaml"  # marks a study's folder


def train(
    experiment: Experiment,
    *,
    data: DataRoot,
    runs: Path,
    restart: bool = False,
    further: bool = False,
    address: str | None = None,
    command: str = "",
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    on_progress: Callable[[dict[str, Any]], None] | None = None,
) -> Run:
    """Train or resume the run `runs/<experiment.name>`; a finished run is left unchanged.

    Args:
        restart: start over instead.
        further: train a run that was started with fewer epochs for those of the experiment.
        on_epoch: called in the driver with each epoch's metrics when they appear.
        on_progress: called about once a second with the current epoch and step.

    Raises:
        ConfigError: if the folder holds a run of another experiment, or one that cannot be trained further.
        DataError: if frames are missing, or the splits cannot provide the batches and episodes.
        StorageError: if another command trains this run.
        TrainingError, ClusterError: if training fails, or the cluster does.
    """
    run = _checked(experiment, data, runs)  # before the lock: a mistake leaves no file behind
    with held(lock_of(run.folder), what=f"training of {experiment.name}"):
        shorter = _open_folder(run, restart=restart, further=further)
        resumption = run.resumption(holding=PARTS)
        if resumption.file and resumption.state["epoch"] >= experiment.train.epochs:
            settle(run, resumption, lambda text: notes.print(f"note: {text}", markup=False, soft_wrap=True))
            if not remembered_data(run.folder):
                remember_data(run.folder, data.path)
            return run
        provenance = _provenance(run, command)
        if shorter is not None:
            epoch = resumption.state["epoch"]
            provenance = with_extension(provenance, shorter, experiment, after=epoch, command=command)
        remember_data(run.folder, data.path)
        write_provenance(run.folder, provenance)
        _write_settings(run)  # after the provenance: a killed command that is repeated does both again
        with recording_failures(run.folder), telling_notices(run.runs), connect(address):
            ensure_grids(run.grid_jobs(), run.runs)
            with watching(run, on_epoch, on_progress):
                fit(run)
        write_provenance(run.folder, results.finished(provenance))
        return run


def _checked(experiment: Experiment, data: DataRoot, runs: Path) -> Run:
    run = Run(experiment, data, Path(runs).absolute(), Path(runs).absolute() / experiment.name)
    check_data(run)
    return run


def _open_folder(run: Run, *, restart: bool, further: bool = False) -> Experiment | None:
    """Check a run's folder, and write its settings; return the earlier settings of a run that is trained further.

    The settings of such a run are still to be written.
    """
    experiment, settings = run.experiment, run.folder / "experiment.yaml"
    if (run.folder / STUDY).exists():
        raise ConfigError(
            "holds a study, not a run", where=str(run.folder), remedy="give the run another name (--set name=...)"
        )
    if (run.folder / IMPORTED).exists():
        raise ConfigError(
            "holds imported weights, not a run", where=str(run.folder), remedy="give the run another name"
        )
    if restart:
        clear(run.folder, OF_RUN)
    if run.has_last() and not settings.exists():
        raise ConfigError(
            "holds a checkpoint, but no experiment.yaml that describes it",
            where=str(run.folder),
            remedy="give this run another name (--set name=...), or start over with --restart",
        )
    if settings.exists() and (old := load_resolved(settings)).digest() != experiment.digest():
        if not (further and is_extension(old, experiment)):
            raise _other_settings(run, old)
        if run.has_last():
            check_extension(run, old)
            return old
    _write_settings(run)
    return None


def _write_settings(run: Run) -> None:
    write_experiment(run.folder / "experiment.yaml", run.experiment)


def _other_settings(run: Run, old: Experiment) -> ConfigError:
    differences = _differences(old, run.experiment)
    longer = f"train it further (--epochs {run.experiment.train.epochs}), " if is_extension(old, run.experiment) else ""
    return ConfigError(
        f"holds a run with other settings: {'; '.join(differences[:3])} ({len(differences)} differences)",
        where=str(run.folder),
        remedy=f"{longer}go on with its own settings (hcl train {shlex.quote(str(run.folder / 'experiment.yaml'))}), "
        "give this one another name (--set name=...), or start over with --restart",
    )


def _provenance(run: Run, command: str) -> results.Provenance:
    """Return the provenance of the run's first call. Raises ConfigError if its data have changed since."""
    data = data_digests(run)
    recorded: results.Provenance | None = None
    with suppress(results.RecordError):
        recorded = results.read_provenance(run.folder)
    if recorded is None or not run.has_last():  # nothing has been trained yet on data that may have changed
        digests = {"experiment": run.experiment.digest(), **data}
        return results.collect_provenance(
            command,
            seeds={"experiment": run.experiment.seed},
            digests=digests,
            data={
                f"{partition.name}.{quantity}": n
                for partition in run.partitions()
                for quantity, n in _sizes(partition).items()
            },
            resources=resources_of(run.experiment),
            hardware=gpus_here(),
        )
    if changed := changed_data(recorded.digests, data):
        raise ConfigError(
            f"was started with other data in {', '.join(changed)}",
            where=str(run.folder),
            remedy="give this run another name (--set name=...), or start over with --restart",
        )
    return recorded


def changed_data(recorded: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """Return the names of the data whose digests differ from the recorded ones, among those that were recorded."""
    changed = []
    for name, digest in here.items():
        recorded_digest = recorded.get(name, "")
        if recorded_digest and name.startswith("frames."):
            recorded_digest = inputs.recorded_frames(recorded_digest, digest)
        if recorded_digest not in ("", digest):
            changed.append(name)
    return changed


def data_digests(run: Run) -> dict[str, str]:
    """Return the digests of a run's data: videos, frames, and the files of embeddings and weights that it reads."""
    partitions = run.partitions()
    digests = {partition.name: partition.digest() for partition in partitions}
    digests |= {f"frames.{partition.name}": run.stored.frames_identity(partition) for partition in partitions}
    if names := inputs.embeddings_identity(run.experiment, run.stored):
        digests["embeddings"] = names
    if weights := backbones.weights_digest(run.experiment):
        digests["weights"] = weights
    return digests


def _sizes(partition: Partition) -> dict[str, int]:
    return {"classes": len(partition.classes), "videos": len(partition.videos)}


def check_data(run: Run) -> None:
    """Raise an error before the run starts for everything that its data cannot provide, now or after training.

    These are missing frames, batches, and episodes of validation and test. All faults are in one error.
    """
    raise_faults(run_faults(run))
    _check_fusions(run.experiment)


def check_draws(experiment: Experiment, train_partition: Partition, val_partition: Partition) -> None:
    """Raise EpisodeError for batches or validation episodes that the partitions cannot provide."""
    sizes = [ClassSizes.of(partition) for partition in (train_partition, val_partition)]
    raise_faults(draw_faults(experiment, train=sizes[0], selection=sizes[1]))
    _check_fusions(experiment)


def _check_fusions(experiment: Experiment) -> None:
    arguments.check_regime(experiment)
    for shot in experiment.train.val_shots:
        arguments.check_fusion(experiment, arguments.defects(experiment).reason(shot))


def _differences(old: Experiment, new: Experiment) -> list[str]:
    before, after = (flatten(experiment.identity(), "experiment") for experiment in (old, new))
    return [f"{path} {before.get(path)} there, {after[path]} now" for path in after if before.get(path) != after[path]]
