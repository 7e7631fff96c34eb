"""Test the names of methods with other settings than their run's."""

from __future__ import annotations

import pytest

from hcl.config import PUBLISHED_EVALUATION
from hcl.config.resolve import override
from orchestration.evaluation.methods import named, plain_name
from tests.orchestration.conftest import tiny_experiment

OWN = tiny_experiment()


@pytest.mark.parametrize(
    ("method", "changes", "name"),
    [
        ("hcl", {}, "hcl"),
        ("hcl", {"fusion.sigma_spatial": 0}, "hcl (sigma_spatial=0.0)"),
        ("untrained", {"matching.metric": "cosine"}, "untrained (metric=cosine)"),
        ("hcl", {"evaluation.views": 3, "evaluation.precision": "bfloat16"}, "hcl (views=3, precision=bfloat16)"),
        ("hcl", {"evaluation.shots": [2], "evaluation.seed": 4, "evaluation.overlapping": True}, "hcl"),
        ("hcl", {"evaluation.datasets": ["other"], "evaluation.keep_features": False, "train.use_gpu": True}, "hcl"),
        ("prototype", {"fusion.sigma_spatial": 0, "matching.metric": "cosine"}, "prototype"),
        ("prototype", {"evaluation.views": 3}, "prototype (views=3)"),
        ("hcl", PUBLISHED_EVALUATION, "hcl"),
        ("hcl", {**PUBLISHED_EVALUATION, "fusion.sigma_global": 0}, "hcl (sigma_global=0.0)"),
    ],
)
def test_what_makes_another_method_stands_in_its_name(method, changes, name):
    full_name = named(method, method, OWN, override(OWN, changes))
    assert full_name == name and plain_name(full_name) == method


def test_of_many_settings_two_are_spelt_out():
    changes = {"fusion.sigma_global": 2.0, "fusion.sigma_temporal": 3.0, "fusion.triples": 0.25}
    names = [named("hcl fused", "hcl", OWN, override(OWN, {**changes, "fusion.triples": x})) for x in (0.25, 0.75)]
    assert all(name.startswith("hcl fused (sigma_global=2.0, sigma_temporal=3.0, 1 more: ") for name in names)
    assert names[0] != names[1] and {plain_name(name) for name in names} == {"hcl fused"}
