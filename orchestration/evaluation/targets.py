"""Make targets of evaluations: a run or checkpoint, with the settings that an evaluation may change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hcl.assembly.experiment_files import load_resolved
from hcl.config.extensions import names
from hcl.config.overrides import SET, Overrides, override_values
from hcl.config.resolve import override
from hcl.errors import ConfigError, did_you_mean
from orchestration.evaluation.fuse import FUSED, check_fusion_is_of, chosen_fusion
from orchestration.evaluation.methods import METHODS, named
from orchestration.evaluation.questions import Target

_OF_EVALUATION = (
    "evaluation.",
    "fusion.",
    "method.",
    "matching.metric",
    "matching.chunk_size",
    "train.use_gpu",
    "train.loader_processes",
    "data.cache_dir",
    "data.cache_gb",
)


def target_of(
    folder: Path, checkpoint: Path | None, methods: tuple[str, ...], changes: Mapping[str, Any], *, fused: bool = False
) -> Target:
    """Return a target for the checkpoint of a run.

    Args:
        changes: values by path that differ from the run's own; see `check_settings`.
        fused: whether to use the fusion that `hcl fuse` chose on val, as far as `changes` leave it.
    """
    experiment = load_resolved(folder / "experiment.yaml")
    if fused:
        check_fusion_is_of(folder)
        experiment = override(experiment, chosen_fusion(folder))
    evaluated = override(experiment, changes)
    label = named(FUSED, experiment.regime_name, experiment, evaluated) if fused else ""
    return Target(folder, evaluated, checkpoint, methods, label)


def evaluation_settings(overrides: Overrides | None) -> dict[str, Any]:
    """Return `--set` as values by path. Raises ConfigError for what would change the model."""
    values = override_values(overrides or ())
    check_settings(values, SET)
    return values


def check_settings(values: Mapping[str, Any], where: str) -> None:
    """Raise ConfigError for settings that an evaluation may not change."""
    if wrong := [path for path in values if not path.startswith(_OF_EVALUATION)]:
        raise ConfigError(
            f"{wrong[0]!r} would evaluate another model than the trained one",
            where=where,
            remedy="an evaluation may change evaluation.*, method.*, fusion.*, matching.metric and settings of the "
            "machine",
        )


def check_methods(methods: Sequence[str]) -> None:
    """Raise ConfigError for a method that no run has; a class of the user's own is checked against each run later."""
    known = dict.fromkeys((*METHODS, *names("regime")))
    if unknown := [name for name in methods if name not in known and not name[:1].isupper()]:
        raise ConfigError(
            f"unknown method {unknown[0]!r}{did_you_mean(unknown[0], known)}",
            where="--method",
            remedy=f"one of {', '.join(known)}",
        )
