"""List the grids of frozen backbone stages that the trials of a study read, so that they are encoded before it starts.

Trials that differ only in other settings share their grids. Where a space searches settings that the grids depend on,
such as those of the augmentation, each combination of their values has grids of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from hcl.assembly.backbones import caches_grids
from hcl.config import Experiment
from hcl.config.resolve import override
from hcl.errors import ConfigError
from orchestration.sweeps.study import Study
from orchestration.training.grids import GridJob
from orchestration.training.run import Run
from search_spaces import Space, combinations

MOST_COMBINATIONS = 16


def grid_jobs(study: Study, variations: Iterable[Mapping[str, Any]]) -> list[GridJob]:
    """Return the grids that trainings of the study's experiment with these overrides read, each once."""
    jobs: dict[Any, GridJob] = {}
    for overrides in variations:
        run = Run(override(study.experiment, dict(overrides)), study.data, study.runs, study.folder)
        for job in run.grid_jobs():
            jobs.setdefault(job.store(study.runs).folder, job)
    return list(jobs.values())


def variations_of_grids(study: Study) -> list[dict[str, Any]]:
    """Return the combinations of searched values for which trials read grids of their own.

    Raises ConfigError if there are too many to encode them in advance.
    """
    paths = grid_paths(study.space) if reads_grids(study) else []
    if uncountable := [path for path in paths if study.space.parameters[path].all_values() is None]:
        raise ConfigError(
            "has more values than grids of frozen stages can be encoded for in advance",
            where=f"space {study.space.name}, {uncountable[0]}",
            remedy="make it a choice of a few values, or set model.cached_views=0",
        )
    found = [params for params in islice(combinations(study.space, paths), 100_000) if _fits(study.experiment, params)]
    if len(found) > MOST_COMBINATIONS:
        raise ConfigError(
            f"{len(found)} combinations of {', '.join(paths)} each need grids of the frozen stages, which are encoded "
            f"in advance for at most {MOST_COMBINATIONS}",
            where=f"space {study.space.name}",
            remedy="search fewer values of these settings, or set model.cached_views=0",
        )
    return found


def reads_grids(study: Study) -> bool:
    """Return whether any trial of the study reads cached grids."""
    probes = [params for params in study.space.probes() if _fits(study.experiment, params)]
    return any(caches_grids(override(study.experiment, params)) for params in probes)


def grid_paths(space: Space) -> list[str]:
    """Return the searched settings that the grids depend on."""
    return [path for path in space.searched if path.startswith("clips.") or path in _DECIDE_GRIDS]


def _fits(experiment: Experiment, params: Mapping[str, Any]) -> bool:
    """Return whether the settings do not contradict each other; no trial has those that do."""
    try:
        override(experiment, dict(params))
    except ConfigError:
        return False
    return True


_DECIDE_GRIDS = frozenset(
    f"model.{name}" for name in ("backbone", "weights", "train_backbone", "frozen_stages", "cached_views")
) | {"seed", "train.precision"}
