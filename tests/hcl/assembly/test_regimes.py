"""Check that what configuration knows of each regime is true of what is made of it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hcl.assembly import models
from hcl.assembly.regimes import parts_of
from hcl.clips.batches import EpisodeSampler
from hcl.config import REGIMES, Experiment
from hcl.config.resolve import resolve
from hcl.errors import ConfigError
from hcl.models.hcl import HCL
from hcl.rivals.decoder import EpisodeBatchNorm

SMALL = {
    "clips.size": 128,
    "clips.n_frames": 3,
    "model.backbone": "resnet18",
    "model.weights": "none",
    "model.d_model": 16,
    "model.n_heads": 2,
    "model.dim_feedforward": 16,
}
N_CLASSES = 5


def experiment_of(name: str) -> Experiment:
    return resolve(None, SMALL | {"train.regime": name}).experiment


@pytest.mark.parametrize("name", REGIMES)
def test_traits_are_those_of_what_is_made(name: str) -> None:
    experiment = experiment_of(name)
    traits, model = experiment.train.traits, models.make_model(experiment, N_CLASSES)
    head = model.heads if isinstance(model, HCL) else model.head
    assert isinstance(models.make_regime(experiment).sampler, EpisodeSampler) == traits.is_episodic
    assert isinstance(model, HCL) == traits.has_levels
    assert bool(list(head.parameters())) == traits.head_learns
    norms = [part for part in head.modules() if isinstance(part, nn.BatchNorm2d)]
    of_a_batch = [norm for norm in norms if not isinstance(norm, EpisodeBatchNorm)]  # an episode is whole anywhere
    assert bool(of_a_batch) == traits.head_has_batch_norms


@pytest.mark.parametrize("name", [name for name, own in REGIMES.items() if own.traits.grid_halvings])
def test_a_head_takes_the_smallest_grid_and_none_below(name: str) -> None:
    model = models.make_model(experiment_of(name), N_CLASSES).eval()
    side = REGIMES[name].traits.smallest_grid
    for cells, is_enough in ((side, True), (side - 1, False)):
        grids = torch.rand(4, model.backbone.channels, cells, cells)
        if is_enough:
            assert model.scores(grids, 2, 1).shape == (2, 2)
        else:
            with pytest.raises(ConfigError, match=f"needs {side} cells a side"):
                model.scores(grids, 2, 1)


def test_only_what_has_levels_counts_memory_of_matching() -> None:
    for name in REGIMES:
        experiment = experiment_of(name)
        model = models.make_model(experiment, N_CLASSES).eval()
        matching = parts_of(experiment).matching_memory(experiment, model, 4)
        if isinstance(model, HCL):
            model(torch.zeros(2, 3, 3, 128, 128, dtype=torch.uint8))
        assert all(size > 0 for size in matching().values())
        assert bool(matching()) == REGIMES[name].traits.has_levels
