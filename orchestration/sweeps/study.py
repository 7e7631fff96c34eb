"""Describe a study: its experiment, its space, its number of trials and its limits; and manage its folder."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hcl.assembly.arguments import check_regime
from hcl.assembly.experiment_files import load_resolved, write_experiment
from hcl.config import Experiment
from hcl.config.paths import flatten
from hcl.config.resolve import override
from hcl.config.strict_yaml import dump_yaml, read_yaml
from hcl.errors import ConfigError
from hcl.files.atomic import write_atomically
from hcl.frames.stored_dataset import DataRoot
from orchestration.sweeps.ledger import Ledger
from orchestration.sweeps.order import GRACE, LAG, REPRODUCIBLE, as_started, is_order, order_of
from orchestration.sweeps.population import Population, n_rounds
from orchestration.sweeps.sampling.choices import SamplerName, StopRule
from orchestration.sweeps.sampling.early_stopping import first_rung
from orchestration.sweeps.sampling.samplers import learns, seed_of
from orchestration.sweeps.storage.database import without_password
from orchestration.sweeps.storage.optuna_storage import open_storage
from orchestration.sweeps.trial_source import Given
from orchestration.training.run import Run, resources_of
from orchestration.training.train import STUDY, changed_data, data_digests
from search_spaces import Space

TRIALS = "trials"
IDENTITIES = "identities"
"""Key of study.yaml: the identities of the folder in a shared storage, see `orchestration.sweeps.storage.ownership`."""


@dataclass(frozen=True)
class Limits:
    """Hold limits for running trials; the results do not depend on them.

    Attributes:
        retries: how often a trial whose process or node has died is retried, from its checkpoint.
        time_s: the longest time that a trial may run without a pause; None: no limit.
        concurrency: the largest number of trials at once; None: as many as fit. The lag of a new study follows from it.
        gpu_share: the share of a GPU for a trial of one worker.
    """

    retries: int = 1
    time_s: float | None = None
    concurrency: int | None = None
    gpu_share: float = 1.0


@dataclass(frozen=True)
class Study:
    """Describe a search: its experiment, its space of variations, and its length.

    Attributes:
        stop_rule: the rule that stops trials that fall behind.
        paired: whether all trials have the same seed, and so the same batches; otherwise each has its own seed.
        points: values by path that are tried before anything is sampled; a repeated study may be given others.
        n_trials: number of trials; for a population the number of its members.
        round_epochs: for a population, the epochs of a round, after which members may change their values.
        grace_epochs: the first epoch after which a trial may be stopped; None: the default, see `first_rung`.
        as_they_come: whether trials are chosen and stopped by what has ended by then; otherwise the study is a function
            of its seed and its lag.
        lag: the number of trials before each one whose results its sampler does not see; None: not declared, so that it
            is chosen when the study starts (`orchestration.sweeps.concurrency`).
        storage: place of the ledger, a database URL or a journal file; None: a journal in the study's folder.
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
    grace_epochs: int | None = None
    as_they_come: bool = False
    lag: int | None = None

    @property
    def folder(self) -> Path:
        return self.runs / self.experiment.name

    @property
    def is_population(self) -> bool:
        """Return whether the trials are rounds of models that change their values while they train."""
        return self.sampler == "population"

    @property
    def has_lag(self) -> bool:
        """Return whether the study's sampler learns from results, and so has to wait for some of them."""
        return learns(self.sampler) and not self.as_they_come

    @property
    def can_stop(self) -> bool:
        """Return whether the study has a rule that stops trials early."""
        return self.stop_rule != "none" and not self.is_population and not self.space.trade_offs

    @property
    def first_rung(self) -> int:
        """Return the first epoch after which a trial may be stopped.

        By default a third of the epochs is done then, and the warm-up; where these are searched, those of the longest.
        """
        if self.grace_epochs is not None:
            return self.grace_epochs
        warmup = self.experiment.optim.warmup_epochs
        probes = self.space.probes()
        return max(first_rung(self.epochs_of(probe), probe.get("optim.warmup_epochs", warmup)) for probe in probes)

    @property
    def most_epochs(self) -> int:
        """Return the epochs of the longest trial."""
        return max(map(self.epochs_of, self.space.probes()))

    def epochs_of(self, params: Mapping[str, Any]) -> int:
        """Return the epochs of a trial, which its params may set."""
        return int(params.get("train.epochs", self.experiment.train.epochs))

    def trial_folder(self, name: str) -> Path:
        return self.folder / TRIALS / name

    def trial_resources(self) -> dict[str, float]:
        """Return the resources that each trial holds while it runs."""
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
            check_regime(override(self.experiment, dict(params)))
        except ValueError as error:
            return str(error)
        except ConfigError as error:
            return error.problem
        return None

    def ledger(self) -> Ledger:
        """Open the ledger in its storage. Raises ConfigError, StorageError or SpaceError."""
        place = self.experiment.name, open_storage(self.folder, self.storage), self.space.with_points(self.points)
        options: dict[str, Any] = {"seed": self.seed, "problem_with": self.problem_with}
        options["lag"] = None if self.as_they_come else self.lag or 0
        if self.is_population:
            epochs = self.experiment.train.epochs
            return Population(*place, members=self.n_trials, epochs=epochs, round_epochs=self.round_epochs, **options)
        options |= {"sampler": self.sampler, "stop_rule": self.stop_rule}
        options |= {"first_rung": self.first_rung, "epochs": self.most_epochs}
        return Ledger(*place, n_trials=self.n_trials, **options)


