"""Check the recipes of other methods: they resolve, train the whole backbone at one rate, on a benchmark's clips."""

from __future__ import annotations

import pytest

from hcl.assembly.arguments import check_regime
from hcl.assembly.models import rate_factor
from hcl.config.resolve import resolve, shipped_experiments

METHODS = {"otam": "otam", "trx": "trx", "hyrsm": "hyrsm", "hyrsm_plus": "hyrsm++", "molo": "molo"}
BENCHMARKS = ("ssv2_100_otam", "ssv2_100", "kinetics100", "hmdb51", "ucf101")


@pytest.mark.parametrize("benchmark", BENCHMARKS)
@pytest.mark.parametrize("method", METHODS)
def test_each_method_has_a_recipe_for_each_benchmark(method: str, benchmark: str) -> None:
    assert f"{method}_{benchmark}" in shipped_experiments()
    experiment = resolve(f"{method}_{benchmark}").experiment
    assert (experiment.name, experiment.data.dataset) == (f"{method}_{benchmark}", benchmark)
    assert experiment.train.regime == METHODS[method] and experiment.mode == "corrected"
    assert experiment.optim.backbone_lr_factor == 1 and experiment.model.train_backbone
    assert experiment.clips == resolve(benchmark).experiment.clips
    check_regime(experiment)


def test_the_learning_rate_of_hyrsm_on_kinetics_follows_the_released_factors() -> None:
    experiment = resolve("hyrsm_kinetics100").experiment
    assert [rate_factor(experiment, epoch) for epoch in range(12)] == [0.5] + [1] * 3 + [0.5] * 2 + [0.1] * 3 + [
        0.05
    ] * 3
