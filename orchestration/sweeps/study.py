"""What a study is: which experiment, which space, how many trials, under which limits; and what its folder holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hcl.assembly.arguments import check_workers
from hcl.config import Experiment
from hcl.config.paths import flatten
from hcl.config.resolve import load_resolved, override, to_yaml
from hcl.config.strict_yaml import dump_yaml, read_yaml
from hcl.errors import ConfigError
from hcl.files.atomic import write_atomically
from hcl.frames.stored_dataset import DataRoot
from orchestration.sweeps.choices import SamplerName, StopRule
from orchestration.sweeps.ledger import Ledger
from orchestration.sweeps.population import Population, n_rounds
from orchestration.sweeps.samplers import seed_of
from orchestration.sweeps.storage.database import without_password
from orchestration.sweeps.storage.optuna_storage import open_storage
from orchestration.sweeps.trial_source import Given
from orchestration.training.run import Run, resources_of
from orchestration.training.train import STUDY, changed_data, data_digests
from search_spaces import Space

TRIALS = "trials"
IDENTITIES = "identities"
"""In study.yaml: who the folder is to a shared storage, see `orchestration.sweeps.storage.ownership`."""


@dataclass(frozen=True)
class Limits:
    """How trials are run; what comes out does not depend on it.

    Attributes:
        retries: how often a trial whose process or node has died is begun again, from its checkpoint.
        time_s: the longest that a trial may run without a pause; None: as long as it takes.
        concurrency: trials at once, at most; None: as many as find room.
        gpu_share: of a GPU, for a trial of one worker.
    """

    retries: int = 1
    time_s: float | None = None
    concurrency: int | None = None
    gpu_share: float = 1.0


@dataclass(frozen=True)
class Study:
    """A search: what varies, around which experiment, and how long.

    Attributes:
        data: with an absolute path, for trials have another working folder.
        stop_rule: who stops trials that fall behind.
        paired: all trials see the same seed, and so the same batches; otherwise each has a seed of its own.
        points: params, or some of them, tried before anything is sampled; a study that is repeated may be given others.
        n_trials: of a population: its members.
        round_epochs: of a population: epochs between two choices of who goes on.
        storage: of the ledger: a database URL or a journal file; None: a journal in the study's folder.
    """

    experiment: Experiment
    space: Space
    data: DataRoot
    runs: Path
    n_trials: int
    seed: int = 0
    sampler: SamplerName = "tpe"
    stop_rule: StopRule = "asha"
    paired: bool = True
    points: tuple[dict[str, Any], ...] = ()
    limits: Limits = field(default_factory=Limits)
    storage: str | None = None
    round_epochs: int = 1

    @property
    def folder(self) -> Path:
        return self.runs / self.experiment.name

    @property
    def is_population(self) -> bool:
        """Whether its trials are the rounds of models that change their values while they train."""
        return self.sampler == "population"

    def trial_folder(self, name: str) -> Path:
        return self.folder / TRIALS / name

    def trial_resources(self) -> dict[str, float]:
        """What each trial holds while it runs."""
        held = resources_of(self.experiment)
        is_shared = held["gpus"] > 0 and held["workers"] == 1
        return {**held, "gpus": self.limits.gpu_share} if is_shared else held

    def trial_run(self, given: Given) -> Run:
        """Return the run of one trial; raises ConfigError where its params contradict each other."""
        params = given.params if self.paired else {"seed": seed_of(self.seed, given.index), **given.params}
        experiment = override(self.experiment, params)
        return Run(experiment, self.data, self.runs, self.trial_folder(given.name), given.until)

    def problem_with(self, params: Mapping[str, Any]) -> str | None:
        """Return why a trial of these params cannot be run: they break a constraint, or contradict each other."""
        settings = flatten(self.experiment.model_dump(), "experiment")
        try:
            if broken := self.space.broken_constraint(params, settings.__getitem__):
                return f"breaks {broken}"
            check_workers(override(self.experiment, dict(params)))
        except ValueError as error:
            return str(error)
        except ConfigError as error:
            return error.problem
        return None

    def ledger(self) -> Ledger:
        """Its trials, in storage; raises ConfigError, StorageError or SpaceError."""
        where = self.experiment.name, open_storage(self.folder, self.storage), self.space.with_points(self.points)
        known: dict[str, Any] = {"seed": self.seed, "problem_with": self.problem_with}
        known["epochs"] = self.experiment.train.epochs
        if self.is_population:
            return Population(*where, members=self.n_trials, round_epochs=self.round_epochs, **known)
        return Ledger(*where, n_trials=self.n_trials, sampler=self.sampler, stop_rule=self.stop_rule, **known)


def n_trials_of(folder: Path) -> int | None:
    """How many trials a study was last asked for; None where there is no study."""
    path = folder / STUDY
    return int(_known(path)["n_trials"]) if path.exists() else None


def n_trials_in_all(study: Study) -> int:
    """Trials that will be given out: of a population a trial is a member's round."""
    if not study.is_population:
        return study.n_trials
    return study.n_trials * n_rounds(study.experiment.train.epochs, study.round_epochs)


