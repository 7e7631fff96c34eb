"""Check a study before anything is started."""

from __future__ import annotations

from functools import partial
from typing import Any

from hcl.assembly.arguments import check_regime
from hcl.config.resolve import override, setting_of
from hcl.errors import ConfigError
from orchestration.sweeps.population import MAY_CHANGE
from orchestration.sweeps.sampling.samplers import check_sampler
from orchestration.sweeps.study import Study
from orchestration.sweeps.trial_grids import reads_grids, variations_of_grids
from orchestration.training.resumption import FUSED_ACCURACY
from orchestration.training.run import Run
from orchestration.training.train import STUDY, check_data, check_draws
from orchestration.training.worker import METRICS
from search_spaces import Space, grid_points


def check_study(study: Study) -> None:
    """Raise an error for each problem of the space, the data or the folder that shows without starting anything."""
    check_space(study)
    run = Run(study.experiment, study.data, study.runs, study.folder)
    check_data(run)
    partitions = run.partitions()
    for probe in study.space.probes():
        if not _DRAWN_WITH.isdisjoint(probe):
            check_draws(override(study.experiment, probe), *partitions)
    if (study.folder / "experiment.yaml").exists() and not (study.folder / STUDY).exists():
        raise ConfigError(
            "holds a run, not a study", where=str(study.folder), remedy="give the study another name (--set name=...)"
        )


def check_space(study: Study) -> None:
    """Check every path and bound of the space against the experiment's schema."""
    space = study.space.with_points(study.points)
    space.validate_paths(partial(setting_of, sections=study.experiment.sections))
    for objective in space.objectives:
        if objective.metric not in METRICS:
            raise ConfigError(
                f"trials do not report {objective.metric!r}",
                where=f"space {space.name}, objective.metric",
                remedy=f"name one of {', '.join(METRICS)}",
            )
    check_sampler(study.sampler, len(space.objectives))
    if study.as_they_come and study.lag is not None:
        raise ConfigError(
            "has no meaning where trials are chosen by all results at once",
            where="--lag",
            remedy="leave out --lag, or --as-they-come",
        )
    if study.is_population:
        _check_population(study, space)
    for probe in space.probes():
        check_regime(override(study.experiment, probe))
        _check_fused(study, probe)
    for index, point in enumerate(space.first_points):
        if set(space.searched) <= set(point) and (problem := study.problem_with(space.decode(space.encode(point)))):
            raise ConfigError(problem, where=f"space {space.name}, first_points.{index}", remedy="change the point")
    grid_points(space, whole=study.sampler == "grid")
    _check_comparable(study)


def _check_population(study: Study, space: Space) -> None:
    """Check that members can take over each other's values in the middle of a training."""
    if space.trade_offs:
        raise ConfigError(
            f"members are ranked by one objective, the space has {len(space.objectives)}",
            where="--sampler population",
            remedy="use tpe or gp",
        )
    if rigid := [path for path in space.searched if not path.startswith(MAY_CHANGE)]:
        raise ConfigError(
            "cannot change in the middle of a training",
            where=f"space {space.name}, {rigid[0]}",
            remedy=f"search settings of {' and '.join(name.rstrip('.') for name in MAY_CHANGE)}, as space sigma does",
        )
    fewest = max(2, len(space.first_points))
    if study.n_trials < fewest:
        raise ConfigError(
            f"a population of {study.n_trials} has no room for its {len(space.first_points)} first points"
            if study.n_trials > 1
            else "a population of one has no other member to learn from",
            where="--trials",
            remedy=f"give at least {fewest} members",
        )
    if study.experiment.train.epochs <= study.round_epochs:
        raise ConfigError(
            f"a training of {study.experiment.train.epochs} epochs has one round of {study.round_epochs}: "
            "no member would ever change",
            where="--round-epochs",
            remedy="give fewer epochs a round, or more epochs (--set train.epochs=...)",
        )


def _check_fused(study: Study, probe: dict[str, Any]) -> None:
    """Check that fusions are tried where the objective is the accuracy at the best fusion."""
    names = [objective.metric for objective in study.space.objectives]
    if FUSED_ACCURACY in names and not override(study.experiment, probe).train.val_fusions:
        raise ConfigError(
            f"trials do not report {FUSED_ACCURACY!r} where no fusion is tried",
            where=f"space {study.space.name}, objective.metric",
            remedy="set train.val_fusions, say 256, in the experiment or as a fixed parameter of the space",
        )


def _check_comparable(study: Study) -> None:
    """Check that all trials are evaluated on the same episodes and data, and that none selects on test classes."""
    if study.experiment.data.selection_partition == "test":
        raise ConfigError(
            "a study would choose settings on the test classes",
            where="data.selection_partition",
            remedy="sweep with data.protocol=standard; train the best settings with protocol published if needed",
        )
    for path in study.space.searched:
        if path.startswith(_SECTIONS_FOR_ALL) or path in _SETTINGS_FOR_ALL:
            raise ConfigError(
                "would give each trial other episodes or other data, so that values could not be compared",
                where=f"space {study.space.name}, {path}",
                remedy="fix it, and run one study for each value",
            )
    variations_of_grids(study)
    if not study.paired and reads_grids(study):
        raise ConfigError(
            "gives each trial its own seed, but frozen stages of the backbone are encoded once for all trials",
            where="--independent",
            remedy="leave it out, or set model.cached_views=0",
        )


_SECTIONS_FOR_ALL = ("data.", "evaluation.", "train.val_")
_SETTINGS_FOR_ALL = frozenset(("name", "mode", "train.workers", "train.use_gpu"))
_DRAWN_WITH = frozenset(("train.classes_per_batch",))
