"""What is known of a study to fail before anything has been started."""

from __future__ import annotations

from hcl.build import caches_grids
from hcl.errors import ConfigError
from hcl.resolve import override, setting_of
from orchestration.runs import Run
from orchestration.samplers import check_sampler
from orchestration.study import Study
from orchestration.train import STUDY, check_data, check_draws
from orchestration.worker import METRICS
from search_spaces import grid_points


def check_study(study: Study) -> None:
    """Raise for what can be known to fail without starting anything: the space, the data, the folder."""
    check_space(study)
    run = Run(study.experiment, study.data_root, study.runs, study.folder)
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
    """Hold every path and bound of the space against the experiment's schema."""
    space = study.space.with_points(study.points)
    space.validate_paths(_require)
    for objective in space.objectives:
        if objective.metric not in METRICS:
            raise ConfigError(
                f"trials do not report {objective.metric!r}",
                where=f"space {space.name}, objective.metric",
                remedy=f"name one of {', '.join(METRICS)}",
            )
    check_sampler(study.sampler, len(space.objectives))
    for probe in space.probes():
        override(study.experiment, probe)
    for index, point in enumerate(space.first_points):
        if set(space.searched) <= set(point) and (problem := study.problem_with(space.overrides(space.encode(point)))):
            raise ConfigError(problem, where=f"space {space.name}, first_points.{index}", remedy="change the point")
    grid_points(space, whole=study.sampler == "grid")
    _check_comparable(study)


def _check_comparable(study: Study) -> None:
    """Trials must answer the same questions, and none may choose on test classes."""
    if study.experiment.data.selection_partition == "test":
        raise ConfigError(
            "a study would choose settings on the test classes",
            where="data.selection_partition",
            remedy="sweep with data.protocol=standard; train the best settings with protocol published, if you must",
        )
    is_cached = caches_grids(study.experiment)
    for path in study.space.searched:
        if path.startswith(_SECTIONS_FOR_ALL) or path in _SETTINGS_FOR_ALL:
            raise ConfigError(
                "would give each trial other questions or other data: their values could not be compared",
                where=f"space {study.space.name}, {path}",
                remedy="fix it, and make one study for each value",
            )
        if is_cached and (path.startswith("clips.") or path in _CACHED_WITH):
            raise ConfigError(
                "cannot be searched where frozen stages of the backbone are encoded once for all trials",
                where=f"space {study.space.name}, {path}",
                remedy="leave it out of the space, or set model.cached_views=0",
            )
    if is_cached and not study.paired:
        raise ConfigError(
            "gives each trial its own seed, but frozen stages of the backbone are encoded once for all trials",
            where="--independent",
            remedy="leave it out, or set model.cached_views=0",
        )


def _require(path: str) -> None:
    setting_of(path)


_SECTIONS_FOR_ALL = ("data.", "evaluation.", "train.val_")
_SETTINGS_FOR_ALL = frozenset(("name", "mode", "train.workers", "train.use_gpu"))
_CACHED_WITH = frozenset(
    f"model.{name}" for name in ("backbone", "weights", "train_backbone", "frozen_stages", "cached_views")
) | {"seed", "train.precision"}
_DRAWN_WITH = frozenset(("train.classes_per_batch",))
