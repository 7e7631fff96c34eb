"""Check that the fast copy of a backbone computes the features of the original, whatever was done to the original."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hcl.assembly.models import make_model
from hcl.config.resolve import resolve
from hcl.models.backbone import Backbone, make_backbone
from hcl.models.inference import fast_backbone, for_inference
from hcl.models.recomputing import recompute_blocks

NAMES = ("resnet18", "resnet34", "resnet50", "efficientnet_lite0")


def backbone_of(name: str) -> Backbone:
    """Random weights, and statistics of batch norms that differ from zero and one."""
    torch.manual_seed(0)
    backbone = make_backbone(name, "none").eval()
    for module in backbone.modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            module.running_mean.normal_(std=0.1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    return backbone


def frames(n: int = 3, side: int = 64) -> Tensor:
    return torch.randint(0, 256, (n, 3, side, side), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def difference(one: Tensor, other: Tensor) -> float:
    """Return the largest difference as a share of the largest value."""
    return float((one - other).abs().max() / one.abs().max())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("dtype", "largest"), [(torch.float64, 1e-13), (torch.float32, 1e-4)])
@torch.no_grad()
def test_a_fast_copy_computes_the_same_features_at_each_stage(name: str, dtype: torch.dtype, largest: float) -> None:
    """The formula is checked in double precision; single precision rounds by the order in which a processor adds."""
    backbone = backbone_of(name).to(dtype)
    fast = fast_backbone(backbone)
    assert fast.n_stages == backbone.n_stages and fast.channels == backbone.channels
    for stages in range(1, backbone.n_stages + 1):
        below = backbone.below(frames(), stages)
        assert difference(below, fast.below(frames(), stages)) < largest
        assert difference(backbone.above(below, stages), fast.above(below, stages)) < largest


@pytest.mark.parametrize("name", NAMES)
def test_no_batch_norm_is_left_and_the_original_is_unchanged(name: str) -> None:
    backbone = backbone_of(name)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    fast = fast_backbone(backbone.train())
    assert not [module for module in fast.modules() if isinstance(module, _BatchNorm)]
    assert not any(parameter.requires_grad for parameter in fast.parameters())
    assert backbone.training and all(parameter.requires_grad for parameter in backbone.parameters())
    after = backbone.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)


@torch.no_grad()
def test_a_block_that_cannot_be_traced_stays_as_it_is() -> None:
    class Moody(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, frames: Tensor) -> Tensor:
            return self.norm(self.conv(frames if frames.mean() > 0 else -frames))

    plain = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    backbone = Backbone(nn.Sequential(Moody(), plain), 4, (0.0,) * 3, (1.0,) * 3).eval()
    backbone.body[0].norm.running_mean.fill_(0.3)  # type: ignore[union-attr, operator]
    fast = fast_backbone(backbone)
    assert isinstance(fast.body[0].norm, nn.BatchNorm2d) and isinstance(fast.body[1][1], nn.Identity)  # type: ignore[index]
    assert difference(backbone(frames()), fast(frames())) < 1e-5


@torch.no_grad()
def test_an_output_with_two_readers_is_not_folded() -> None:
    class TwoReaders(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, frames: Tensor) -> Tensor:
            raw = self.conv(frames)
            return self.norm(raw) + raw

    backbone = Backbone(nn.Sequential(TwoReaders()), 4, (0.0,) * 3, (1.0,) * 3).eval()
    backbone.body[0].norm.running_mean.fill_(0.3)  # type: ignore[union-attr, operator]
    assert difference(backbone(frames()), fast_backbone(backbone)(frames())) < 1e-5


@torch.no_grad()
def test_a_convolution_that_is_called_twice_is_not_folded() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.first, self.second = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

        def forward(self, frames: Tensor) -> Tensor:
            return self.second(self.conv(self.first(self.conv(frames))))

    backbone = Backbone(nn.Sequential(Twice()), 3, (0.0,) * 3, (1.0,) * 3).eval()
    backbone.body[0].first.running_mean.fill_(0.3)  # type: ignore[union-attr, operator]
    assert difference(backbone(frames()), fast_backbone(backbone)(frames())) < 1e-5


@torch.no_grad()
def test_blocks_that_are_recomputed_or_compiled_are_folded_too() -> None:
    backbone = backbone_of("resnet18")
    expected = backbone(frames())
    recompute_blocks(backbone)
    for block in backbone.body:
        block.compile()
    fast = fast_backbone(backbone)
    assert not [module for module in fast.modules() if isinstance(module, _BatchNorm)]
    assert difference(expected, fast(frames())) < 1e-5


@torch.no_grad()
def test_a_model_for_inference_shares_all_but_its_backbone() -> None:
    changes = {"model.backbone": "resnet18", "model.weights": "none", "model.d_model": 24, "model.n_heads": 4}
    experiment = resolve(None, {**changes, "model.dim_feedforward": 32}).experiment
    model = make_model(experiment, n_classes=3)
    twin = for_inference(model.train())
    assert model.training and not twin.training
    assert twin.encoder is model.encoder and twin.backbone is not model.backbone
    model.eval()
    clips = frames(8).view(1, 8, 3, 64, 64)
    tokens, rows = model.tokens(clips)
    fast, fast_rows = twin.tokens(clips)
    assert rows == fast_rows
    assert difference(tokens, fast) < 1e-4


def test_a_backbone_that_computes_nothing_is_not_copied() -> None:
    changes = {"model.backbone": "resnet18", "model.weights": "none", "model.d_model": 24, "model.n_heads": 4}
    all_frozen = resolve(None, {**changes, "model.train_backbone": False}).experiment
    model = make_model(all_frozen, n_classes=3)
    assert for_inference(model, has_grids=True) is model
    assert for_inference(model, has_grids=False).backbone is not model.backbone
    tuned = make_model(resolve(None, {**changes, "model.frozen_stages": 4}).experiment, n_classes=3)
    assert for_inference(tuned, has_grids=True).backbone is not tuned.backbone
