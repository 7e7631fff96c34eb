from __future__ import annotations

import inspect

import numpy as np
import pytest

from hcl.assembly import arguments, models
from hcl.errors import ConfigError
from hcl.evaluation.scores import fused, score_episode, score_pairs
from hcl.training.losses import TERMS, contrastive_terms, neighbouring_pairs
from tests.hcl.assembly.test_models import clips, experiment


def test_training_arguments_are_those_of_the_terms():
    settings = experiment(
        matching__top_tuples=3,
        matching__top_patches=5,
        matching__zoom_ranks_train=2,
        matching__chunk_size=3,
        matching__renormalise=True,
        matching__misplaced_training_semantics=True,
        loss__temperature=0.1,
        loss__cycle_temperature=0.5,
        loss__keep_anchor=True,
        loss__sigma_spatial_cycle=0.25,
    )
    options = arguments.training_matching(settings)
    assert options.keys() == inspect.signature(contrastive_terms).parameters.keys() - {
        "anchors",
        "everyone",
        "pairs",
    }
    assert options == {
        "tuple_sizes": (2, 3),
        "top_tuples": 3,
        "top_patches": 5,
        "zoom_ranks": 2,
        "temperature": 0.1,
        "cycle_temperature": 0.5,
        "keep_anchor": True,
        "renormalise": True,
        "misplaced_semantics": True,
        "spatial": True,
        "spatial_cycle": True,
        "chunk_size": 3,
    }
    features, _ = models.make_model(settings, 3).eval()(clips())
    terms = contrastive_terms(features, features, neighbouring_pairs(0, 4), **options)
    assert set(terms) == set(TERMS[1:])


def test_terms_of_weight_0_are_not_computed():
    options = arguments.training_matching(experiment(loss__sigma_spatial=0))
    assert not options["spatial"] and not options["spatial_cycle"]


def test_test_arguments_are_those_of_the_scores():
    settings = experiment(matching__zoom_ranks_test=4, matching__zoom_ranks_train=2, matching__top_tuples=3)
    options = arguments.test_matching(settings)
    assert options.keys() <= inspect.signature(score_pairs).parameters.keys()
    assert (options["zoom_ranks"], options["top_tuples"], options["tuple_sizes"]) == (4, 3, (2, 3))
    features, _ = models.make_model(settings, 3).eval()(clips())
    levels = score_episode(features, way=2, shot=1, metric=settings.matching.metric, **options)
    scores = fused(levels, arguments.sigmas_of_fusion(settings))
    assert scores.shape == (2, 2) and np.isfinite(scores).all()


def test_sigmas_go_by_name():
    settings = experiment(loss__sigma_ce=2, loss__sigma_temporal_cycle=3, fusion__sigma_spatial=5)
    assert arguments.sigmas_of_loss(settings).keys() == set(TERMS)
    assert arguments.sigmas_of_loss(settings)["ce"] == 2 and arguments.sigmas_of_loss(settings)["temporal_cycle"] == 3
    assert arguments.sigmas_of_fusion(settings) == {"global": 1.0, "temporal": 0.5, "spatial": 5.0}


def test_defects_act_only_where_they_can():
    assert arguments.defects(experiment()) == (False, False, False)
    assert arguments.defects(experiment(mode="published")) == (False, True, False)
    assert arguments.defects(experiment(mode="published", matching__multi_scale=True)) == (True, True, False)


MIXING = {"mode": "published", "matching__multi_scale": True}


def test_clips_that_mix_are_trained_by_one_worker():
    with pytest.raises(ConfigError, match="train.workers=3 would not give the losses and gradients of one") as caught:
        models.make_regime(experiment(**MIXING, train__workers=3))
    assert "--workers 1" in caught.value.remedy and "matching.mix_scales=false" in caught.value.remedy


@pytest.mark.parametrize(
    "changes",
    [
        {"train__workers": 1},
        {"train__workers": 3, "matching__mix_scales": False},
        {"train__workers": 3, "matching__multi_scale": False},
        {"train__workers": 2, "train__regime": "protonet"},  # it has no heads that match
    ],
    ids=str,
)
def test_workers_share_what_does_not_mix(changes):
    models.make_regime(experiment(**(MIXING | changes)))