def open_folder(study: Study) -> Study:
    """Make or reopen the study's folder; a study that is there may become longer, and nothing else.

    Raises:
        ConfigError: it holds another study, or this one on other data.
    """
    content = _identity(study)
    path = study.folder / STUDY
    if path.exists():
        known = _known(path)
        if known.get("experiment") == study.experiment.digest(workers=1) and _has_workers_of(study):
            known["experiment"] = content["experiment"]  # versions before left the number of workers out
        _refuse_other(content, known, where=str(study.folder))
        content["n_trials"] = max(study.n_trials, int(known["n_trials"]))
        content |= {name: known[name] for name in (IDENTITIES,) if name in known}
    write_atomically(path, dump_yaml(content).encode())
    write_atomically(study.folder / "experiment.yaml", to_yaml(study.experiment).encode())
    return replace(study, n_trials=content["n_trials"])


def _refuse_other(content: Mapping[str, Any], known: Mapping[str, Any], *, where: str) -> None:
    """Raise ConfigError for a study that its folder knows otherwise; one from before kept no digests of its data."""
    remedy = "give this one another name (--set name=...), or begin anew with --restart"
    others = [name for name in content if name not in ("n_trials", "data") and known.get(name) != content[name]]
    if others:
        raise ConfigError(f"holds a study with another {' and '.join(others)}", where=where, remedy=remedy)
    if changed := changed_data(known.get("data", {}), content["data"]):
        raise ConfigError(f"was begun with other data in {', '.join(changed)}", where=where, remedy=remedy)


def _has_workers_of(study: Study) -> bool:
    """Return whether the experiment in the study's folder has the number of workers that is asked for now."""
    settings = study.folder / "experiment.yaml"
    return settings.exists() and load_resolved(settings).train.workers == study.experiment.train.workers


def _known(path: Path) -> dict[str, Any]:
    """What a study's folder says of it. Raises ConfigError."""
    content = read_yaml(path, str(path))
    is_study = isinstance(content, dict) and type(content.get("n_trials")) is int
    if not is_study or not isinstance(content.get("data", {}), dict):
        raise ConfigError("does not describe a study", where=str(path), remedy="begin anew with --restart")
    return content


def _identity(study: Study) -> dict[str, Any]:
    run = Run(study.experiment, study.data, study.runs, study.folder)
    return {
        "experiment": study.experiment.digest(),
        "space": study.space.model_dump(mode="json"),
        "seed": study.seed,
        "sampler": study.sampler,
        "stop_rule": study.stop_rule,
        "paired": study.paired,
        "storage": without_password(study.storage),
        "data": data_digests(run),
        "n_trials": study.n_trials,
        **({"round_epochs": study.round_epochs} if study.is_population else {}),
    }
