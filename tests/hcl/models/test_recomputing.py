from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from hcl.models.backbone import Backbone, make_backbone
from hcl.models.recomputing import recompute_blocks
from hcl.training.memory import Peak

FRAMES = torch.randint(0, 256, (6, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def gradients(backbone: Backbone) -> dict[str, Tensor]:
    backbone(FRAMES).square().mean().backward()
    return {name: parameter.grad for name, parameter in backbone.named_parameters()}


@pytest.mark.parametrize(("name", "n_blocks"), [("resnet18", 8), ("resnet50", 16), ("efficientnet_lite0", 16)])
def test_recomputed_blocks_change_no_gradient_and_no_statistic(name: str, n_blocks: int) -> None:
    plain = make_backbone(name, "none").train()
    recomputed = copy.deepcopy(plain)
    assert recompute_blocks(recomputed) == n_blocks
    expected, found = gradients(plain), gradients(recomputed)
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    before, after = plain.state_dict(), recomputed.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert int(after[next(key for key in after if key.endswith("num_batches_tracked"))]) == 1


def test_recomputed_blocks_keep_less() -> None:
    """Keep the 16 block inputs and the stem of ResNet-50 instead of all values in the blocks."""
    kept = []
    for recompute in (False, True):
        backbone = make_backbone("resnet50", "none").train()
        if recompute:
            recompute_blocks(backbone)
        with Peak() as peak:
            grids = backbone(FRAMES)
            kept.append(peak.live)
        del grids
    assert kept[1] < 0.5 * kept[0]


def test_a_backbone_without_blocks_stays_as_it_is() -> None:
    assert recompute_blocks(nn.Sequential(nn.Conv2d(3, 5, 4))) == 0
