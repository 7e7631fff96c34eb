"""Convert an experiment to keyword arguments of plain functions: weights of terms and levels, matching options."""

from __future__ import annotations

from typing import Any

from hcl.config import Experiment
from hcl.errors import ConfigError
from hcl.evaluation.fusion import drawn_sigmas
from hcl.evaluation.matcher import Defects, Matcher

PUBLISHED_SIGMAS = {"global": 1.0, "temporal": 0.5, "spatial": 0.5}
"""The weights of the levels in the published evaluation."""


def sigmas_of_loss(experiment: Experiment) -> dict[str, float]:
    """Return the weight of each term of `hcl.training.losses.TERMS`."""
    loss = experiment.loss
    return {
        "ce": loss.sigma_ce,
        "global": loss.sigma_global,
        "temporal": loss.sigma_temporal,
        "temporal_cycle": loss.sigma_temporal_cycle,
        "spatial": loss.sigma_spatial,
        "spatial_cycle": loss.sigma_spatial_cycle,
    }


def sigmas_of_fusion(experiment: Experiment) -> dict[str, float]:
    """Return the weight of each level of `hcl.matching.similarity.LEVELS`, by name."""
    fusion = experiment.fusion
    return {"global": fusion.sigma_global, "temporal": fusion.sigma_temporal, "spatial": fusion.sigma_spatial}


def candidate_fusions(experiment: Experiment) -> list[dict[str, float]]:
    """Return the weights of the levels that validation tries, the experiment's own and the published ones first."""
    n = experiment.train.val_fusions
    return drawn_sigmas(n, [sigmas_of_fusion(experiment), PUBLISHED_SIGMAS]) if n else []


def training_matching(experiment: Experiment) -> dict[str, Any]:
    """Return the keyword arguments of `hcl.training.losses.contrastive_terms`."""
    matching, loss = experiment.matching, experiment.loss
    return {
        "tuple_sizes": matching.tuple_sizes,
        "top_tuples": matching.top_tuples,
        "top_patches": matching.top_patches,
        "zoom_ranks": matching.zoom_ranks_train,
        "temperature": loss.temperature,
        "cycle_temperature": loss.cycle_temperature,
        "keep_anchor": loss.keep_anchor,
        "renormalise": matching.renormalise,
        "misplaced_semantics": matching.misplaced_training_semantics,
        "spatial": loss.sigma_spatial > 0,
        "spatial_cycle": loss.sigma_spatial_cycle > 0,
        "chunk_size": matching.chunk_size,
    }


def test_matching(experiment: Experiment) -> dict[str, Any]:
    """Return the keyword arguments of `hcl.evaluation.scores.score_pairs`."""
    matching = experiment.matching
    return {
        "tuple_sizes": matching.tuple_sizes,
        "top_tuples": matching.top_tuples,
        "top_patches": matching.top_patches,
        "zoom_ranks": matching.zoom_ranks_test,
        "renormalise": matching.renormalise,
        "chunk_size": matching.chunk_size,
        "precision": experiment.evaluation.precision,
    }


def test_matcher(experiment: Experiment) -> Matcher:
    """Build the matcher of validation and evaluation."""
    matching, fusion = experiment.matching, experiment.fusion
    return Matcher(
        matching.metric,
        matching.project_at_test,
        test_matching(experiment),
        defects(experiment),
        fusion.triples,
        fusion.over_shots,
    )


def defects(experiment: Experiment) -> Defects:
    matching = experiment.matching
    return Defects(
        mix_scales=matching.multi_scale and matching.mix_scales,
        swap_shot_axes=matching.swap_shot_axes,
        misplaced_semantics=matching.semantic and matching.leaking_semantics,
    )


def check_regime(experiment: Experiment) -> None:
    """Raise ConfigError for what the regime cannot train, or if several workers would give other losses than one."""
    check = getattr(experiment.definition("regime").implementation, "check", None)
    if check is not None:
        check(experiment)
    train = experiment.train
    if train.workers > 1 and train.traits.has_levels and defects(experiment).mix_scales:
        raise ConfigError(
            "multi-scale patches take their frames from other clips of the same worker (deviation 3): "
            f"train.workers={train.workers} would not give the losses and gradients of one",
            where="matching.multi_scale and matching.mix_scales",
            remedy="train with one worker (--workers 1), or set matching.mix_scales=false",
        )


def check_fusion(experiment: Experiment, reason: str | None) -> None:
    """Raise ConfigError if episodes must be scored one by one (for `reason`) and the fusion uses more than means."""
    if reason and not test_matcher(experiment).takes_means:
        raise ConfigError(
            f"episodes scored one by one take the mean over shots and tuple sizes ({reason})",
            where="fusion.over_shots and fusion.triples",
            remedy="leave both at their defaults",
        )