def n_trials_of(folder: Path) -> int | None:
    """Return the number of trials that a study was last asked for; None if there is no study."""
    path = folder / STUDY
    return int(_description(path)["n_trials"]) if path.exists() else None


def n_trials_in_all(study: Study) -> int:
    """Return the number of trials that will be given out; in a population each round of a member is a trial."""
    if not study.is_population:
        return study.n_trials
    return study.n_trials * n_rounds(study.experiment.train.epochs, study.round_epochs)


def open_folder(study: Study) -> Study:
    """Create or reopen the study's folder; an existing study may get more trials, but nothing else may change.

    Raises:
        ConfigError: if it holds another study, or this one with other data.
    """
    content = _identity(study)
    path = study.folder / STUDY
    if path.exists():
        description = _description(path)
        if description.get("experiment") == study.experiment.digest(workers=1) and _has_workers_of(study):
            description["experiment"] = content["experiment"]  # older versions left the number of workers out
        _refuse_other(content, description, where=str(study.folder))
        study = as_started(study, description, where=str(study.folder))
        content |= order_of(study)
        content["n_trials"] = max(study.n_trials, int(description["n_trials"]))
        content |= {name: description[name] for name in (IDENTITIES,) if name in description}
    write_atomically(path, dump_yaml(content).encode())
    write_experiment(study.folder / "experiment.yaml", study.experiment)
    return replace(study, n_trials=content["n_trials"], grace_epochs=content.get(GRACE))


def as_in_folder(study: Study) -> Study:
    """Return a study with the order in which its folder was started; unchanged if it is new. Raises ConfigError."""
    path = study.folder / STUDY
    return as_started(study, _description(path), where=str(study.folder)) if path.exists() else study


def keep_lag(study: Study, lag: int) -> Study:
    """Write the lag of a study that was started without one into its folder, for good; return the study with it."""
    path = study.folder / STUDY
    write_atomically(path, dump_yaml({**_description(path), LAG: lag}).encode())
    return replace(study, lag=lag)


def _refuse_other(content: Mapping[str, Any], description: Mapping[str, Any], *, where: str) -> None:
    """Raise ConfigError if the folder describes another study. Older versions kept no digests of the data."""
    own = f"go on with its own settings (hcl sweep {shlex.quote(f'{where}/experiment.yaml')})"
    remedy = "give this one another name (--set name=...), or start over with --restart"
    may_differ = ("n_trials", "data", REPRODUCIBLE, LAG, GRACE)  # see `as_started`
    others = [name for name in content if name not in may_differ and description.get(name) != content[name]]
    if others:
        may_go_on = f"{own}, {remedy}" if others == ["experiment"] else remedy
        raise ConfigError(f"holds a study with another {' and '.join(others)}", where=where, remedy=may_go_on)
    if changed := changed_data(description.get("data", {}), content["data"]):
        raise ConfigError(f"was started with other data in {', '.join(changed)}", where=where, remedy=remedy)


def _has_workers_of(study: Study) -> bool:
    """Return whether the experiment in the study's folder has the requested number of workers."""
    settings = study.folder / "experiment.yaml"
    return settings.exists() and load_resolved(settings).train.workers == study.experiment.train.workers


def _description(path: Path) -> dict[str, Any]:
    """Return the description of a study from its file. Raises ConfigError."""
    content = read_yaml(path, str(path))
    is_study = isinstance(content, dict) and type(content.get("n_trials")) is int
    if not is_study or not isinstance(content.get("data", {}), dict) or not is_order(content):
        raise ConfigError("does not describe a study", where=str(path), remedy="start over with --restart")
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
        **order_of(study),
        **({"round_epochs": study.round_epochs} if study.is_population else {}),
    }
